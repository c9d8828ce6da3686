"""What is found in a box, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from boxsnake.names import normal
from boxsnake.value import dataclass

Kind = Literal["conda", "python", "deb", "rpm"]


@dataclass(frozen=True, kw_only=True, order=True)
class Package:
    """One package in a box. `size` is that of its files in bytes, None where nothing tells which they are."""

    kind: Kind
    name: str
    version: str
    size: int | None = None


@dataclass(frozen=True, kw_only=True, order=True)
class EntryPoint:
    """A console script, and the distribution that brings it."""

    name: str
    value: str
    package: str


@dataclass(frozen=True, kw_only=True)
class File:
    """A file, or a symbolic link (`link` is its text). `sha256` is "" where nobody asked for it."""

    size: int
    sha256: str = ""
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A layer, or another piece of a box by itself. `size` is in bytes as it travels."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one package has in one part of a box: the bytes of its files there, unpacked.

    `kind` and `name` are "" for the files that no package names, `part` is "" for the box as a whole.
    """

    part: str
    kind: str
    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A box, looked into. Texts are as the box has them and may hold anything; "" is what it does not tell."""

    artifact: str
    format: str
    name: str = ""
    version: str = ""
    size: int | None = None
    """Of the artifact itself, in bytes; None for a folder."""
    digest: str = ""
    """"sha256:<hex>" of the artifact; "" for a folder."""
    platform: str = ""
    python: str = ""
    """The interpreter's version, or which ones it takes (">=3.9")."""
    base: str = ""
    starts: tuple[str, ...] = ()
    """The command that starting the box runs."""
    packages: tuple[Package, ...] = ()
    """Sorted."""
    entry_points: tuple[EntryPoint, ...] = ()
    files: Mapping[str, File] = field(default_factory=dict)
    """By path, relative to the box's root; a wheel within it is a folder."""
    prefix: str = ""
    """The folder of its environment among these, "" for the root or where it has none."""
    placed: frozenset[str] = frozenset()
    """The files of the environment that hold the environment's own path."""
    parts: tuple[Part, ...] = ()
    shares: tuple[Share, ...] = ()
    """Every file of the box is in one of them."""
    requires: tuple[str, ...] = ()
    """What it asks of its host's package manager."""
    notes: tuple[str, ...] = ()

    @property
    def installed_size(self) -> int:
        """The sum of its files, in bytes."""
        return sum(file.size for file in self.files.values())

    @property
    def own_entry_points(self) -> tuple[EntryPoint, ...]:
        """Those of the application, where it has a name and some; else all."""
        own = tuple(one for one in self.entry_points if normal(one.package) == normal(self.name))
        return own or self.entry_points
