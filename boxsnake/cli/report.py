"""`boxsnake report`: the page of a boot's report, made again or against another report."""

from __future__ import annotations

from pathlib import Path

import click

from boxsnake.cli.console import console_of, path_from_here
from boxsnake.cli.options import about_manifest


@click.command(
    epilog="REPORT is a boot.json; without one, that of the manifest's boxes is meant. What has changed is told since "
    "the report that lay there when it was written, or since any other one: --against takes the boot.json of the "
    "release before, or of another branch. No box is booted, and boot.json stays as it is."
)
@click.argument("report", required=False, type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="The earlier boot.json to compare with.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page (default: boot.html, beside REPORT).")
@about_manifest
@click.option("--json", "as_json", is_flag=True, help="Print the report with its changes as JSON.")
@click.pass_context
def command(
    context: click.Context,
    report: Path | None,
    against: Path | None,
    output: Path | None,
    manifest: Path | None,
    as_json: bool,
) -> None:
    """Write a boot's report as one HTML page, and tell what has changed since another report."""
    from boxsnake.boot_report.document import to_json
    from boxsnake.boot_report.summary import changed, verdicts
    from boxsnake.cli.boot_files import FACTS, PAGE, Earlier, compared, publish_page, read_report
    from boxsnake.manifest_file import load

    console = console_of(context, as_json=as_json)
    path = report or load(manifest).root / "dist" / FACTS
    found = read_report(path)
    if against is not None:
        found = compared(found, Earlier(name=str(against), report=read_report(against)))
    page = output or path.with_name(PAGE)
    publish_page(found, page)
    console.say(verdicts(found.boxes))
    if found.changes and (words := changed(found.changes)):
        console.say(f"since {found.changes.against}: {words}")
    console.say(f"page: {path_from_here(page)}")
    console.result(lambda: to_json(found))
