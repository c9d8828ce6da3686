"""Owners of the paths of a tree while it is staged: one each, or several that bring the very same file.

Empty `__init__.py` files and licences come with many packages. They do no harm: whichever is put there is the one that
all of them mean. Anything else that comes twice is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from boxsnake.entries import APPLICATION
from boxsnake.errors import PackError

_CHUNK = 1 << 20


class Owners:
    """Who brings which path (relative to the prefix)."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, ...]] = {}
        self._gone: list[tuple[str, str]] = []

    @property
    def gone(self) -> tuple[tuple[str, str], ...]:
        """Who brought a path that was left out, sorted: (owner, path)."""
        return tuple(sorted(self._gone))

    def __contains__(self, path: str) -> bool:
        return path in self._of

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def of(self, path: str) -> tuple[str, ...]:
        """The path's owners, sorted: mostly one. KeyError where it has none."""
        return self._of[path]

    def claim(self, path: str, owner: str) -> None:
        """Give a path to an owner. Errors: PackError where it has another already."""
        others = self._of.setdefault(path, (owner,))
        if others != (owner,):
            raise collision(path, next(other for other in others if other != owner), owner)

    def share(self, path: str, owner: str) -> None:
        """Give a path to an owner beside those that it has, whose packages bring the same file."""
        self._of[path] = tuple(sorted({*self._of.get(path, ()), owner}))

    def drop(self, path: str) -> None:
        """Forget a path that left the tree."""
        self._of.pop(path, None)

    def leave_out(self, path: str) -> None:
        """Note that a path left the tree: another owner's file there would have been refused all the same."""
        self._gone += [(owner, path) for owner in self._of.pop(path)]


def collision(path: str, one: str, other: str) -> PackError:
    """Two owners bring different files for one path: whichever was put there last would silently win."""
    both = sorted((one, other))
    return PackError(
        path,
        f"{shown(both[0])} and {shown(both[1])} both bring this path, and not the same file",
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


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths are the same: links with one text, or files with one content, both of them programs or not.

    Folders, and what is not there, are the same as nothing.
    """
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if not one.is_file():
        return False
    with one.open("rb", buffering=0) as stream:
        return holds(other, iter(lambda: stream.read(_CHUNK), b""), executable=_is_program(one))


def holds(path: Path, content: Iterable[bytes], *, executable: bool) -> bool:
    """Whether a path is a plain file with this content, a program or not."""
    if path.is_symlink() or not path.is_file() or _is_program(path) != executable:
        return False
    with path.open("rb") as stream:
        return all(stream.read(len(chunk)) == chunk for chunk in content) and not stream.read(1)


def _is_program(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)
