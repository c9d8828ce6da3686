"""Just enough of an interpreter to compile with, out of a layer that has it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxsnake.archive import gunzipped
from boxsnake.canonical import canonical_json
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import ResourceError
from boxsnake.store import Store

_FORMAT = 5
_CACHE = "interpreters"
# What starting it and `boxsnake.stage.bytecode_child` import: the top level, a few packages, what is compiled of them.
_PACKAGES = "__pycache__|collections|encodings|importlib|lib-dynload|re"


class NotStartingError(ResourceError):
    """The environment's interpreter does not start on this machine."""


def kept_interpreter(store: Store, digest: str, *, prefix: str, minor: str, starts: Callable[[Path], bool]) -> Path:
    """The folder of an interpreter out of the layer of this digest, kept for who compiles next.

    Its files are compared each time by their times, sizes and inodes: where one was lost or changed, all are laid out
    anew. Errors: NotStartingError; ResourceError.
    """
    key = {"format": _FORMAT, "layer": digest, "prefix": prefix, "minor": minor}
    name = hashlib.sha256(canonical_json(key)).hexdigest()[:32]
    folder = store.cache_folder(_CACHE) / name
    if _is_whole(folder, store.selected("interpreter", key)):
        return folder
    with store.lock(f"{_CACHE}-{name}"), disk_faults(folder):
        if _is_whole(folder, store.selected("interpreter", key)):
            return folder
        remove_tree(folder)
        with store.scratch("interpreter") as scratch:
            fresh = scratch / "tree"
            fresh.mkdir()
            unpack_interpreter(store.path(digest), prefix, minor, fresh)
            if not starts(fresh):
                raise NotStartingError("the environment's Python", "does not start", "Look at its packages.")
            files = _listed(fresh)
            fresh.rename(folder)
        store.select("interpreter", key, {"files": files})
    return folder


def unpack_interpreter(layer: Path, prefix: str, minor: str, root: Path) -> None:
    """Lay out of a layer (a tar compressed by gzip) what compiling needs, and the interpreter's own conda record.

    The paths in the layer lie below `prefix`; those in `root` are without it.
    """
    import tarfile

    below = prefix.strip("/")
    library = rf"lib/python{re.escape(minor)}t?"
    wanted = re.compile(
        rf"{re.escape(below)}/(bin/python[^/]*|lib/lib[^/]*\.so[^/]*|{library}/([^/]+|({_PACKAGES})/.*)"
        r"|conda-meta/python-[^/]*\.json)"
    )
    made: set[Path] = set()
    with gunzipped(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdir() or not wanted.fullmatch(member.name):
                continue
            place = root / member.name.removeprefix(f"{below}/")
            if place.parent not in made:
                place.parent.mkdir(parents=True, exist_ok=True)
                made.add(place.parent)
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                place.symlink_to(member.linkname)
            else:
                place.write_bytes(content.read())
                place.chmod(member.mode)


def _listed(folder: Path) -> str:
    """The digest of a list of every file of a folder: its path, and what changes whenever its bytes do."""
    found: list[str] = []
    top = str(folder)
    for parent, folders, names in os.walk(top):
        for name in (*names, *(name for name in folders if os.path.islink(f"{parent}/{name}"))):  # noqa: PTH114
            path = f"{parent}/{name}"
            there = os.lstat(path)
            times = f"{there.st_mtime_ns} {there.st_ctime_ns}"
            found.append(f"{path[len(top) :]}\0{there.st_mode} {there.st_ino} {there.st_size} {times}")
    return hashlib.sha256("\0".join(sorted(found)).encode(errors="surrogateescape")).hexdigest()


def _is_whole(folder: Path, known: dict[str, Any] | None) -> bool:
    """Whether the folder has all the files that it was made with, as they were, and no other."""
    try:
        return known is not None and folder.is_dir() and _listed(folder) == known["files"]
    except OSError:
        return False
