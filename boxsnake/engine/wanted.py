"""What an engine is asked to make, in the words of its API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def variables(environment: Mapping[str, str] | None) -> list[str]:
    """An environment, one NAME=value each."""
    return [f"{name}={value}" for name, value in (environment or {}).items()]


def command(
    words: Sequence[str], *, user: str = "", folder: str = "", environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A command in a container, whose output is read."""
    return {
        "Cmd": list(words),
        "User": user,
        "WorkingDir": folder,
        "Env": variables(environment),
        "AttachStdout": True,
        "AttachStderr": True,
    }


def confinement(
    processes: int,
    capabilities: Sequence[str],
    mounts: Sequence[tuple[str, str]],
    *,
    read_only: bool,
    filters: Sequence[str] = (),
) -> dict[str, Any]:
    """What each container of ours is held to: no more than these capabilities, and never more than it began with.

    `mounts` are paths of this machine and where they are seen, for reading; `filters` further options of security.
    """
    return {
        "ReadonlyRootfs": read_only,
        "CapDrop": ["ALL"],
        "CapAdd": list(capabilities),
        "SecurityOpt": ["no-new-privileges", *filters],
        "PidsLimit": processes,
        "Init": True,
        "Binds": [f"{source}:{target}:ro" for source, target in mounts],
    }
