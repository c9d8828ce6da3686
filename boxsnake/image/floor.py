"""Whether what an image stands on has a glibc, and one that is new enough."""

from __future__ import annotations

from boxsnake.bases import Base
from boxsnake.bases.files import read_files
from boxsnake.errors import PackError
from boxsnake.pattern import pattern
from boxsnake.remembered import remembered
from boxsnake.store import Store

_LIBC = pattern(r"libc(-2\.[0-9]+)?\.so(\.6)?")
_VERSION = pattern(rb"GNU C Library [^\n]{0,80}? version ([0-9]+)\.([0-9]+)")


def check_floor(store: Store, floor: str, base: Base, thing: str) -> tuple[str, ...]:
    """Hold a base to the oldest glibc that `thing` is made for: notes where it has none at all; "" is no floor.

    Errors: PackError where the base's is older.
    """
    if not floor:
        return ()
    layers = [layer.digest for layer in base.layers]
    found = remembered(store, "base-glibc", {"layers": layers}, lambda: ".".join(map(str, glibc_in(store, base) or ())))
    if not found:
        return (f"{base.name} has no glibc; the image needs {floor}",)
    if _parts(found) < _parts(floor):
        cause = f"it needs glibc {floor} or newer, and {base.name} has {found}"
        raise PackError(thing, cause, "Name a newer base, or build it for an older glibc.", glibc=found)
    return ()


def glibc_in(store: Store, base: Base) -> tuple[int, int] | None:
    """The version of the glibc in a base; None where there is none."""
    files = read_files(store, base, lambda path: _LIBC.fullmatch(path.rpartition("/")[2]) is not None)
    found = [match for data in files.values() if (match := _VERSION.search(data))]
    return max(((int(match[1]), int(match[2])) for match in found), default=None)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
