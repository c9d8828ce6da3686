"""`boxsnake run`: the artifact and its services, as long as one looks at them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.stack import Asked, Screen, about_stacks, in_engine, prepare, show_urls, terms_of
from boxsnake.stack import debugger

if TYPE_CHECKING:
    from boxsnake.cli.console import Console
    from boxsnake.cli.stack import Prepared
    from boxsnake.engine import Engine
    from boxsnake.stack.running import Running

_LOOK_SECONDS = 0.4
"""Between two looks at working copies."""


@click.command(
    epilog="Services reach each other, and the application them, by their names in the manifest. Ports are published "
    "on 127.0.0.1, at their own numbers where these are free. Ctrl-C stops and removes all of it, and so does the "
    "end of this process in any other way. `boxsnake up` starts the same and leaves it running."
)
@about_stacks
@click.option("--debug", is_flag=True, help="Have debugpy listen on 5678, or on a port that is free.")
@click.pass_context
def command(context: click.Context, asked: Asked, debug: bool) -> None:
    """Start BOX (the image) as it will be shipped, with the manifest's services; show their logs until Ctrl-C."""
    from boxsnake.engine import connect
    from boxsnake.stack.warden import watched

    console = console_of(context)
    with contextlib.ExitStack() as stack:
        with console.progress():
            prepared = prepare(asked)
            if debug:
                prepared = stack.enter_context(debugged(prepared, asked))
            engine = connect()
        stack.enter_context(watched(engine))
        _run(console, engine, prepared, asked)


def _run(console: Console, engine: Engine, prepared: Prepared, asked: Asked) -> None:
    from boxsnake.engine.owner import RUN_LABEL
    from boxsnake.stack.running import STACK_LABEL, remove, stack_labels, start, stop_run

    screen = Screen(console, tuple(unit.name for unit in prepared.stack.units))
    ended: queue.Queue[tuple[str, str]] = queue.Queue()

    def watch(unit: str, identity: str) -> None:
        threading.Thread(target=_follow, args=(engine, screen, ended, unit, identity), daemon=True).start()

    with contextlib.ExitStack() as stack:
        with console.progress():
            ready, image = stack.enter_context(in_engine(engine, prepared, asked))
        if engine.labelled(STACK_LABEL, ready.id):
            remove(engine, ready.id)
        stack.callback(engine.remove_labelled, RUN_LABEL, engine.run)
        stack.callback(stop_run, engine)
        labels = engine.own_labels() | stack_labels(ready)
        running = start(engine, ready, terms_of(prepared, image, labels, screen.note, watch))
        show_urls(console, running)
        _attend(running, ended, screen)
        _judge(engine, running)


def _attend(running: Running, ended: queue.Queue[tuple[str, str]], screen: Screen) -> None:
    """Wait until a unit ends; start the application anew meanwhile, when a working copy that is mounted changes."""
    from boxsnake.errors import BootError
    from boxsnake.stack.source import times

    application = running.stack.application
    sources = [source for source, target in application.mounts if target != debugger.PLACE]
    before = times(sources)
    while True:
        with contextlib.suppress(queue.Empty):
            unit, identity = ended.get(timeout=_LOOK_SECONDS if sources else None)
            # What was replaced has ended for that; what an edit has broken is mended by the next one.
            if running.containers.get(unit) == identity and not (sources and unit == application.name):
                return
        if sources and (now := times(sources)) != before:
            edited = sorted(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))
            before = now
            screen.note(application.name, f"{edited[0]} has changed: starting anew")
            try:
                running.bring_again()
            except BootError as error:
                screen.note(application.name, f"{error.cause.splitlines()[0]}; waiting for the next edit")


@contextlib.contextmanager
def debugged(prepared: Prepared, asked: Asked) -> Iterator[Prepared]:
    """The same with a debugger in its application. Errors: NetworkError, UsageError without a command."""
    from boxsnake.errors import UsageError
    from boxsnake.image.startup import started
    from boxsnake.packagers.image import PACKAGER

    if asked.box != PACKAGER.name:
        raise UsageError("--debug", "is for images", "Run `boxsnake run --debug` without a format.")
    plan, workspace = prepared.box.plan, prepared.workspace
    words = plan.application.command
    entrypoint, command = started(replace(plan, application=replace(plan.application, commands=())))
    if not words:
        raise UsageError("--debug", "the application has no command", "Set `command` in [app].")
    with workspace.store.scratch("debugpy") as folder:
        index = workspace.access.index
        minor = plan.lock.python_minor
        place = debugger.fetch(workspace.store, folder, plan.target, minor, index, offline=asked.offline)
        unit = prepared.stack.application
        variables = dict(unit.environment)
        variables["PYTHONPATH"] = ":".join(filter(None, (debugger.PLACE, variables.get("PYTHONPATH"))))
        changed = replace(
            unit,
            entrypoint=debugger.command(prepared.python, (*entrypoint, *command)),
            command=(),
            environment=tuple(sorted(variables.items())),
            ports=(*unit.ports, debugger.PORT),
            mounts=(*unit.mounts, (str(place), debugger.PLACE)),
        )
        yield replace(prepared, stack=replace(prepared.stack, application=changed))


def _follow(engine: Engine, screen: Screen, ended: queue.Queue[tuple[str, str]], unit: str, identity: str) -> None:
    """Show what a container says until it ends."""
    from boxsnake.errors import BoxsnakeError

    # One that is removed while it is read has ended as well.
    with contextlib.suppress(BoxsnakeError):
        for line in engine.said(identity, follow=True):
            screen.line(unit, line)
    ended.put((unit, identity))


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
