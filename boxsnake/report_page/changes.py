"""What has changed since the report before, the worst first."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from boxsnake.boot_report.summary import place_of
from boxsnake.boot_report.value import Changes, Growth, PackageChange, Report, Shift, Turn
from boxsnake.plain_text import counted, human_size, shortened
from boxsnake.report_page.elements import Child, element
from boxsnake.report_page.marks import Places, title_of
from boxsnake.report_page.troubles import listed

T = TypeVar("T")

_SHOWN = 5
_NAMES = 8
_MOST = 150
_CAUSE = 160
# Percentages from which on their decimals say nothing.
_WHOLE = 10


def changes_of(report: Report, places: Places) -> ET.Element:
    """A card, also where nothing has changed or there was nothing to compare with."""
    return element("div", element("h2", "What changed"), _content(report.changes, places), class_="card")


def _content(changes: Changes | None, places: Places) -> Child:
    if changes is None:
        return element("p", "There was no earlier report to compare with.")
    if changes.note:
        return element("p", f"Nothing could be compared with {changes.against}: {changes.note}")
    since = f" of {changes.started.replace('T', ' ').removesuffix('Z')} UTC" if changes.started else ""
    words = f"Since {changes.against}{since}; {counted(changes.compared, 'boot')} compared."
    intro = element("p", words, class_="facts")
    tell = partial(_turns, places)
    groups = [
        _group("✗ New failures", _by_cause(changes.failing), tell, len(changes.failing)),
        _group("○ Not tried any more", _by_cause(changes.untried), tell, len(changes.untried)),
        _group("✓ Mended", _by_cause(changes.mended), tell, len(changes.mended)),
        _group("Slower or faster starts", changes.starts, _start),
        _group("Memory", changes.memory, _memory),
        _group("Sizes of boxes", changes.sizes, _size),
        _group("Packages", changes.packages, _package),
        _group("New boots", [changes.new] if changes.new else [], tell, len(changes.new)),
        _group("Boots that are not in this report", [changes.gone] if changes.gone else [], tell, len(changes.gone)),
    ]
    there = [group for group in groups if group is not None]
    return (intro, there or element("p", "Nothing else: the same outcomes, sizes and versions."))


def _group(title: str, found: Sequence[T], tell: Callable[[T], Child], count: int = 0) -> Child:
    """A list below its title, with how many there are; several of them may be told at once."""
    if not found:
        return None
    items = [element("li", tell(one)) for one in found[:_MOST]]
    if len(found) > _MOST:
        items.append(element("li", f"and {len(found) - _MOST} more, in boot.json"))
    return (element("h3", f"{title}: {count or len(found)}"), listed(items, "of them", _SHOWN))


def _by_cause(turns: Sequence[Turn]) -> list[tuple[Turn, ...]]:
    """Those together that have the same cause."""
    found: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    for turn in turns:
        found[turn.step, turn.cause].append(turn)
    return [tuple(group) for group in found.values()]


def _turns(places: Places, turns: Sequence[Turn]) -> Child:
    """Trials, with a link where they are on the page, and the cause that they have in common."""
    names: list[Child] = []
    for turn in turns[:_NAMES]:
        title = title_of(turn.box, place_of(turn.host), turn.scenario)
        place = places.get((turn.box, turn.host, turn.scenario))
        names += [" · " if names else "", element("a", title, href=f"#{place}") if place else title]
    if len(turns) > _NAMES:
        names.append(f" and {len(turns) - _NAMES} more")
    if not turns[0].step:
        return names
    told = element("span", element("b", f"{turns[0].step}: "), shortened(turns[0].cause, _CAUSE), class_="cause")
    return (names, element("br"), told)


def _start(shift: Shift) -> Child:
    title = title_of(shift.box, place_of(shift.host), shift.scenario)
    return (f"{title}: {shift.before:.2f} s → {shift.after:.2f} s ", _share(shift.before, shift.after))


def _memory(shift: Shift) -> Child:
    title = title_of(shift.box, place_of(shift.host), shift.scenario)
    sizes = f"{human_size(round(shift.before))} → {human_size(round(shift.after))} "
    return (f"{title}: {sizes}", _share(shift.before, shift.after))


def _size(growth: Growth) -> Child:
    sizes = f"{human_size(growth.before)} → {human_size(growth.after)} "
    return (f"{growth.box}: {sizes}", _share(growth.before, growth.after))


def _share(before: float, after: float) -> ET.Element:
    share = 100 * (after - before) / before if before else 0.0
    text = f"{abs(share):.0f}" if abs(share) >= _WHOLE else f"{abs(share):.1f}"
    return element("span", f"{'▲' if share > 0 else '▼'} {text} %", class_="worse" if share > 0 else "better")


def _package(change: PackageChange) -> Child:
    name = element("b", change.name)
    boxes = element("span", f" in {', '.join(change.boxes)}", class_="facts")
    if change.size_before is None:
        return (name, f" {change.after} is new, {human_size(change.size_after or 0)}", boxes)
    if change.size_after is None:
        return (name, f" {change.before} is gone, {human_size(change.size_before)}", boxes)
    versions = f" {change.before}" if change.before == change.after else f" {change.before} → {change.after}"
    sizes = f", {human_size(change.size_before)} → {human_size(change.size_after)} "
    if human_size(change.size_before) == human_size(change.size_after):
        return (name, versions, boxes)
    return (name, versions, sizes, _share(change.size_before, change.size_after), boxes)
