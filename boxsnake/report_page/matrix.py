"""The matrix: boxes, and what they were booted on and put through."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from boxsnake.boot_report.summary import place_of
from boxsnake.boot_report.value import REFUSAL, BootReport, Report
from boxsnake.report_page.elements import Child, element
from boxsnake.report_page.marks import MARKS, WORDS, Places, link_to

_USUAL = "usual course"


def matrix(report: Report, places: Places) -> ET.Element | None:
    """Columns are hosts, or scenarios where there are several: then hosts are rows below their box."""
    if not report.boxes:
        return None
    news = {(turn.box, turn.host, turn.scenario) for turn in report.changes.failing} if report.changes else set()
    scenarios = list(dict.fromkeys(trial.scenario for trial in report.boxes))
    many = len(scenarios) > 1
    columns = scenarios if many else list(dict.fromkeys(place_of(trial.host) for trial in report.boxes))
    rows: dict[tuple[str, str], dict[str, BootReport]] = {}
    for trial in report.boxes:
        row = rows.setdefault((trial.format, place_of(trial.host) if many else ""), {})
        row[trial.scenario if many else place_of(trial.host)] = trial
    titles = [column or _USUAL for column in columns] if many else columns
    heading = element(
        "tr",
        element("th", "box", scope="col"),
        element("th", "host", scope="col") if many else None,
        [element("th", title, scope="col") for title in titles],
    )
    body: list[ET.Element] = []
    before = ""
    for names, cells in rows.items():
        is_first, before = many and names[0] != before, names[0]
        body.append(_row(names, [_cell(cells.get(column), places, news) for column in columns], is_first=is_first))
    caption = "Boxes, hosts and scenarios" if many else f"Boxes and hosts{_of(scenarios[0])}"
    table = element(
        "table", element("caption", caption), element("thead", heading), element("tbody", body), class_="matrix"
    )
    return element("div", table, class_="wide", tabindex="0", role="group", aria_label=caption)


def _of(scenario: str) -> str:
    return f": {scenario}" if scenario else ""


def _row(names: tuple[str, str], cells: list[ET.Element], *, is_first: bool) -> ET.Element:
    """A row of a box, and of a host where that has a column; `is_first` where a box with several begins."""
    box, host = names
    return element(
        "tr",
        element("th", box, scope="row"),
        element("th", host, scope="row") if host else None,
        cells,
        class_="first" if is_first else None,
    )


def _cell(trial: BootReport | None, places: Places, news: set[tuple[str, str, str]]) -> ET.Element:
    if trial is None:
        return element("td", element("span", "·", aria_label="not asked for", role="img"), class_="none")
    said: Child = f"{trial.seconds:.1f} s"
    if trial.failure:
        said = trial.failure.name
    elif trial.verdict == "skipped":
        said = WORDS["skipped"]
    elif any(step.name == REFUSAL for step in trial.steps):
        said = "refuses"
    new = element("em", " new") if trial.key in news else None
    return element("td", link_to(trial, places, f"{MARKS[trial.verdict]} ", said, new), class_=trial.verdict)
