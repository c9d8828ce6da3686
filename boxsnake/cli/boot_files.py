"""The files of a boot's report: boot.json with all of it, boot.xml for build servers, boot.html for people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.beside import publish_bytes
from boxsnake.boot_report.difference import changes
from boxsnake.boot_report.document import as_told, from_json, to_json
from boxsnake.boot_report.value import Changes
from boxsnake.disk import disk_faults
from boxsnake.errors import BoxsnakeError, ResourceError
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.boot_report.value import Report

FACTS, JUNIT, PAGE = "boot.json", "boot.xml", "boot.html"
_BEFORE = "the report before"


def read_report(path: Path) -> Report:
    """A report. Errors: ResourceError where there is none, and those of `boxsnake.boot_report.document.from_json`."""
    if not path.exists():
        step = "Run `boxsnake boot` first, or name the boot.json that is meant."
        raise ResourceError(str(path), "there is no such report", step)
    with disk_faults(path):
        content = path.read_bytes()
    return from_json(content, str(path))


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a report is compared with; `note` says why there is a file and nothing in it that can be compared."""

    name: str
    report: Report | None
    note: str = ""


def earlier_of(folder: Path, against: Path | None) -> Earlier | None:
    """The report that is named, or else the one that lies in the folder and is about to be replaced.

    One that is named must be fit to be read. Errors: see `read_report`.
    """
    if against is not None:
        return Earlier(name=str(against), report=read_report(against))
    path = folder / FACTS
    if not path.exists():
        return None
    try:
        return Earlier(name=_BEFORE, report=read_report(path))
    except BoxsnakeError as error:
        return Earlier(name=_BEFORE, report=None, note=error.cause)


def took_before(earlier: Earlier | None) -> dict[tuple[str, str, str], float]:
    """The seconds that boots took in an earlier report, by their keys."""
    boxes = earlier.report.boxes if earlier and earlier.report else ()
    return {one.key: one.seconds for one in boxes}


def compared(report: Report, earlier: Earlier | None) -> Report:
    """The report with what has changed."""
    if earlier is None:
        return report
    if earlier.report is None:
        found = Changes(against=earlier.name, note=earlier.note)
    else:
        found = changes(earlier.report, report, against=earlier.name)
    return dataclasses.replace(report, changes=found)


def publish(report: Report, folder: Path) -> None:
    """Write all three."""
    from boxsnake.boot_report.junit import to_junit

    facts = json.dumps(to_json(report), indent=2, ensure_ascii=False).encode() + b"\n"
    publish_bytes(facts, folder / FACTS)
    publish_bytes(to_junit(report.boxes), folder / JUNIT)
    # What the page would be made of later: the same bytes then.
    publish_page(as_told(report), folder / PAGE)


def publish_page(report: Report, path: Path) -> None:
    """Write the page alone."""
    from boxsnake.report_page import render

    publish_bytes(render(report).encode(), path)
