"""The store that all applications of a host share: one package for each conda package and wheel.

    <prefix root>/boxsnake-store/<name>-<version>-<digest>/    what one of them brings, as it is for every application

Only what is the same wherever it lies goes there; what holds the path of its environment, and the records of what was
installed, stay with the environment. The digest is that of everything that decides the package's bytes, so a package of
one name is one package, whichever application it was built with.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from boxsnake.disk import disk_faults
from boxsnake.entries import Entry, Tree, conda_owner, wheel_owner
from boxsnake.os_packages.nfpm import Content
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock import TargetLock

FOLDER = "boxsnake-store"
"""The store's name, below the folder in which each application has its own."""

_DIGITS = 12
"""Of the digest, in a name: enough that no two packages of a name and version ever meet."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What one conda package or wheel gives to the store."""

    owner: str
    version: str
    """The conda package's or wheel's own."""
    digest: str
    folder: str
    """Where it lies on a host."""
    entries: tuple[Entry, ...]

    @property
    def package(self) -> str:
        """The name of the RPM or deb that carries it."""
        kind, _, name = self.owner.partition(":")
        return f"boxsnake-{kind}-{plain(name)}-{plain(self.version)}-{self.digest}"


def shared(tree: Tree, lock: TargetLock, prefix_root: str, decides: Mapping[str, Any]) -> list[Shared]:
    """What the lock's conda packages and wheels give to the store, sorted by owner; not the application itself.

    `decides` are JSON values that decide the bytes of their packages beside the entries: the time, the compression. A
    file that two packages bring is in the store for each of them.
    """
    by_owner: dict[str, list[Entry]] = {}
    for entry in tree.entries:
        if entry.kind != "folder" and not _is_of_its_place(entry, tree):
            for owner in entry.owners:
                by_owner.setdefault(owner, []).append(entry)
    versions = {conda_owner(package.name): package.version for package in lock.conda}
    versions |= {wheel_owner(wheel.name): wheel.version for wheel in lock.wheels_over_conda}
    found = []
    for owner in sorted(by_owner.keys() & versions.keys()):
        entries, version = tuple(by_owner[owner]), versions[owner]
        lines = [[entry.path, entry.kind, entry.mode, entry.sha256, entry.target] for entry in entries]
        described = [owner, version, prefix_root, dict(decides), lines]
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        name = owner.partition(":")[2]
        folder = f"{prefix_root}/{FOLDER}/{plain(name)}-{plain(version)}-{digest}"
        found.append(Shared(owner=owner, version=version, digest=digest, folder=folder, entries=entries))
    return found


def contents(one: Shared, tree: Tree, prefix_root: str) -> Iterator[Content]:
    """The paths of its package."""
    yield Content(path=f"{prefix_root}/{FOLDER}", kind="folder")
    yield Content(path=one.folder, kind="folder")
    parents = {parent.as_posix() for entry in one.entries for parent in PurePosixPath(entry.path).parents} - {"."}
    for parent in sorted(parents):
        yield Content(path=f"{one.folder}/{parent}", kind="folder")
    for entry in one.entries:
        yield Content(
            path=f"{one.folder}/{entry.path}",
            kind=entry.kind,
            mode=entry.mode,
            source=tree.root / entry.path,
            target=entry.target,
        )


def plain(text: str) -> str:
    """The text as part of a name that rpm, dpkg and file systems take alike."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-.")


def _is_of_its_place(entry: Entry, tree: Tree) -> bool:
    """Whether what lies there depends on the path of the environment.

    To take too much for it costs room; to take too little would only give a package another name, as names are made of
    contents.
    """
    if entry.path.startswith("conda-meta/") or entry.path.endswith(".dist-info/RECORD"):
        return True
    if entry.kind == "link":
        return tree.prefix in entry.target
    return entry.size > 0 and _holds(tree.root / entry.path, tree.prefix.encode())


def _holds(path: Path, text: bytes) -> bool:
    with (
        disk_faults(path),
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(text) >= 0
