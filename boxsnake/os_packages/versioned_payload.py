"""What a package of a versioned application holds: its staged tree, file by file or as archives that are linked later.

As files, every path of the tree is a path of the package. As archives, only the interpreter and what it needs are;
all else lies in one plain tar for each owner (the package's own compression packs them together), beside a manifest
of digests and the linker, and the paths that it will have are known to the package as ghosts. As shared, what
applications have in common lies in a store of packages of their own (`os_packages.shared_store`), linked from there.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from boxsnake import relocation
from boxsnake.archive import Member, write_tar
from boxsnake.disk import disk_faults
from boxsnake.entries import Entry, Tree
from boxsnake.errors import PackError
from boxsnake.lock import CondaPackage
from boxsnake.os_packages import scriptlets
from boxsnake.os_packages.nfpm import Content
from boxsnake.os_packages.shared_store import Shared
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.plan import Plan, expected
from boxsnake.system import System
from boxsnake.value import dataclass

INTERPRETER = "bin/python"
"""The interpreter that links archives and verifies them, by its path below the prefix."""

_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The paths of a package, and how many bytes they take on a disk once all is in place."""

    contents: tuple[Content, ...]
    needed: int


@dataclass(frozen=True, kw_only=True)
class SupportTexts:
    """Small files of a version's support folder, by their content."""

    control: str
    """The program `<name>-ctl`."""
    version: str
    """What the version says of itself, for scriptlets of other versions."""
    check: str
    """What the check of an installed version must find, as JSON."""


def support_texts(
    plan: Plan,
    layout: Layout,
    *,
    run_checks: bool,
    system: System | None = None,
    placing: scriptlets.Placing | None = None,
    more_control: Sequence[str] = (),
) -> SupportTexts:
    """The texts for a plan; with `run_checks` the installed version must pass its checks that start no server.

    `system` is what is set up on the host, left out: all that the plan asks for.
    """
    application = plan.application
    there = expected(plan, conda=True)
    commands = [dataclasses.asdict(check) for check in plan.checks if check.run is not None] if run_checks else []
    check = {
        "application": application.wheel.name if application.wheel else application.name,
        "distributions": there.distributions,
        "programs": there.console_scripts if application.wheel else (),
        "environment": dict(application.environment),
        "checks": commands,
    }
    return SupportTexts(
        control=scriptlets.control(
            layout,
            app_version=application.version,
            system=plan.system if system is None else system,
            placing=placing,
            more=more_control,
        ),
        version=scriptlets.self_description(layout, app_version=application.version),
        check=json.dumps(check, indent=1, sort_keys=True),
    )


def as_files(
    tree: Tree, layout: Layout, commands: Sequence[str], scratch: Path, *, texts: SupportTexts, time: int
) -> Payload:
    """The package's paths where the tree is carried file by file.

    What is not in the tree is written into `scratch`, an empty folder; `time` is the one time of all files, in seconds
    since 1970. Errors: PackError where the tree lacks a command or an interpreter.
    """
    _check_programs(tree, commands)
    waiting = {patch.path for patch in tree.patches}
    contents = (
        *_frame(tree, layout, commands),
        *_support(tree, layout, texts, scratch),
        *_unplaced(tree, layout, scratch, time),
        *(_ghost(entry, layout) if entry.path in waiting else _carried(entry, tree, layout) for entry in tree.entries),
    )
    sizes = [*(entry.size for entry in tree.entries), *(entry.size for entry in tree.entries if entry.path in waiting)]
    return Payload(contents=contents, needed=_on_disk(sizes))


def as_archives(
    tree: Tree,
    layout: Layout,
    commands: Sequence[str],
    scratch: Path,
    *,
    texts: SupportTexts,
    carried: Collection[str],
    time: int,
) -> Payload:
    """The package's paths where only what belongs to `carried` owners is carried as files.

    What is not in the tree is written into `scratch`, an empty folder; `time` is the one time of all files, in seconds
    since 1970. Errors: PackError where the tree lacks a command or an interpreter.
    """
    unpacked = set(carried)
    waiting = {patch.path for patch in tree.patches}
    packed = [
        entry
        for entry in tree.entries
        if entry.kind != "folder" and entry.path not in waiting and unpacked.isdisjoint(entry.owners)
    ]
    archives = list(_write_archives(packed, tree, scratch, time))
    sources = [({"archive": path.name}, entries) for path, entries in archives]
    linked = _as_linked(tree, layout, commands, scratch, texts=texts, sources=sources, time=time)
    beside = (
        Content(path=f"{layout.support}/archives", kind="folder"),
        *(
            Content(path=f"{layout.support}/archives/{path.name}", kind="file", mode=0o644, source=path)
            for path, _ in archives
        ),
    )
    sizes = [*(entry.size for entry in tree.entries), *(path.stat().st_size for path, _ in archives)]
    return Payload(contents=(*linked, *beside), needed=_on_disk(sizes))


def as_shared(
    tree: Tree,
    layout: Layout,
    commands: Sequence[str],
    scratch: Path,
    *,
    texts: SupportTexts,
    store: Sequence[Shared],
    interpreter: Collection[str],
    time: int,
) -> Payload:
    """The package's paths where what is in the `store` that applications share is linked from there.

    `interpreter` are the owners of what the linker's own Python needs. Otherwise as `as_archives`.
    """
    # A file that is the application's too comes with it.
    linked = [(one, [entry for entry in one.entries if entry.owner == one.owner]) for one in store]
    sources = [({"folder": one.folder}, entries) for one, entries in linked if entries]
    path = scratch / "interpreter"
    with disk_faults(path):
        path.write_text("".join(f"{one.folder}\n" for one in store if one.owner in interpreter), encoding="utf-8")
    contents = (
        *_as_linked(tree, layout, commands, scratch, texts=texts, sources=sources, time=time),
        Content(path=f"{layout.support}/interpreter", kind="file", mode=0o644, source=path),
    )
    count = sum(len(entries) for _, entries in sources)
    carried = {entry.path for entry in tree.entries} - {entry.path for _, entries in sources for entry in entries}
    sizes = (entry.size for entry in tree.entries if entry.path in carried)
    return Payload(contents=contents, needed=_on_disk(sizes) + count * _BLOCK // 8)


def _as_linked(
    tree: Tree,
    layout: Layout,
    commands: Sequence[str],
    scratch: Path,
    *,
    texts: SupportTexts,
    sources: Sequence[tuple[dict[str, str], Sequence[Entry]]],
    time: int,
) -> tuple[Content, ...]:
    """The paths of a package that links some of its tree, with the linker and its manifest."""
    _check_programs(tree, commands)
    manifest = scratch / "manifest.json"
    described = [{**source, "entries": {e.path: _promise(e) for e in entries}} for source, entries in sources]
    with disk_faults(manifest):
        manifest.write_text(json.dumps({"time": time, "sources": described}, separators=(",", ":")), encoding="ascii")
    as_ghosts = {entry.path for _, entries in sources for entry in entries} | {patch.path for patch in tree.patches}
    return (
        *_frame(tree, layout, commands),
        *_support(tree, layout, texts, scratch),
        *_unplaced(tree, layout, scratch, time),
        *(
            _ghost(entry, layout) if entry.path in as_ghosts else _carried(entry, tree, layout)
            for entry in tree.entries
        ),
        Content(path=f"{layout.support}/manifest.json", kind="file", mode=0o644, source=manifest),
        Content(path=f"{layout.support}/link.py", kind="file", mode=0o644, source=scriptlets.resource("link.py")),
    )


def interpreter_packages(packages: Iterable[CondaPackage]) -> frozenset[str]:
    """The names of Python's own conda package and of all that it depends on, among these packages."""
    by_name = {package.name: package for package in packages}
    found: set[str] = set()
    waiting = ["python"]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in found:
            found.add(name)
            waiting.extend(_dependency_name(spec) for spec in by_name[name].depends)
    return frozenset(found)


def _dependency_name(spec: str) -> str:
    """The name in a MatchSpec such as "openssl >=3,<4" or "channel::name=1"."""
    name = re.match(r"(?:\S*::)?([A-Za-z0-9_.-]+)", spec.strip())
    return name.group(1).lower() if name else ""


def _check_programs(tree: Tree, commands: Sequence[str]) -> None:
    present = {entry.path for entry in tree.entries if entry.kind != "folder"}
    if INTERPRETER not in present:
        cause = f"its environment has no {INTERPRETER}"
        raise PackError("the interpreter", cause, "Require a conda package of Python that brings one.")
    for command in commands:
        if f"bin/{command}" not in present:
            cause = f"the environment has no bin/{command}"
            raise PackError(
                f"command {command}", cause, "Correct `commands`, or require what brings it.", command=command
            )


def _frame(tree: Tree, layout: Layout, commands: Sequence[str]) -> Iterator[Content]:
    """What every version brings: its folders, what it writes while it is installed, its commands."""
    for folder in (layout.root, layout.prefix, f"{layout.root}/install", layout.support, layout.unfinished):
        yield Content(path=folder, kind="folder")
    yield Content(path=f"{layout.unfinished}/bin", kind="folder")
    yield Content(path=layout.current, kind="ghost", mode=0o777)
    yield Content(path=layout.current_control, kind="ghost", mode=0o777)
    for ghost in (layout.state, layout.kept):
        yield Content(path=ghost, kind="ghost", mode=0o644)
    control, target = layout.control
    yield Content(path=posixpath.dirname(control), kind="folder")
    yield Content(path=control, kind="link", target=target)
    stub = f"{layout.unfinished}/unfinished.sh"
    yield Content(path=stub, kind="file", mode=0o755, source=scriptlets.resource("unfinished.sh"))
    for command in commands:
        path, target = layout.command(command)
        # Of a tree that can lie anywhere, it is not known yet where they lead to.
        yield (
            Content(path=path, kind="ghost", mode=0o777)
            if tree.patches
            else Content(path=path, kind="link", target=target)
        )
        yield Content(path=f"{layout.unfinished}/bin/{command}", kind="link", target="../unfinished.sh")


def _support(tree: Tree, layout: Layout, texts: SupportTexts, scratch: Path) -> Iterator[Content]:
    """What it takes to check a version, to keep it and to remove it, without a package manager."""
    waiting = {patch.path for patch in tree.patches}
    files = [entry for entry in tree.entries if entry.kind == "file" and entry.path not in waiting]
    links = [entry for entry in tree.entries if entry.kind == "link"]
    written = {
        "ctl": texts.control,
        "version": texts.version,
        "check.json": texts.check,
        "sums": "".join(f"{entry.sha256}  {entry.path}\n" for entry in files),
        "links": "".join(f"{entry.path}\t{entry.target}\n" for entry in links),
    }
    for name, content in written.items():
        path = scratch / name
        with disk_faults(path):
            path.write_text(content, encoding="utf-8")
        yield Content(path=f"{layout.support}/{name}", kind="file", mode=0o755 if name == "ctl" else 0o644, source=path)
    yield Content(path=f"{layout.support}/check.py", kind="file", mode=0o644, source=scriptlets.resource("check.py"))


def _unplaced(tree: Tree, layout: Layout, scratch: Path, time: int) -> Iterator[Content]:
    """The files that depend on where the tree is placed, as they are before that, and what places them."""
    if not tree.patches:
        return
    by_path = {entry.path: entry for entry in tree.entries}
    folders = {layout.support + "/unplaced"}
    for patch in tree.patches:
        path = f"{layout.support}/unplaced/{patch.path}"
        yield Content(path=path, kind="file", mode=by_path[patch.path].mode, source=tree.root / patch.path)
        while (path := posixpath.dirname(path)) not in folders:
            folders.add(path)
    for path in sorted(folders):
        yield Content(path=path, kind="folder")
    rows = [
        {"path": patch.path, "kind": patch.kind, "mode": entry.mode, "sha256": entry.sha256}
        for patch in tree.patches
        for entry in [by_path[patch.path]]
    ]
    document = scratch / "patches.json"
    with disk_faults(document):
        text = json.dumps({"placeholder": tree.prefix, "time": time, "patches": rows}, indent=1)
        document.write_text(text, encoding="utf-8")
    yield Content(path=f"{layout.support}/patches.json", kind="file", mode=0o644, source=document)
    yield Content(path=f"{layout.support}/place.py", kind="file", mode=0o644, source=Path(relocation.__file__))
    yield Content(path=f"{layout.support}/{relocation.PLACED_SUMS}", kind="ghost", mode=0o644)


def _carried(entry: Entry, tree: Tree, layout: Layout) -> Content:
    return Content(
        path=f"{layout.prefix}/{entry.path}",
        kind=entry.kind,
        mode=entry.mode,
        source=None if entry.kind == "folder" else tree.root / entry.path,
        target=entry.target,
    )


def _ghost(entry: Entry, layout: Layout) -> Content:
    mode = 0o777 if entry.kind == "link" else entry.mode
    return Content(path=f"{layout.prefix}/{entry.path}", kind="ghost", mode=mode)


def _write_archives(
    entries: Iterable[Entry], tree: Tree, folder: Path, time: int
) -> Iterator[tuple[Path, tuple[Entry, ...]]]:
    """Write one tar for each owner, its files named as in the tree."""
    by_owner: dict[str, list[Entry]] = {}
    for entry in entries:
        by_owner.setdefault(entry.owner, []).append(entry)
    for owner in sorted(by_owner):
        path = folder / f"{owner.replace(':', '-')}.tar"
        members = (_member(entry, tree) for entry in by_owner[owner])
        with disk_faults(path), path.open("wb") as stream:
            write_tar(members, stream, epoch=time)
        yield path, tuple(by_owner[owner])


def _member(entry: Entry, tree: Tree) -> Member:
    if entry.kind == "link":
        return Member(name=entry.path, mode=0o777, link=entry.target)
    return Member(name=entry.path, mode=entry.mode, source=tree.root / entry.path)


def _promise(entry: Entry) -> dict[str, Any]:
    """What the linker must find at the entry's path."""
    if entry.kind == "link":
        return {"link": entry.target}
    return {"mode": entry.mode, "size": entry.size, "sha256": entry.sha256}


def _on_disk(sizes: Iterable[int]) -> int:
    """Bytes that files of these sizes take, with a block for what each needs beside its content."""
    return sum(-(-size // _BLOCK) * _BLOCK + _BLOCK // 8 for size in sizes)
