"""Whose is it: what a run writes on its containers and passing images, and when one of them is a leftover."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN_LABEL = "boxsnake.run"
OWNER_LABEL = "boxsnake.owner"

LIFETIME_SECONDS = 7200
"""A container whose owner cannot be asked (another machine, another namespace) ends by itself after this time."""


def own_name() -> str:
    """Name this process so that nobody mistakes another for it: boot, namespace of process ids, id, start time."""
    return f"{_scope()} {os.getpid()} {_start_time(os.getpid())}"


def passing_name(word: str) -> str:
    """A name for an image that is there for a while: nobody else's, and told to be a leftover by its owner's death."""
    return f"{_PASSING}{_scope_name()}-{os.getpid()}-{_start_time(os.getpid())}-{uuid.uuid4().hex[:12]}:{word}"


def is_leftover_name(name: str) -> bool:
    """Whether the image of this name was there for a run of this machine that is over."""
    found = _PASSING_NAME.fullmatch(name)
    return found is not None and found["scope"] == _scope_name() and _start_time(int(found["pid"])) != found["start"]


_PASSING = "boxsnake-passing/"
# podman puts a registry before names that have none.
_PASSING_NAME = re.compile(
    rf"(?:[^/]+/)?{_PASSING}(?P<scope>[0-9a-f]+)-(?P<pid>[0-9]+)-(?P<start>[0-9]*)-[0-9a-f]+:[a-z]+"
)


def _scope_name() -> str:
    return hashlib.sha256(_scope().encode()).hexdigest()[:12]


def _scope() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "unknown"


def _start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; "" where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in parentheses, and may hold anything; start time is the 22nd.
    return text.rpartition(")")[2].split()[19]


def is_leftover(container: Mapping[str, Any]) -> bool:
    """Whether the run that started a container (as the engine lists it) is over without having removed it."""
    scope, _, process = str(container["Labels"].get(OWNER_LABEL, "")).partition(" ")
    pid, _, start = process.partition(" ")
    if not scope:  # the label of an image that was made of a container of ours
        return False
    if scope == _scope() and pid.isdecimal():
        return _start_time(int(pid)) != start
    # Another machine's or namespace's: its sleep is over and nobody has cleared it away.
    return container["State"] == "exited" and time.time() - float(container["Created"]) > LIFETIME_SECONDS


def is_leftover_network(network: Mapping[str, Any]) -> bool:
    """Whether the run of this machine that made a network (as the engine lists it) is over."""
    scope, _, process = str((network.get("Labels") or {}).get(OWNER_LABEL, "")).partition(" ")
    pid, _, start = process.partition(" ")
    return scope == _scope() and pid.isdecimal() and _start_time(int(pid)) != start
