"""Entries: the paths of a staged tree, each with its owner."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from boxsnake.value import dataclass

EntryKind = Literal["file", "link", "folder"]

PatchKind = Literal["text", "binary", "script", "record"]
"""How a file is placed: the placeholder is replaced as it stands, in strings that end with NUL, also in an interpreter
line, which must stay readable; or the file lists digests of placed files."""

APPLICATION = "application"
"""The owner of what comes from the application itself and not from its requirements."""

NOBODY = ""
"""The owner of folders: whoever puts something into one makes it, always with the same mode and time."""


def conda_owner(name: str) -> str:
    """The owner of the entries of a conda package."""
    return f"conda:{name}"


def wheel_owner(name: str) -> str:
    """The owner of the entries of a wheel, by its normalised name."""
    return f"wheel:{name}"


class Entry(NamedTuple):
    """One path of a tree.

    `path` is relative to the prefix, in POSIX form. `owner` is "conda:<name>", "wheel:<name>", APPLICATION, or NOBODY
    for a folder; `also` are others whose packages bring the very same file. `mode` holds permission bits only (0o755,
    0o644); `target` is a link's text; `size` and `sha256` (bare hex) are those of a file's content.
    """

    path: str
    kind: EntryKind
    mode: int
    owner: str
    size: int = 0
    sha256: str = ""
    target: str = ""
    also: tuple[str, ...] = ()

    @property
    def owners(self) -> tuple[str, ...]:
        """All who bring it, sorted."""
        return (self.owner, *self.also)


class Known(NamedTuple):
    """What is known of a file without reading it: its size and the SHA-256 of its content."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A file of a relocatable tree that depends on its prefix, by its path; see `boxsnake.relocation`."""

    path: str
    kind: PatchKind


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A staged tree: its files lie under `root`, and are linked for being placed at `prefix`.

    Where it is relocatable, `prefix` is a placeholder, and `patches` are the files that hold it, in the order in which
    they must be placed: first those whose digests others list.
    """

    root: Path
    prefix: str
    entries: tuple[Entry, ...]
    """Sorted by path; every parent folder of an entry is an entry too."""
    notes: tuple[str, ...] = ()
    """What the user should know about it, such as that nothing could be compiled to bytecode."""
    patches: tuple[Patch, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()
    """Those of the notes that are about one owner's package: (owner, note)."""
    trimmed: tuple[tuple[str, str, int], ...] = ()
    """What was left out: (owner, the rule that named it, bytes)."""
    gone: tuple[tuple[str, str], ...] = ()
    """Files that packages brought and that are not in it, whoever left them out: (owner, path)."""

    def owned_by(self, owners: Iterable[str]) -> tuple[Entry, ...]:
        """The files and links of these owners, in order."""
        wanted = frozenset(owners)
        return tuple(entry for entry in self.entries if not wanted.isdisjoint(entry.owners))
