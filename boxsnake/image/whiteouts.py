"""Whiteouts: how a layer says that something of the layers below it is gone (OCI Image Layer Filesystem Changeset)."""

from __future__ import annotations

from pathlib import Path

from boxsnake.disk import disk_faults

_PREFIX = ".wh."


def has_whiteouts(layer: Path) -> bool:
    """Whether the layer, a tar in gzip's format, removes anything."""
    import gzip
    import tarfile

    # Not decompressed by tarfile: of a row of gzip members its streams read the first alone.
    with disk_faults(layer), gzip.open(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
        return any(member.name.rpartition("/")[2].startswith(_PREFIX) for member in members)
