"""`boxsnake inspect`: what is in a box, without installing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import console_of
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from boxsnake.inspection import Inspection

_KINDS = {"conda": "conda packages", "python": "Python distributions", "deb": "Debian packages", "rpm": "RPMs"}


@click.command(
    epilog="ARTIFACT is a file or folder, of boxsnake's formats or made by other tools: RPM, deb, wheel, wheelhouse, "
    "PEX, image (docker archive or OCI layout), installer, AppImage, conda package, sdist, Dockerfile's context, any "
    "zip or tar, an environment's folder, a lock. Or it is a format of the manifest, whose box is meant."
)
@click.argument("artifact")
@click.option("--files", is_flag=True, help="List every file as well.")
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="The manifest, where ARTIFACT is a format.")
@click.option("-t", "--target", default="", help="Which target, of a lock or a manifest with several.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context, artifact: str, files: bool, manifest: Path | None, target: str, as_json: bool
) -> None:
    """Show what is in ARTIFACT, without installing it: packages, sizes, interpreter, entry points, base."""
    from boxsnake.cli.artifact import artifact_of
    from boxsnake.inspection import inspect

    console = console_of(context, as_json=as_json)
    with console.progress():
        found = inspect(artifact_of(artifact, manifest, target), target=target)
    for line in _lines(found):
        console.say(line)
    if found.parts:
        console.show(lambda: _table(("layer", "size"), [(one.name, human_size(one.size)) for one in found.parts]))
    if found.packages:
        console.show(lambda: _packages(found))
    if files:
        for path, file in found.files.items():
            console.say(f"{human_size(file.size):>10}  {path}{f' -> {file.link}' if file.link else ''}")
    console.result(lambda: _facts(found, files=files))


def _lines(found: Inspection) -> Iterator[str]:
    size = "" if found.size is None else human_size(found.size)
    unpacked = f"{len(found.files)} files, {human_size(found.installed_size)}" if found.files else ""
    rows = {
        "format": found.format,
        "name": f"{found.name} {found.version}".strip(),
        "size": f"{size} ({unpacked} unpacked)" if size and unpacked else size or unpacked,
        "digest": found.digest,
        "platform": found.platform,
        "python": found.python,
        "base": found.base,
        "prefix": f"/{found.prefix}" if found.prefix else "",
        "starts": " ".join(found.starts),
        "programs": ", ".join(f"{one.name} ({one.value})" for one in found.own_entry_points),
        "requires": ", ".join(found.requires),
    }
    yield found.artifact
    for key, value in rows.items():
        if value:
            yield f"  {key:<9} {value}"
    for note in found.notes:
        yield f"  note      {note}"


def _packages(found: Inspection) -> Table:
    rows = [
        (_KINDS[one.kind], one.name, one.version, "?" if one.size is None else human_size(one.size))
        for one in found.packages
    ]
    shown = [(kind if not at or rows[at - 1][0] != kind else "", *rest) for at, (kind, *rest) in enumerate(rows)]
    return _table(("kind", "package", "version", "size"), shown)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from boxsnake.cli.console import printable

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _facts(found: Inspection, *, files: bool) -> dict[str, Any]:
    from boxsnake.cli.artifact import facts_of

    facts = facts_of(found) | {
        "packages": [
            {"kind": one.kind, "name": one.name, "version": one.version, "size": one.size} for one in found.packages
        ],
        "entry-points": [{"name": one.name, "value": one.value, "package": one.package} for one in found.entry_points],
        "layers": [{"name": one.name, "size": one.size} for one in found.parts],
    }
    if files:
        facts["paths"] = {
            path: {"size": file.size, **({"link": file.link} if file.link else {})}
            for path, file in found.files.items()
        }
    return facts
