"""What boots have shown, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from boxsnake.value import dataclass

Outcome = Literal["passed", "failed", "skipped"]
CHECK = "check: "
"""What the names of those steps begin with that are checks of the manifest's."""
REFUSAL = "refuses"
"""The step in which a box tells a host that it was not made for what that host lacks."""
EMULATED = "emulated: "
"""What the first step's detail begins with where an emulator ran the box's programs."""
START = "start"
"""The figure of a step that started the application: seconds until its first answer."""
MEMORY = "memory"
"""The figure of such a step: bytes of memory that the application has taken after its last answer."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was tried on a box. `seconds` are of wall time; `detail` is text without control characters.

    `detail` has the cause of a failure in its first line. `log` is all that was said, where `detail` has not all of it.
    """

    name: str
    outcome: Outcome
    seconds: float
    detail: str
    log: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def cause(self) -> str:
        """The first line of the detail."""
        return self.detail.partition("\n")[0]


@dataclass(frozen=True, kw_only=True)
class BootReport:
    """All that was tried on one artifact, in order. `artifact` is its path, `host` what it was booted on.

    `format` is what the box is called: "image", or "image (el9)" for a target with a name of its own. `scenario` is the
    name of what was tried on it; "" is the usual course.
    """

    artifact: str
    format: str
    host: str
    steps: tuple[Step, ...]
    scenario: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same trial in another report: the box's name, host and scenario."""
        return self.format, self.host, self.scenario

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

    def figure(self, name: str) -> float | None:
        """The first figure of that name among its steps."""
        return next((step.figures[name] for step in self.steps if name in step.figures), None)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of an artifact, with its bytes as it travels."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a package has in a layer, or in the artifact where that has no layers: bytes of its files, unpacked.

    Files of no package have "" for `kind` and `name`. `version` is "" where it is not told.
    """

    kind: str
    name: str
    version: str
    size: int
    layer: str = ""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What is in an artifact. `size` is in bytes as it travels, `unpacked` the sum of its files.

    A folder has no digest. `note` says why nothing is told of what is in it.
    """

    path: str
    size: int = 0
    digest: str = ""
    unpacked: int = 0
    layers: tuple[Layer, ...] = ()
    contents: tuple[Content, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A trial that ends otherwise than before, with the step that failed and its cause, now or then."""

    box: str
    host: str
    scenario: str
    step: str = ""
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A figure of a trial that is another than before: seconds of a start, or bytes of memory."""

    box: str
    host: str
    scenario: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The bytes of a box, as it travels, before and after."""

    box: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class PackageChange:
    """A package that has another version or size, in all of these boxes.

    A version is "" and a size None where the package was or is not there. Sizes are those of the first box.
    """

    kind: str
    name: str
    boxes: tuple[str, ...]
    before: str
    after: str
    size_before: int | None
    size_after: int | None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What another report, `against`, has otherwise: only trials and boxes that are in both are compared."""

    against: str
    started: str = ""
    failing: tuple[Turn, ...] = ()
    mended: tuple[Turn, ...] = ()
    untried: tuple[Turn, ...] = ()
    """Tried before, and now not."""
    new: tuple[Turn, ...] = ()
    gone: tuple[Turn, ...] = ()
    starts: tuple[Shift, ...] = ()
    memory: tuple[Shift, ...] = ()
    sizes: tuple[Growth, ...] = ()
    packages: tuple[PackageChange, ...] = ()
    compared: int = 0
    """Trials that are in both."""
    note: str = ""
    """Why nothing could be compared."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Trials of boxes, what is in these, and what has changed since another report.

    `application` is its name and version, `started` the time in UTC (ISO 8601), `boxsnake` and `engine` are versions.
    """

    boxes: tuple[BootReport, ...]
    artifacts: tuple[Artifact, ...] = ()
    changes: Changes | None = None
    application: str = ""
    started: str = ""
    boxsnake: str = ""
    engine: str = ""

    @property
    def verdict(self) -> Outcome:
        """The worst of all."""
        verdicts = {report.verdict for report in self.boxes}
        return "failed" if "failed" in verdicts else "skipped" if "skipped" in verdicts else "passed"
