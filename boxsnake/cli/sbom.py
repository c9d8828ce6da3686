"""`boxsnake sbom`: what is in each box."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of

if TYPE_CHECKING:
    from boxsnake.pack import Box


@click.command(
    epilog="A bill lies beside its box, as <box>.cdx.json (CycloneDX 1.6). It names conda packages, wheels and an "
    "image's further packages by package URL, with digests and what needs what. It is made from the lock: the box "
    "need not be built."
)
@click.argument("formats", nargs=-1, metavar="[FORMAT]...")
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="The manifest (default: found here).")
@click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where boxes go (default: dist, beside it).")
@click.option("--offline", is_flag=True, help="Use nothing that is not in the store already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context,
    formats: tuple[str, ...],
    manifest: Path | None,
    targets: tuple[str, ...],
    output: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Write the bill of materials of each box beside it."""
    from boxsnake.beside import publish_bytes
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.sbom import SUFFIX

    console = console_of(context, as_json=as_json)
    written: list[dict[str, str]] = []
    with console.progress():
        workspace = open_workspace(manifest, output=output, offline=offline)
        for box in workspace.boxes(formats, targets):
            path = box.path.with_name(box.path.name + SUFFIX)
            path.parent.mkdir(parents=True, exist_ok=True)
            publish_bytes(bill_of(box), path)
            console.say(f"{box.name}: {path}")
            written.append({"format": box.packager.name, "target": box.plan.target.name, "path": str(path)})
    console.result(lambda: {"bills": written})


def bill_of(box: Box) -> bytes:
    """The bill of one box."""
    from boxsnake.sbom import sbom

    return sbom(box.plan, box.packager.boot(box.plan, box.path), format=box.packager.name)
