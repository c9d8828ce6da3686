"""Layers: which owners share one, by how often they change, and what a layer's blob is.

The grouping is decided by the lock alone, so that a layer can be looked up before anything is fetched or staged, and
it is stable: a package that is added, removed or upgraded changes the layer that it is in and moves no other package.
Three rules make it so. A distribution is heavy by its own size and not by its rank among the others. The layers that
gather small things keep their places in the budget even where they are empty. The order is by name and not by size.
It holds as long as the budget has a place for each heavy package; beyond that, one that is heavier takes the place of
the lightest, which goes to the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from boxsnake.entries import APPLICATION, conda_owner, wheel_owner
from boxsnake.lock import CondaPackage, TargetLock, Wheel
from boxsnake.names import normal
from boxsnake.value import dataclass

DEFAULT_BUDGET = 12
"""How many layers the environment and the application may take; a base image's own come on top."""

HEAVY = 4_000_000
"""From this size of its archive on, in bytes, a package has a layer of its own."""

# The name at the start of a MatchSpec, which a space or an operator ends.
_NAME = re.compile(r"[A-Za-z0-9_.-]+")

_GATHERED = 5
"""The layers that are no package's own: interpreter, libraries, rest, own, application."""


TrimRule = Literal["tests", "headers", "static-libraries", "docs", "build-files"]
"""Kinds of files that packages bring and no running program needs."""


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What is done to packages on their way into layers, beside installing them.

    `trim` are the kinds of files that are left out, but for what lies at the paths `keep`; `activate` are the conda
    packages (normalised names) whose activation scripts are run for the variables that they set.
    """

    trim: tuple[TrimRule, ...] = ()
    keep: tuple[str, ...] = ()
    activate: tuple[str, ...] = ()


AS_THEY_ARE = Treatment()
"""Packages go into layers as they are."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The owners (see `boxsnake.entries.Entry.owner`) whose entries make one layer."""

    name: str
    """For people: "interpreter", "numpy", "rest", "own", "application"."""
    owners: tuple[str, ...]
    """Sorted."""


@dataclass(frozen=True, kw_only=True)
class LayerBlob:
    """A compressed layer in the store. Digests are "sha256:<hex>"."""

    name: str
    digest: str
    size: int
    diff_id: str
    """The digest of the uncompressed tar, as the OCI image specification defines it."""
    media_type: str
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that its packages ask to be set where they are used (conda's `etc/conda/env_vars.d`)."""
    notes: tuple[str, ...] = ()
    """What the user was told when it was staged."""
    trimmed: tuple[tuple[str, int], ...] = ()
    """How much each rule of its treatment saved, in bytes before compression."""
    bound: bool = False
    """Whether it was made in a container of the layers below it, and fits no others."""


def group(
    lock: TargetLock, *, application: bool, budget: int = DEFAULT_BUDGET, own: Sequence[str] = ()
) -> tuple[Group, ...]:
    """The layers of an environment, the one that changes the least first; never more than `budget` (at least 1).

    interpreter (Python and what it depends on) · libraries (conda packages without a Python distribution) · each
    heavy package by itself, as far as the budget goes, the heaviest first · rest · own (what the team releases itself:
    wheels that no index gave, and packages named by the patterns `own`, such as "acme-*"), its heavy ones by themselves
    as well · application. A budget too small for these gathers neighbours. Groups without owners are left out.
    """
    interpreter = _interpreter(lock.conda)
    sizes = {conda_owner(package.name): package.size for package in lock.conda}
    libraries = {conda_owner(package.name) for package in lock.conda if not package.distributions} - interpreter
    sizes |= {wheel_owner(wheel.name): wheel.size or 0 for wheel in lock.wheels_over_conda}
    mine = _own(lock, own) - interpreter
    heavy = _heavy(sizes, sizes.keys() - interpreter, budget - _GATHERED)
    groups = [
        ("interpreter", interpreter),
        ("libraries", libraries - heavy - mine),
        *_by_themselves(heavy - mine),
        ("rest", sizes.keys() - interpreter - libraries - heavy - mine),
        *_by_themselves(heavy & mine),
        ("own", mine - heavy),
        ("application", {APPLICATION} if application else set()),
    ]
    return tuple(Group(name=name, owners=tuple(sorted(owners))) for name, owners in _gather(groups, budget) if owners)


def _by_themselves(owners: Iterable[str]) -> list[tuple[str, set[str]]]:
    return [(owner.partition(":")[2], {owner}) for owner in sorted(owners)]


def _own(lock: TargetLock, patterns: Sequence[str]) -> set[str]:
    """The owners of what changes at the team's own pace."""

    def named(name: str) -> bool:
        return any(fnmatchcase(normal(name), normal(pattern)) for pattern in patterns)

    wheels = {wheel_owner(wheel.name) for wheel in lock.wheels_over_conda if _is_no_indexs(wheel) or named(wheel.name)}
    return wheels | {conda_owner(package.name) for package in lock.conda if named(package.name)}


def _is_no_indexs(wheel: Wheel) -> bool:
    """Whether it was required by its path, repository or URL. An index's sdist is not, though it is built here."""
    if wheel.origin is not None:
        return wheel.origin.kind != "sdist"
    return wheel.url is not None and wheel.index is None


def _interpreter(packages: Iterable[CondaPackage]) -> set[str]:
    """The owners of Python itself and of all that it depends on: the same in every application of one Python."""
    by_name: Mapping[str, CondaPackage] = {package.name: package for package in packages}
    found: set[str] = set()
    waiting = ["python"]
    while waiting:
        package = by_name.get(waiting.pop())
        if package is not None and package.name not in found:
            found.add(package.name)
            waiting += [match[0].lower() for depend in package.depends if (match := _NAME.match(depend))]
    return {conda_owner(name) for name in found}


def _heavy(sizes: Mapping[str, int], candidates: Iterable[str], places: int) -> set[str]:
    heavy = (owner for owner in candidates if sizes[owner] >= HEAVY)
    return set(sorted(heavy, key=lambda owner: (-sizes[owner], owner))[: max(places, 0)])


def _gather(groups: list[tuple[str, set[str]]], budget: int) -> list[tuple[str, set[str]]]:
    """Join what a small budget has no place for: own to the rest, libraries to the interpreter, then both, then all."""
    if budget >= _GATHERED:
        return groups
    joined = {"own": "rest"}
    if budget == _GATHERED - 2:
        joined |= {"libraries": "interpreter"}
    if budget == _GATHERED - 3:
        joined = dict.fromkeys(("interpreter", "libraries", "rest", "own"), "requirements")
    if budget < _GATHERED - 3:
        joined = dict.fromkeys(("interpreter", "libraries", "rest", "own", "application"), "environment")
    gathered: dict[str, set[str]] = {}
    for name, owners in groups:
        gathered.setdefault(joined.get(name, name), set()).update(owners)
    return list(gathered.items())
