"""Whether a wheel that was built on this machine runs on the target."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

from boxsnake.errors import UnsolvableError
from boxsnake.wheel_tags import best_fit, supported_tags, tags_of

if TYPE_CHECKING:
    from pathlib import Path

    from boxsnake.project import BuiltWheel
    from boxsnake.target import Target

_CHUNK = 1 << 20
# A versioned symbol of glibc, as a binary names the ones that it needs.
_SYMBOL = re.compile(rb"GLIBC_2\.(\d{1,2})")


def check_fit(built: BuiltWheel, path: Path, target: Target, python: str, asked_by: str) -> None:
    """Refuse a wheel of another machine, Python or glibc than the target's. Errors: UnsolvableError."""
    machine = target.platform + (f", glibc {target.glibc}" if target.glibc else "")
    why = None
    if best_fit([built.file_name], supported_tags(target, python)) is None:
        why = f"it does not fit target {target.name} ({machine}, CPython {python})"
    elif target.glibc is not None and any(tag.platform.startswith("linux_") for tag in tags_of(built.file_name)):
        needed = needed_glibc(path)
        if needed > int(target.glibc.partition(".")[2]):
            why = f"it needs glibc 2.{needed}, and target {target.name} promises {target.glibc}"
    if why is not None:
        raise UnsolvableError(
            built.file_name,
            f"was built on this machine for {asked_by}, and {why}",
            "Ways out: serve a wheel for the target from an index or a folder; or lock on a machine like the target.",
            target=target.name,
            wheel=built.file_name,
        )


def needed_glibc(path: Path) -> int:
    """The glibc 2.x that the binaries in a wheel need, as x: the highest version of a symbol that they name."""
    highest = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                start = stream.read(_CHUNK)
                if not start.startswith(b"\x7fELF"):
                    continue
                while start:
                    highest = max([highest, *(int(minor) for minor in _SYMBOL.findall(start))])
                    more = stream.read(_CHUNK)
                    start = start[-16:] + more if more else b""
    return highest
