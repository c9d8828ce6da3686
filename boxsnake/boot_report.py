"""What a boot has shown: values, and the same as a table for people, JSON for programs and JUnit for CI."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

Outcome = Literal["passed", "failed", "skipped"]

# XML 1.0 has no way to write these, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was tried on a box. `seconds` are of wall time; `detail` is text without control characters."""

    name: str
    outcome: Outcome
    seconds: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class BootReport:
    """All that was tried on one artifact, in order. `artifact` is its path, `host` what it was booted on."""

    artifact: str
    format: str
    host: str
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> Outcome:
        """Passed where no step failed."""
        return "failed" if self.failure else "passed"

    @property
    def failure(self) -> Step | None:
        """The first step that failed."""
        return next((step for step in self.steps if step.outcome == "failed"), None)

    @property
    def seconds(self) -> float:
        """The wall time of all steps."""
        return sum(step.seconds for step in self.steps)


def render_table(reports: Sequence[BootReport]) -> Table:
    """One row for each box: what it is, where it was booted, each step's outcome, and why it failed."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("box", "host", "verdict", "seconds", "steps"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left", overflow="fold")
    styles = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    for report in reports:
        steps = Text()
        for step in report.steps:
            line = f"{step.name}: {step.outcome}" + (f", {step.detail}" if step.detail else "")
            steps.append(line if not steps else f"\n{line}", style=styles[step.outcome])
        name = report.artifact.rpartition("/")[2]
        verdict = Text(report.verdict, style=styles[report.verdict])
        table.add_row(Text(f"{report.format}\n{name}"), Text(report.host), verdict, f"{report.seconds:.1f}", steps)
    return table


def to_json(reports: Sequence[BootReport]) -> dict[str, object]:
    """The reports as plain JSON values."""
    return {
        "verdict": "failed" if any(report.failure for report in reports) else "passed",
        "boxes": [
            {
                "artifact": report.artifact,
                "format": report.format,
                "host": report.host,
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


def to_junit(reports: Sequence[BootReport]) -> bytes:
    """The reports as JUnit XML: a suite for each box, a case for each step."""
    root = ET.Element("testsuites", name="boxsnake boot")
    for report in reports:
        outcomes = [step.outcome for step in report.steps]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=_xml_text(report.format or report.artifact),
            tests=str(len(outcomes)),
            failures=str(outcomes.count("failed")),
            skipped=str(outcomes.count("skipped")),
            errors="0",
            time=f"{report.seconds:.3f}",
        )
        properties = ET.SubElement(suite, "properties")
        for name, value in (("artifact", report.artifact), ("host", report.host)):
            ET.SubElement(properties, "property", name=name, value=_xml_text(value))
        for step in report.steps:
            _add_case(suite, report, step)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _add_case(suite: ET.Element, report: BootReport, step: Step) -> None:
    owner = _xml_text(f"{report.format}.{report.host}")
    case = ET.SubElement(suite, "testcase", classname=owner, name=_xml_text(step.name), time=f"{step.seconds:.3f}")
    detail = _xml_text(step.detail)
    if step.outcome == "failed":
        failure = ET.SubElement(case, "failure", message=detail.partition("\n")[0])
        failure.text = detail
    elif step.outcome == "skipped":
        ET.SubElement(case, "skipped", message=detail)
    elif detail:
        ET.SubElement(case, "system-out").text = detail


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
