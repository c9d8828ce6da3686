"""What boots have shown, as JUnit's XML for build servers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from boxsnake.boot_report.value import BootReport, Step

# XML 1.0 has no way to write these, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(reports: Sequence[BootReport]) -> bytes:
    """The reports as JUnit XML: a suite for each box, a case for each step."""
    steps = [step.outcome for report in reports for step in report.steps]
    root = ET.Element(
        "testsuites",
        name="boxsnake boot",
        tests=str(len(steps)),
        failures=str(steps.count("failed")),
        skipped=str(steps.count("skipped")),
        errors="0",
        time=f"{sum(report.seconds for report in reports):.3f}",
    )
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
    # Build servers follow a case from run to run by these two names, so no two may have both.
    owner = _xml_text(".".join(part for part in report.key if part))
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
