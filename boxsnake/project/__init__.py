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
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake import child
from boxsnake.canonical import canonical_json
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import Fault, ManifestError, NetworkError, PackError
from boxsnake.lock import Origin, Wheel
from boxsnake.project import edited
from boxsnake.project.backend import built_in_kept
from boxsnake.project.pinned_source import SOURCE_EPOCH, Pinned, bring, pin
from boxsnake.project.source import Source, parse_source, source_of
from boxsnake.project.wheel_archive import (
    WheelMetadata,
    is_portable,
    read_metadata,
    rewrite,
)
from boxsnake.remembered import remembered
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.credentials import Credentials
    from boxsnake.store import Store

__all__ = [
    "BuiltWheel",
    "ProjectMetadata",
    "Source",
    "build_wheel",
    "metadata",
    "parse_source",
    "source_of",
]


_FORMAT = 2
"""Of what is remembered of a build; raised when the same source would give other bytes."""
_NO_NETWORK = (
    "failed to fetch",
    "error sending request",
    "could not connect",
    "dns error",
    "connection refused",
    "network was disabled",
)


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
    offline: bool = False,
) -> ProjectMetadata:
    """A project's metadata: from its `pyproject.toml` where nothing needed is dynamic, else from its built wheel.

    `python`, `environment`, `credentials` and `offline` are those of `build_wheel`, as are the errors; ManifestError
    for a `pyproject.toml` that cannot be read and for an extra that the project has not got.
    """
    wanted = sorted(set(extras))
    if source.kind == "folder":
        found = _static(store, source, wanted)
        if found is not None:
            return found
    built = build_wheel(store, source, python=python, environment=environment, credentials=credentials, offline=offline)
    told = {"wheel": built.sha256, "shown": source.shown, "extras": wanted}
    return remembered(store, "project-metadata", told, lambda: _chosen(built, source, wanted))


def _static(store: Store, source: Source, extras: Sequence[str]) -> ProjectMetadata | None:
    """The metadata of a folder whose pyproject.toml says all of it, else None."""
    path = Path(source.location, source.subdirectory or "", "pyproject.toml")
    with disk_faults(path):
        if not path.is_file():
            return None
        pyproject = path.read_bytes()

    def made() -> ProjectMetadata | None:
        from boxsnake.project.static_metadata import static_metadata

        known = static_metadata(pyproject, posixpath.join(source.shown, path.name))
        return _chosen(known, source, extras) if known else None

    told = {"pyproject": hashlib.sha256(pyproject).hexdigest(), "shown": source.shown, "extras": list(extras)}
    return remembered(store, "project-metadata", told, made)


def _chosen(known: WheelMetadata, source: Source, extras: Sequence[str]) -> ProjectMetadata:
    """The metadata with the requirements that hold for these extras. Errors: ManifestError for an unknown one."""
    from packaging.utils import canonicalize_name

    from boxsnake.project.extras import requirements_with

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


# Wheels


def build_wheel(
    store: Store,
    source: Source,
    *,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    credentials: Credentials | None = None,
    without: Sequence[Path] = (),
    offline: bool = False,
    deadline: float = 1800.0,
    meanwhile: Callable[[], None] | None = None,
) -> BuiltWheel:
    """The wheel of a source; built only where the store has not got the one of this very content.

    `python` is the interpreter that runs the build: a path, a version ("3.11") that is looked for on this machine,
    or None for the running one. A version that is not on this machine is no error as long as the wheel that the
    running interpreter makes fits every Python. `environment` is added to the build's own, which holds nothing of the
    caller's but its PATH, proxies and certificates: it is where the index is named (UV_DEFAULT_INDEX, UV_INDEX …).
    `credentials` are for archives behind a URL. `without` are paths in a source folder that are no part of the
    project, such as the folder for the artifacts. With `offline` no server is asked, and build requirements come
    from those that earlier builds have fetched. `deadline` is in seconds. `meanwhile` is called in a
    thread of its own where there is a new wheel.

    Raises PackError where the project does not build, NetworkError where it or its build requirements cannot be
    fetched, ResourceError where a tool is missing, IntegrityError where an archive is not what it should be.
    """
    means = _Means(
        python=python,
        environment=environment or {},
        credentials=credentials,
        offline=offline,
        deadline=deadline,
        meanwhile=meanwhile,
    )
    if source.kind == "wheel":
        return _taken(store, source, means)
    pinned = pin(store, source, without=without, credentials=credentials, offline=offline)
    key = {"format": _FORMAT, "python": _identity(store, python), **pinned.key}
    built = _remembered(store, key, pinned.origin)
    if built is None:
        _begin(means)
        name = hashlib.sha256(canonical_json(key)).hexdigest()
        with store.lock(f"build-{name}", wait=deadline):
            built = _remembered(store, key, pinned.origin)
            if built is None:
                built = _edited(store, pinned, means) or _build(store, pinned, means)
                store.select("built-wheel", key, _facts(built))
    return built


@dataclass(frozen=True, kw_only=True)
class _Means:
    """How a wheel is come by: the arguments of `build_wheel` of these names."""

    python: str | None
    environment: Mapping[str, str] = field(repr=False)
    credentials: Credentials | None
    offline: bool
    deadline: float
    meanwhile: Callable[[], None] | None


def _taken(store: Store, source: Source, means: _Means) -> BuiltWheel:
    """A wheel as it is, once it has passed the check that every wheel has to."""
    digest, size = bring(store, source, "wheel", credentials=means.credentials, offline=means.offline)
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
    from boxsnake.ingest import wheel as ingest_wheel

    ingest_wheel.agree(ingest_wheel.wheel_facts(store, digest.removeprefix("sha256:")), file_name)


def _remembered(store: Store, key: Mapping[str, object], origin: Origin) -> BuiltWheel | None:
    known = store.selected("built-wheel", key)
    if known is None or not store.has(f"sha256:{known['sha256']}"):
        return None
    return _known(known, origin)


def _facts(built: BuiltWheel) -> dict[str, Any]:
    """What is remembered of a wheel: all but where its source lies today."""
    return dataclasses.asdict(dataclasses.replace(built, origin=None))


def _known(facts: Mapping[str, Any], origin: Origin) -> BuiltWheel:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()}
    return BuiltWheel(**{**values, "origin": origin})


def _begin(means: _Means) -> None:
    """Begin with what can be done while the wheel is made."""
    if means.meanwhile is not None:
        threading.Thread(target=means.meanwhile, name="meanwhile", daemon=True).start()


def _edited(store: Store, pinned: Pinned, means: _Means) -> BuiltWheel | None:
    """The wheel that the backend would make, out of the last one that it has made."""
    if pinned.tree is None:
        return None
    from boxsnake.ingest import wheel as ingest_wheel

    with store.scratch("edited") as work:
        python = _identity(store, means.python)
        facts = edited.edited(store, pinned.tree, pinned.origin.subdirectory, python, work)
        if facts is None:
            return None
        before = _known(facts, pinned.origin)
        blob = store.put_file(work / before.file_name)
        after = dataclasses.replace(before, sha256=blob.digest.removeprefix("sha256:"), size=blob.size)
        ingest_wheel.passes_as(store, after.sha256, before.sha256, after.size - before.size)
    return after


def _build(store: Store, pinned: Pinned, means: _Means) -> BuiltWheel:
    with store.scratch("build") as work:
        project = pinned.lay_out(work) / (pinned.origin.subdirectory or "")
        made, is_exact = _run_build(store, pinned.origin, project, work, means)
        if not is_exact and not is_portable(made.name):
            raise PackError(
                pinned.origin.url,
                f"its wheel is for one Python alone ({made.name}), and Python {means.python} is not on this machine",
                f"Install Python {means.python}, so that the wheel can be built with it.",
                python=means.python,
                wheel=made.name,
            )
        canonical = work / made.name
        rewrite(made, canonical)
        facts = read_metadata(canonical)
        blob = store.put_file(canonical)
        _check(store, blob.digest, made.name)
    built = BuiltWheel(
        **dataclasses.asdict(facts),
        file_name=made.name,
        sha256=blob.digest.removeprefix("sha256:"),
        size=blob.size,
        origin=pinned.origin,
    )
    if pinned.tree is not None:
        python = _identity(store, means.python)
        edited.remember(store, pinned.tree, pinned.origin.subdirectory, python, _facts(built))
    return built


def _run_build(store: Store, origin: Origin, project: Path, work: Path, means: _Means) -> tuple[Path, bool]:
    """The wheel that the backend makes, and whether the asked-for Python made it."""
    out = work / "wheel"
    # Compilers write the folder that they run in into what they make, unless they are told another.
    flags = f"-ffile-prefix-map={project}=."
    env = child.environment(
        work,
        UV_CACHE_DIR=str(store.cache_folder("uv")),
        NETRC=os.environ.get("NETRC") or os.path.expanduser("~/.netrc"),  # noqa: PTH111 - no home is no error
        SOURCE_DATE_EPOCH=str(SOURCE_EPOCH),
        CFLAGS=flags,
        CXXFLAGS=flags,
        ZERO_AR_DATE="1",
        **means.environment,
    )
    interpreter, is_exact = _interpreter(means.python, work, env)
    if built_in_kept(store, project, interpreter, out, env, offline=means.offline, deadline=means.deadline):
        if (found := _only_wheel(out)) is not None:
            return found, is_exact
        remove_tree(out)
    # uv and not `python -m build`: it builds for any interpreter of this machine, with nothing installed in that.
    argv = [child.uv_program(), "build", "--wheel", "--no-config", "--no-sources", "--no-python-downloads"]
    argv += ["--no-create-gitignore", "--color=never", "--out-dir", str(out), str(project)]
    argv += ["--offline"] if means.offline else []
    done = child.run([*argv, "--python", interpreter], cwd=work, env=env, deadline=means.deadline)
    if (found := _only_wheel(out)) is not None and done.code == 0:
        return found, is_exact
    shown = done.last_lines.replace(str(project), origin.url).replace(str(work), "…")
    if any(sign in done.output.lower() for sign in _NO_NETWORK):
        ways = ("Check the network and the index, then run it again.", "Run the command once without --offline.")
        next_step = ways[means.offline]
        raise NetworkError(origin.url, f"its build requirements cannot be fetched\n{shown}", next_step, output=shown)
    raise PackError(
        origin.url,
        f"its wheel does not build: the build {done.why(means.deadline)}\n{shown}",
        "See the lines above: the project is at fault, or its build wants a compiler or headers that are not here.",
        output=shown,
    )


def _only_wheel(folder: Path) -> Path | None:
    made = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    return made[0] if len(made) == 1 else None


def _interpreter(python: str | None, work: Path, env: Mapping[str, str]) -> tuple[str, bool]:
    """The interpreter that builds, and whether it is the one that was asked for."""
    if python is None or python == _RUNNING:
        return sys.executable, True
    if "/" in python:
        return python, True
    argv = [child.uv_program(), "python", "find", "--no-config", "--no-python-downloads", "--color=never", python]
    done = child.run(argv, cwd=work, env=env, deadline=60.0)
    path = done.output.strip()
    return (path, True) if done.code == 0 and path.startswith("/") else (sys.executable, False)


def _identity(store: Store, python: str | None) -> str:
    """What tells interpreters apart that may build different wheels."""
    if python is None:
        return _RUNNING
    return store.digest_of_file(Path(python).resolve()) if "/" in python else python


_RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
