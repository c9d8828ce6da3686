"""What is asked of the indexes for one target, and what comes of it, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from boxsnake.resolve_conda import name_of_spec
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boxsnake.credentials import Credentials
    from boxsnake.lock import CondaPackage, Distribution, TargetLock, Wheel
    from boxsnake.project import ProjectMetadata
    from boxsnake.requirements import CondaRequirement, PipRequirement
    from boxsnake.resolve_wheels.index import Index
    from boxsnake.store import Store
    from boxsnake.target import Target


@dataclass(frozen=True, kw_only=True)
class WheelQuestion:
    """What one target asks of the indexes."""

    target: Target
    python: str
    """The interpreter's full version; of a host's the lowest one that may be met."""
    pip: tuple[PipRequirement, ...] = ()
    constraints: tuple[PipRequirement, ...] = ()
    application: ProjectMetadata | None = None
    """The application, whose requirements count; it is not part of the answer."""
    sdists: frozenset[str] = frozenset()
    """Normalised names that may be built from their sdist where no wheel fits."""
    from_source: frozenset[str] = frozenset()
    """Normalised names that must be built from their sdist; ":all:" for all."""
    conda: tuple[CondaPackage, ...] = ()
    """The conda half, with the distributions that its packages bring."""
    conda_requirements: tuple[CondaRequirement, ...] = ()
    preferred: TargetLock | None = None
    """What to keep where the requirements still allow it."""
    kept_lines: frozenset[str] = frozenset()
    """The requirements, as they are shown, that `preferred` was made for."""
    refresh: tuple[str, ...] | None = ()
    """Names that the index is asked for again, whatever the cache says; None: all."""

    @property
    def brought(self) -> dict[str, Distribution]:
        """The distributions that the conda half brings, by name."""
        return {found.name: found for package in self.conda for found in package.distributions}

    @property
    def roots(self) -> tuple[Distribution, ...]:
        """The distributions that conda requirements ask for: boxes without conda need them as wheels.

        A package that brings none stands for what it depends on, as far as the first distributions; the interpreter's
        own package stands for none.
        """
        by_name = {package.name: package for package in self.conda}
        starts = [name_of_spec(requirement.spec) for requirement in self.conda_requirements]
        return tuple(sorted({found for start in starts for found in _first_distributions(start, by_name)}))

    @property
    def minor(self) -> str:
        """Python's minor version ("3.11")."""
        return ".".join(self.python.split(".")[:2])


@dataclass(frozen=True, kw_only=True)
class WheelAnswer:
    """The wheel half: the closure, sorted by name, and what of it conda brings and no index has."""

    wheels: tuple[Wheel, ...] = ()
    unavailable: tuple[Distribution, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where wheels are resolved and built: what all targets share."""

    store: Store
    root: Path
    """The manifest's folder."""
    index: Index
    credentials: Credentials
    offline: bool = False


def can_be_pinned(found: Distribution) -> bool:
    """Whether its version is one that PEP 440 knows; of others no wheel can be asked for."""
    try:
        Version(found.version)
    except InvalidVersion:
        return False
    return True


def _first_distributions(start: str, by_name: dict[str, CondaPackage]) -> Iterator[Distribution]:
    todo, seen = [start], {"python"}
    while todo:
        name = todo.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        package = by_name[name]
        if package.distributions:
            yield from (found for found in package.distributions if can_be_pinned(found))
        else:
            todo += [name_of_spec(depend) for depend in package.depends]
