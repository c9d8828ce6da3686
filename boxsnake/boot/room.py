"""How many boxes this machine boots at a time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LEAST = 2
# What an application and the installation of its box may be expected to take, in bytes.
_EACH_BYTES = 1 << 30


def at_once() -> int:
    """As many as there are processors and as find room in memory, but two: much of a boot is waiting."""
    return fitting(len(os.sched_getaffinity(0)), _free_bytes())


def fitting(processors: int, memory: int) -> int:
    """The same for so many processors, and so many bytes of memory that are free."""
    return max(_LEAST, min(processors, memory // _EACH_BYTES))


def _free_bytes() -> int:
    """What the kernel says that programs may take (proc(5): MemAvailable); none where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        words = Path("/proc/meminfo").read_text(encoding="ascii").split()
        return int(words[words.index("MemAvailable:") + 1]) * 1024
    return 0
