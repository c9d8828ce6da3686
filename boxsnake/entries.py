"""Entries: the paths of a staged tree, each with its owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EntryKind = Literal["file", "link", "folder"]

APPLICATION = "application"
"""The owner of what comes from the application itself and not from its requirements."""


@dataclass(frozen=True, kw_only=True, order=True)
class Entry:
    """One path of a tree.

    `path` is relative to the prefix, in POSIX form. `owner` is "conda:<name>", "wheel:<name>" or APPLICATION.
    `mode` holds permission bits only (0o755, 0o644); `target` is a link's text; `size` and `sha256` (bare hex) are
    those of a file's content.
    """

    path: str
    kind: EntryKind
    mode: int
    owner: str
    size: int = 0
    sha256: str = ""
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A staged tree: its files lie under `root`, and are linked for being placed at `prefix`."""

    root: Path
    prefix: str
    entries: tuple[Entry, ...]
    """Sorted by path; every parent folder of an entry is an entry too."""

    def owned_by(self, owners: Iterable[str]) -> tuple[Entry, ...]:
        """The entries of these owners, in order."""
        wanted = frozenset(owners)
        return tuple(entry for entry in self.entries if entry.owner in wanted)
