"""What did not pass, each with its cause in one line."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict

from boxsnake.boot_report.value import BootReport, Report
from boxsnake.plain_text import shortened
from boxsnake.report_page.elements import Child, element
from boxsnake.report_page.marks import Places, link_to, mark

_SHOWN = 8
_CAUSE = 240


def troubles(report: Report, places: Places) -> ET.Element:
    """What failed and what was not tried. The same cause is told once, with all that it hit."""
    failed = _grouped([trial for trial in report.boxes if trial.verdict == "failed"])
    skipped = _grouped([trial for trial in report.boxes if trial.verdict == "skipped"])
    if not failed and not skipped:
        words = "Nothing: every box that was booted works." if report.boxes else "Nothing was booted."
        return element("div", element("h2", "What failed"), element("p", words), class_="card")
    title = "What failed" if failed else "What was not tried"
    items = [_item(step, cause, trials, places) for (step, cause), trials in (*failed.items(), *skipped.items())]
    return element("div", element("h2", title), listed(items, "causes"), class_="card")


def listed(items: list[ET.Element], noun: str, shown: int = _SHOWN) -> Child:
    """A list, what is beyond the first of it folded away."""
    if len(items) <= shown + 1:
        return element("ul", items)
    rest = element("details", element("summary", f"{len(items) - shown} more {noun}"), element("ul", items[shown:]))
    return (element("ul", items[:shown]), rest)


def _grouped(trials: list[BootReport]) -> dict[tuple[str, str], list[BootReport]]:
    found: dict[tuple[str, str], list[BootReport]] = defaultdict(list)
    for trial in trials:
        step = trial.failure or (trial.steps[0] if trial.steps else None)
        found[(step.name, step.cause) if step else ("", "there were no steps")].append(trial)
    return found


def _item(step: str, cause: str, trials: list[BootReport], places: Places) -> ET.Element:
    names: list[Child] = []
    for at, trial in enumerate(trials[:_SHOWN]):
        names += [" · " if at else " ", link_to(trial, places)]
    if len(trials) > _SHOWN:
        names.append(f" and {len(trials) - _SHOWN} more")
    told = element("span", element("b", f"{step}: "), shortened(cause, _CAUSE), class_="cause")
    return element("li", mark(trials[0].verdict), element("span", names), element("br"), told)
