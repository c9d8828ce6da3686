"""How much of each thing a page shows, so that it stays small however many boots there were."""

from __future__ import annotations

from boxsnake.boot_report.value import Report
from boxsnake.value import dataclass

# For the whole page: characters of logs, characters of details of what passed, rows of packages, areas of treemaps.
_LOGS, _LARGEST_LOG = 180_000, 40_000
_DETAILS, _LARGEST_DETAIL = 200_000, 500
_ROWS, _MOST_ROWS = 1_200, 400
_AREAS, _MOST_AREAS = 900, 60
_ARTIFACTS = 50


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Characters of each log and detail; rows of packages and areas for each artifact, and of how many it is told."""

    log: int
    detail: int
    rows: int
    areas: int
    artifacts: int

    @classmethod
    def of(cls, report: Report) -> Limits:
        """What there is room for."""
        steps = [step for trial in report.boxes for step in trial.steps]
        logs = sum(1 for step in steps if step.outcome == "failed") or 1
        artifacts = min(len(report.artifacts), _ARTIFACTS) or 1
        return cls(
            log=max(500, min(_LARGEST_LOG, _LOGS // logs)),
            detail=max(40, min(_LARGEST_DETAIL, _DETAILS // (len(steps) or 1))),
            rows=max(5, min(_MOST_ROWS, _ROWS // artifacts)),
            areas=max(5, min(_MOST_AREAS, _AREAS // artifacts)),
            artifacts=artifacts,
        )


def cut(text: str, limit: int) -> tuple[str, str, str]:
    """A text's beginning, what is said of its middle, and its end, all "" but the first where it is short enough."""
    if len(text) <= limit:
        return text, "", ""
    half = limit // 2
    head, tail = text[:half], text[-half:]
    # Whole lines, where these are not longer than all that is shown.
    head = head[: head.rfind("\n") + 1] or head
    tail = tail[tail.find("\n") + 1 :] or tail
    left_out = len(text) - len(head) - len(tail)
    lines = text.count("\n", len(head), len(text) - len(tail))
    return head, f"… {left_out:,} characters, {lines:,} ends of lines, are left out here; boot.json has them …", tail
