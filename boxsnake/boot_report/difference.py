"""What has changed from one report to another. Values only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from boxsnake.boot_report.value import (
    MEMORY,
    START,
    Artifact,
    BootReport,
    Changes,
    Growth,
    PackageChange,
    Report,
    Shift,
    Turn,
)

# A figure has changed by at least such a share of what it was, and by at least so much: less is the machine's mood.
_SHARE = {START: 0.2, MEMORY: 0.1}
_LEAST = {START: 0.25, MEMORY: 1 << 20}
# The same for a package of the same version, in bytes.
_PACKAGE_SHARE = 0.01
_PACKAGE_LEAST = 4096

_Packages = Mapping[tuple[str, str], tuple[str, int]]


def changes(before: Report, after: Report, *, against: str) -> Changes:
    """What `after` has otherwise than `before`, which is called `against`."""
    old, new = _by_key(before), _by_key(after)
    both = [(old[key], new[key]) for key in new if key in old]
    return Changes(
        against=against,
        started=before.started,
        failing=tuple(_turn(now) for then, now in both if _turned(then, now, "failed")),
        mended=tuple(_turn(now, then) for then, now in both if then.failure and now.verdict == "passed"),
        untried=tuple(_turn(now) for then, now in both if _turned(then, now, "skipped")),
        new=tuple(_turn(trial) for key, trial in new.items() if key not in old),
        gone=tuple(_turn(trial) for key, trial in old.items() if key not in new),
        starts=tuple(sorted(_shifts(both, START), key=_gain)),
        memory=tuple(sorted(_shifts(both, MEMORY), key=_gain)),
        sizes=tuple(_sizes(before, after)),
        packages=tuple(_packages(before, after)),
        compared=len(both),
    )


def _by_key(report: Report) -> dict[tuple[str, str, str], BootReport]:
    return {trial.key: trial for trial in report.boxes}


def _turned(then: BootReport, now: BootReport, verdict: str) -> bool:
    return now.verdict == verdict != then.verdict


def _turn(trial: BootReport, other: BootReport | None = None) -> Turn:
    """The trial, with what it or the `other` failed for, or why it was not tried."""
    told = other or trial
    step = told.failure or (told.steps[0] if told.verdict == "skipped" and told.steps else None)
    box, host, scenario = trial.key
    return Turn(box=box, host=host, scenario=scenario, step=step.name if step else "", cause=step.cause if step else "")


def _shifts(both: Iterable[tuple[BootReport, BootReport]], figure: str) -> Iterator[Shift]:
    for then, now in both:
        before, after = then.figure(figure), now.figure(figure)
        if before is None or after is None:
            continue
        if abs(after - before) >= max(_LEAST[figure], before * _SHARE[figure]):
            box, host, scenario = now.key
            yield Shift(box=box, host=host, scenario=scenario, before=before, after=after)


def _gain(shift: Shift) -> float:
    """How much better it is than before, as a share: the worst come first."""
    return (shift.before - shift.after) / (shift.before or 1)


def _artifacts(report: Report) -> dict[str, Artifact]:
    """By the name of the box; an artifact for several targets is there for each."""
    known = {artifact.path: artifact for artifact in report.artifacts}
    return {trial.format: known[trial.artifact] for trial in report.boxes if trial.artifact in known}


def _sizes(before: Report, after: Report) -> Iterator[Growth]:
    old = _artifacts(before)
    for box, artifact in _artifacts(after).items():
        if box in old and 0 < old[box].size != artifact.size > 0:
            yield Growth(box=box, before=old[box].size, after=artifact.size)


def _packages(before: Report, after: Report) -> Iterator[PackageChange]:
    """One for each change, however many boxes have it, in the order of kinds and names."""
    old = _artifacts(before)
    boxes: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    sizes: dict[tuple[str, str, str, str], tuple[int | None, int | None]] = {}
    for box, artifact in _artifacts(after).items():
        if box not in old or old[box].note or artifact.note:
            continue
        then, now = _contents(old[box]), _contents(artifact)
        for kind, name in then.keys() | now.keys():
            one, other = then.get((kind, name)), now.get((kind, name))
            if one == other or (one and other and one[0] == other[0] and not _has_grown(one[1], other[1])):
                continue
            key = (kind, name, one[0] if one else "", other[0] if other else "")
            boxes[key].append(box)
            sizes.setdefault(key, (one[1] if one else None, other[1] if other else None))
    for key in sorted(boxes):
        kind, name, version, later = key
        yield PackageChange(
            kind=kind,
            name=name,
            boxes=tuple(boxes[key]),
            before=version,
            after=later,
            size_before=sizes[key][0],
            size_after=sizes[key][1],
        )


def _contents(artifact: Artifact) -> _Packages:
    """The version and the bytes of each package, in all layers together."""
    found: dict[tuple[str, str], tuple[str, int]] = {}
    for content in artifact.contents:
        if content.name:
            key = (content.kind, content.name)
            found[key] = (content.version, content.size + (found[key][1] if key in found else 0))
    return found


def _has_grown(before: int, after: int) -> bool:
    return abs(after - before) >= max(_PACKAGE_LEAST, before * _PACKAGE_SHARE)
