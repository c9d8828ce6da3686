"""`boxsnake logs`: what is up says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.options import about_manifest
from boxsnake.cli.stack import Screen, identity_of

if TYPE_CHECKING:
    from boxsnake.engine import Engine, Listed


@click.command()
@click.argument("units", nargs=-1, metavar="[SERVICE]...")
@click.option("-f", "--follow", is_flag=True, help="Show what is to come as well, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last lines of each.")
@about_manifest
@click.pass_context
def command(
    context: click.Context, units: tuple[str, ...], follow: bool, lines: int | None, manifest: Path | None
) -> None:
    """Show what the application and its services say, or the named ones among them."""
    from boxsnake.engine import connect
    from boxsnake.manifest_file import load
    from boxsnake.stack.running import UNIT_LABEL
    from boxsnake.store import Store

    console = console_of(context)
    engine = connect()
    found = chosen(engine, identity_of(load(manifest, store=Store(Store.default_root())).root), units)
    screen = Screen(console, tuple(one.labels[UNIT_LABEL] for one in found))

    def show(one: Listed) -> None:
        for line in engine.said(one.id, follow=follow, tail=lines):
            screen.line(one.labels[UNIT_LABEL], line)

    if not follow:
        for one in found:
            show(one)
        return
    # Daemons: those who read on must not keep this process from its end.
    readers = [threading.Thread(target=show, args=(one,), daemon=True) for one in found]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


def chosen(engine: Engine, identity: str, units: tuple[str, ...]) -> list[Listed]:
    """The containers of a stack, or those of some units. Errors: UsageError where there are none."""
    from boxsnake.errors import UsageError
    from boxsnake.stack.running import STACK_LABEL, UNIT_LABEL

    there = {one.labels.get(UNIT_LABEL, ""): one for one in engine.labelled(STACK_LABEL, identity)}
    if not there:
        raise UsageError("the stack", "is not up", "Start it: `boxsnake up`, or `boxsnake run` in another terminal.")
    for unit in units:
        if unit not in there:
            raise UsageError(unit, "is nothing that is up", f"There are {', '.join(there)}.")
    return [one for unit, one in there.items() if not units or unit in units]
