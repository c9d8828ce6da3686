"""`boxsnake boot`: prove that boxes work."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of, path_from_here
from boxsnake.cli.options import about_manifest
from boxsnake.settings import RUNTIMES

if TYPE_CHECKING:
    from boxsnake.boot.runtime import Runtime
    from boxsnake.boot.scenarios import Scenario
    from boxsnake.boot_recipe import BootRecipe
    from boxsnake.boot_report.value import BootReport, Report
    from boxsnake.cli.subjects import Subject
    from boxsnake.hosts import Host
    from boxsnake.store import Store

_ALL = "all"


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
        earlier = earlier_of(folder, against)
        runs = runtime_of(runtime, store)
        if others or named.images:
            scratch = until.enter_context(store.scratch("foreign"))
            chosen += foreign_subjects(others, named.images, runs, said, scratch)
        asked = Asked(hosts=hosts, scenarios=scenarios, older=older and older.absolute())
        report = compared(_boot_all(chosen, asked, runs, store, keep=keep, offline=offline), earlier)
    publish(report, folder)
    if verbose:
        console.show(lambda: render_steps(report.boxes))
    console.show(lambda: render_table(report.boxes))
    if report.changes and (words := changed(report.changes)):
        console.say(f"since {report.changes.against}: {words}")
    console.say(f"{verdicts(report.boxes)}; {path_from_here(folder / PAGE)}")
    console.result(lambda: to_json(report))
    _judge(report.boxes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for beside the boxes: names of hosts and scenarios, and an earlier artifact."""

    hosts: tuple[str, ...]
    scenarios: tuple[str, ...]
    older: Path | None


def _boot_all(
    chosen: Sequence[Subject], asked: Asked, runtime: Runtime, store: Store, *, keep: bool, offline: bool
) -> Report:
    """Boot some boxes at a time: most of a boot is waiting for programs to start."""
    from boxsnake import __version__
    from boxsnake.boot import boot
    from boxsnake.boot.artifacts import look_into
    from boxsnake.boot.fit import judged, mismatch
    from boxsnake.boot.room import at_once
    from boxsnake.boot_report.value import EMULATED, Report
    from boxsnake.hosts import load_hosts
    from boxsnake.progress import track

    started = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    known = load_hosts()
    trials = [
        (subject, name, scenario)
        for subject in chosen
        for scenario in _scenarios_of(subject, asked)
        for name in _hosts_of(subject, asked.hosts, known, runtime)
    ]
    # An image that the engine has lies in no file that could be looked into.
    paths = list(dict.fromkeys(subject.path for subject in chosen if not subject.recipe.image))
    with (
        track("boot", len(trials)) as advance,
        ThreadPoolExecutor(max_workers=1) as aside,
        ThreadPoolExecutor(max_workers=at_once()) as pool,
    ):

        def one(trial: tuple[Subject, str, Scenario | None]) -> BootReport:
            subject, name, scenario = trial
            recipe = subject.recipe
            obstacle = _obstacle(subject, name, runtime, known)
            other = _other_processor(subject, runtime)
            if obstacle:
                report = _not_booted(subject, name, scenario, obstacle)
            else:
                with subject.bases() as base_of:
                    report = boot(
                        runtime,
                        store,
                        subject.path,
                        dataclasses.replace(_unhurried(recipe) if other else recipe, host=name),
                        subject.checks,
                        format=subject.name,
                        base_of=base_of,
                        scenario=scenario,
                        older=subject.older(asked.older) if asked.older else None,
                        traces=subject.traces,
                        note=f"{EMULATED}programs of {other}, on {runtime.architecture}" if other else "",
                        keep=keep,
                        offline=offline,
                    )
                host = known.get(name)
                why = mismatch(subject.recipe.takes, host, subject.glibc, subject.python) if host else ""
                report = judged(report, why) if why else report
            advance(1)
            return report

        try:
            looking = [aside.submit(look_into, path, store) for path in paths]
            reports = tuple(pool.map(one, trials))
            artifacts = tuple(look.result() for look in looking)
        except BaseException:
            # Interrupted, or without an engine: the other boots must not be waited for to their ends.
            for one_pool in (pool, aside):
                one_pool.shutdown(wait=False, cancel_futures=True)
            runtime.abandon()
            raise
    return Report(
        boxes=reports,
        artifacts=artifacts,
        application=_title(chosen),
        started=f"{started.isoformat()}Z",
        boxsnake=__version__,
        engine=f"{runtime.version}, {runtime.architecture}",
    )


def _title(subjects: Sequence[Subject]) -> str:
    """The applications' names and versions."""
    return ", ".join(dict.fromkeys(subject.application for subject in subjects if subject.application))


def _scenarios_of(subject: Subject, asked: Asked) -> Sequence[Scenario | None]:
    """What is tried with the box; None is the usual course. Errors: UsageError."""
    from boxsnake.boot.scenarios import ALL, SCENARIOS
    from boxsnake.boot.scenarios import chosen as chosen_scenarios
    from boxsnake.errors import UsageError

    for name in asked.scenarios:
        if name != ALL and name not in SCENARIOS:
            step = f"There are {', '.join(SCENARIOS)}, and `{ALL}`; docs/boot.md tells what each proves."
            raise UsageError(f"scenario {name}", "there is no such scenario", step, scenarios=list(SCENARIOS))
    found = chosen_scenarios(asked.scenarios, subject.recipe, older=asked.older is not None)
    for scenario in found:
        lack = scenario.lacking(subject.recipe)
        if lack:
            step = f"Name the formats that it is for, or `--scenario {ALL}` for those that each takes."
            raise UsageError(f"scenario {scenario.name}", f"is not for {subject.kind}, which {lack}", step)
        if scenario.takes_older and asked.older is None:
            step = "Name an earlier artifact of the same format with --from."
            raise UsageError(f"scenario {scenario.name}", "takes an older artifact, and there is none", step)
    if asked.older and any(scenario.takes_older for scenario in found):
        # Looked at before anything is started, so that a wrong one is told at once.
        subject.older(asked.older)
    return found or (() if asked.scenarios else (None,))


def _hosts_of(subject: Subject, asked: Sequence[str], known: Mapping[str, Host], runtime: Runtime) -> list[str]:
    """The names of the hosts that the box is booted on. An image is its own, and is booted once."""
    from boxsnake.boot.fit import lacking
    from boxsnake.boot_recipe import ARTIFACT_HOST
    from boxsnake.errors import UsageError

    unknown = [name for name in asked if name not in known and name != _ALL]
    if unknown:
        step = f"There are {', '.join(known)}, and `{_ALL}`; your settings' hosts folder may define others."
        raise UsageError(f"host {unknown[0]}", "there is no such host", step, hosts=list(known))
    recipe = subject.recipe
    if not asked or recipe.host == ARTIFACT_HOST:
        return [recipe.host]
    found = [name for name in asked if name != _ALL]
    if _ALL in asked:
        # Those that can be made here, or are there already: nothing is pulled for a word that names none.
        at_hand = (host for host in known.values() if runtime.has(host))
        found += [host.name for host in at_hand if not lacking(recipe.takes, host)]
    return list(dict.fromkeys(found))


def _other_processor(subject: Subject, runtime: Runtime) -> str:
    """The box's processor, as the OCI image specification names it; "" where it is that of the engine, or any."""
    own = runtime.architecture
    return subject.architecture if own and subject.architecture != own else ""


def _unhurried(recipe: BootRecipe) -> BootRecipe:
    """The recipe without budgets: what an emulator takes says nothing of the box."""
    rules = dataclasses.replace(recipe.expects.rules, start_seconds=None, memory=None)
    return dataclasses.replace(recipe, expects=dataclasses.replace(recipe.expects, rules=rules))


def _obstacle(subject: Subject, name: str, runtime: Runtime, hosts: Mapping[str, Host]) -> str:
    """Why the box cannot be booted on the host with this engine, whatever its worth; "" where it can."""
    from boxsnake.boot.fit import lacking
    from boxsnake.boot_recipe import ARTIFACT_HOST

    if subject.obstacle:
        return subject.obstacle
    other = _other_processor(subject, runtime)
    # Hosts are of the engine's own processor; an image brings all that it needs.
    if other and (name != ARTIFACT_HOST or other not in runtime.emulated):
        lack = "" if name != ARTIFACT_HOST else f", without an emulator of {other} (docs/boot.md tells of them)"
        return f"needs a container engine on {subject.platform}, and this one runs {runtime.architecture}{lack}"
    if name == ARTIFACT_HOST:
        return ""
    if name not in hosts:
        return f"there is no host {name}; define it in the folder that `hosts` in your settings names"
    lack = lacking(subject.recipe.takes, hosts[name])
    return f"the host {name} {lack}" if lack else ""


def _not_booted(subject: Subject, host: str, scenario: Scenario | None, why: str) -> BootReport:
    from boxsnake.boot_report.value import BootReport, Step

    step = Step(name="start", outcome="skipped", seconds=0.0, detail=why)
    name = scenario.name if scenario else ""
    return BootReport(artifact=str(subject.path), format=subject.name, host=host, scenario=name, steps=(step,))


def _judge(reports: Sequence[BootReport]) -> None:
    """Errors: BootError where a box failed; ResourceError where one could not be tried, which is no success either."""
    from boxsnake.errors import BootError, ResourceError

    failed = [(report, report.failure) for report in reports if report.failure]
    if failed:
        reasons = "".join(f"\n  {_name_of(report)}: {step.name}: {_indented(step.detail)}" for report, step in failed)
        raise BootError(
            ", ".join(_name_of(report) for report, _ in failed),
            f"{'does' if len(failed) == 1 else 'do'} not boot{reasons}",
            "boot.html beside the boxes has every step. `--keep` leaves the container to look into.",
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


def _name_of(report: BootReport) -> str:
    return f"{report.format} ({report.scenario})" if report.scenario else report.format


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")
