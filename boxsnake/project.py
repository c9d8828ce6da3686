"""The project: where an application or a requirement comes from when no index serves it, and the wheel built of it.

A source is a folder, a wheel, a sdist, an archive behind a URL or a commit of a git repository. A wheel is built once,
in a copy of the source and an isolated environment (PEP 517), and remembered by the source's content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from boxsnake.lock import Origin, Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxsnake.store import Store

SourceKind = Literal["folder", "wheel", "sdist", "git"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A place that a wheel can be had from.

    `location` is an absolute path, or a URL without credentials (of "git" always a URL). `shown` is the place as a
    lock and a message may hold it: a path relative to the manifest's folder, a URL without credentials.
    """

    kind: SourceKind
    location: str
    shown: str
    ref: str | None = None
    """Of "git": a branch, tag or commit; None is the repository's default branch."""
    subdirectory: str | None = None
    """The project's folder within the repository or archive."""
    sha256: str | None = None
    """The digest that the text itself promises (`#sha256=…`), bare hex."""
    credentials: str | None = field(default=None, repr=False)
    """`user:password` of the URL, as it was written."""

    @property
    def is_remote(self) -> bool:
        """Whether it is behind a URL and not on this machine's disk."""
        return "://" in self.location


@dataclass(frozen=True, kw_only=True)
class ProjectMetadata:
    """What a project says of itself. `name` is normalised, `version` in its normal form."""

    name: str
    version: str
    requires_dist: tuple[str, ...]
    """The requirements that hold with the chosen extras: no `extra == …` marker is left in them."""
    requires_python: str | None
    console_scripts: tuple[str, ...]
    summary: str = ""
    license: str = ""
    homepage: str = ""
    maintainer: str = ""


@dataclass(frozen=True, kw_only=True)
class BuiltWheel:
    """A wheel in the store: `store.path(built.digest)` has its bytes. `sha256` is bare hex."""

    digest: str
    file_name: str
    sha256: str
    size: int
    name: str
    version: str
    requires_dist: tuple[str, ...]
    """As in the wheel: those of the extras with their `extra == …` markers."""
    requires_python: str | None
    console_scripts: tuple[str, ...]
    origin: Origin

    def wheel(self, requires: tuple[str, ...] = ()) -> Wheel:
        """The wheel as a lock records it; `requires` are the normalised names that it needs on the target."""
        return Wheel(
            name=self.name,
            version=self.version,
            file_name=self.file_name,
            sha256=self.sha256,
            size=self.size,
            url=None,
            origin=self.origin,
            requires=requires,
        )


def parse_source(text: str, root: Path, *, manifest: str = "boxsnake.toml", key: str = "app.source") -> Source:
    """The source that a text names: a path (relative to `root`), `file:`, `git+…@ref#subdirectory=…` or a URL.

    Raises ManifestError, whose fault names `manifest` and `key`, where the text names none.
    """
    raise NotImplementedError


def source_of(origin: Origin, root: Path) -> Source:
    """The source that a lock's origin names; a git source at its locked commit."""
    raise NotImplementedError


def metadata(
    store: Store,
    source: Source,
    *,
    extras: tuple[str, ...] = (),
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ProjectMetadata:
    """A project's metadata: from its `pyproject.toml` where nothing needed is dynamic, else from its built wheel.

    `python` and `environment` are those of `build_wheel`, as are the errors; ManifestError for an unknown extra.
    """
    raise NotImplementedError


def build_wheel(
    store: Store,
    source: Source,
    *,
    python: str | None = None,
    environment: Mapping[str, str] | None = None,
    deadline: float = 1800.0,
) -> BuiltWheel:
    """The wheel of a source; built only where the store has not got the one of this very content.

    `python` is the interpreter that runs the build: a path, a version ("3.11") that is looked for on this machine,
    or None for the running one. A version that is not on this machine is no error as long as the wheel that the
    running interpreter makes fits every Python. `environment` is added to the build's own, which holds nothing of the
    caller's but its PATH, proxies and certificates: it is where the index is named (UV_DEFAULT_INDEX, UV_INDEX …).
    `deadline` is in seconds.

    Raises PackError where the project does not build, NetworkError where its build requirements cannot be fetched,
    ResourceError where a tool is missing, IntegrityError where an archive is not what it should be.
    """
    raise NotImplementedError
