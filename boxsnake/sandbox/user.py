"""Who a command runs as, by the name or number that images and recipes give, looked up in the sandbox's own files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Who:
    """A user with all of its groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def found(text: str) -> Who:
    """The user of "name", "uid", "name:group" or "uid:gid"; "" is root. Errors: LookupError."""
    name, _, group = (text or "0").partition(":")
    known = next((line for line in _lines("/etc/passwd", 7) if name in (line[0], line[2])), None)
    if known is None and not name.isdecimal():
        raise LookupError(f"there is no user {name}")
    uid = int(known[2]) if known else int(name)
    gid = _group(group) if group else int(known[3]) if known else 0
    # A group that is named is the only one.
    further = [] if group else [int(line[2]) for line in _lines("/etc/group", 4) if _has(line, known)]
    home = known[5] if known and known[5] else "/"
    return Who(uid=uid, gid=gid, groups=tuple(dict.fromkeys([gid, *further])), home=home)


def _has(group: list[str], user: list[str] | None) -> bool:
    return user is not None and user[0] in group[3].split(",")


def _group(text: str) -> int:
    if text.isdecimal():
        return int(text)
    gid = next((line[2] for line in _lines("/etc/group", 4) if line[0] == text), None)
    if gid is None:
        raise LookupError(f"there is no group {text}")
    return int(gid)


def _lines(path: str, fields: int) -> Iterator[list[str]]:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.split(":")
            if len(parts) == fields and parts[2].isdecimal():
                yield parts
