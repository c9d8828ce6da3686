"""The report of boots: the same facts for people, programs and CI."""

from __future__ import annotations

import dataclasses
import io
import json
import xml.etree.ElementTree as ET

from rich.console import Console
from rich.table import Table

from boxsnake.boot_report.document import to_json
from boxsnake.boot_report.junit import to_junit
from boxsnake.boot_report.value import BootReport, Report, Step
from boxsnake.cli.boot_tables import render_steps, render_table

GOOD = BootReport(
    artifact="/dist/tiny.pex",
    format="pex",
    host="debian-12-python",
    steps=(
        Step(name="start", outcome="passed", seconds=0.25, detail=""),
        Step(name="packages", outcome="passed", seconds=0.5, detail="2 distributions"),
    ),
)
BAD = BootReport(
    artifact="/dist/tiny.rpm",
    format="rpm",
    host="debian-12-rpm",
    steps=(
        Step(name="install", outcome="failed", seconds=1.0, detail="`rpm -i` exited with 1\n  [red]&<lib> \x00"),
        Step(name="imports", outcome="skipped", seconds=0.0, detail=""),
    ),
)


def test_a_report_fails_with_its_first_failing_step() -> None:
    assert (GOOD.verdict, GOOD.failure, GOOD.seconds) == ("passed", None, 0.75)
    assert (BAD.verdict, BAD.failure) == ("failed", BAD.steps[0])


def test_json_holds_every_step() -> None:
    document = json.loads(json.dumps(to_json(Report(boxes=(GOOD, BAD)))))
    assert document["verdict"] == "failed"
    assert [box["verdict"] for box in document["boxes"]] == ["passed", "failed"]
    step = {"name": "packages", "outcome": "passed", "seconds": 0.5, "detail": "2 distributions"}
    assert document["boxes"][0]["steps"][1] == step
    assert to_json(Report(boxes=(GOOD,)))["verdict"] == "passed"


def test_junit_has_a_suite_for_each_box_and_a_case_for_each_step() -> None:
    root = ET.fromstring(to_junit([GOOD, BAD]))  # noqa: S314 - our own text
    counts = [(s.get("name"), s.get("tests"), s.get("failures"), s.get("skipped")) for s in root]
    assert counts == [("pex", "2", "0", "0"), ("rpm", "2", "1", "1")]
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "1", "1")
    failure = root.find("testsuite[@name='rpm']/testcase[@name='install']/failure")
    assert failure is not None
    assert failure.get("message") == "`rpm -i` exited with 1"
    # What XML cannot hold is replaced, and the rest arrives as it is.
    assert failure.text == "`rpm -i` exited with 1\n  [red]&<lib> \ufffd"


def test_junit_calls_no_two_cases_the_same() -> None:
    others = (dataclasses.replace(GOOD, scenario="limits"), dataclasses.replace(GOOD, host="debian-13-python"))
    root = ET.fromstring(to_junit([GOOD, *others]))  # noqa: S314 - our own text
    cases = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(cases)) == len(cases) == 6


def text_of(table: Table, *, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_the_table_has_one_line_for_each_box() -> None:
    checked = dataclasses.replace(GOOD.steps[0], name="check: answers")
    report = dataclasses.replace(GOOD, steps=(*GOOD.steps, checked))
    heading, *lines = [" ".join(line.split()) for line in text_of(render_table([report, BAD])).splitlines()]
    assert heading == "box host verdict seconds proven"
    assert lines == [
        "pex debian-12-python passed 1.0 2 distributions · 1 check",
        "rpm debian-12-rpm failed 1.0 failed at: install",
    ]


def test_the_table_fits_a_narrow_terminal() -> None:
    assert max(map(len, text_of(render_table([GOOD, BAD]), width=40).splitlines())) <= 40


def test_the_table_of_steps_shows_each_with_its_reason() -> None:
    text = text_of(render_steps([GOOD, BAD]))
    for part in ("packages", "2 distributions", "imports", "skipped", "[red]&<lib>"):
        assert part in text


def test_a_box_of_which_nothing_was_tried_is_none_that_passed() -> None:
    step = Step(name="start", outcome="skipped", seconds=0.0, detail="needs another processor")
    report = dataclasses.replace(GOOD, steps=(step,))
    assert report.verdict == "skipped"
    assert "passed" not in text_of(render_table([report]))
    assert to_json(Report(boxes=(GOOD, report)))["verdict"] == "skipped"
