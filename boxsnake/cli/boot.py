"""`boxsnake boot`: prove that boxes work."""

from __future__ import annotations

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
    from boxsnake.boot_recipe import BootRecipe, Check, Takes
    from boxsnake.boot_report.value import BootReport, Report
    from boxsnake.boxes import Box, Workspace
    from boxsnake.hosts import Host

_ALL = "all"


@click.command(
    epilog="Each box is put on a clean host in a container without network: it must install, hold exactly what the "
    "lock says, import, start, pass the manifest's checks, and leave nothing behind when it is removed. On a host that "
    "a box was not made for (--host), as its glibc is older, it must work all the same or say clearly why not. "
    "The report goes to boot.json, boot.xml (JUnit) and boot.html beside the boxes, with what has changed since the "
    "one that lay there; `boxsnake report` compares it with others."
)
@click.argument("boxes", nargs=-1, metavar="[FORMAT|FILE]...")
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
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An earlier artifact, for the scenarios upgrade, downgrade and rollback.",
)
@click.option(
    "--checks",
    "check_files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Checks of container-structure-test or goss, beside the manifest's; may be repeated.",
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
    from boxsnake.boot_report.document import to_json
    from boxsnake.boot_report.summary import changed, verdicts
    from boxsnake.cli.boot_files import PAGE, compared, earlier_of, publish
    from boxsnake.cli.boot_tables import render_steps, render_table
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.packagers import packagers

    console = console_of(context, as_json=as_json)
    with console.progress():
        workspace = open_workspace(manifest, output=output)
        earlier = earlier_of(workspace.output, against)
        formats = [word for word in boxes if word in packagers()]
        # What is named by its format needs no other box to be fit to be packed.
        known = workspace.boxes(formats if len(formats) == len(boxes) else (), targets)
        # One that is for several targets is booted for each of them.
        seen = (one for box in _chosen(known, boxes) for one in box.by_target)
        chosen = [one for one in seen if not targets or one.plan.target.name in targets]
        further = tuple(check for path in check_files for check in _checks_in(path))
        asked = Asked(hosts=hosts, scenarios=scenarios, older=older and older.absolute(), checks=further)
        report = compared(_boot_all(chosen, asked, workspace, runtime, keep=keep, offline=offline), earlier)
    publish(report, workspace.output)
    if verbose:
        console.show(lambda: render_steps(report.boxes))
    console.show(lambda: render_table(report.boxes))
    if report.changes and (words := changed(report.changes)):
        console.say(f"since {report.changes.against}: {words}")
    console.say(f"{verdicts(report.boxes)}; {path_from_here(workspace.output / PAGE)}")
    console.result(lambda: to_json(report))
    _judge(report.boxes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for beside the boxes: names of hosts and scenarios, an earlier artifact, further checks."""

    hosts: tuple[str, ...]
    scenarios: tuple[str, ...]
    older: Path | None
    checks: tuple[Check, ...]


def _checks_in(path: Path) -> tuple[Check, ...]:
    from boxsnake.disk import disk_faults
    from boxsnake.foreign_checks import foreign_checks

    with disk_faults(path):
        return foreign_checks(path.read_bytes().decode("utf-8", "replace"), str(path))


def _boot_all(
    chosen: Sequence[Box], asked: Asked, workspace: Workspace, named: str | None, *, keep: bool, offline: bool
) -> Report:
    """Boot some boxes at a time: most of a boot is waiting for programs to start."""
    from boxsnake import __version__
    from boxsnake.boot import boot
    from boxsnake.boot.artifacts import look_into
    from boxsnake.boot.fit import judged, mismatch
    from boxsnake.boot.room import at_once
    from boxsnake.boot.runtimes import runtime_of
    from boxsnake.boot_report.value import EMULATED, Report
    from boxsnake.hosts import load_hosts
    from boxsnake.materials import StoreMaterials
    from boxsnake.progress import track

    started = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    known = load_hosts()
    access = dataclasses.replace(workspace.access, offline=workspace.access.offline or offline)
    runtime = runtime_of(named, workspace.store)
    trials = [
        (box, name, scenario)
        for box in chosen
        for scenario in _scenarios_of(box, asked)
        for name in _hosts_of(box, asked.hosts, known, runtime)
    ]
    paths = list(dict.fromkeys(box.path for box in chosen))
    with (
        track("boot", len(trials)) as advance,
        ThreadPoolExecutor(max_workers=1) as aside,
        ThreadPoolExecutor(max_workers=at_once()) as pool,
    ):

        def one(trial: tuple[Box, str, Scenario | None]) -> BootReport:
            box, name, scenario = trial
            recipe = box.packager.boot(box.plan, box.path)
            obstacle = _obstacle(box, name, recipe.takes, runtime, known)
            foreign = _foreign(box, runtime)
            if obstacle:
                report = _not_booted(box, name, scenario, obstacle)
            else:
                with StoreMaterials(workspace.store, box.plan, access) as materials:
                    report = boot(
                        runtime,
                        workspace.store,
                        box.path,
                        dataclasses.replace(_unhurried(recipe) if foreign else recipe, host=name),
                        (*box.plan.checks, *asked.checks),
                        format=box.name,
                        base_of=materials.base,
                        scenario=scenario,
                        older=box.packager.boot(box.plan, asked.older) if asked.older else None,
                        traces=(str(box.plan.root), str(workspace.store.root)),
                        note=f"{EMULATED}programs of {foreign}, on {runtime.architecture}" if foreign else "",
                        keep=keep,
                        offline=offline,
                    )
                host = known.get(name)
                why = mismatch(recipe.takes, host, box.plan.target, box.plan.lock.python_minor) if host else ""
                report = judged(report, why) if why else report
            advance(1)
            return report

        try:
            looking = [aside.submit(look_into, path, workspace.store) for path in paths]
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


def _title(boxes: Sequence[Box]) -> str:
    """The application's name and version."""
    applications = dict.fromkeys(f"{box.plan.application.name} {box.plan.application.version}" for box in boxes)
    return ", ".join(applications)


def _scenarios_of(box: Box, asked: Asked) -> Sequence[Scenario | None]:
    """What is tried with the box; None is the usual course. Errors: UsageError."""
    from boxsnake.boot.scenarios import ALL, SCENARIOS
    from boxsnake.boot.scenarios import chosen as chosen_scenarios
    from boxsnake.errors import UsageError

    recipe = box.packager.boot(box.plan, box.path)
    for name in asked.scenarios:
        if name != ALL and name not in SCENARIOS:
            step = f"There are {', '.join(SCENARIOS)}, and `{ALL}`; docs/boot.md tells what each proves."
            raise UsageError(f"scenario {name}", "there is no such scenario", step, scenarios=list(SCENARIOS))
    found = chosen_scenarios(asked.scenarios, recipe, older=asked.older is not None)
    for scenario in found:
        lack = scenario.lacking(recipe)
        if lack:
            step = f"Name the formats that it is for, or `--scenario {ALL}` for those that each takes."
            raise UsageError(f"scenario {scenario.name}", f"is not for {box.packager.name}, which {lack}", step)
        if scenario.takes_older and asked.older is None:
            step = "Name an earlier artifact of the same format with --from."
            raise UsageError(f"scenario {scenario.name}", "takes an older artifact, and there is none", step)
    older = asked.older
    if older and older.suffix != box.path.suffix and any(scenario.takes_older for scenario in found):
        cause = f"is no {box.packager.name} by its name"
        raise UsageError(str(older), cause, f"Name an earlier artifact with --from, such as {box.path.name}.")
    return found or (() if asked.scenarios else (None,))


def _hosts_of(box: Box, asked: Sequence[str], known: Mapping[str, Host], runtime: Runtime) -> list[str]:
    """The names of the hosts that the box is booted on. An image is its own, and is booted once."""
    from boxsnake.boot.fit import lacking
    from boxsnake.boot_recipe import ARTIFACT_HOST
    from boxsnake.errors import UsageError

    unknown = [name for name in asked if name not in known and name != _ALL]
    if unknown:
        step = f"There are {', '.join(known)}, and `{_ALL}`; your settings' hosts folder may define others."
        raise UsageError(f"host {unknown[0]}", "there is no such host", step, hosts=list(known))
    recipe = box.packager.boot(box.plan, box.path)
    if not asked or recipe.host == ARTIFACT_HOST:
        return [recipe.host]
    found = [name for name in asked if name != _ALL]
    if _ALL in asked:
        # Those that can be made here, or are there already: nothing is pulled for a word that names none.
        at_hand = (host for host in known.values() if runtime.has(host))
        found += [host.name for host in at_hand if not lacking(recipe.takes, host)]
    return list(dict.fromkeys(found))


def _foreign(box: Box, runtime: Runtime) -> str:
    """The box's processor, as the OCI image specification names it; "" where it is that of the engine."""
    platform = box.plan.target.oci_platform
    return platform[1] if platform and runtime.architecture and platform[1] != runtime.architecture else ""


def _unhurried(recipe: BootRecipe) -> BootRecipe:
    """The recipe without budgets: what an emulator takes says nothing of the box."""
    rules = dataclasses.replace(recipe.expects.rules, start_seconds=None, memory=None)
    return dataclasses.replace(recipe, expects=dataclasses.replace(recipe.expects, rules=rules))


def _obstacle(box: Box, name: str, takes: Takes, runtime: Runtime, hosts: Mapping[str, Host]) -> str:
    """Why the box cannot be booted on the host with this engine, whatever its worth; "" where it can."""
    from boxsnake.boot.fit import lacking
    from boxsnake.boot_recipe import ARTIFACT_HOST

    target = box.plan.target
    if target.oci_platform is None:
        return f"there are no containers of {target.platform}"
    foreign = _foreign(box, runtime)
    # Hosts are of the engine's own processor; an image brings all that it needs.
    if foreign and (name != ARTIFACT_HOST or foreign not in runtime.emulated):
        lack = "" if name != ARTIFACT_HOST else f", without an emulator of {foreign} (docs/boot.md tells of them)"
        return f"needs a container engine on {target.platform}, and this one runs {runtime.architecture}{lack}"
    if name == ARTIFACT_HOST:
        return ""
    if name not in hosts:
        return f"there is no host {name}; define it in the folder that `hosts` in your settings names"
    lack = lacking(takes, hosts[name])
    return f"the host {name} {lack}" if lack else ""


def _not_booted(box: Box, host: str, scenario: Scenario | None, why: str) -> BootReport:
    from boxsnake.boot_report.value import BootReport, Step

    step = Step(name="start", outcome="skipped", seconds=0.0, detail=why)
    name = scenario.name if scenario else ""
    return BootReport(artifact=str(box.path), format=box.name, host=host, scenario=name, steps=(step,))


def _chosen(known: list[Box], asked: tuple[str, ...]) -> list[Box]:
    """The boxes that were asked for by format or by path, all of them without a word; they must have been made."""
    from boxsnake.errors import ResourceError, UsageError

    for word in asked:
        if not any(_is_meant(box, word) for box in known):
            there = ", ".join(dict.fromkeys(box.packager.name for box in known))
            raise UsageError(word, "is no format of the manifest and no file that it makes", f"It makes {there}.")
    chosen = [box for box in known if not asked or any(_is_meant(box, word) for word in asked)]
    for box in chosen:
        if not box.path.exists():
            step = f"Run `boxsnake build {box.packager.name}` first."
            raise ResourceError(str(box.path), "there is no such box yet", step, format=box.packager.name)
    return chosen


def _is_meant(box: Box, word: str) -> bool:
    return word == box.packager.name or Path(word).absolute() == box.path


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
