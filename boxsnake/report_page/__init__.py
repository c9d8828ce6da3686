"""A report as one HTML page: nothing is asked of any other place, and only finding things takes JavaScript.

Whoever releases opens it first: whether all is well and what is not and why, what has changed, the matrix, and only
then each boot by itself. The same report gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import xml.etree.ElementTree as ET
from importlib.resources import files

from boxsnake.boot_report.summary import verdicts
from boxsnake.boot_report.value import Report
from boxsnake.plain_text import counted
from boxsnake.report_page.boots import boots, by_key
from boxsnake.report_page.changes import changes_of
from boxsnake.report_page.elements import constant, element, written
from boxsnake.report_page.figures import starts, times
from boxsnake.report_page.limits import Limits
from boxsnake.report_page.marks import MARKS, WORDS
from boxsnake.report_page.matrix import matrix
from boxsnake.report_page.sizes import sizes
from boxsnake.report_page.troubles import troubles

__all__ = ["render"]


def render(report: Report) -> str:
    """The page, as HTML in UTF-8."""
    limits = Limits.of(report)
    places = by_key(report)
    sections = [
        ("summary", None, element("div", troubles(report, places), changes_of(report, places), class_="two")),
        ("matrix", "Matrix", matrix(report, places)),
        ("starts", "Starts", starts(report, places)),
        ("times", "Times", times(report, places)),
        ("sizes", "Sizes", sizes(report, limits)),
        ("boots", "Boots", boots(report, limits)),
    ]
    there = [(name, title, content) for name, title, content in sections if content is not None]
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    title = f"{report.application or 'boxes'}: {verdicts(report.boxes)}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        constant("style", style),
    )
    page = element(
        "body",
        element("a", "To the boots", href="#boots", class_="skip"),
        _header(report),
        element("nav", [element("a", title, href=f"#{name}") for name, title, _ in there if title], aria_label="Parts"),
        element(
            "main",
            [
                element("section", element("h2", title) if title else None, content, id=name)
                for name, title, content in there
            ],
        ),
        constant("script", script),
    )
    return written(element("html", head, page, lang="en"))


def _policy(script: str) -> str:
    """Nothing is loaded from anywhere, and no script runs but our own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"


def _header(report: Report) -> ET.Element:
    steps = sum(len(trial.steps) for trial in report.boxes)
    boxes = len({trial.format for trial in report.boxes})
    hosts = len({trial.host for trial in report.boxes})
    seconds = sum(trial.seconds for trial in report.boxes)
    counts = [
        verdicts(report.boxes),
        "1 box" if boxes == 1 else f"{boxes} boxes",
        counted(hosts, "host"),
        counted(steps, "step"),
        f"{seconds:.1f} s",
    ]
    facts = [
        report.started and f"booted {report.started.replace('T', ' ').removesuffix('Z')} UTC",
        report.boxsnake and f"boxsnake {report.boxsnake}",
        report.engine,
    ]
    verdict = report.verdict if report.boxes else "skipped"
    count = sum(trial.verdict == verdict for trial in report.boxes)
    share = "all boots" if count == len(report.boxes) else f"{count} of {counted(len(report.boxes), 'boot')}"
    return element(
        "header",
        element("h1", report.application or "Boxes"),
        element("p", f"{MARKS[verdict]} {share} {WORDS[verdict]}", class_=f"verdict {verdict}"),
        element("p", " · ".join(counts), class_="counts"),
        element("p", " · ".join(fact for fact in facts if fact), class_="facts"),
    )
