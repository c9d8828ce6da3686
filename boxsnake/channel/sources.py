"""What recipes declare as their sources: fetched once, checked, and kept by what was asked for."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from boxsnake.channel import apt, pip
from boxsnake.channel.fetched import Fetched, sha256_of
from boxsnake.channel.recipes import Sources
from boxsnake.disk import publish_tree
from boxsnake.value import dataclass

FILES, MANIFEST = "files", "fetched.json"


@dataclass(frozen=True, kw_only=True)
class SourceSet:
    """What was fetched for one recipe: files below `folder`, in the order in which the recipe names them."""

    folder: Path
    fetched: tuple[Fetched, ...]

    @property
    def digest(self) -> str:
        """The same for the same content."""
        return hashlib.sha256(json.dumps([asdict(each) for each in self.fetched]).encode()).hexdigest()

    def path(self, fetched: Fetched) -> Path:
        """Where a file lies."""
        return self.folder / FILES / fetched.file


def fetch(wanted: Mapping[str, Sources], cache: Path, *, platform: str, refresh: bool = False) -> dict[str, SourceSet]:
    """The sources of recipes, by the recipe's name: those that the cache lacks are fetched, or all with `refresh`.

    Errors: ResourceError where there is no apt or it knows no archive of Debian's, NetworkError for what could not be
    fetched, IntegrityError for a file that is not what its index says.
    """
    places = {name: cache / "sources" / _key(sources, platform) for name, sources in wanted.items()}
    sets = {} if refresh else {name: held for name, place in places.items() if (held := _read(place)) is not None}
    missing = {name: wanted[name] for name in wanted if name not in sets}
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
            found = _fetch_all(missing.values(), cache, Path(scratch), platform)
            for name, sources in missing.items():
                sets[name] = _keep(places[name], [found[want] for want in _wants(sources)], Path(scratch) / f"={name}")
    return sets


@dataclass(frozen=True, kw_only=True)
class _Want:
    kind: str
    """`debian`, `debian-source` or `pip`."""
    where: str
    """Debian's suite, or the version of Python."""
    name: str
    """The package, or the requirement."""


def _wants(sources: Sources) -> list[_Want]:
    wants = [_Want(kind="debian", where=sources.suite, name=name) for name in sources.debian]
    if sources.debian_source:
        wants.append(_Want(kind="debian-source", where=sources.suite, name=sources.debian_source))
    return wants + [_Want(kind="pip", where=sources.python, name=name) for name in sources.pip]


def _key(sources: Sources, platform: str) -> str:
    return hashlib.sha256(json.dumps([platform, asdict(sources)], sort_keys=True).encode()).hexdigest()[:32]


def _read(place: Path) -> SourceSet | None:
    try:
        rows = json.loads((place / MANIFEST).read_text())
        held = SourceSet(folder=place, fetched=tuple(Fetched(**row) for row in rows))
        return held if all(sha256_of(held.path(each)) == each.sha256 for each in held.fetched) else None
    except (OSError, ValueError, TypeError):
        return None


def _keep(place: Path, found: Sequence[tuple[Fetched, Path]], scratch: Path) -> SourceSet:
    (scratch / FILES).mkdir(parents=True)
    for fetched, path in found:
        os.link(path, scratch / FILES / fetched.file)
    (scratch / MANIFEST).write_text(json.dumps([asdict(fetched) for fetched, _ in found], indent=1))
    place.parent.mkdir(parents=True, exist_ok=True)
    publish_tree(scratch, place)
    return SourceSet(folder=place, fetched=tuple(fetched for fetched, _ in found))


def _fetch_all(
    wanted: Iterable[Sources], cache: Path, scratch: Path, platform: str
) -> dict[_Want, tuple[Fetched, Path]]:
    """Fetches everything, with one call of a client for all that is wanted of one place."""
    groups: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for sources in wanted:
        for want in _wants(sources):
            groups[want.kind, want.where][want.name] = None
    found: dict[_Want, tuple[Fetched, Path]] = {}
    archives: dict[str, apt.Archive] = {}
    for number, ((kind, where), names) in enumerate(groups.items()):
        folder = scratch / str(number)
        folder.mkdir()
        if kind != "pip" and where not in archives:
            with_sources = ("debian-source", where) in groups
            archives[where] = apt.opened(where, cache / "apt", platform, with_sources=with_sources)
        if kind == "pip":
            results = pip.wheels(list(names), where, platform, folder)
        elif kind == "debian":
            results = archives[where].binaries(list(names), folder)
        else:
            results = archives[where].pristine_archives(list(names), folder)
        found |= {_Want(kind=kind, where=where, name=name): result for name, result in results.items()}
    return found
