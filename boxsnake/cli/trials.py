"""Trials: each box booted on each host in each scenario that was asked for, some at a time."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake import __version__
from boxsnake.boot import boot
from boxsnake.boot.artifacts import look_into
from boxsnake.boot.fit import judged, lacking, mismatch
from boxsnake.boot.room import at_once, longest_first
from boxsnake.boot.scenarios import ALL, SCENARIOS, Scenario
from boxsnake.boot.scenarios import chosen as chosen_scenarios
from boxsnake.boot_recipe import ARTIFACT_HOST
from boxsnake.boot_report.value import EMULATED, BootReport, Report, Step
from boxsnake.cli.boot_files import took_before
from boxsnake.errors import UsageError
from boxsnake.hosts import Host, load_hosts
from boxsnake.progress import track
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.boot.runtime import Runtime
    from boxsnake.boot_recipe import BootRecipe
    from boxsnake.cli.boot_files import Earlier
    from boxsnake.cli.subjects import Subject
    from boxsnake.store import Store

_ALL_HOSTS = "all"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for beside the boxes: names of hosts and scenarios, and an earlier artifact."""

    hosts: tuple[str, ...]
    scenarios: tuple[str, ...]
    older: Path | None


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A box, the name of the host that it is booted on, and what is tried with it; None is the usual course."""

    subject: Subject
    host: str
    scenario: Scenario | None

    @property
    def key(self) -> tuple[str, str, str]:
        """That of its report: see `BootReport.key`."""
        return self.subject.name, self.host, self.scenario.name if self.scenario else ""


def boot_all(
    subjects: Sequence[Subject],
    asked: Asked,
    runtime: Runtime,
    store: Store,
    earlier: Earlier | None,
    *,
    keep: bool,
    offline: bool,
) -> Report:
    """Boot some boxes at a time, as most of a boot is waiting for programs to start.

    What took longest in the `earlier` report is begun first.

    Errors: UsageError for names of hosts and scenarios that are not, and those of `boxsnake.boot.boot`.
    """
    started = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    hosts = load_hosts()
    trials = [
        _Trial(subject=subject, host=host, scenario=scenario)
        for subject in subjects
        for scenario in _scenarios_of(subject, asked)
        for host in _hosts_of(subject, asked.hosts, hosts, runtime)
    ]
    # An image that the engine has lies in no file that could be looked into.
    paths = list(dict.fromkeys(subject.path for subject in subjects if not subject.recipe.image))
    order = longest_first(_expected_seconds(trials, hosts, took_before(earlier)))
    rooms = at_once()
    room = threading.Semaphore(rooms)
    with (
        track("boot", len(trials)) as advance,
        ThreadPoolExecutor(max_workers=1) as aside,
        # One more: the container of another box is started, or removed, meanwhile.
        ThreadPoolExecutor(max_workers=rooms + 1) as pool,
    ):

        def booted(trial: _Trial) -> BootReport:
            report = _booted(trial, asked, hosts, runtime, store, room, keep=keep, offline=offline)
            advance(1)
            return report

        try:
            looking = [aside.submit(look_into, path, store) for path in paths]
            begun = {number: pool.submit(booted, trials[number]) for number in order}
            reports = tuple(begun[number].result() for number in range(len(trials)))
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
        application=_title(subjects),
        started=f"{started.isoformat()}Z",
        boxsnake=__version__,
        engine=f"{runtime.version}, {runtime.architecture}",
    )


def _booted(
    trial: _Trial,
    asked: Asked,
    hosts: Mapping[str, Host],
    runtime: Runtime,
    store: Store,
    room: threading.Semaphore,
    *,
    keep: bool,
    offline: bool,
) -> BootReport:
    subject, scenario = trial.subject, trial.scenario
    if obstacle := _obstacle(subject, trial.host, runtime, hosts):
        return _not_booted(trial, obstacle)
    other = _other_processor(subject, runtime)
    recipe = _unhurried(subject.recipe) if other else subject.recipe
    with subject.bases() as base_of:
        report = boot(
            runtime,
            store,
            subject.path,
            dataclasses.replace(recipe, host=trial.host),
            subject.checks,
            format=subject.name,
            base_of=base_of,
            scenario=scenario,
            older=subject.older(asked.older) if asked.older else None,
            traces=subject.traces,
            note=f"{EMULATED}programs of {other}, on {runtime.architecture}" if other else "",
            keep=keep,
            offline=offline,
            room=room,
        )
    why = _mismatch(trial, hosts)
    return judged(report, why) if why else report


def _mismatch(trial: _Trial, hosts: Mapping[str, Host]) -> str:
    """Why the box was not made for the host; "" where it was."""
    host, subject = hosts.get(trial.host), trial.subject
    return mismatch(subject.recipe.takes, host, subject.glibc, subject.python) if host else ""


def _expected_seconds(
    trials: Sequence[_Trial], hosts: Mapping[str, Host], before: Mapping[tuple[str, str, str], float]
) -> list[float]:
    """What trials took before; of one that is new, no more is known than that a refusal takes no time."""
    return [before.get(trial.key, 0.0 if _mismatch(trial, hosts) else math.inf) for trial in trials]


def _title(subjects: Sequence[Subject]) -> str:
    """The applications' names and versions."""
    return ", ".join(dict.fromkeys(subject.application for subject in subjects if subject.application))


def _scenarios_of(subject: Subject, asked: Asked) -> Sequence[Scenario | None]:
    """What is tried with the box; None is the usual course. Errors: UsageError."""
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
    unknown = [name for name in asked if name not in known and name != _ALL_HOSTS]
    if unknown:
        step = f"There are {', '.join(known)}, and `{_ALL_HOSTS}`; your settings' hosts folder may define others."
        raise UsageError(f"host {unknown[0]}", "there is no such host", step, hosts=list(known))
    recipe = subject.recipe
    if not asked or recipe.host == ARTIFACT_HOST:
        return [recipe.host]
    found = [name for name in asked if name != _ALL_HOSTS]
    if _ALL_HOSTS in asked:
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


def _not_booted(trial: _Trial, why: str) -> BootReport:
    step = Step(name="start", outcome="skipped", seconds=0.0, detail=why)
    box, host, scenario = trial.key
    return BootReport(artifact=str(trial.subject.path), format=box, host=host, scenario=scenario, steps=(step,))
