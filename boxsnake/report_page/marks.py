"""Words and marks for outcomes, and names of trials, wherever the page shows one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import TypeAlias

from boxsnake.boot_report.summary import place_of
from boxsnake.boot_report.value import BootReport, Outcome
from boxsnake.report_page.elements import Child, element

MARKS: Mapping[Outcome, str] = {"passed": "✓", "failed": "✗", "skipped": "○"}
WORDS: Mapping[Outcome, str] = {"passed": "passed", "failed": "failed", "skipped": "not tried"}
Places: TypeAlias = Mapping[tuple[str, str, str], str]
"""The place of each trial on the page."""


def mark(outcome: Outcome) -> ET.Element:
    """What tells an outcome without its colour; read aloud as a word."""
    return element("span", MARKS[outcome], class_=f"mark {outcome}", role="img", aria_label=WORDS[outcome])


def title_of(box: str, host: str, scenario: str) -> str:
    """A trial in words."""
    on = "" if host == "itself" else f" on {host}"
    return f"{box}{on}{f', {scenario}' if scenario else ''}"


def link_to(trial: BootReport, places: Places, *content: Child) -> ET.Element:
    """A link to a trial's place; its name where there is no other content."""
    text: Child = content or title_of(trial.format, place_of(trial.host), trial.scenario)
    return element("a", text, href=f"#{places[trial.key]}")


def bar(share: float) -> str | None:
    """The style of a cell whose background is filled to that share, of 1; None for next to nothing."""
    return f"--w:{100 * share:.0f}%" if share >= _LEAST else None


_LEAST = 0.01


def plain(tag: str, *content: Child) -> ET.Element:
    """An element without attributes."""
    return element(tag, *content)
