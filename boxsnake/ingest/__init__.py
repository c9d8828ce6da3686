"""What every archive has to keep to before it enters the store: names, links, collisions and sizes.

An archive that breaks a rule is refused as a whole and by the name of the member; nothing is skipped or mended in
silence, so that whatever unpacks it later finds nothing to interpret.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from boxsnake.entry_points import is_target
from boxsnake.errors import IntegrityError
from boxsnake.pattern import pattern

CHECK_VERSION = 1
"""Changes whenever a check does: facts that an older check recorded are not used any more."""

MOST_MEMBERS = 300_000
MOST_BYTES = 24 << 30
MOST_RATIO = 300
"""Unpacked bytes for each packed one."""
RATIO_OF_DENSEST = 40
"""What the densest packages in use (static libraries, generated headers) reach."""
RATIO_COUNTS_FROM = 64 << 20
"""Bytes: below that much a bomb does no harm, and a few runs of zeros reach any ratio."""

_LONGEST_PART = 255  # bytes, NAME_MAX
_LONGEST_PATH = 1_024  # bytes; PATH_MAX is 4096, and the prefix has to fit in front
_DEEPEST = 100
_MOST_LINKS = 40  # as the kernel's own limit when it follows links
_SHOWN = 200
_MOST_WARNINGS = 100

# Names that Windows reads as devices, and the marks that make a terminal show another text than there is.
_DEVICES = pattern(r"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\.|$)", re.IGNORECASE)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# A command of this name would take the place of what everything else in an environment starts with.
_RESERVED_COMMAND = pattern(r"(?:python|pythonw|pypy)[0-9.]*t?|sh|bash|dash|env|sudo")
_PIP_COMMAND = pattern(r"pip[0-9.]*")
_SCRIPT_NAME = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

Kind = Literal["file", "folder", "link"]


def escaped(name: str | bytes) -> str:
    """Write a name so that a message may hold it: one line, printable, not too long."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    shown = "".join(
        char
        if char.isprintable() and not "\ud800" <= char <= "\udfff"
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text[:_SHOWN]
    )
    return f"{shown}…" if len(text) > _SHOWN else shown


def unsafe(archive: str, member: str | bytes | None, cause: str, **data: object) -> IntegrityError:
    """Make the error that refuses an archive, for the member of that name or as a whole."""
    shown = None if member is None else escaped(member)
    thing = archive if shown is None else f"{archive}: {shown}"
    return IntegrityError(
        thing,
        cause,
        "It is not used. Use another version, and tell whoever publishes it.",
        archive=archive,
        member=shown,
        **data,
    )


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


def check_script_name(archive: str, name: str, package: str) -> None:
    """Refuse the name of a command which is no plain file name, or is one that everything else relies on.

    `package` is the normalised name of the distribution that brings it.
    """
    if not _SCRIPT_NAME.fullmatch(name):
        raise unsafe(archive, name, "is not a name for a command")
    if _RESERVED_COMMAND.fullmatch(name.lower()) or (_PIP_COMMAND.fullmatch(name.lower()) and package != "pip"):
        raise unsafe(archive, name, "is a command's name that no other package may take")


def check_entry_point(archive: str, name: str, value: str, package: str) -> None:
    """Refuse an entry point that is anything else than a command's name and `module:attribute`."""
    check_script_name(archive, name, package)
    if not is_target(value):
        raise unsafe(archive, name, f"is an entry point with the value {escaped(value)!r}, not module:attribute")
