"""`boxsnake sbom`: what is in each box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from boxsnake.cli.options import about_boxes

if TYPE_CHECKING:
    from boxsnake.boxes import Box
    from boxsnake.cli.console import Console
    from boxsnake.cli.options import Chosen


@click.command(
    epilog="A bill lies beside its box, as <box>.cdx.json (CycloneDX 1.6). It names conda packages, wheels and an "
    "image's further packages by package URL, with digests and what needs what. It is made from the lock: the box "
    "need not be built."
)
@about_boxes
def command(console: Console, chosen: Chosen) -> None:
    """Write the bill of materials of each box beside it."""
    from boxsnake.beside import publish_bytes
    from boxsnake.sbom import SUFFIX

    written: list[dict[str, str]] = []
    with console.progress():
        for box in chosen.boxes(chosen.open()):
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
