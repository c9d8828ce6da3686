"""Each boot by itself: its steps with their times, and what a step has said that failed."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ET
from itertools import groupby

from boxsnake.boot_recipe import ARTIFACT_HOST
from boxsnake.boot_report.summary import place_of, proven
from boxsnake.boot_report.value import BootReport, Report, Step
from boxsnake.plain_text import human_size, shortened
from boxsnake.report_page.elements import Child, element
from boxsnake.report_page.limits import Limits, cut
from boxsnake.report_page.marks import MARKS, WORDS, Places, bar, mark, plain, title_of

_NAME = re.compile(r"(?P<format>\S+)(?: \((?P<target>[^,()]+)\))?")
_PROVEN = 160
_NAME_LENGTH = 120


def by_key(report: Report) -> Places:
    """Where on the page each trial is: of several that are called the same, the first."""
    return {trial.key: _place(at) for at, trial in reversed([*enumerate(report.boxes)])}


def _place(at: int) -> str:
    return f"b{at + 1}"


def boots(report: Report, limits: Limits) -> ET.Element | None:
    """All boots, those that failed unfolded."""
    if not report.boxes:
        return None
    find = element("input", type="search", id="find", placeholder="box, host, scenario, step")
    only = element("label", element("input", type="checkbox", id="only"), " only what did not pass")
    form = element(
        "form",
        element("label", "Find ", find),
        only,
        element("button", "unfold all", type="button", id="unfold"),
        element("button", "fold all", type="button", id="fold"),
        element("output", id="found", aria_live="polite"),
        hidden="",
        id="finding",
    )
    return element("div", form, [_boot(trial, _place(at), limits) for at, trial in enumerate(report.boxes)])


def _boot(trial: BootReport, place: str, limits: Limits) -> ET.Element:
    summary = element(
        "summary",
        mark(trial.verdict),
        element("b", title_of(trial.format, place_of(trial.host), trial.scenario)),
        element("span", shortened(proven(trial), _PROVEN), class_="proven"),
        element("span", f"{trial.seconds:.1f} s", class_="n"),
    )
    longest = max((step.seconds for step in trial.steps), default=0)
    heading = plain(
        "tr", [element("th", title, scope="col") for title in ("step", "outcome", "seconds", "what it told")]
    )
    rows: list[ET.Element] = []
    for is_skipped, group in groupby(trial.steps, lambda step: step.outcome == "skipped" and not step.detail):
        steps = list(group)
        rows += [_skipped(steps)] if is_skipped else [_step(step, longest, limits) for step in steps]
    table = element("table", plain("thead", heading), rows, class_="steps", id=place)
    facts = element("p", element("code", trial.artifact), _again(trial), class_="facts")
    failed = None if trial.verdict == "passed" else ""
    return element("details", summary, table, facts, class_=f"boot {trial.verdict}", open=failed)


def _step(step: Step, longest: float, limits: Limits) -> ET.Element:
    outcome = MARKS["passed"] if step.outcome == "passed" else f"{MARKS[step.outcome]} {WORDS[step.outcome]}"
    said: Child = shortened(step.detail, limits.detail) if step.outcome == "passed" else _why(step, limits)
    return element(
        "tr",
        plain("td", shortened(step.name, _NAME_LENGTH)),
        plain("td", outcome),
        element("td", f"{step.seconds:.2f}", class_="n", style=bar(step.seconds / longest if longest else 0)),
        plain("td", said),
        class_=None if step.outcome == "passed" else step.outcome,
    )


def _skipped(steps: list[Step]) -> ET.Element:
    """All steps in a row that were not tried, as one."""
    names = ", ".join(step.name for step in steps)
    return element(
        "tr",
        element("td", f"not tried after that: {shortened(names, 4 * _NAME_LENGTH)}", colspan="4"),
        class_="skipped",
    )


def _why(step: Step, limits: Limits) -> Child:
    """The cause, then the rest of what the step has told, then the log."""
    cause, _, rest = step.detail.partition("\n")
    log = None
    if step.log:
        size = human_size(len(step.log.encode("utf-8", "replace")))
        log = element("details", element("summary", f"the whole log, {size}"), _text(step.log, limits.log))
    return (element("strong", shortened(cause, limits.log)), _text(rest, limits.log) if rest else None, log)


def _text(text: str, limit: int) -> ET.Element:
    head, note, tail = cut(text, limit)
    return element("pre", head, element("mark", f"\n{note}\n") if note else None, tail, tabindex="0")


def _again(trial: BootReport) -> Child:
    """The command that boots it again and keeps its container, for one that failed."""
    name = _NAME.fullmatch(trial.format)
    if trial.verdict != "failed" or name is None:
        return None
    words = ["boxsnake", "boot", name["format"]]
    words += ["--target", name["target"]] if name["target"] else []
    words += ["--host", trial.host] if trial.host != ARTIFACT_HOST else []
    words += ["--scenario", trial.scenario] if trial.scenario else []
    return (element("br"), "again, to look into it: ", element("code", shlex.join([*words, "--keep"])))
