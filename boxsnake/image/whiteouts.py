"""Whiteouts: how a layer says that something of the layers below it is gone (OCI Image Layer Filesystem Changeset)."""

from __future__ import annotations

import tarfile
from pathlib import Path

from boxsnake.disk import disk_faults

_PREFIX = ".wh."


def has_whiteouts(layer: Path) -> bool:
    """Whether the layer, a tar or a compressed one, removes anything."""
    with disk_faults(layer), tarfile.open(layer, mode="r|*") as members:
        return any(member.name.rpartition("/")[2].startswith(_PREFIX) for member in members)
