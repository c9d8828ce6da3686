"""Where a tree is staged: in memory where there is plenty of it, else on the store's disk.

A tree is thousands of small files that are read once and removed. On a disk most of the time goes into keeping account
of their names; in memory that costs next to nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from boxsnake.errors import ResourceError
from boxsnake.ingest import RATIO_OF_DENSEST
from boxsnake.store import Store

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of this user's own in it, which is checked
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def staging_folder(store: Store, archives: Iterable[Path]) -> Iterator[Path]:
    """An empty folder for what these archives unpack to; it lasts for the block. Programs in it can be run."""
    packed = sum(path.stat().st_size for path in archives)
    with folder_for(store, packed * RATIO_OF_DENSEST, "stage") as folder:
        yield folder


@contextmanager
def folder_for(store: Store, size: int, prefix: str) -> Iterator[Path]:
    """An empty folder for so many bytes, whose name begins so; it lasts for the block."""
    with (_store_in_memory(size) or store).scratch(prefix) as folder:
        yield folder


def _store_in_memory(needed: int) -> Store | None:
    """A store of which only the scratch folders are used: those of killed processes are removed by who comes next."""
    root = _MEMORY / f"boxsnake-{os.getuid()}"
    try:
        if 2 * needed > room_in_memory() or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
            return None
        with suppress(FileExistsError):
            root.mkdir(mode=0o700)
        found = root.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return None  # somebody else's
        return Store(root)
    except (OSError, ValueError, ResourceError):
        return None


def room_in_memory() -> int:
    """Bytes that files in memory may take: what the file system, the machine and the control groups have left."""
    usage = os.statvfs(_MEMORY)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(usage.f_bavail * usage.f_frsize, available, *_left_in_control_groups())


def _left_in_control_groups() -> Iterator[int]:
    """What the control groups of this process, of either version, have left of their memory."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = _CONTROL_GROUPS / "memory" if controllers else _CONTROL_GROUPS
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        own = top / path.strip("/")
        # In a container the group's own folder is the top, whatever its path says.
        for folder in {top, own, *(parent for parent in own.parents if parent.is_relative_to(top))}:
            with suppress(OSError, ValueError):  # "max", or no limits in this group
                limit, used = (int((folder / name).read_text(encoding="ascii")) for name in names)
                yield limit - used
