"""The members of an archive, judged as they come: names, links, collisions and sizes."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from boxsnake.ingest import MOST_BYTES, MOST_MEMBERS, MOST_RATIO, RATIO_COUNTS_FROM, escaped, unsafe
from boxsnake.pattern import pattern

_LONGEST_PART = 255  # bytes, NAME_MAX
_LONGEST_PATH = 1_024  # bytes; PATH_MAX is 4096, and the prefix has to fit in front
_DEEPEST = 100
_MOST_LINKS = 40  # as the kernel's own limit when it follows links
_MOST_WARNINGS = 100

# Names that Windows reads as devices, and the marks that make a terminal show another text than there is.
_DEVICES = pattern(r"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\.|$)", re.IGNORECASE)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Kind = Literal["file", "folder", "link"]


@dataclass(kw_only=True)
class Listing:
    """The members of one archive as they come: refuses what cannot be laid out as a tree of files below one folder.

    With `portable`, names that other systems cannot hold side by side, or at all, are refused too. Without, they
    become warnings: packages for Linux alone bring them (terminal descriptions and kernel headers differ in case).
    """

    archive: str
    packed_size: int
    portable: bool = True
    unpacked: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _folded: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, kind: Kind, size: int = 0, target: str = "") -> str:
        """Take in a member and return its path without a slash at the end."""
        path = self._path(name)
        if path in self.kinds:
            if kind == "folder" == self.kinds[path]:
                return path  # some writers name a folder twice; the second time says nothing new
            raise unsafe(self.archive, name, "is in the archive twice")
        self._count(name, size)
        self._compare_case(path)
        self.kinds[path] = kind
        if kind == "link":
            self.links[path] = target
        return path

    def warn(self, warning: str) -> None:
        """Note what is odd, but does no harm: not more of it than somebody will read."""
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(warning)

    def finish(self) -> None:
        """Judge what only the whole list shows: files used as folders, and where links lead."""
        for path in self.kinds:
            parent = posixpath.dirname(path)
            while parent:
                found = self.kinds.get(parent, "folder")
                if found == "link":
                    raise unsafe(self.archive, path, f"lies behind the symbolic link {escaped(parent)}")
                if found != "folder":
                    raise unsafe(self.archive, path, f"lies below {escaped(parent)}, which is a file")
                parent = posixpath.dirname(parent)
        for path, target in self.links.items():
            self._follow(path, target)

    def _path(self, name: str) -> str:
        plain = name.removesuffix("/")
        cause = _wrong_name(plain)
        if cause is not None:
            raise unsafe(self.archive, name, cause)
        elsewhere = next((cause for part in plain.split("/") if (cause := _wrong_elsewhere(part))), None)
        if elsewhere is not None:
            if self.portable:
                raise unsafe(self.archive, name, elsewhere)
            self.warn(f"{escaped(name)} {elsewhere}")
        return plain

    def _count(self, name: str, size: int) -> None:
        if len(self.kinds) >= MOST_MEMBERS:
            raise unsafe(self.archive, None, f"has more than {MOST_MEMBERS} members")
        self.unpacked += size
        self.judge_size(name, self.unpacked)

    def judge_size(self, name: str | None, unpacked: int) -> None:
        """Refuse an archive that grows out of all proportion."""
        if unpacked > MOST_BYTES:
            raise unsafe(self.archive, name, f"unpacks to more than {MOST_BYTES} bytes")
        if unpacked > RATIO_COUNTS_FROM and unpacked > MOST_RATIO * self.packed_size:
            raise unsafe(self.archive, name, f"unpacks to more than {MOST_RATIO} times its size: a decompression bomb")

    def _compare_case(self, path: str) -> None:
        """Find names that are one and the same on a file system which ignores case or Unicode's normal forms."""
        composed = unicodedata.normalize("NFC", path)
        for form in {composed, composed.casefold()}:
            other = self._folded.setdefault(form, path)
            if other == path:
                continue
            if self.portable or unicodedata.normalize("NFC", other) == composed:
                raise unsafe(self.archive, path, f"is the same name as {escaped(other)} on some file systems")
            self.warn(f"{escaped(path)} and {escaped(other)} differ in case alone")

    def _follow(self, path: str, target: str) -> None:
        """Refuse a link that leads out of the tree, with the tree's own links followed on the way."""
        if target.startswith("/"):
            raise unsafe(self.archive, path, f"is a symbolic link to the absolute path {escaped(target)}")
        if not target or _has_control(target):
            raise unsafe(self.archive, path, f"is a symbolic link to {escaped(target) or 'nothing'}")
        todo = [*reversed(target.split("/"))]
        place = posixpath.dirname(path).split("/") if "/" in path else []
        followed = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not place:
                    raise unsafe(self.archive, path, f"is a symbolic link out of the package, to {escaped(target)}")
                place.pop()
                continue
            place.append(part)
            inner = self.links.get("/".join(place))
            if inner is not None:
                followed += 1
                if followed > _MOST_LINKS:
                    raise unsafe(self.archive, path, "is a loop of symbolic links")
                place.pop()
                todo.extend(reversed(inner.split("/")))


def _wrong_name(name: str) -> str | None:
    """Tell what is wrong with a member's name, None if nothing is."""
    if not name:
        return "has no name"
    if name.startswith("/"):
        return "is an absolute path"
    encoded = name.encode("utf-8", "surrogateescape")
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "has a name that is not UTF-8"
    if _has_control(name):
        return "has control characters in its name"
    if len(encoded) > _LONGEST_PATH:
        return f"has a path of more than {_LONGEST_PATH} bytes"
    parts = name.split("/")
    if len(parts) > _DEEPEST:
        return f"lies more than {_DEEPEST} folders deep"
    return next((cause for part in parts if (cause := _wrong_part(part))), None)


def _wrong_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"has the part {part!r} in its path"
    if len(part.encode()) > _LONGEST_PART:
        return f"has a name of more than {_LONGEST_PART} bytes"
    return None


def _wrong_elsewhere(part: str) -> str | None:
    """Tell what Windows would make of a name, or a reader of zip that was written for it."""
    if "\\" in part or ":" in part:
        return "has a backslash or a colon in its name"
    if part.endswith((".", " ")):
        return "has a name that ends in a dot or a space"
    if _DEVICES.match(part):
        return "has the name of a device on Windows"
    return None


def _has_control(text: str) -> bool:
    return any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _BIDI for char in text)
