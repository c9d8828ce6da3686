"""`boxsnake patch`: a file out of its earlier version and a delta."""

from __future__ import annotations

from pathlib import Path

import click

from boxsnake.cli.console import console_of
from boxsnake.plain_text import human_size


@click.command(
    epilog="OLD and what comes out are compared with the digests that the delta names. Nothing is written unless all "
    "is right. It needs no manifest and no store."
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("delta", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The new file (default: its own name, beside the delta)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, old: Path, delta: Path, output: Path | None, as_json: bool) -> None:
    """Make the new file out of OLD and DELTA, the same bytes as it was."""
    from boxsnake.delta.making import apply_delta, described

    console = console_of(context, as_json=as_json)
    with console.progress():
        place = apply_delta(old, delta, output)
    new = described(delta).new
    console.say(f"{place}: {human_size(new.size)}, sha256 {new.sha256}")
    console.result(lambda: {"path": str(place), "size": new.size, "digest": f"sha256:{new.sha256}"})
