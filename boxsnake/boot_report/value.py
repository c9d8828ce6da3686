"""What boots have shown, as values."""

from __future__ import annotations

from typing import Literal

from boxsnake.value import dataclass

Outcome = Literal["passed", "failed", "skipped"]
CHECK = "check: "
"""What the names of those steps begin with that are checks of the manifest's."""
REFUSAL = "refuses"
"""The step in which a box tells a host that it was not made for what that host lacks."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was tried on a box. `seconds` are of wall time; `detail` is text without control characters."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class BootReport:
    """All that was tried on one artifact, in order. `artifact` is its path, `host` what it was booted on.

    `scenario` is the name of what was tried on it; "" is the usual course.
    """

    artifact: str
    format: str
    host: str
    steps: tuple[Step, ...]
    scenario: str = ""

    @property
    def verdict(self) -> Outcome:
        """Failed where a step did; skipped where nothing was tried."""
        if self.failure:
            return "failed"
        return "skipped" if all(step.outcome == "skipped" for step in self.steps) else "passed"

    @property
    def failure(self) -> Step | None:
        """The first step that failed."""
        return next((step for step in self.steps if step.outcome == "failed"), None)

    @property
    def seconds(self) -> float:
        """The wall time of all steps."""
        return sum(step.seconds for step in self.steps)
