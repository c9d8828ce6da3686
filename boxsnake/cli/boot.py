"""`boxsnake boot`: prove that boxes work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of

if TYPE_CHECKING:
    from boxsnake.boot import BootReport
    from boxsnake.pack import Box


@click.command(
    epilog="Each box is put on a clean host in a container without network: it must install, hold exactly what the "
    "lock says, import, start, pass the manifest's checks, and leave nothing behind when it is removed. "
    "The report goes to boot.json and boot.xml (JUnit) beside the boxes."
)
@click.argument("boxes", nargs=-1, metavar="[FORMAT|FILE]...")
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="The manifest (default: found here).")
@click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where boxes are (default: dist, beside it).")
@click.option("--keep", is_flag=True, help="Keep the container of a box that fails, and say how to look into it.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(
    context: click.Context,
    boxes: tuple[str, ...],
    manifest: Path | None,
    targets: tuple[str, ...],
    output: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Prove that boxes work, in clean containers."""
    from boxsnake.boot import boot
    from boxsnake.boot_report import render, to_json, to_junit
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.engine import connect
    from boxsnake.store import publish_bytes

    console = console_of(context, as_json=as_json)
    with console.progress():
        workspace = open_workspace(manifest, output=output)
        chosen = _chosen(workspace.boxes(targets=targets), boxes)
        reports: list[BootReport] = []
        with connect() as engine:
            for box in chosen:
                recipe = box.packager.boot(box.plan, box.path)
                reports.append(
                    boot(
                        engine,
                        workspace.store,
                        box.path,
                        recipe,
                        box.plan.checks,
                        format_name=box.name,
                        keep=keep,
                    )
                )
    publish_bytes(to_json(reports), workspace.output / "boot.json")
    publish_bytes(to_junit(reports), workspace.output / "boot.xml")
    console.say(render(reports))
    console.result(lambda: to_json(reports))
    _judge(reports)


def _chosen(known: list[Box], asked: tuple[str, ...]) -> list[Box]:
    """The boxes that were asked for by format or by path, all of them without a word; they must have been made."""
    from boxsnake.errors import ResourceError, UsageError

    for word in asked:
        if not any(_is_meant(box, word) for box in known):
            there = ", ".join(dict.fromkeys(box.packager.name for box in known))
            raise UsageError(word, "is no format of the manifest and no file that it makes", f"There are {there}.")
    chosen = [box for box in known if not asked or any(_is_meant(box, word) for word in asked)]
    for box in chosen:
        if not box.path.is_file():
            step = f"Run `boxsnake build {box.packager.name}` first."
            raise ResourceError(str(box.path), "there is no such box yet", step, format=box.packager.name)
    return chosen


def _is_meant(box: Box, word: str) -> bool:
    return word == box.packager.name or Path(word).absolute() == box.path


def _judge(reports: list[BootReport]) -> None:
    from boxsnake.errors import BootError

    failed = [report for report in reports if not report.passed]
    if failed:
        names = ", ".join(report.format for report in failed)
        first = failed[0].failure
        raise BootError(
            names,
            f"{'does' if len(failed) == 1 else 'do'} not boot: {first}",
            "The report has each step's log: boot.json beside the boxes. `--keep` leaves the container to look into.",
            boxes=[report.format for report in failed],
        )
