"""What boots have shown, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence

from boxsnake.boot_report.value import BootReport, Outcome


def to_json(reports: Sequence[BootReport]) -> dict[str, object]:
    """The reports as plain JSON values."""
    return {
        "verdict": _worst(reports),
        "boxes": [
            {
                "artifact": report.artifact,
                "format": report.format,
                "host": report.host,
                "scenario": report.scenario,
                "verdict": report.verdict,
                "seconds": round(report.seconds, 3),
                "steps": [
                    {
                        "name": step.name,
                        "outcome": step.outcome,
                        "seconds": round(step.seconds, 3),
                        "detail": step.detail,
                    }
                    for step in report.steps
                ],
            }
            for report in reports
        ],
    }


def _worst(reports: Sequence[BootReport]) -> Outcome:
    verdicts = {report.verdict for report in reports}
    return "failed" if "failed" in verdicts else "skipped" if "skipped" in verdicts else "passed"
