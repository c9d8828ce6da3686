"""The course of a boot: its steps in their order, each timed and judged."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from boxsnake.boot import contents as boot_contents
from boxsnake.boot import proofs as boot_proofs
from boxsnake.boot.box import Box, NotPassedError, run_as_root
from boxsnake.boot_recipe import Check
from boxsnake.boot_report.value import CHECK, Outcome, Step


class Steps:
    """The steps of one boot, in order: after a failure the others are skipped, except those that clean up."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.failed = False

    def take(self, name: str, verb: Callable[[], str], *, anyway: bool = False) -> None:
        """Carry out one step, timed; the verb gives the detail of success, or raises NotPassedError."""
        if self.failed and not anyway:
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
        seconds = time.monotonic() - started
        self.done.append(Step(name=name, outcome=outcome, seconds=seconds, detail=detail, log=log))

    def measured(self, figures: Mapping[str, float]) -> None:
        """Add figures to the last step, unless that was skipped."""
        if self.done[-1].outcome != "skipped":
            self.done[-1] = dataclasses.replace(self.done[-1], figures=figures)

    def add(self, line: str) -> None:
        """Add a line to the detail of the first step that failed."""
        index = next(index for index, step in enumerate(self.done) if step.outcome == "failed")
        self.done[index] = dataclasses.replace(self.done[index], detail=f"{self.done[index].detail}\n{line}")


def carry_out(steps: Steps, box: Box, checks: Sequence[Check], traces: Sequence[str]) -> None:
    """Every step after the start, in order."""
    recipe = box.recipe
    if recipe.copies:
        steps.take("copy", lambda: copy(box))
    clean = frozenset() if steps.failed else frozenset(box.container.changes())
    if recipe.install:
        steps.take("install", lambda: run_as_root(box, recipe.install))
    installed = not steps.failed
    facts: dict[str, Any] = {}
    steps.take("packages", lambda: boot_contents.check_packages(box, facts, traces))
    steps.take("requirements", lambda: boot_contents.check_requirements(facts))
    steps.take("files", lambda: boot_contents.check_files(box, facts))
    steps.take("imports", lambda: boot_proofs.check_imports(facts))
    steps.take("entry points", lambda: boot_proofs.start_scripts(box, facts))
    if recipe.commands:
        steps.take("commands", lambda: boot_proofs.start_commands(box, box.entrypoint))
    take_checks(steps, box, checks, facts)
    steps.take(
        "writes", lambda: boot_proofs.check_changes(box, clean, recipe.writes, "written outside of the declared paths")
    )
    if recipe.remove:
        # A box that fails may be removable all the same, and then says so; one that is not installed has nothing to.
        steps.take("remove", lambda: run_as_root(box, recipe.remove), anyway=installed)
        removed = installed and steps.done[-1].outcome == "passed"
        why = "left behind by the removal"
        steps.take("leftovers", lambda: boot_proofs.check_changes(box, clean, recipe.remains, why), anyway=removed)


def copy(box: Box) -> str:
    """The box's files, as its users get them, into the container."""
    for source, target in box.recipe.copies:
        box.container.copy(Path(source), target)
    return ""


def take_checks(steps: Steps, box: Box, checks: Sequence[Check], facts: Mapping[str, Any], *, note: str = "") -> None:
    """Commands one by one; requests all of one start of the application. `note` ends the names of the steps."""
    served: dict[str, Any] = {}
    requests = [check for check in checks if check.is_asked]
    for check in checks:
        if check.is_asked:
            verb = partial(boot_proofs.request_check, box, check, requests, served)
        elif check.run is not None:
            verb = partial(boot_proofs.run_check, box, check, facts)
        else:
            verb = partial(boot_proofs.file_check, box, check)
        steps.take(f"{CHECK}{check.name}{note}", verb)
    if requests:
        steps.take(f"budgets{note}", partial(boot_proofs.check_budgets, box, served))
        if served:
            steps.measured(boot_proofs.figures_of(served))
