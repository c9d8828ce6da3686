"""What boots have shown, in a few words: the same on the terminal and on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from boxsnake.boot_recipe import ARTIFACT_HOST
from boxsnake.boot_report.value import CHECK, EMULATED, REFUSAL, BootReport, Changes
from boxsnake.plain_text import counted


def place_of(host: str) -> str:
    """The host's name for people; an image is its own host."""
    return "itself" if host == ARTIFACT_HOST else host


def proven(report: BootReport) -> str:
    """In a few words: what the box holds and does, or how far it came."""
    if report.failure:
        return f"failed at: {report.failure.name}"
    if report.verdict == "skipped":
        return "nothing: it was not tried"
    refusals = [step.detail for step in report.steps if step.name == REFUSAL]
    if refusals:
        return f"refuses: {refusals[0]}"
    packages = [step.detail for step in report.steps if step.name == "packages" and step.outcome == "passed"]
    checks = sum(step.name.startswith(CHECK) and step.outcome == "passed" for step in report.steps)
    facts = [fact for detail in packages for fact in detail.split(", ")]
    emulated = ["emulated"] if report.steps[0].detail.startswith(EMULATED) else []
    return " · ".join([*facts, *([counted(checks, "check")] if checks else []), *emulated])


def verdicts(reports: Sequence[BootReport]) -> str:
    """How many ended how: "12 boots: 10 passed, 1 failed, 1 not tried"."""
    found = Counter(report.verdict for report in reports)
    words = {"passed": "passed", "failed": "failed", "skipped": "not tried"}
    parts = [f"{found[verdict]} {word}" for verdict, word in words.items() if found[verdict]]  # type: ignore[index]
    return f"{counted(len(reports), 'boot')}: {', '.join(parts) or 'none'}"


def changed(changes: Changes) -> str:
    """What has changed, in one line; "" where there was nothing to compare with."""
    if not changes.compared:
        return ""
    counts = (
        (len(changes.failing), "new failure"),
        (len(changes.mended), "mended boot"),
        (len(changes.untried), "untried boot"),
        (len(changes.starts), "other start time"),
        (len(changes.memory), "other memory figure"),
        (len(changes.sizes), "other size"),
        (len(changes.packages), "other package"),
    )
    return ", ".join(counted(count, noun) for count, noun in counts if count) or "nothing"
