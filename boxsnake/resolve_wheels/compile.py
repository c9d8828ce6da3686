"""`uv pip compile`: the one module that knows how it is called and what it answers."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from boxsnake import child
from boxsnake.errors import ResourceError, UnsolvableError
from boxsnake.target import DEFAULT_GLIBC
from boxsnake.urls import without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from boxsnake.resolve_wheels.index import Index
    from boxsnake.target import Target

DEADLINE = 900.0
"""Seconds for one run of the resolver."""

KNOWN_GLIBC = (17, 28, *range(31, 41))
"""The minor versions of glibc 2 that uv has a platform for."""

_OSX = {"osx-64": "10.15", "osx-arm64": "11.0"}

_ANNOTATED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:==(?P<version>\S+)| @ \S+)(?:\s+# via (?P<via>.*))?")
_FROM = re.compile(r"\s+# from (?P<index>\S+)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where uv runs, for whom, and with what: all that stays the same from one attempt to the next."""

    folder: Path
    cache: Path
    target: Target
    python: str
    index: Index
    offline: bool = False
    refresh: tuple[str, ...] | None = ()
    """Names whose entries in the cache are asked for again; None: all."""
    deadline: float = DEADLINE


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One set of requirements, as lines of requirement files."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    stubs: Path | None = None
    """A folder of wheels that are offered besides the index's."""
    from_source: frozenset[str] = frozenset()
    """Names that are taken as sdists; all others must be wheels. ":all:" for all names."""
    alone: bool = False
    """Leave out what they require in turn."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One wheel or sdist that the answer names."""

    name: str
    url: str
    sha256: str | None
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """One distribution of the answer: its wheels for the target, or its sdist, or neither where it came by URL."""

    name: str
    version: str
    wheels: tuple[File, ...] = ()
    sdist: File | None = None
    is_direct: bool = False


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why there is no answer, in uv's words, and whether it is for want of a solution or for other trouble."""

    text: str
    is_unsolvable: bool


def compile_wheels(place: Place, asked: Asked, preferred: str | None) -> tuple[Found, ...] | Refusal:
    """The closure of the requirements; `preferred` is a pylock text whose versions are kept where they still fit."""
    out = place.folder / "pylock.toml"
    out.unlink(missing_ok=True)
    if preferred is not None:
        out.write_text(preferred, encoding="utf-8")
    options = ["--format", "pylock.toml", "--generate-hashes", "--output-file", str(out), *_refresh(place)]
    finished = _run(place, asked, [*options, *(["--offline"] if place.offline else [])])
    if finished.code != 0:
        return _refusal(finished, place)
    document = tomllib.loads(out.read_text(encoding="utf-8"))
    return tuple(_found(package) for package in document.get("packages", ()))


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Who requires whom, and which index served whom: by normalised names."""

    required_by: dict[str, tuple[str, ...]]
    index: dict[str, str]

    def requires(self, name: str) -> tuple[str, ...]:
        """What the distribution requires, sorted."""
        return tuple(sorted(other for other, by in self.required_by.items() if name in by))


def edges(place: Place, asked: Asked, found: tuple[Found, ...]) -> Edges:
    """The edges of an answer. They are asked for from uv's cache, which holds all that it has just looked at."""
    out = place.folder / "annotated.txt"
    pinned = "\n".join(f"{package.name}=={package.version}" for package in found if not package.is_direct)
    options = ["--no-header", "--annotation-style", "line", "--emit-index-annotation", "--output-file", str(out)]
    out.write_text(pinned, encoding="utf-8")
    finished = _run(place, asked, [*options, "--offline"])
    if finished.code != 0:
        # Another process may have cleaned the cache meanwhile.
        out.write_text(pinned, encoding="utf-8")
        finished = _run(place, asked, options)
    if finished.code != 0:
        raise ResourceError("uv", f"does not repeat its own answer\n{finished.last_lines}", "Lock again.")
    return _parse_edges(out.read_text(encoding="utf-8"))


def platform_of(target: Target) -> str:
    """The target's platform as uv names it; of glibc the highest that uv knows and the target has.

    Errors: UnsolvableError where uv knows none so old.
    """
    if not target.is_linux:
        return target.uv_platform
    glibc = int((target.glibc or DEFAULT_GLIBC).partition(".")[2])
    known = max((minor for minor in KNOWN_GLIBC if minor <= glibc), default=None)
    if known is None:
        step = f"Set targets.{target.name}.glibc to at least 2.{KNOWN_GLIBC[0]}."
        raise UnsolvableError(f"target {target.name}", f"no wheels are resolved for glibc {target.glibc}", step)
    return f"{target.machine}-manylinux_2_{known}"


def _run(place: Place, asked: Asked, options: list[str]) -> child.Finished:
    folder = place.folder
    argv = [child.uv_program(), "pip", "compile", "--color=never", "--no-progress", "--no-config", "--no-sources"]
    argv += ["--python", sys.executable, "--python-version", place.python, "--no-python-downloads"]
    argv += ["--python-platform", platform_of(place.target), "--index-strategy", "first-index", *place.index.options]
    argv += _sources(asked)
    for kind, lines in (("constraints", asked.constraints), ("overrides", asked.overrides)):
        if lines:
            (folder / f"{kind}.txt").write_text("\n".join(lines), encoding="utf-8")
            argv += [f"--{kind}", f"{kind}.txt"]
    (folder / "requirements.in").write_text("\n".join(asked.requirements), encoding="utf-8")
    more_links = [] if asked.stubs is None else [asked.stubs.as_uri()]
    environment = child.environment(
        folder,
        UV_CACHE_DIR=str(place.cache),
        NETRC=os.environ.get("NETRC") or os.path.expanduser("~/.netrc"),  # noqa: PTH111 - no home is no error
        MACOSX_DEPLOYMENT_TARGET=_OSX.get(place.target.platform, "11.0"),
        **place.index.variables(*more_links),
    )
    return child.run([*argv, *options, "requirements.in"], cwd=folder, env=environment, deadline=place.deadline)


def _sources(asked: Asked) -> list[str]:
    alone = ["--no-deps"] if asked.alone else []
    if ":all:" in asked.from_source:
        return [*alone, "--no-binary", ":all:"]
    return [*alone, "--only-binary", ":all:", *(f"--no-binary={name}" for name in sorted(asked.from_source))]


def _refresh(place: Place) -> list[str]:
    if place.refresh is None:
        return ["--refresh"]
    return [f"--refresh-package={name}" for name in place.refresh]


def _refusal(finished: child.Finished, place: Place) -> Refusal:
    if finished.code is None:
        return Refusal(text=f"the index did not answer: uv {finished.why(place.deadline)}", is_unsolvable=False)
    is_unsolvable = finished.code == 1 and "No solution found" in finished.output
    return Refusal(text=finished.output.strip(), is_unsolvable=is_unsolvable)


def _found(package: dict[str, Any]) -> Found:
    sdist = package.get("sdist")
    return Found(
        name=canonicalize_name(package["name"]),
        version=str(package.get("version", "")),
        wheels=tuple(_file(wheel) for wheel in package.get("wheels", ())),
        sdist=None if sdist is None else _file(sdist),
        is_direct="archive" in package or "directory" in package or "vcs" in package,
    )


def _file(values: dict[str, Any]) -> File:
    url = without_credentials(values.get("url") or values.get("path", ""))
    name = values.get("name") or unquote(urlsplit(url).path).rpartition("/")[2]
    return File(name=name, url=url, sha256=values.get("hashes", {}).get("sha256"), size=values.get("size"))


def _parse_edges(text: str) -> Edges:
    required_by: dict[str, tuple[str, ...]] = {}
    index: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if (match := _ANNOTATED.fullmatch(line)) is not None:
            name = canonicalize_name(match["name"])
            via = (part.strip() for part in (match["via"] or "").split(","))
            required_by[name] = tuple(canonicalize_name(part) for part in via if part and not part.startswith("-"))
        elif (match := _FROM.fullmatch(line)) is not None:
            index[name] = without_credentials(match["index"])
    return Edges(required_by=required_by, index=index)
