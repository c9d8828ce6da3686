"""How long starts take and what memory, and which steps the time goes to."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from statistics import median

from boxsnake.boot_report.summary import place_of
from boxsnake.boot_report.value import MEMORY, START, BootReport, Report, Step
from boxsnake.plain_text import human_size
from boxsnake.report_page.elements import element
from boxsnake.report_page.marks import Places, bar, link_to, plain

_SHOWN = 20


def starts(report: Report, places: Places) -> ET.Element | None:
    """The time until the first answer and the memory of each boot that started the application, the slowest first."""
    known = [(trial, seconds) for trial in report.boxes if (seconds := trial.figure(START)) is not None]
    if not known:
        return None
    slowest = sorted(known, key=lambda one: -one[1])
    most = max(trial.figure(MEMORY) or 0 for trial, _ in known)
    many = any(trial.scenario for trial, _ in known)
    shown = slowest[:_SHOWN]
    rows = [_start(trial, seconds / (shown[0][1] or 1), most, places, many=many) for trial, seconds in shown]
    rest = len(slowest) - _SHOWN
    note = element("p", f"{rest} others start faster than these.", class_="facts") if rest > 0 else None
    heading = plain("tr", _head("box", "host", *(["scenario"] if many else [])), _numbers("first answer", "memory"))
    table = element("table", element("caption", "Starts, the slowest first"), plain("thead", heading), rows)
    return element("div", table, note, class_="wide")


def _start(trial: BootReport, share: float, most: float, places: Places, *, many: bool) -> ET.Element:
    seconds, memory = trial.figure(START) or 0, trial.figure(MEMORY)
    return plain(
        "tr",
        element("th", link_to(trial, places, trial.format), scope="row"),
        plain("td", place_of(trial.host)),
        plain("td", trial.scenario) if many else None,
        element("td", f"{seconds:.2f} s", class_="n", style=bar(share)),
        element(
            "td",
            "" if memory is None else human_size(round(memory)),
            class_="n",
            style=bar((memory or 0) / most if most else 0),
        ),
    )


def times(report: Report, places: Places) -> ET.Element | None:
    """The steps by the time that they take in all boots together, where there are several."""
    taken: dict[str, list[tuple[Step, BootReport]]] = defaultdict(list)
    for trial in report.boxes:
        for step in trial.steps:
            if step.outcome != "skipped":
                taken[step.name].append((step, trial))
    if not taken or len(report.boxes) == 1:
        return None
    sums = {name: sum(step.seconds for step, _ in found) for name, found in taken.items()}
    ranked = sorted(taken, key=lambda name: -sums[name])
    most = sums[ranked[0]]
    rows = [_time(name, taken[name], sums[name] / (most or 1), places) for name in ranked[:_SHOWN]]
    rest = ranked[_SHOWN:]
    words = f"{len(rest)} others take {sum(sums[name] for name in rest):.1f} s together."
    note = element("p", words, class_="facts") if rest else None
    heading = plain("tr", _head("step"), _numbers("boots", "together", "median", "longest"), _head("longest in"))
    table = element("table", element("caption", "Steps by the time they take"), plain("thead", heading), rows)
    return element("div", table, note, class_="wide")


def _time(name: str, found: list[tuple[Step, BootReport]], share: float, places: Places) -> ET.Element:
    seconds = [step.seconds for step, _ in found]
    longest, trial = max(found, key=lambda one: one[0].seconds)
    return plain(
        "tr",
        element("th", name, scope="row"),
        element("td", str(len(found)), class_="n"),
        element("td", f"{sum(seconds):.1f} s", class_="n", style=bar(share)),
        element("td", f"{median(seconds):.2f} s", class_="n"),
        element("td", f"{longest.seconds:.2f} s", class_="n"),
        plain("td", link_to(trial, places)),
    )


def _head(*titles: str) -> list[ET.Element]:
    return [element("th", title, scope="col") for title in titles]


def _numbers(*titles: str) -> list[ET.Element]:
    return [element("th", title, scope="col", class_="n") for title in titles]
