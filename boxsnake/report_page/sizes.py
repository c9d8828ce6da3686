"""What takes the room: each artifact as a treemap of its layers and packages, and as a table."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

from boxsnake.boot_report.value import Artifact, Content, Report
from boxsnake.plain_text import human_size, shortened
from boxsnake.report_page.elements import Child, element
from boxsnake.report_page.limits import Limits
from boxsnake.report_page.marks import bar, plain
from boxsnake.report_page.treemap import Area, squarified
from boxsnake.value import dataclass

_KINDS = {
    "conda": "conda packages",
    "python": "Python distributions",
    "deb": "Debian packages",
    "rpm": "RPMs",
    "": "other files",
}
# Width to height of the map on a wide page; a narrow one stretches it.
_RATIO = 2.6
_UNFOLDED = 1
_NAME = 80


def sizes(report: Report, limits: Limits) -> ET.Element | None:
    """All artifacts in one table, then each by itself."""
    known = [artifact for artifact in report.artifacts if artifact.contents or artifact.note]
    if not known:
        return None
    names = {artifact.path: _names(artifact, report) for artifact in known}
    largest = max(artifact.size for artifact in known) or 1
    heading = plain(
        "tr",
        element("th", "box", scope="col"),
        [element("th", title, scope="col", class_="n") for title in ("as it travels", "unpacked", "packages")],
    )
    rows = [_row(artifact, names[artifact.path], largest) for artifact in known]
    table = element("table", element("caption", "Sizes of boxes"), plain("thead", heading), rows)
    told = sorted((one for one in known if one.contents), key=lambda one: -one.size)
    told, others = told[: limits.artifacts], told[limits.artifacts :]
    note = element("p", f"What is in the {len(others)} smallest is in boot.json alone.") if others else None
    maps = [_artifact(one, names[one.path], limits, is_open=at < _UNFOLDED) for at, one in enumerate(told)]
    return element("div", element("div", table, class_="wide"), maps, note)


def _names(artifact: Artifact, report: Report) -> str:
    """What the boxes are called whose artifact it is."""
    found = dict.fromkeys(trial.format for trial in report.boxes if trial.artifact == artifact.path)
    return ", ".join(found) or artifact.path


def _row(artifact: Artifact, name: str, largest: int) -> ET.Element:
    if artifact.note:
        return plain("tr", element("th", name, scope="row"), element("td", artifact.note, colspan="3"))
    packages = len({(one.kind, one.name) for one in artifact.contents if one.name})
    return plain(
        "tr",
        element("th", name, scope="row"),
        element("td", human_size(artifact.size), class_="n", style=bar(artifact.size / largest)),
        element("td", human_size(artifact.unpacked), class_="n"),
        element("td", str(packages), class_="n"),
    )


def _artifact(artifact: Artifact, name: str, limits: Limits, *, is_open: bool) -> ET.Element:
    sizes = f"{human_size(artifact.size)}, {human_size(artifact.unpacked)} unpacked"
    summary = element("summary", element("b", name), element("span", sizes, class_="proven"))
    digest = element("p", element("code", artifact.digest), class_="facts") if artifact.digest else None
    return element(
        "details",
        summary,
        digest,
        _map(artifact, limits),
        _legend(artifact),
        _table(artifact, limits),
        class_="box",
        open="" if is_open else None,
    )


# The map


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A layer, or a kind of packages where there are no layers."""

    title: str
    contents: tuple[Content, ...]

    @property
    def size(self) -> int:
        return sum(content.size for content in self.contents)


def _groups(artifact: Artifact) -> list[_Group]:
    """The largest first."""
    names = [layer.name for layer in artifact.layers] if artifact.layers else list(_KINDS)
    found = []
    for name in dict.fromkeys(names):
        within = [one for one in artifact.contents if (one.layer if artifact.layers else _kind(one)) == name]
        own = [one for one in within if one.size]
        title = name if artifact.layers else _KINDS[name]
        found.append(_Group(title=title, contents=tuple(sorted(own, key=lambda one: (-one.size, one.kind, one.name)))))
    return sorted((group for group in found if group.contents), key=lambda group: -group.size)


def _map(artifact: Artifact, limits: Limits) -> ET.Element:
    groups = _groups(artifact)
    whole = sum(group.size for group in groups)
    areas = squarified([group.size for group in groups], ratio=_RATIO)
    boxes = [
        _group(group, area, max(1, round(limits.areas * group.size / whole)))
        for group, area in zip(groups, areas, strict=True)
    ]
    said = ", ".join(f"{group.title} {human_size(group.size)}" for group in groups)
    return element(
        "div", boxes, class_="map", role="img", aria_label=f"Treemap: {said}. The table below has the sizes."
    )


def _group(group: _Group, area: Area, room: int) -> ET.Element:
    shown, rest = group.contents[:room], group.contents[room:]
    cells = [(_title(one), _kind(one), one.size) for one in shown]
    if rest:
        cells.append((f"{len(rest)} smaller ones", "rest", sum(one.size for one in rest)))
        # The rest may well be larger than each of them.
        cells.sort(key=lambda cell: -cell[2])
    spots = squarified([size for _, _, size in cells], ratio=_RATIO * area.width / area.height)
    inner = element("div", [_cell(cell, spot) for cell, spot in zip(cells, spots, strict=True)])
    heading = element("b", f"{group.title} {human_size(group.size)}")
    return element(
        "div", heading, inner, class_="group", style=_at(area), title=f"{group.title} {human_size(group.size)}"
    )


def _cell(cell: tuple[str, str, int], area: Area) -> ET.Element:
    title, kind, size = cell
    text = f"{shortened(title, _NAME)}\n{human_size(size)}"
    return element("i", text, class_=f"k-{kind or 'files'}", style=_at(area), title=text)


def _at(area: Area) -> str:
    sides = {"left": area.left, "top": area.top, "width": area.width, "height": area.height}
    return ";".join(f"{name}:{round(percent, 2):g}%" for name, percent in sides.items())


def _kind(content: Content) -> str:
    """One of `_KINDS`."""
    return content.kind if content.kind in _KINDS else ""


def _title(content: Content) -> str:
    return f"{content.name} {content.version}".strip() if content.name else _KINDS[""]


def _legend(artifact: Artifact) -> ET.Element:
    kinds = [kind for kind in _KINDS if any(_kind(one) == kind for one in artifact.contents)]
    keys: list[Child] = []
    for kind in kinds:
        size = sum(one.size for one in artifact.contents if _kind(one) == kind)
        keys.append(
            element("span", element("i", class_=f"k-{kind or 'files'}"), f" {_KINDS[kind]} {human_size(size)} ")
        )
    return element("p", keys, class_="legend")


# The table


def _table(artifact: Artifact, limits: Limits) -> ET.Element:
    ranked = sorted(artifact.contents, key=lambda one: (-one.size, one.layer, one.kind, one.name))
    shown, rest = ranked[: limits.rows], ranked[limits.rows :]
    titles = ["package", "version", "kind", *(["layer"] if artifact.layers else [])]
    heading = plain("tr", [element("th", one, scope="col") for one in titles], element("th", "size", class_="n"))
    rows = [_content(one, artifact, ranked[0].size) for one in shown]
    if rest:
        sizes = human_size(sum(one.size for one in rest))
        rows.append(element("tr", element("td", f"{len(rest)} smaller ones, {sizes} together", colspan="5")))
    layers = _layers(artifact) if artifact.layers else None
    table = element("table", element("caption", "Packages by size, unpacked"), plain("thead", heading), rows)
    summary = element("summary", f"as a table: {len(artifact.contents)} rows")
    return element("details", summary, layers, element("div", table, class_="wide"))


def _layers(artifact: Artifact) -> ET.Element:
    unpacked: Counter[str] = Counter()
    for content in artifact.contents:
        unpacked[content.layer] += content.size
    heading = plain(
        "tr",
        element("th", "layer", scope="col"),
        [element("th", one, scope="col", class_="n") for one in ("as it travels", "unpacked")],
    )
    rows = [
        plain(
            "tr",
            element("th", layer.name, scope="row"),
            element("td", human_size(layer.size), class_="n"),
            element("td", human_size(unpacked[layer.name]), class_="n"),
        )
        for layer in artifact.layers
    ]
    return element("table", element("caption", "Layers, the lowest first"), plain("thead", heading), rows)


def _content(content: Content, artifact: Artifact, largest: int) -> ET.Element:
    cells: Sequence[str] = (
        shortened(content.name or "files of no package", _NAME),
        shortened(content.version, _NAME),
        content.kind or "files",
        *([content.layer] if artifact.layers else []),
    )
    size = element("td", human_size(content.size), class_="n", style=bar(content.size / largest if largest else 0))
    return plain("tr", [plain("td", cell) for cell in cells], size)
