"""What a box needs of its host, told before it is made. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from boxsnake.boot_recipe import Takes
from boxsnake.target import Target
from boxsnake.value import dataclass

Step = Literal["wheels", "PEX", "conda", "userspace image", "container", "OS package"]
"""The packaging gradient: from boxes that carry Python packages alone to those that the host's own tools manage."""

STEPS: tuple[Step, ...] = get_args(Step)

_ROOT: frozenset[Takes] = frozenset({"rpm", "dpkg", "mount"})
_WORDS: dict[Takes, tuple[str, ...]] = {
    "rpm": ("rpm",),
    "dpkg": ("dpkg",),
    "python": (),
    "shell": ("a shell",),
    "mount": ("mount",),
    "engine": ("a container engine",),
}


@dataclass(frozen=True, kw_only=True)
class HostNeeds:
    """All that a host must have for one box.

    `python` is the version of an interpreter of the host's own (None: the box brings one, or is for an engine),
    `glibc` the lowest that it may have (None: any C library), `root` whether only root can install it. `further` is
    for people.
    """

    takes: Takes
    machine: str
    python: str | None
    glibc: str | None
    root: bool
    further: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """For people, without processor and glibc, which boxes of a target have in common."""
        own = (f"Python {self.python}",) if self.python else _WORDS[self.takes]
        return (*own, *self.further, *(("root",) if self.root else ()))


def host_needs(takes: Takes, target: Target, python: str, further: Sequence[str]) -> HostNeeds:
    """What the host must have for a box of the target; `python` is its minor version ("3.11").

    `further` is what the format tells of its own needs.
    """
    return HostNeeds(
        takes=takes,
        machine=target.machine,
        python=python if takes == "python" else None,
        # Images bring theirs.
        glibc=None if takes == "engine" else target.glibc,
        root=takes in _ROOT,
        further=tuple(further),
    )
