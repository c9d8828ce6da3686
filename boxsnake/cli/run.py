"""`boxsnake run`: the artifact and its services, as long as one looks at them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.stack import Asked, Screen, about_stacks, in_engine, prepare, show_urls

if TYPE_CHECKING:
    from boxsnake.cli.console import Console
    from boxsnake.cli.stack import Prepared
    from boxsnake.engine import Engine
    from boxsnake.stack.running import Running


@click.command(
    epilog="Services reach each other, and the application them, by their names in the manifest. Ports are published "
    "on 127.0.0.1, at their own numbers where these are free. Ctrl-C stops and removes all of it, and so does the "
    "end of this process in any other way. `boxsnake up` starts the same and leaves it running."
)
@about_stacks
@click.pass_context
def command(context: click.Context, asked: Asked) -> None:
    """Start the image as it will be shipped, with the manifest's services; show their logs until Ctrl-C."""
    from boxsnake.engine import connect
    from boxsnake.stack.warden import watched

    console = console_of(context)
    with console.progress():
        prepared = prepare(asked)
        engine = connect()
    with watched(engine):
        _run(console, engine, prepared, asked)


def _run(console: Console, engine: Engine, prepared: Prepared, asked: Asked) -> None:
    from boxsnake.engine.owner import RUN_LABEL
    from boxsnake.stack.running import STACK_LABEL, remove, stack_labels, start

    screen = Screen(console, tuple(unit.name for unit in prepared.stack.units))
    over = threading.Event()

    def watch(unit: str, identity: str) -> None:
        threading.Thread(target=_follow, args=(engine, screen, over, unit, identity), daemon=True).start()

    with contextlib.ExitStack() as stack:
        with console.progress():
            ready, image = stack.enter_context(in_engine(engine, prepared, asked))
        if engine.labelled(STACK_LABEL, ready.id):
            remove(engine, ready.id)
        stack.callback(engine.remove_labelled, RUN_LABEL, engine.run)
        stack.callback(_stop, engine)
        labels = engine.own_labels() | stack_labels(ready)
        running = start(
            engine,
            ready,
            prepared.secrets,
            prepared.python,
            image=image,
            labels=labels,
            wanted_ports=prepared.ports,
            say=screen.note,
            watch=watch,
        )
        show_urls(console, running)
        over.wait()
        _judge(engine, running)


def _follow(engine: Engine, screen: Screen, over: threading.Event, unit: str, identity: str) -> None:
    """Show what a container says until it ends."""
    from boxsnake.errors import BoxsnakeError

    # One that is removed while it is read has ended as well.
    with contextlib.suppress(BoxsnakeError):
        for line in engine.said(identity, follow=True):
            screen.line(unit, line)
    over.set()


def _stop(engine: Engine) -> None:
    """Let the containers end in peace, all at once."""
    from concurrent.futures import ThreadPoolExecutor

    from boxsnake.errors import BoxsnakeError

    with contextlib.suppress(BoxsnakeError):
        found = engine.containers()
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            list(pool.map(lambda identity: engine.stop(identity, 5), found))


def _judge(engine: Engine, running: Running) -> None:
    """Errors: BootError for a unit that ended otherwise than well. An application that has done its work is fine."""
    from boxsnake.errors import BootError

    for unit, identity in running.containers.items():
        found = engine.look(identity)
        is_application = unit == running.stack.application.name
        if found is not None and found.state == "running":
            continue
        code = None if found is None else found.exit_code
        if code == 0 and is_application:
            continue
        cause = "went away" if found is None else f"ended with {code}"
        raise BootError(unit, cause, "See what it said above.", unit=unit)
