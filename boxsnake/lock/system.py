"""Packages of the base image's own distribution, as a lock holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from boxsnake.lock.reader import SHA256, by_name
from boxsnake.pattern import pattern
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock.reader import Table

SystemKind = Literal["deb", "rpm"]

_WORD = pattern(r"[A-Za-z0-9][A-Za-z0-9.+~:_^-]*")
_PATH = pattern(r"(?!\.\.?/)[^/\s?#]+(/(?!\.\.?(/|$))[^/\s?#]+)*")
_ARCHIVE = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_URL = pattern(r"(https?|file)://[^\s?#]+")


@dataclass(frozen=True, kw_only=True)
class SystemPackage:
    """One package of a distribution. `sha256` is bare hex."""

    name: str
    version: str
    architecture: str
    archive: str
    """The archive's name, such as "debian" or "debian-security": where it is to be had differs between machines."""
    path: str
    """Where it lies, relative to the archive's root."""
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class SystemLock:
    """What is put on a base image by its own package manager, or made into one."""

    kind: SystemKind
    base: str
    """The base that it was resolved for, as the manifest names it."""
    suite: str
    """The distribution's release, such as "bookworm"."""
    packages: tuple[SystemPackage, ...]
    """In the order of their names: all that the base does not have yet."""
    archives: tuple[tuple[str, str], ...] = ()
    """Archives by their names, and the URLs that the base itself has for them. Sorted."""


def system_document(system: SystemLock) -> dict[str, Any]:
    """The value as the lock file's TOML holds it."""
    values: dict[str, Any] = {"kind": system.kind, "base": system.base, "suite": system.suite}
    if system.archives:
        values["archives"] = dict(sorted(system.archives))
    values["packages"] = [
        {
            "name": package.name,
            "version": package.version,
            "architecture": package.architecture,
            "archive": package.archive,
            "path": package.path,
            "sha256": package.sha256,
            "size": package.size,
        }
        for package in sorted(system.packages, key=lambda package: package.name)
    ]
    return values


def system_of(table: Table | None) -> SystemLock | None:
    """The value that a lock file's table holds. Errors: LockError."""
    if table is None:
        return None
    archives = table.table_or_none("archives")
    names = () if archives is None else sorted(archives.values)
    return SystemLock(
        kind=table.choice("kind", SystemKind),
        base=table.text("base"),
        suite=table.text("suite"),
        packages=tuple(_package(package) for package in table.tables("packages", by_name)),
        archives=tuple((name, archives.text(name, _URL)) for name in names) if archives else (),
    )


def _package(table: Table) -> SystemPackage:
    return SystemPackage(
        name=table.text("name", _WORD),
        version=table.text("version", _WORD),
        architecture=table.text("architecture", _WORD),
        archive=table.text("archive", _ARCHIVE),
        path=table.text("path", _PATH),
        sha256=table.text("sha256", SHA256),
        size=table.number("size"),
    )
