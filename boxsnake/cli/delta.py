"""`boxsnake delta`: what makes a file out of its earlier version."""

from __future__ import annotations

from pathlib import Path

import click

from boxsnake.cli.console import console_of
from boxsnake.plain_text import human_size


@click.command(
    epilog="For installers, userspace images, image tars and all that has much in common with its earlier version. "
    "What is compressed is compared uncompressed where it can be compressed again to the same bytes. That the delta "
    "works is proven before it is written. `boxsnake patch OLD DELTA` applies it."
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The delta's file (default: NEW.delta).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, old: Path, new: Path, output: Path | None, as_json: bool) -> None:
    """Write what makes NEW out of OLD."""
    from boxsnake.delta.making import make_delta

    console = console_of(context, as_json=as_json)
    out = output or new.with_name(f"{new.name}.delta")
    with console.progress():
        made = make_delta(old, new, out)
    whole = new.stat().st_size
    share = f", {100 * made.size / whole:.1f} % of {human_size(whole)}" if whole else ""
    console.say(f"{out}: {human_size(made.size)}{share}")
    if not made.unfolded:
        console.say("  compared as they are: nothing in them was compressed in a way that is known here")
    facts = {"path": str(out), "size": made.size, "new_size": whole, "unfolded": made.unfolded}
    console.result(lambda: facts)
