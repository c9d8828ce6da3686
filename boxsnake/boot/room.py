"""How many boxes this machine boots at a time, and which of them first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

_LEAST = 2
# What an application and the installation of its box may be expected to take, in bytes.
_EACH_BYTES = 1 << 30


def at_once() -> int:
    """One more than there are processors, as much of a boot is waiting, where so many find room in memory; or two."""
    return fitting(len(os.sched_getaffinity(0)) + 1, _free_bytes())


def fitting(wanted: int, memory: int) -> int:
    """So many, or as many as so many bytes of free memory have room for."""
    return max(_LEAST, min(wanted, memory // _EACH_BYTES))


def longest_first(seconds: Sequence[float]) -> list[int]:
    """In which order to begin what is expected to take so long: what is long goes on alone when it is begun last."""
    return sorted(range(len(seconds)), key=lambda number: -seconds[number])


def _free_bytes() -> int:
    """What the kernel says that programs may take (proc(5): MemAvailable); none where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        words = Path("/proc/meminfo").read_text(encoding="ascii").split()
        return int(words[words.index("MemAvailable:") + 1]) * 1024
    return 0
