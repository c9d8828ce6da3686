"""`boxsnake plan`: which formats fit, and what boxes would be made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import Console
from boxsnake.cli.options import Chosen, about_boxes
from boxsnake.plain_text import human_size
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from rich.table import Table

    from boxsnake.boxes import Candidate, Workspace
    from boxsnake.forecast import Archive, Part
    from boxsnake.lock import TargetLock, Wheel
    from boxsnake.outlook import Outlook


@click.command(
    epilog="Nothing is packed, and no package is fetched. Sizes are true where the box, the layer or the wheels are "
    'there, else reckoned from the sizes of archives ("about"). Formats come in the order of the packaging gradient: '
    "the further down, the less a host must have, or the more of its own tools look after the box."
)
@about_boxes
def command(console: Console, chosen: Chosen) -> None:
    """Show which formats fit each target, what they need of a host, how large they will be, and what would be made.

    With FORMAT, those alone, and what each is made of: an image's layers with what is in each.
    """
    from boxsnake.outlook import by_step

    with console.progress():
        workspace = chosen.open()
        found = list(workspace.candidates(chosen.formats, chosen.targets))
        names = dict.fromkeys(one.target.name for one in found)
        views = [_view(workspace, by_step(one for one in found if one.target.name == name)) for name in names]
    for view in views:
        _show(console, view, in_detail=bool(chosen.formats))
    console.result(lambda: {"targets": [_facts(view) for view in views]})


@dataclass(frozen=True, kw_only=True)
class _View:
    """One target: its lock, its packages, and every format."""

    lock: TargetLock
    archives: Sequence[Archive]
    conda_only: Sequence[str]
    wheel: Wheel | None
    rows: Sequence[tuple[Candidate, Outlook | None]]


def _view(workspace: Workspace, candidates: Sequence[Candidate]) -> _View:
    from boxsnake.inventory import locked
    from boxsnake.outlook import outlook
    from boxsnake.wheel_closure import without_wheels

    store, access = workspace.store, workspace.access
    rows = [(one, outlook(one.box, one.target, store, access) if one.box else None) for one in candidates]
    target = candidates[0].target
    lock = next(lock for lock in workspace.lock.targets if lock.target == target)
    parts = (part for one in candidates if one.box for part in one.box.plan.parts)
    own = next((part.own for part in parts if part.target == target), None)
    return _View(lock=lock, archives=locked(lock, store), conda_only=without_wheels(lock), wheel=own, rows=rows)


def _show(console: Console, view: _View, *, in_detail: bool) -> None:
    target = view.lock.target
    floor = f", glibc {target.glibc} or newer" if target.glibc else ""
    console.say(f"{target.name}: {target.platform}, Python {view.lock.python}{floor}")
    for kind, called in (("conda", "conda packages"), ("wheel", "wheels")):
        if found := [archive for archive in view.archives if archive.kind == kind]:
            console.say(f"  {len(found)} {called}, {_told_sum(found)}")
    if view.conda_only:
        console.say(f"  from conda alone, no wheel has it: {', '.join(view.conda_only)}")
    console.show(lambda: _overview(view))
    for candidate, found_outlook in view.rows:
        if found_outlook is None:
            if in_detail and candidate.refusal:
                console.say(f"{candidate.packager.name}: {candidate.refusal.next_step}")
            continue
        if in_detail:
            _show_parts(console, found_outlook)
        else:
            _tell_lack(console, found_outlook)


def _told_sum(archives: Sequence[Archive]) -> str:
    sizes = [archive.size for archive in archives]
    size = human_size(sum(size or 0 for size in sizes)) + (" and more" if None in sizes else "")
    missing = sum(not archive.is_there for archive in archives)
    return f"{size} of archives, {f'{missing} to fetch' if missing else 'all there'}"


def _show_parts(console: Console, found: Outlook) -> None:
    console.show(lambda: _parts_table(found))
    for note in found.notes:
        console.say(f"note: {note}")
    _tell_lack(console, found)


def _tell_lack(console: Console, found: Outlook) -> None:
    if found.lacks:
        console.say(f"{found.box.packager.name} cannot be made here: {found.lacks}")


def _overview(view: _View) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title_justify="left")
    for column in ("gradient", "format", "asked for"):
        table.add_column(column, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("the host must have", overflow="fold")
    if view.wheel is not None:
        size = "" if view.wheel.size is None else human_size(view.wheel.size)
        words = ("pip and an index", f"Python {view.lock.python_minor}", *view.conda_only)
        table.add_row("wheel", "", "", size, "there", Text(", ".join(words)))
    for candidate, found in view.rows:
        packager, asked = candidate.packager, "yes" if candidate.is_asked else "no"
        if found is not None:
            words = found.needs.words
            table.add_row(packager.step, packager.name, asked, _size(found), found.state, Text(", ".join(words)))
        elif candidate.refusal is not None:
            why = Text(candidate.refusal.cause, style="yellow")
            table.add_row(packager.step, packager.name, asked, "", Text("does not fit", style="yellow"), why)
    return table


def _parts_table(found: Outlook) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{found.box.name}: {found.box.path.name}")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column, justify in (("part", "left"), ("size", "right"), ("state", "left"), ("what is in it", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    for part in found.forecast.parts:
        table.add_row(Text(part.name), _part_size(part), part.state, Text(" · ".join(part.contents)))
    table.add_row("all", _size(found), found.state, "")
    return table


def _part_size(part: Part) -> str:
    if part.size is None:
        return "?"
    return f"about {human_size(part.size)}" if part.is_predicted else human_size(part.size)


def _size(found: Outlook) -> str:
    if found.size is None:
        return f"over {human_size(found.forecast.size)}"
    return f"about {human_size(found.size)}" if found.is_predicted else human_size(found.size)


def _facts(view: _View) -> dict[str, Any]:
    target = view.lock.target
    return {
        "target": target.name,
        "platform": target.platform,
        "python": view.lock.python,
        "glibc": target.glibc,
        "packages": {
            "conda": _counted([one for one in view.archives if one.kind == "conda"]),
            "wheels": _counted([one for one in view.archives if one.kind == "wheel"]),
            "conda-only": list(view.conda_only),
        },
        "wheel": None if view.wheel is None else {"file": view.wheel.file_name, "size": view.wheel.size},
        "formats": [_format_facts(candidate, found) for candidate, found in view.rows],
    }


def _counted(archives: Sequence[Archive]) -> Mapping[str, int | None]:
    sizes = [archive.size for archive in archives]
    return {
        "count": len(archives),
        "size": None if None in sizes else sum(size or 0 for size in sizes),
        "to-fetch": sum(not archive.is_there for archive in archives),
    }


def _format_facts(candidate: Candidate, found: Outlook | None) -> dict[str, Any]:
    packager, refusal = candidate.packager, candidate.refusal
    facts: dict[str, Any] = {
        "format": packager.name,
        "gradient": packager.step,
        "asked": candidate.is_asked,
        "fits": found is not None,
    }
    if refusal is not None:
        facts["refusal"] = {
            "thing": refusal.thing,
            "cause": refusal.cause,
            "next": refusal.next_step,
            "data": refusal.data,
        }
    if found is None:
        return facts
    return facts | {
        "path": str(found.box.path),
        "size": found.size,
        "predicted": found.is_predicted,
        "state": found.state,
        "lacks": found.lacks,
        "needs": {**vars(found.needs), "further": list(found.needs.further)},
        "notes": list(found.notes),
        "parts": [
            {
                "name": part.name,
                "contents": list(part.contents),
                "size": part.size,
                "predicted": part.is_predicted,
                "state": part.state,
            }
            for part in found.forecast.parts
        ],
    }
