"""The project: where an application or a requirement comes from when no index serves it, and the wheel built of it.

A source is a folder, a wheel, a sdist, an archive behind a URL or a commit of a git repository. A wheel is built once,
in a copy of the source and an isolated environment (PEP 517), and remembered by the source's content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import posixpath
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from boxsnake import child, git_source, source_tree
from boxsnake.disk import disk_faults
from boxsnake.errors import Fault, ManifestError, NetworkError, PackError
from boxsnake.extras import requirements_with, with_marker
from boxsnake.lock import Origin, OriginKind, Wheel
from boxsnake.source import Source, parse_source, source_of
from boxsnake.store import canonical_json
from boxsnake.wheel_archive import WheelMetadata, homepage, is_portable, read_metadata, rewrite

if TYPE_CHECKING:
    from boxsnake.credentials import Credentials
    from boxsnake.store import Store

__all__ = [
    "BUILD_EPOCH",
    "BuiltWheel",
    "ProjectMetadata",
    "Source",
    "build_wheel",
    "metadata",
    "parse_source",
    "requirements_with",
    "source_of",
]

BUILD_EPOCH = 1577836800
"""2020-01-01T00:00:00Z: the SOURCE_DATE_EPOCH of every build, so that a wheel does not depend on when it is packed."""

_FORMAT = 1
"""Of what is remembered of a build; raised when the same source would give other bytes."""
# Backends that take the version from the repository's history, which is no part of the folder's files.
_READERS_OF_HISTORY = frozenset(
    {"dunamai", "flit-scm", "hatch-vcs", "pbr", "poetry-dynamic-versioning", "setuptools-git-versioning"}
    | {"setuptools-scm", "uv-dynamic-versioning", "vcs-versioning", "versioneer", "versioningit"}
)
_NO_NETWORK = ("failed to fetch", "error sending request", "could not connect", "dns error", "connection refused")


@dataclass(frozen=True, kw_only=True)
class ProjectMetadata(WheelMetadata):
    """What a project says of itself; `requires_dist` holds with the chosen extras, without `extra == …` markers."""


@dataclass(frozen=True, kw_only=True)
class BuiltWheel(WheelMetadata):
    """A wheel in the store: `store.path(built.digest)` has its bytes. `requires_dist` is as in the wheel itself."""

    file_name: str
    sha256: str
    """Bare hex."""
    size: int
    origin: Origin | None
    """What it was built from; None for a wheel that was taken as it is."""
    url: str | None = None
    """Of a wheel that was taken as it is: where it lies."""

    @property
    def digest(self) -> str:
        """The store's name for it."""
        return f"sha256:{self.sha256}"

    def wheel(self, requires: tuple[str, ...] = ()) -> Wheel:
        """The wheel as a lock records it; `requires` are the normalised names that it needs on the target."""
        return Wheel(
            name=self.name,
            version=self.version,
            file_name=self.file_name,
            sha256=self.sha256,
            size=self.size,
            url=self.url,
            origin=self.origin,
            requires=requires,
        )


# Metadata


def metadata(
    store: Store,
    source: Source,
    *,
    extras: Sequence[str] = (),
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    credentials: Credentials | None = None,
) -> ProjectMetadata:
    """A project's metadata: from its `pyproject.toml` where nothing needed is dynamic, else from its built wheel.

    `python`, `environment` and `credentials` are those of `build_wheel`, as are the errors; ManifestError for a
    `pyproject.toml` that cannot be read and for an extra that the project has not got.
    """
    known: WheelMetadata | None = None
    if source.kind == "folder":
        known = _static_metadata(Path(source.location, source.subdirectory or ""), source.shown)
    if known is None:
        known = build_wheel(store, source, python=python, environment=environment, credentials=credentials)
    wanted = frozenset(canonicalize_name(extra) for extra in extras)
    absent = sorted(wanted - set(known.extras))
    if absent:
        has = f"it has {', '.join(known.extras)}" if known.extras else "it has none"
        faults = (
            Fault(source=source.shown, line=0, key=extra, message=f"is no extra of it; {has}") for extra in absent
        )
        raise ManifestError(source.shown, tuple(faults), "Correct the extras that are asked for.")
    values = {name: getattr(known, name) for name in (spec.name for spec in dataclasses.fields(WheelMetadata))}
    values["requires_dist"] = requirements_with(known.requires_dist, known.name, wanted)
    return ProjectMetadata(**values)


def _static_metadata(folder: Path, shown: str) -> WheelMetadata | None:
    """What pyproject.toml says, or None where only the built wheel can tell (the pyproject.toml specification)."""
    path = folder / "pyproject.toml"
    if not path.is_file():
        return None
    name = posixpath.join(shown, "pyproject.toml")
    try:
        with disk_faults(path):
            project = tomllib.loads(path.read_text("utf-8")).get("project", {})
        dynamic = {"version", "dependencies", "optional-dependencies", "requires-python", "scripts", "entry-points"}
        if "version" not in project or dynamic & set(project.get("dynamic", ())):
            return None
        return _of_project_table(project)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError, ValueError) as error:
        fault = Fault(source=name, line=0, key="project", message=f"{type(error).__name__}: {error}")
        raise ManifestError(name, (fault,)) from error


def _of_project_table(project: Mapping[str, Any]) -> WheelMetadata:
    optional = {canonicalize_name(extra): lines for extra, lines in project.get("optional-dependencies", {}).items()}
    requires = [str(Requirement(line)) for line in project.get("dependencies", ())]
    requires += [
        with_marker(Requirement(line), f'extra == "{extra}"') for extra in optional for line in optional[extra]
    ]
    stated = project.get("license", "")
    people = [*project.get("maintainers", ()), *project.get("authors", ())]
    return WheelMetadata(
        name=canonicalize_name(project["name"]),
        version=str(Version(project["version"])),
        requires_dist=tuple(requires),
        requires_python=project.get("requires-python"),
        extras=tuple(optional),
        console_scripts=tuple(sorted(project.get("scripts", {}))),
        summary=project.get("description", ""),
        license=stated if isinstance(stated, str) else stated.get("text", ""),
        homepage=homepage(project.get("urls", {})),
        maintainer=next((_person(person) for person in people), ""),
    )


def _person(person: Mapping[str, str]) -> str:
    name, mail = person.get("name", ""), person.get("email", "")
    return f"{name} <{mail}>" if name and mail else name or mail


# Wheels


def build_wheel(
    store: Store,
    source: Source,
    *,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    credentials: Credentials | None = None,
    without: Sequence[Path] = (),
    deadline: float = 1800.0,
) -> BuiltWheel:
    """The wheel of a source; built only where the store has not got the one of this very content.

    `python` is the interpreter that runs the build: a path, a version ("3.11") that is looked for on this machine,
    or None for the running one. A version that is not on this machine is no error as long as the wheel that the
    running interpreter makes fits every Python. `environment` is added to the build's own, which holds nothing of the
    caller's but its PATH, proxies and certificates: it is where the index is named (UV_DEFAULT_INDEX, UV_INDEX …).
    `credentials` are for archives behind a URL. `without` are paths in a source folder that are no part of the
    project, such as the folder for the artifacts. `deadline` is in seconds.

    Raises PackError where the project does not build, NetworkError where it or its build requirements cannot be
    fetched, ResourceError where a tool is missing, IntegrityError where an archive is not what it should be.
    """
    if source.kind == "wheel":
        return _taken(store, source, credentials)
    pinned = _pin(store, source, credentials, without)
    key = {"format": _FORMAT, "python": _identity(store, python), **pinned.key}
    built = _remembered(store, key, pinned.origin)
    if built is None:
        name = hashlib.sha256(canonical_json(key)).hexdigest()
        with store.lock(f"build-{name}", wait=deadline):
            built = _remembered(store, key, pinned.origin)
            if built is None:
                built = _build(store, pinned, python, environment or {}, deadline)
                store.select("built-wheel", key, dataclasses.asdict(dataclasses.replace(built, origin=None)))
    return built


@dataclass(frozen=True, kw_only=True)
class _Pinned:
    """A source whose content is known: what names it, what it is recorded as, and how its files are laid out.

    `lay_out` takes an empty folder for its work and returns the project's folder in it.
    """

    key: Mapping[str, object]
    origin: Origin
    lay_out: Callable[[Path], Path]


def _pin(store: Store, source: Source, credentials: Credentials | None, without: Sequence[Path]) -> _Pinned:
    if source.kind == "folder":
        return _pin_folder(store, source, without)
    if source.kind == "git":
        return _pin_git(store, source)
    return _pin_archive(store, source, credentials)


def _pin_folder(store: Store, source: Source, without: Sequence[Path]) -> _Pinned:
    folder = Path(source.location)
    files = source_tree.files_of(folder, without=without)
    digest = source_tree.digest_of(store, folder, files)
    history: str | None = None
    if _reads_history(folder / (source.subdirectory or "")):
        with store.scratch("git") as scratch:
            history = git_source.history(folder, scratch)

    def lay_out(work: Path) -> Path:
        copy = work / "source"
        copy.mkdir()
        source_tree.copy(folder, files, copy, BUILD_EPOCH)
        if history is not None:
            git_source.add_history(folder, copy, work)
        return copy

    origin = Origin(kind="folder", url=source.shown, sha256=digest, subdirectory=source.subdirectory)
    key = {"folder": digest, "history": history, "below": source.subdirectory}
    return _Pinned(key=key, origin=origin, lay_out=lay_out)


def _pin_git(store: Store, source: Source) -> _Pinned:
    with store.scratch("git") as scratch:
        commit = git_source.commit_of(
            source.location, source.ref, scratch=scratch, shown=source.shown, credentials=source.credentials
        )

    def lay_out(work: Path) -> Path:
        out = work / "source"
        git_source.check_out(
            source.location, commit, out, scratch=work, shown=source.shown, credentials=source.credentials
        )
        return out

    origin = Origin(kind="git", url=source.shown, commit=commit, subdirectory=source.subdirectory)
    key = {"git": source.shown, "commit": commit, "below": source.subdirectory}
    return _Pinned(key=key, origin=origin, lay_out=lay_out)


def _pin_archive(store: Store, source: Source, credentials: Credentials | None) -> _Pinned:
    digest, size = _brought(store, source, "sdist", credentials)

    def lay_out(work: Path) -> Path:
        return source_tree.unpack(store.path(digest), work / "source", shown=source.shown, epoch=BUILD_EPOCH)

    bare = digest.removeprefix("sha256:")
    # A sdist is laid out as its specification says; of other archives nothing is known but that they are some.
    kind: OriginKind = "archive" if source.is_remote or source.subdirectory else "sdist"
    origin = Origin(kind=kind, url=source.shown, sha256=bare, size=size, subdirectory=source.subdirectory)
    return _Pinned(key={"archive": bare, "below": source.subdirectory}, origin=origin, lay_out=lay_out)


def _reads_history(folder: Path) -> bool:
    """Whether the project's version depends on the repository that it lies in."""
    try:
        document = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        lines = document.get("build-system", {}).get("requires", ())
        names = {canonicalize_name(Requirement(line).name) for line in lines}
        scm = document.get("tool", {}).get("pdm", {}).get("version", {}).get("source") == "scm"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidRequirement, AttributeError, TypeError):
        return False
    return bool(names & _READERS_OF_HISTORY) or scm


def _brought(
    store: Store, source: Source, kind: Literal["wheel", "sdist"], credentials: Credentials | None
) -> tuple[str, int]:
    """An archive's digest and size, with its bytes in the store: a file of this machine, or fetched."""
    if not source.is_remote:
        path = Path(source.location)
        digest = f"sha256:{source.sha256}" if source.sha256 else store.digest_of_file(path)
        if not store.has(digest):
            store.put_file(path, expected=digest)
        return digest, store.path(digest).stat().st_size
    from boxsnake.credentials import Credentials
    from boxsnake.fetch import Wanted, fetch

    if source.credentials is not None:
        parts = urlsplit(source.location)
        own = urlunsplit((parts.scheme, f"{source.credentials}@{parts.netloc}", parts.path, "", ""))
        credentials = Credentials.from_environment(urls=[own])
    if source.sha256 is None:
        return _fetched_unseen(store, source, credentials or Credentials.from_environment())
    wanted = Wanted(name=source.file_name, url=source.location, sha256=source.sha256, size=None, kind=kind)
    path = fetch(store, [wanted], credentials=credentials)[source.sha256]
    return wanted.digest, path.stat().st_size


def _fetched_unseen(store: Store, source: Source, credentials: Credentials) -> tuple[str, int]:
    """Fetch what nobody has said the digest of: it is asked for again each time, until the lock says it."""
    import threading

    from boxsnake.download import Download, Patience, Request, http_client

    patience = Patience()
    request = Request(name=source.file_name, url=source.location, size=None, limit=4 << 30)
    with http_client(1, patience) as client, store.writer(origin=source.shown) as writer:
        Download(
            client,
            request,
            writer,
            credentials=credentials,
            patience=patience,
            stop=threading.Event(),
            advance=lambda _: None,
        ).run()
    return writer.blob.digest, writer.blob.size


def _taken(store: Store, source: Source, credentials: Credentials | None) -> BuiltWheel:
    """A wheel as it is, once it has passed the check that every wheel has to."""
    digest, size = _brought(store, source, "wheel", credentials)
    _check(store, digest, source.file_name)
    facts = read_metadata(store.path(digest), source.file_name)
    url = source.shown if source.is_remote else Path(source.location).as_uri()
    return BuiltWheel(
        **dataclasses.asdict(facts),
        file_name=source.file_name,
        sha256=digest.removeprefix("sha256:"),
        size=size,
        origin=None,
        url=url,
    )


def _check(store: Store, digest: str, file_name: str) -> None:
    from boxsnake import ingest_wheel

    ingest_wheel.agree(ingest_wheel.wheel_facts(store, digest.removeprefix("sha256:")), file_name)


def _remembered(store: Store, key: Mapping[str, object], origin: Origin) -> BuiltWheel | None:
    known = store.selected("built-wheel", key)
    if known is None or not store.has(f"sha256:{known['sha256']}"):
        return None
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
    return BuiltWheel(**{**values, "origin": origin})


def _build(
    store: Store, pinned: _Pinned, python: str | None, environment: Mapping[str, str], deadline: float
) -> BuiltWheel:
    with store.scratch("build") as work:
        project = pinned.lay_out(work) / (pinned.origin.subdirectory or "")
        made, is_exact = _run_build(store, pinned.origin, project, work, python, environment, deadline)
        if not is_exact and not is_portable(made.name):
            raise PackError(
                pinned.origin.url,
                f"its wheel depends on Python's version ({made.name}), and Python {python} is not on this machine",
                f"Install Python {python}, so that the wheel can be built with it.",
                python=python,
                wheel=made.name,
            )
        canonical = work / made.name
        rewrite(made, canonical)
        facts = read_metadata(canonical)
        blob = store.put_file(canonical)
        _check(store, blob.digest, made.name)
    return BuiltWheel(
        **dataclasses.asdict(facts),
        file_name=made.name,
        sha256=blob.digest.removeprefix("sha256:"),
        size=blob.size,
        origin=pinned.origin,
    )


def _run_build(
    store: Store,
    origin: Origin,
    project: Path,
    work: Path,
    python: str | None,
    environment: Mapping[str, str],
    deadline: float,
) -> tuple[Path, bool]:
    """The wheel that the backend makes, and whether the asked-for Python made it."""
    import uv

    out = work / "wheel"
    # Compilers write the folder that they run in into what they make, unless they are told another.
    flags = f"-ffile-prefix-map={project}=."
    env = child.environment(
        work,
        UV_CACHE_DIR=str(store.root / "uv"),
        NETRC=os.environ.get("NETRC") or os.path.expanduser("~/.netrc"),  # noqa: PTH111 - no home is no error
        SOURCE_DATE_EPOCH=str(BUILD_EPOCH),
        CFLAGS=flags,
        CXXFLAGS=flags,
        ZERO_AR_DATE="1",
        **environment,
    )
    interpreter, is_exact = _interpreter(python, work, env)
    # uv and not `python -m build`: it builds for any interpreter of this machine, with nothing installed in that.
    argv = [uv.find_uv_bin(), "build", "--wheel", "--no-config", "--no-sources", "--no-python-downloads"]
    argv += ["--no-create-gitignore", "--color=never", "--python", interpreter, "--out-dir", str(out), str(project)]
    done = child.run(argv, cwd=work, env=env, deadline=deadline)
    made = sorted(out.glob("*.whl")) if out.is_dir() else []
    if done.code == 0 and len(made) == 1:
        return made[0], is_exact
    shown = done.last_lines.replace(str(project), origin.url).replace(str(work), "…")
    if any(sign in done.output.lower() for sign in _NO_NETWORK):
        next_step = "Check the network and the index, then run it again."
        raise NetworkError(origin.url, f"its build requirements cannot be fetched\n{shown}", next_step, output=shown)
    raise PackError(
        origin.url,
        f"its wheel does not build: the build {done.why(deadline)}\n{shown}",
        "Correct the project: `python -m build --wheel` in it fails in the same way.",
        output=shown,
    )


def _interpreter(python: str | None, work: Path, env: Mapping[str, str]) -> tuple[str, bool]:
    """The interpreter that builds, and whether it is the one that was asked for."""
    if python is None or python == _RUNNING:
        return sys.executable, True
    if "/" in python:
        return python, True
    import uv

    argv = [uv.find_uv_bin(), "python", "find", "--no-config", "--no-python-downloads", "--color=never", python]
    done = child.run(argv, cwd=work, env=env, deadline=60.0)
    path = done.output.strip()
    return (path, True) if done.code == 0 and path.startswith("/") else (sys.executable, False)


def _identity(store: Store, python: str | None) -> str:
    """What tells interpreters apart that may build different wheels."""
    if python is None:
        return _RUNNING
    return store.digest_of_file(Path(python).resolve()) if "/" in python else python


_RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
