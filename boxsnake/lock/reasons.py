"""Why a package is in a lock: who requires it, and which of what was asked leads to it. Values only."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock.values import CondaPackage, Inputs, TargetLock, Wheel

Where = Literal["conda", "wheels", "both", "system"]

# The name at the start of a MatchSpec or of a requirement, behind a channel.
_NAME = re.compile(r"(?:[^\s\[]*::)?([A-Za-z0-9_.-]+)")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One package of a target's lock and why it is there.

    `half`: "conda", "wheels" (over the conda half), "both" (conda brings the distribution, which boxes without conda
    carry as a wheel), or "system". `size` is that of the archive in bytes, None where nobody told it. `chains` lead
    from what was asked to the package, the shortest for each, both ends named; `required_by` are direct.
    """

    name: str
    version: str
    half: Where
    size: int | None
    required_by: tuple[str, ...]
    chains: tuple[tuple[str, ...], ...]
    requires: tuple[str, ...]
    sha256: str
    """Of the archive, bare hex."""
    owner: str
    """Of its files in a staged tree (see `boxsnake.entries`); "" for a package of the system."""
    brings: tuple[str, ...] = ()
    """The Python distributions in a conda package."""


def reasons(lock: TargetLock, inputs: Inputs, name: str) -> tuple[Reason, ...]:
    """Why the packages of that name are in the lock, whichever way it is spelt: each half may have one of its own."""
    graph = _Graph(lock)
    found = [_of_node(node, graph, inputs) for node in graph.nodes_of(_normal(name))]
    return (*found, *_of_system(lock, inputs, name))


class _Graph:
    """Both halves as one: a distribution that conda brings is its package."""

    def __init__(self, lock: TargetLock) -> None:
        self.packages = {_normal(package.name): package for package in lock.conda}
        self.wheels = {wheel.name: wheel for wheel in lock.wheels}
        self.brought = {found.name: package for package in lock.conda for found in package.distributions}
        self.needs: dict[str, set[str]] = {}
        for package in lock.conda:
            # "__glibc" and their like are what the machine must have, and no packages.
            names = {_normal(_name(spec)) for spec in package.depends if not spec.startswith("__")}
            needed = {f"conda:{name}" for name in names & self.packages.keys()}
            self.needs.setdefault(f"conda:{_normal(package.name)}", set()).update(needed)
        for wheel in lock.wheels:
            needed = {self.node(name) for name in wheel.requires}
            self.needs.setdefault(self.node(wheel.name), set()).update(needed)

    def node(self, distribution: str) -> str:
        """Where a distribution is: in a conda package, or in a wheel alone."""
        package = self.brought.get(distribution)
        return f"conda:{_normal(package.name)}" if package else f"wheel:{distribution}"

    def nodes_of(self, name: str) -> list[str]:
        """The packages that may be meant by a normalised name."""
        found = [f"conda:{name}"] if name in self.packages else []
        if name in self.brought or name in self.wheels:
            found.append(self.node(name))
        return list(dict.fromkeys(found))


def _of_node(node: str, graph: _Graph, inputs: Inputs) -> Reason:
    half, _, name = node.partition(":")
    halves: Mapping[str, Mapping[str, CondaPackage | Wheel]] = {"conda": graph.packages, "wheel": graph.wheels}
    found = halves[half][name]
    brings: tuple[str, ...] = ()
    where: Where = "wheels"
    if half == "conda":
        brings = tuple(one.name for one in graph.packages[name].distributions)
        where = "both" if any(one in graph.wheels for one in brings) else "conda"
    return Reason(
        name=found.name,
        version=found.version,
        half=where,
        size=found.size,
        sha256=found.sha256,
        required_by=tuple(sorted(_shown(user) for user, needed in graph.needs.items() if node in needed - {user})),
        chains=tuple(_chains(node, graph, inputs)),
        requires=tuple(sorted(_shown(one) for one in graph.needs.get(node, set()) - {node})),
        owner=f"{half}:{found.name}",
        brings=brings,
    )


def names(lock: TargetLock) -> list[str]:
    """Every name that `reason` knows, sorted."""
    system = lock.system.packages if lock.system else ()
    halves = {package.name for package in lock.conda} | {wheel.name for wheel in lock.wheels}
    return sorted(halves | {one.name for one in lock.conda_distributions} | {package.name for package in system})


def _of_system(lock: TargetLock, inputs: Inputs, name: str) -> Iterator[Reason]:
    for package in lock.system.packages if lock.system else ():
        if package.name != name:
            continue
        asked = [(what, line) for what, lines in inputs if what in {"requires.deb", "requires.rpm"} for line in lines]
        yield Reason(
            name=package.name,
            version=package.version,
            half="system",
            size=package.size,
            sha256=package.sha256,
            required_by=(),
            chains=tuple((f"{what}: {line}", name) for what, line in asked if _name(line) == name),
            requires=(),
            owner="",
        )


_ROOTS = {"requires.conda": "conda", "requires.pip": "wheel", "app.requires": "wheel", "requires.python": "conda"}


def _asked(inputs: Inputs) -> list[tuple[str, str, str]]:
    """What was asked, as (half, normalised name, how it is shown)."""
    return [
        (half, "python" if what == "requires.python" else _normal(_name(line)), f"{what}: {line}")
        for what, lines in inputs
        if (half := _ROOTS.get(what))
        for line in lines
    ]


def _chains(node: str, graph: _Graph, inputs: Inputs) -> Iterator[tuple[str, ...]]:
    """The shortest way to the package from each thing that was asked."""
    for half, name, shown in _asked(inputs):
        start = graph.node(name) if half == "wheel" else f"{half}:{name}"
        way = _shortest(start, node, graph.needs)
        if way:
            yield (shown, *(_shown(one) for one in way))


def _shortest(start: str, end: str, needs: Mapping[str, set[str]]) -> tuple[str, ...]:
    ways: dict[str, tuple[str, ...]] = {start: (start,)} if start in needs else {}
    waiting = deque(ways)
    while waiting:
        node = waiting.popleft()
        if node == end:
            return ways[node]
        for following in sorted(needs.get(node, ())):
            if following not in ways:
                ways[following] = (*ways[node], following)
                waiting.append(following)
    return ()


def _shown(node: str) -> str:
    return node.partition(":")[2]


def _name(text: str) -> str:
    found = _NAME.match(text.strip())
    return found[1] if found else ""


def _normal(name: str) -> str:
    # A leading underscore is part of a conda name ("_libgcc_mutex").
    return re.sub(r"(?<!^)[-_.]+", "-", name).lower()
