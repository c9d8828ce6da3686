"""The values of a lock: packages by digest, both halves of each target, and what was asked."""

from __future__ import annotations

from typing import Literal

from boxsnake.lock.system import SystemLock
from boxsnake.target import Target
from boxsnake.value import dataclass

Noarch = Literal["python", "generic"]
OriginKind = Literal["sdist", "git", "folder", "archive"]

Inputs = tuple[tuple[str, tuple[str, ...]], ...]
"""What was asked: (what, its lines) such as ("requires.pip", ("flask>=3",)), sorted, without credentials."""


@dataclass(frozen=True, kw_only=True, order=True)
class Distribution:
    """A Python distribution by its normalised name (PEP 503) and version."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class CondaPackage:
    """One package of the conda half. `url` and `channel` carry no credentials; `sha256` is bare hex."""

    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    channel: str
    url: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()
    noarch: Noarch | None = None
    distributions: tuple[Distribution, ...] = ()
    """The Python distributions that the package brings, read from the package itself."""

    @property
    def file_name(self) -> str:
        """The archive's file name, the last part of its URL."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a wheel that no index serves came from: what was built, and the digest or commit that names it."""

    kind: OriginKind
    url: str
    """Without credentials; for a folder, its path relative to the manifest."""
    sha256: str | None = None
    """Of the sdist or archive, or of the folder's content."""
    size: int | None = None
    commit: str | None = None
    subdirectory: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel of the wheel half. `sha256` is bare hex."""

    name: str
    version: str
    file_name: str
    sha256: str
    size: int | None
    url: str | None
    """Where it is fetched from, without credentials; None for a wheel that is built from `origin`."""
    index: str | None = None
    """The index that was asked, without credentials."""
    origin: Origin | None = None
    requires: tuple[str, ...] = ()
    """Normalised names of the distributions that it needs on this target."""

    @property
    def distribution(self) -> Distribution:
        """Name and version."""
        return Distribution(name=self.name, version=self.version)


@dataclass(frozen=True, kw_only=True)
class BasePin:
    """An image's base: the reference that the manifest names, and the digest of its manifest for the platform."""

    reference: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class TargetLock:
    """Both halves for one target."""

    target: Target
    python: str
    """The full version of the interpreter; for an interpreter of the host, its minor version ("3.11")."""
    conda: tuple[CondaPackage, ...]
    wheels: tuple[Wheel, ...]
    """The whole closure, sorted by name: those that conda brings as well are in it, at conda's version."""
    unavailable: tuple[Distribution, ...] = ()
    """Distributions that conda brings and that no index has a wheel of: boxes without conda cannot carry them."""
    system: SystemLock | None = None
    """Packages of the image's distribution; None where none are wanted."""
    base: BasePin | None = None
    """What images are put on, where that comes from a registry."""

    @property
    def conda_distributions(self) -> tuple[Distribution, ...]:
        """The Python distributions that the conda half brings, sorted."""
        return tuple(sorted({found for package in self.conda for found in package.distributions}))

    @property
    def wheels_over_conda(self) -> tuple[Wheel, ...]:
        """The wheels that an environment with the conda half still needs."""
        brought = {found.name for found in self.conda_distributions}
        return tuple(wheel for wheel in self.wheels if wheel.name not in brought)

    @property
    def python_minor(self) -> str:
        """The interpreter's minor version ("3.11")."""
        return ".".join(self.python.split(".")[:2])


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A whole lock file."""

    inputs: Inputs
    """A stale lock is told by it."""
    targets: tuple[TargetLock, ...]
    """Sorted by name."""
