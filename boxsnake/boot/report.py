"""What a boot has shown: values, and the same as a table for people, JSON for programs and JUnit for CI."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from boxsnake.boot_recipe import ARTIFACT_HOST
from boxsnake.plain_text import counted

if TYPE_CHECKING:
    from rich.table import Table

Outcome = Literal["passed", "failed", "skipped"]
CHECK = "check: "
"""What the names of those steps begin with that are checks of the manifest's."""
REFUSAL = "refuses"
"""The step in which a box tells a host that it was not made for what that host lacks."""

_STYLES: dict[Outcome, str] = {"passed": "green", "failed": "bold red", "skipped": "yellow"}

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


def render_table(reports: Sequence[BootReport]) -> Table:
    """One row for each box: what it is, where it was booted, how that ended, and what it has proven."""
    from rich.text import Text

    scenarios = any(report.scenario for report in reports)
    table = _table("box", "host", *(["scenario"] if scenarios else []), "verdict", "seconds", "proven")
    for report in reports:
        verdict = Text(report.verdict, style=_STYLES[report.verdict])
        host = "itself" if report.host == ARTIFACT_HOST else report.host
        names = [report.format, host, *([report.scenario] if scenarios else [])]
        table.add_row(*map(Text, names), verdict, f"{report.seconds:.1f}", Text(_proven(report)))
    return table


def render_steps(reports: Sequence[BootReport]) -> Table:
    """One row for each step of each box."""
    from rich.text import Text

    table = _table("box", "step", "outcome", "seconds", "detail")
    for report in reports:
        for number, step in enumerate(report.steps):
            name = f"{report.format} {report.scenario}".strip() if number == 0 else ""
            outcome = Text(step.outcome, style=_STYLES[step.outcome])
            table.add_row(Text(name), Text(step.name), outcome, f"{step.seconds:.1f}", Text(step.detail))
    return table


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "seconds" else "left", overflow="fold")
    return table


def _proven(report: BootReport) -> str:
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
    return " · ".join([*facts, *([counted(checks, "check")] if checks else [])])


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


def to_junit(reports: Sequence[BootReport]) -> bytes:
    """The reports as JUnit XML: a suite for each box, a case for each step."""
    root = ET.Element("testsuites", name="boxsnake boot")
    for report in reports:
        outcomes = [step.outcome for step in report.steps]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=_xml_text(" ".join([report.format or report.artifact, report.scenario]).strip()),
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
