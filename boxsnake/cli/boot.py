"""`boxsnake boot`: prove that boxes work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of, path_from_here
from boxsnake.cli.options import about_manifest
from boxsnake.settings import RUNTIMES

if TYPE_CHECKING:
    from boxsnake.boot_report.value import BootReport
    from boxsnake.cli.subjects import Subject


@click.command(
    epilog="Each box is put on a clean host in a container without network: it must install, hold exactly what the "
    "lock says, import, start, pass the manifest's checks, and leave nothing behind when it is removed. On a host that "
    "a box was not made for (--host), as its glibc is older, it must work all the same or say clearly why not. "
    "A file, a folder or an image of the engine that is none of the manifest's is booted as well, without manifest and "
    "lock: an RPM, deb, image, PEX, zipapp, wheels, archive or installer, whoever has made it. "
    "The report goes to boot.json, boot.xml (JUnit) and boot.html beside the boxes, with what has changed since the "
    "one that lay there; `boxsnake report` compares it with others."
)
@click.argument("boxes", nargs=-1, metavar="[FORMAT|FILE|IMAGE]...")
@about_manifest
@click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated.")
@click.option(
    "-H", "--host", "hosts", multiple=True, metavar="NAME", help="This host, or `all` that can be had; may be repeated."
)
@click.option(
    "-s",
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="NAME",
    help="This instead of the usual course, or `all` that the box takes; may be repeated.",
)
@click.option(
    "--from",
    "older",
    type=click.Path(path_type=Path, exists=True),
    help="An earlier artifact, for the scenarios upgrade, downgrade and rollback.",
)
@click.option(
    "--checks",
    "check_files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Further checks: container-structure-test's or goss's YAML, or boxsnake's TOML; may be repeated.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where boxes are (default: dist, beside it).")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Tell what has changed since this boot.json (default: since the one that is replaced).",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    help="What runs the containers (default: what BOXSNAKE_RUNTIME or the settings name).",
)
@click.option("--keep", is_flag=True, help="Keep the container of a box that fails, and say how to look into it.")
@click.option("--offline", is_flag=True, help="Pull no host's image.")
@click.option("-v", "--verbose", is_flag=True, help="Show every step of every box.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(
    context: click.Context,
    boxes: tuple[str, ...],
    manifest: Path | None,
    targets: tuple[str, ...],
    hosts: tuple[str, ...],
    scenarios: tuple[str, ...],
    older: Path | None,
    check_files: tuple[Path, ...],
    output: Path | None,
    against: Path | None,
    runtime: str | None,
    keep: bool,
    offline: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Prove that boxes work, in clean containers."""
    from boxsnake.boot.runtimes import runtime_of
    from boxsnake.boot_report.document import to_json
    from boxsnake.boot_report.summary import changed, verdicts
    from boxsnake.checks_files import read_checks
    from boxsnake.cli.boot_files import PAGE, compared, earlier_of, publish
    from boxsnake.cli.boot_tables import render_steps, render_table
    from boxsnake.cli.subjects import foreign_subjects, own_subjects, sorted_words
    from boxsnake.cli.trials import Asked, boot_all
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.store import Store

    console = console_of(context, as_json=as_json)
    with console.progress(), contextlib.ExitStack() as until:
        said = read_checks(check_files)
        named = sorted_words(boxes, manifest, output)
        chosen: list[Subject] = []
        others = list(named.files)
        folder = output.absolute() if output else others[0].parent if others else Path().absolute()
        store = Store(Store.default_root())
        if named.own or not boxes:
            workspace = open_workspace(manifest, output=output)
            folder, store = workspace.output, workspace.store
            chosen, more = own_subjects(workspace, named.own, targets, said, offline=offline)
            others += more
            for subject in (one for one in chosen if one.is_outdated):
                how = f"`boxsnake build {subject.kind}` makes it of what is there now"
                console.say(f"note: {path_from_here(subject.path)} is older than what it is made of; {how}.")
        earlier = earlier_of(folder, against)
        runs = runtime_of(runtime, store)
        if others or named.images:
            scratch = until.enter_context(store.scratch("foreign"))
            chosen += foreign_subjects(others, named.images, runs, said, scratch)
        asked = Asked(hosts=hosts, scenarios=scenarios, older=older and older.absolute())
        report = compared(boot_all(chosen, asked, runs, store, earlier, keep=keep, offline=offline), earlier)
    publish(report, folder)
    if verbose:
        console.show(lambda: render_steps(report.boxes))
    console.show(lambda: render_table(report.boxes))
    if report.changes and (words := changed(report.changes)):
        console.say(f"since {report.changes.against}: {words}")
    console.say(f"{verdicts(report.boxes)}; {path_from_here(folder / PAGE)}")
    console.result(lambda: to_json(report))
    _judge(report.boxes)


def _judge(reports: Sequence[BootReport]) -> None:
    """Errors: BootError where a box failed; ResourceError where one could not be tried, which is no success either."""
    from boxsnake.errors import BootError, ResourceError

    failed = [(report, report.failure) for report in reports if report.failure]
    if failed:
        reasons = "".join(f"\n  {_name_of(report)}: {step.name}: {_indented(step.detail)}" for report, step in failed)
        raise BootError(
            ", ".join(_name_of(report) for report, _ in failed),
            f"{'does' if len(failed) == 1 else 'do'} not boot{reasons}",
            f"{_ways_out(step.name for _, step in failed)}boot.html beside the boxes has every step. "
            "`--keep` leaves the container to look into.",
            boxes=[report.format for report, _ in failed],
        )
    skipped = [report for report in reports if report.verdict == "skipped"]
    if skipped:
        reasons = "".join(f"\n  {report.format}: {report.steps[0].detail}" for report in skipped)
        raise ResourceError(
            ", ".join(report.format for report in skipped),
            f"{'was' if len(skipped) == 1 else 'were'} not booted, and nothing was learnt about it{reasons}",
            "Boot such boxes where they can run; `--target` and formats leave them out here.",
            boxes=[report.format for report in skipped],
        )


def _ways_out(steps: Iterable[str]) -> str:
    if any(step.startswith(("imports", "entry points", "commands")) for step in steps):
        return "A module or a program that cannot do so by itself is named as `skip` in the manifest's [boot]. "
    return ""


def _name_of(report: BootReport) -> str:
    return f"{report.format} ({report.scenario})" if report.scenario else report.format


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
