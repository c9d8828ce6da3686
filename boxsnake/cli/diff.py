"""`boxsnake diff`: what two boxes or locks differ in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import console_of
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxsnake.cli.console import Console
    from boxsnake.inspection import File, Inspection, Package
    from boxsnake.inspection.difference import Difference, FileChange, PackageChange

DIFFERENT = 1
SHOWN = 20
"""Changes of one kind that are listed without `--all`."""


@click.command(
    epilog="Exit codes are those of diff(1): 0 the same, 1 different; the others are boxsnake's. Between two formats, "
    "what both can have is compared: packages, the files of distributions, and the whole environment where conda made "
    "both. A lock has no files. Artifacts' own names and digests do not count."
)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--packages", "only_packages", is_flag=True, help="Compare packages and their versions alone.")
@click.option("--all", "everything", is_flag=True, help=f"List every change, not the first {SHOWN} of each kind.")
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="The manifest, where A or B is a format.")
@click.option("-t", "--target", default="", help="Which target, of locks or a manifest with several.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context,
    before: str,
    after: str,
    only_packages: bool,
    everything: bool,
    manifest: Path | None,
    target: str,
    as_json: bool,
) -> None:
    """Compare A and B, boxes or locks of any formats: packages, versions, files, sizes."""
    from boxsnake.cli.artifact import artifact_of
    from boxsnake.inspection import inspect
    from boxsnake.inspection.difference import difference

    console = console_of(context, as_json=as_json)
    with console.progress():
        paths = [artifact_of(word, manifest, target) for word in (before, after)]
        old, new = (inspect(path, digests=not only_packages, target=target) for path in paths)
    found = difference(old, new)
    if only_packages:
        from dataclasses import replace

        found = replace(found, files=(), compared=0)
    _say(console, old, new, found, None if everything else SHOWN)
    console.result(lambda: _document(old, new, found))
    if found:
        context.exit(DIFFERENT)


def _say(console: Console, old: Inspection, new: Inspection, found: Difference, limit: int | None) -> None:
    for sign, box in (("-", old), ("+", new)):
        size = "" if box.size is None else f", {human_size(box.size)}"
        unpacked = f", {len(box.files)} files of {human_size(box.installed_size)}" if box.files else ""
        console.say(f"{sign} {box.artifact}: {box.format}{size}, {len(box.packages)} packages{unpacked}")
    for what, one, other in found.facts:
        console.say(f"{what}: {one or 'none'} -> {other or 'none'}")
    for kind, artifact, count in found.alone:
        console.say(f"{kind} packages: {count}, in {artifact} alone, whose format carries them")
    if not found:
        console.say("no difference in what both can have")
        return
    for line in _package_lines(found.packages, limit):
        console.say(line)
    if found.files:
        growth = sum(one.growth for one in found.files)
        sign = "-" if growth < 0 else "+"
        console.say(f"files: {_counted(found.files)} of {found.compared}, {sign}{human_size(abs(growth))}")
        largest = sorted(found.files, key=lambda one: (-abs(one.growth), one.path))
        for line in _listed([_file_line(one) for one in largest], limit):
            console.say(line)


def _counted(changes: Sequence[PackageChange | FileChange]) -> str:
    counts = Counter(_sign(one.before, one.after) for one in changes)
    words = {"~": "changed", "+": "added", "-": "removed"}
    return ", ".join(f"{counts[sign]} {word}" for sign, word in words.items() if counts[sign])


def _sign(before: object, after: object) -> str:
    return "+" if before is None else "-" if after is None else "~"


def _package_lines(changes: Sequence[PackageChange], limit: int | None) -> Iterator[str]:
    for kind in dict.fromkeys(one.kind for one in changes):
        chosen = [one for one in changes if one.kind == kind]
        yield f"{kind} packages: {_counted(chosen)}"
        yield from _listed([_package_line(one) for one in chosen], limit)


def _listed(lines: Sequence[str], limit: int | None) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:limit])
    if limit is not None and len(lines) > limit:
        yield f"  … and {len(lines) - limit} more (--all)"


def _package_line(one: PackageChange) -> str:
    if one.before and one.after:
        return f"~ {one.name} {one.before.version} -> {one.after.version}"
    found = one.before or one.after
    return f"{_sign(one.before, one.after)} {one.name} {found.version if found else ''}"


def _file_line(one: FileChange) -> str:
    def told(file: File) -> str:
        return f"-> {file.link}" if file.link else human_size(file.size)

    if one.before and one.after:
        sizes = told(one.before) if one.before.size == one.after.size and not one.before.link else ""
        return f"~ {one.path}: {sizes or f'{told(one.before)} to {told(one.after)}'}"
    file = one.before or one.after
    return f"{_sign(one.before, one.after)} {one.path}: {told(file) if file else ''}"


def _document(old: Inspection, new: Inspection, found: Difference) -> dict[str, Any]:
    from boxsnake.cli.artifact import facts_of

    def package(one: Package | None) -> dict[str, Any] | None:
        return {"version": one.version, "size": one.size} if one else None

    def file(one: File | None) -> dict[str, Any] | None:
        return {"size": one.size, "sha256": one.sha256 or None, "link": one.link or None} if one else None

    return {
        "same": not found,
        "before": facts_of(old),
        "after": facts_of(new),
        "facts": [{"what": what, "before": one, "after": other} for what, one, other in found.facts],
        "packages": [
            {"kind": one.kind, "name": one.name, "before": package(one.before), "after": package(one.after)}
            for one in found.packages
        ],
        "files": [{"path": one.path, "before": file(one.before), "after": file(one.after)} for one in found.files],
        "compared": found.compared,
        "alone": [{"kind": kind, "artifact": artifact, "count": count} for kind, artifact, count in found.alone],
    }
