"""What boots have shown, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from boxsnake.boot_report.summary import place_of, proven
from boxsnake.boot_report.value import BootReport, Outcome

if TYPE_CHECKING:
    from rich.table import Table

_STYLES: dict[Outcome, str] = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def render_table(reports: Sequence[BootReport]) -> Table:
    """One row for each box: what it is, where it was booted, how that ended, and what it has proven."""
    from rich.text import Text

    scenarios = any(report.scenario for report in reports)
    table = _table("box", "host", *(["scenario"] if scenarios else []), "verdict", "seconds", "proven")
    for report in reports:
        verdict = Text(report.verdict, style=_STYLES[report.verdict])
        names = [report.format, place_of(report.host), *([report.scenario] if scenarios else [])]
        table.add_row(*map(Text, names), verdict, f"{report.seconds:.1f}", Text(proven(report)))
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
