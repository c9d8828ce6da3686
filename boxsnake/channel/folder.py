"""A channel's folder: noarch/, linux-64/ and their repodata.json, as every conda client reads it.

A private subfolder records what was built from what, so that nothing is built twice and packages are replaced by their
successors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from boxsnake.channel import archives, process
from boxsnake.channel.fetched import sha256_of
from boxsnake.disk import publish_file, remove_tree
from boxsnake.errors import ResourceError
from boxsnake.value import dataclass

PRIVATE = ".boxsnake"
NOARCH = "noarch"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package of a channel."""

    name: str
    version: str
    build: str
    subdir: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a recipe that was built: its folder, digests of it and of its sources, and what it made."""

    folder: str
    recipe: str
    sources: str
    packages: tuple[Package, ...]


class ChannelFolder:
    """A channel's folder, held by one process at a time."""

    def __init__(self, folder: Path, *, platform: str) -> None:
        self.folder = folder
        self.private = folder / PRIVATE
        self._platform = platform
        self.scratch = self.private / "scratch"
        self._parts = self.private / "parts"
        self._clear()  # what an earlier process left behind
        self.scratch.mkdir(parents=True)
        self._parts.mkdir()
        self._state = self.private / "state.json"
        self._records, self._indexed = _read_state(self._state)

    def _clear(self) -> None:
        for place in (self.scratch, self._parts):
            if place.exists():
                remove_tree(place)

    def close(self, cache: Path) -> None:
        """Index what changed, and leave nothing behind but the packages and the record of them."""
        try:
            self.index(cache)
        finally:
            self._clear()

    def record(self, name: str) -> Record | None:
        """What is known of a recipe, if its packages still are what they were."""
        record = self._records.get(self._key(name))
        return record if record and all(self._is_whole(package) for package in record.packages) else None

    def _key(self, recipe: str) -> str:
        return f"{self._platform}/{recipe}"

    def _is_whole(self, package: Package) -> bool:
        try:
            return sha256_of(self.folder / package.subdir / package.file) == package.sha256
        except OSError:
            return False

    def part(self, file: str) -> Path:
        """Where a package may be written before it is published."""
        return self._parts / file

    def publish(self, name: str, *, folder: Path, recipe: str, sources: str, parts: Sequence[Path]) -> Record:
        """Put a recipe's packages, written as `part`s, in the channel, and take out those that they replace."""
        packages = tuple(_describe(part) for part in parts)
        before = self._records.get(self._key(name))
        # Known before they are there: who is killed from here on leaves no package that would never be replaced.
        known = packages + (before.packages if before else ())
        self._records[self._key(name)] = Record(folder=str(folder), recipe="", sources="", packages=known)
        self._save()
        for part, package in zip(parts, packages, strict=True):
            target = self.folder / package.subdir / package.file
            target.parent.mkdir(exist_ok=True)
            part.chmod(0o644)
            publish_file(part, target)
        record = Record(folder=str(folder), recipe=recipe, sources=sources, packages=packages)
        self._records[self._key(name)] = record
        self._save()
        self._remove(before)
        return record

    def forget_removed(self, names: Collection[str]) -> None:
        """Take out what was built from folders that are gone, unless a recipe of that name is among `names`."""
        for key, record in list(self._records.items()):
            if key.partition("/")[2] not in names and not Path(record.folder).is_dir():
                del self._records[key]
                self._save()
                self._remove(record)

    def _remove(self, record: Record | None) -> None:
        """Remove the packages of a record that no other one has."""
        kept = {(package.subdir, package.file) for other in self._records.values() for package in other.packages}
        for package in record.packages if record else ():
            if (package.subdir, package.file) not in kept:
                (self.folder / package.subdir / package.file).unlink(missing_ok=True)

    def index(self, cache: Path) -> None:
        """Index the packages, unless they are those that were indexed last."""
        listing = self._listing()
        subdirs = [self.folder / name for name in (NOARCH, self._platform)]
        if listing == self._indexed and all((subdir / "repodata.json").is_file() for subdir in subdirs):
            return
        for subdir in subdirs:
            subdir.mkdir(exist_ok=True)
        log = cache / "logs" / "index.log"
        request = {"channel": str(self.folder)}
        process.ask("index", request, thing=str(self.folder), place=self._parts, cache=cache, log=log)
        with suppress(OSError):
            (self.folder / ".tmp").rmdir()  # the indexer's, and empty
        self._indexed = listing
        self._save()

    def _listing(self) -> str:
        files = sorted(path for pattern in ("*/*.conda", "*/*.tar.bz2") for path in self.folder.glob(pattern))
        rows = [[str(path.relative_to(self.folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def _save(self) -> None:
        records = {name: asdict(record) for name, record in self._records.items()}
        state = {"records": records, "indexed": self._indexed}
        part = self.part(self._state.name)
        part.write_text(json.dumps(state, indent=1, sort_keys=True))
        publish_file(part, self._state)


def _read_state(path: Path) -> tuple[dict[str, Record], str]:
    """The records, and what was indexed. What cannot be read is as if it had never been built."""
    try:
        state: dict[str, Any] = json.loads(path.read_text())
        records = {
            name: Record(**{**row, "packages": tuple(Package(**package) for package in row["packages"])})
            for name, row in state["records"].items()
        }
        return records, state["indexed"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, ""


def _describe(part: Path) -> Package:
    about = archives.index_of(part)
    return Package(
        name=about["name"],
        version=about["version"],
        build=about["build"],
        subdir=about["subdir"],
        file=part.name,
        size=part.stat().st_size,
        sha256=sha256_of(part),
    )


def packages_of(channel: Path) -> tuple[Package, ...]:
    """The packages of a channel's index, by name. Errors: ResourceError where the folder is no channel."""
    indexes = sorted(channel.glob("*/repodata.json"))
    if not indexes:
        cause = "none of its subfolders has a repodata.json"
        raise ResourceError(str(channel), cause, "Name another folder, or build it: `boxsnake channel build`.")
    found = [
        Package(
            name=row["name"],
            version=row["version"],
            build=row["build"],
            subdir=path.parent.name,
            file=file,
            size=row.get("size", 0),
            sha256=row.get("sha256", ""),
        )
        for path in indexes
        for rows in [json.loads(path.read_text())]
        for file, row in {**rows.get("packages", {}), **rows.get("packages.conda", {})}.items()
    ]
    return tuple(sorted(found, key=lambda package: (package.name, package.subdir, package.file)))
