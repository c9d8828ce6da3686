"""Owners of the paths of a tree while it is staged: each path has one, and a second one is refused."""

from __future__ import annotations

from collections.abc import Iterator

from boxsnake.entries import APPLICATION
from boxsnake.errors import PackError


class Owners:
    """Who brings which path (relative to the prefix)."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._of

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def of(self, path: str) -> str:
        """The path's owner; KeyError where it has none."""
        return self._of[path]

    def claim(self, path: str, owner: str) -> None:
        """Give a path to an owner. Errors: PackError where it has one already."""
        other = self._of.setdefault(path, owner)
        if other != owner:
            raise collision(path, other, owner)

    def drop(self, path: str) -> None:
        """Forget a path that left the tree."""
        self._of.pop(path, None)


def collision(path: str, one: str, other: str) -> PackError:
    """Two owners bring one path: whichever was put there last would silently win."""
    both = sorted((one, other))
    return PackError(
        path,
        f"{shown(both[0])} and {shown(both[1])} both bring this path",
        "Require only one of them, or another version of one that leaves the path alone.",
        path=path,
        owners=both,
    )


def shown(owner: str) -> str:
    """An owner, for people."""
    kind, _, name = owner.partition(":")
    if owner == APPLICATION:
        return "the application"
    return f"the conda package {name}" if kind == "conda" else f"the wheel {name}"
