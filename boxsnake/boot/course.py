"""The course of a boot: its steps in their order, each timed and judged."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from boxsnake.boot import contents as boot_contents
from boxsnake.boot import proofs
from boxsnake.boot.batch import Batch
from boxsnake.boot.box import Box, NotPassedError, run_as_root
from boxsnake.boot_recipe import ARTIFACT_HOST, Check
from boxsnake.boot_report.value import CHECK, Outcome, Step
from boxsnake.container import Change

# Of an image that somebody else has made: what its base has elsewhere is its distribution's.
_OF_APPLICATIONS = ("/app", "/opt", "/srv", "/usr/local")
# What is handed to the probe is one argument of a program.
_MOST_PATHS = 800


class Steps:
    """The steps of one boot, in order: after a failure the others are skipped, except those that clean up.

    With `keep` those are skipped as well: whoever looks into the container wants to see what failed.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self.done: list[Step] = []
        self.failed = False
        self._moved = 0.0

    def take(self, name: str, verb: Callable[[], str], *, anyway: bool = False) -> None:
        """Carry out one step, timed; the verb gives the detail of success, or raises NotPassedError."""
        if self.failed and (self._keep or not anyway):
            self.done.append(Step(name=name, outcome="skipped", seconds=0.0, detail=""))
            return
        started = time.monotonic()
        try:
            outcome: Outcome = "passed"
            detail, log = verb(), ""
        except NotPassedError as reason:
            outcome = "failed"
            detail, log = str(reason), reason.log
            self.failed = True
        seconds, self._moved = max(0.0, time.monotonic() - started + self._moved), 0.0
        self.done.append(Step(name=name, outcome=outcome, seconds=seconds, detail=detail, log=log))

    def measured(self, figures: Mapping[str, float]) -> None:
        """Add figures to the last step, unless that was skipped."""
        if self.done[-1].outcome != "skipped":
            self.done[-1] = dataclasses.replace(self.done[-1], figures=figures)

    def move(self, seconds: float) -> None:
        """Count so much more (or less) for the step that is being taken: others have done its work, or it theirs."""
        self._moved += seconds

    def add(self, line: str) -> None:
        """Add a line to the detail of the first step that failed."""
        index = next(index for index, step in enumerate(self.done) if step.outcome == "failed")
        self.done[index] = dataclasses.replace(self.done[index], detail=f"{self.done[index].detail}\n{line}")


def carry_out(steps: Steps, box: Box, checks: Sequence[Check], traces: Sequence[str]) -> None:
    """Every step after the start, in order."""
    recipe = box.recipe
    # Where nothing can be written, nothing needs to be looked for.
    sealed = recipe.host == ARTIFACT_HOST and recipe.read_only
    clean = box.container.own_changes() if recipe.expects.locked and not sealed else frozenset()
    if recipe.copies:
        steps.take("copy", lambda: copy(box))
    if not (recipe.expects.locked or sealed or steps.failed):
        # What the installation brings must be told from folders that were made for the copies.
        clean = frozenset(box.container.changes())
    carried = tuple(target for _, target in recipe.copies)
    if recipe.install:
        steps.take("install", lambda: run_as_root(box, recipe.install))
    installed = not steps.failed
    facts: dict[str, Any] = {}
    roots = None if recipe.expects.locked else brought(box, clean)
    steps.take("packages", lambda: boot_contents.check_packages(box, facts, traces, roots))
    steps.take("requirements", lambda: boot_contents.check_requirements(facts))
    steps.take("files", lambda: boot_contents.check_files(box, facts))
    steps.take("imports", lambda: proofs.check_imports(facts))
    use(steps, box, checks, facts, commands=bool(recipe.commands))
    if recipe.expects.locked:
        why = "written outside of the declared paths"
        allowed = (*recipe.writes, *carried)
        steps.take("writes", lambda: "" if sealed else proofs.check_changes(box, clean, allowed, why))
    if recipe.remove:
        # A box that fails may be removable all the same, and then says so; one that is not installed has nothing to.
        steps.take("remove", lambda: run_as_root(box, recipe.remove), anyway=installed)
        removed = installed and steps.done[-1].outcome == "passed"
        left = "left behind by the removal"
        remaining = (*recipe.remains, *carried)
        steps.take("leftovers", lambda: proofs.check_changes(box, clean, remaining, left), anyway=removed)


def brought(box: Box, clean: frozenset[Change]) -> list[str]:
    """The highest paths that the installation has brought; of an image, where no distribution's packages put files."""
    recipe = box.recipe
    if recipe.host == ARTIFACT_HOST:
        started = [word for word in box.command[:1] if word.startswith("/")]
        return [*_OF_APPLICATIONS, *started, *([box.folder] if box.folder != "/" else [])]
    carried = (*recipe.remains, *(target for _, target in recipe.copies))
    found: list[str] = []
    for change in box.container.changes():
        if change.kind != "added" or change in clean or proofs.is_below(change.path, (*carried, *found[-1:])):
            continue
        found.append(change.path)
    return found[:_MOST_PATHS]


def copy(box: Box) -> str:
    """The box's files, as its users get them, into the container."""
    for source, target in box.recipe.copies:
        box.container.copy(Path(source), target)
    return ""


def use(
    steps: Steps, box: Box, checks: Sequence[Check], facts: Mapping[str, Any], *, note: str = "", commands: bool = False
) -> None:
    """What users do with it: programs, an image's `commands`, and the manifest's checks. `note` ends the steps' names.

    Requests are all of one start of the application.
    """
    batch = Batch(box, steps.move)
    scripts = batch.add(partial(proofs.scripts_job, box, facts, with_program=True), proofs.PROBE_SECONDS)
    taken = [("entry points", _judging(partial(proofs.judge_scripts, box), scripts))]
    if commands:
        started = batch.add(partial(proofs.commands_job, box), proofs.PROBE_SECONDS)
        taken.append(("commands", _judging(proofs.judge_commands, started)))
    checked, served = _checks(batch, box, checks, facts)
    for name, verb in (*taken, *checked):
        steps.take(f"{name}{note}", verb)
    if served is not None:
        steps.take(f"budgets{note}", _judging(partial(proofs.check_budgets, box), served))
        if steps.done[-1].outcome != "skipped":
            steps.measured(proofs.figures_of(served()))


def _checks(
    batch: Batch, box: Box, checks: Sequence[Check], facts: Mapping[str, Any]
) -> tuple[list[tuple[str, Callable[[], str]]], Callable[[], dict[str, Any]] | None]:
    """The steps of the checks, and what tells of the start of the application that all requests are made of."""
    requests = [check for check in checks if check.is_asked]
    served: Callable[[], dict[str, Any]] | None = None
    steps: list[tuple[str, Callable[[], str]]] = []
    for check in checks:
        if check.is_asked:
            if served is None:
                served = batch.add(partial(proofs.serve_job, box, requests), sum(one.timeout for one in requests))
            verb = _judging(partial(proofs.judge_request, box, check, requests), served)
        elif check.run is not None:
            ran = batch.add(partial(proofs.run_job, box, check, facts), check.timeout)
            verb = _judging(partial(proofs.judge_run, check), ran)
        else:
            read = batch.add(partial(proofs.file_job, check), check.timeout)
            verb = _judging(partial(proofs.judge_file, check), read)
        steps.append((f"{CHECK}{check.name}", verb))
    return steps, served


def _judging(judge: Callable[[dict[str, Any]], str], facts: Callable[[], dict[str, Any]]) -> Callable[[], str]:
    return lambda: judge(facts())
