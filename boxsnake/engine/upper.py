"""What a container changed, read off the folder that Docker's overlay has for it, where that is on this machine.

Asked for the same, the engine compares whole file systems. An overlay's upper folder holds what was written and nothing
else (the kernel's Documentation/filesystems/overlayfs.rst): a device 0/0 stands for what was removed, and an attribute
tells a folder that hides what is below it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from boxsnake.container import Change
from boxsnake.value import dataclass

_OPAQUE, _REDIRECT, _CAPABILITY = "trusted.overlay.opaque", "trusted.overlay.redirect", "security.capability"


class UnreadableError(Exception):
    """The folders are not here, not for us, or say what is not understood."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """The folder that is written to, and those below it, the topmost first."""

    upper: str
    lowers: tuple[str, ...]


def overlay_of(facts: Mapping[str, Any]) -> Overlay | None:
    """The overlay of a container, as inspecting it tells; None where it has none that could be read here."""
    driver = facts.get("GraphDriver") or {}
    data = driver.get("Data") or {}
    upper, lowers = data.get("UpperDir"), data.get("LowerDir")
    # Others may not read the attributes. A path has the layer's random name: no other engine's lies there.
    if driver.get("Name") != "overlay2" or not upper or not lowers or os.geteuid() != 0:
        return None
    found = Overlay(upper=str(upper), lowers=tuple(str(lowers).split(":")))
    return found if all(map(os.path.isdir, (found.upper, *found.lowers))) else None


def read_changes(overlay: Overlay) -> tuple[Change, ...]:
    """Every path that differs from what lies below, sorted, as the engine would tell it. Errors: UnreadableError."""
    try:
        return tuple(sorted(_within("", overlay.upper, overlay.lowers, hides=False)))
    except OSError as error:
        # It is written to meanwhile.
        raise UnreadableError(str(error)) from error


def _within(path: str, upper: str, lowers: Sequence[str], *, hides: bool) -> Iterator[Change]:
    """The changes in a folder that is there, whose counterparts below are `lowers`; it may hide what they have."""
    hides = hides or (bool(lowers) and _attribute(upper, _OPAQUE) == b"y")
    names = set()
    with os.scandir(upper) as entries:
        for entry in entries:
            names.add(entry.name)
            yield from _of_entry(f"{path}/{entry.name}", entry, lowers, hides=hides)
    if hides:
        for name in {name for lower in lowers for name in os.listdir(lower)} - names:  # noqa: PTH208 - quick
            if _below(name, lowers)[0] is not None:
                yield Change(path=f"{path}/{name}", kind="removed")


def _of_entry(path: str, entry: os.DirEntry[str], lowers: Sequence[str], *, hides: bool) -> Iterator[Change]:
    now = entry.stat(follow_symlinks=False)
    before, folders = _below(entry.name, lowers)
    if _is_removal(now):
        if before is not None:
            yield Change(path=path, kind="removed")
        return
    told = before is None or _differs(before, now, entry)
    if told:
        yield Change(path=path, kind="added" if before is None else "changed")
    if not stat.S_ISDIR(now.st_mode):
        return
    if _attribute(entry.path, _REDIRECT) is not None:
        raise UnreadableError(f"{path} was moved")
    inside = _within(path, entry.path, [folder for folder, _ in folders], hides=hides)
    first = next(inside, None)
    if first is not None:
        if not told:
            yield Change(path=path, kind="changed")
        yield first
        yield from inside


def _below(
    name: str, lowers: Sequence[str]
) -> tuple[tuple[str, os.stat_result] | None, list[tuple[str, os.stat_result]]]:
    """What lies below by that name, and where it is a folder, all of which it is made."""
    folders: list[tuple[str, os.stat_result]] = []
    for lower in lowers:
        place = f"{lower}/{name}"
        try:
            found = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _is_removal(found):
            break
        if not stat.S_ISDIR(found.st_mode):
            return (folders[0] if folders else (place, found)), folders
        folders.append((place, found))
        if _attribute(place, _OPAQUE) == b"y":
            break
    return (folders[0] if folders else None), folders


def _is_removal(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _differs(before: tuple[str, os.stat_result], now: os.stat_result, entry: os.DirEntry[str]) -> bool:
    """Whether the engine would say so: of a folder, neither size nor time count."""
    place, old = before
    kinds = [(one.st_mode, one.st_uid, one.st_gid, one.st_rdev) for one in (old, now)]
    if kinds[0] != kinds[1]:
        return True
    if not stat.S_ISDIR(now.st_mode) and (
        old.st_size != now.st_size or not _same_time(old.st_mtime_ns, now.st_mtime_ns)
    ):
        return True
    return _attribute(place, _CAPABILITY) != _attribute(entry.path, _CAPABILITY)


def _same_time(one: int, other: int) -> bool:
    """A time without a fraction of a second may have lost it on the way."""
    whole = 1_000_000_000
    return one == other or (one // whole == other // whole and 0 in (one % whole, other % whole))


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise
