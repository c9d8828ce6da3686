"""`boxsnake plan`: what boxes would be made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import console_of, human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from boxsnake.cli.workspace import Workspace
    from boxsnake.forecast import Forecast, Part
    from boxsnake.pack import Box


@click.command(
    epilog="Nothing is packed, and no package is fetched. Sizes are those of compressed layers: true ones where the "
    'store has the layer, else a forecast ("about") from the sizes of archives.'
)
@click.argument("formats", nargs=-1, metavar="[FORMAT]...")
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="The manifest (default: found here).")
@click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where boxes go (default: dist, beside it).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context,
    formats: tuple[str, ...],
    manifest: Path | None,
    targets: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Show what boxes would be made of: an image's layers, what is in each, what would have to be made.

    FORMAT is image or dockerfile; without any, those of them that the manifest asks for.
    """
    from boxsnake.cli.workspace import open_workspace

    console = console_of(context, as_json=as_json)
    _check(formats)
    with console.progress():
        workspace = open_workspace(manifest, output=output)
        found = [(box, _forecast(workspace, box)) for box in _planned(workspace, formats, targets)]
    for box, forecast in found:
        console.show(lambda box=box, forecast=forecast: _table(box, forecast))  # type: ignore[misc]
        for note in forecast.notes:
            console.say(f"note: {note}")
    console.result(lambda: {"plans": [_facts(box, forecast) for box, forecast in found]})


def _check(formats: Sequence[str]) -> None:
    """Errors: UsageError for formats that tell nothing before they are made."""
    from boxsnake.errors import UsageError
    from boxsnake.packagers import Forecaster, packagers

    known = packagers()
    able = [name for name, packager in known.items() if isinstance(packager, Forecaster)]
    for name in formats:
        if name in known and name not in able:
            raise UsageError(name, "there is no forecast for this format", f"There is one for {', '.join(able)}.")


def _planned(workspace: Workspace, formats: Sequence[str], targets: Sequence[str]) -> list[Box]:
    from boxsnake.packagers import Forecaster

    return [box for box in workspace.boxes(formats, targets) if isinstance(box.packager, Forecaster)]


def _forecast(workspace: Workspace, box: Box) -> Forecast:
    from dataclasses import replace

    from boxsnake.materials import StoreMaterials
    from boxsnake.packagers import Forecaster

    assert isinstance(box.packager, Forecaster)  # noqa: S101 - what `_planned` has chosen
    with StoreMaterials(workspace.store, box.plan, replace(workspace.access, offline=True)) as materials:
        return box.packager.forecast(box.plan, materials)


def _table(box: Box, forecast: Forecast) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{box.name}: {box.path.name}", title_justify="left", box=None, pad_edge=False)
    for column, justify in (("layer", "left"), ("size", "right"), ("state", "left"), ("what is in it", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    for part in forecast.parts:
        table.add_row(Text(part.name), _size(part), part.state, Text(" · ".join(part.contents)))
    about = "about " if forecast.is_predicted else ""
    table.add_row("all", f"{about}{human_size(forecast.size)}", "", "")
    return table


def _size(part: Part) -> str:
    if part.size is None:
        return "?"
    return f"about {human_size(part.size)}" if part.is_predicted else human_size(part.size)


def _facts(box: Box, forecast: Forecast) -> dict[str, Any]:
    return {
        "format": box.packager.name,
        "target": box.plan.target.name,
        "path": str(box.path),
        "size": forecast.size,
        "predicted": forecast.is_predicted,
        "notes": list(forecast.notes),
        "parts": [
            {
                "name": part.name,
                "contents": list(part.contents),
                "size": part.size,
                "predicted": part.is_predicted,
                "state": part.state,
            }
            for part in forecast.parts
        ],
    }
