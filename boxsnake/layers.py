"""Layers: which owners share one, by how often they change, and what a layer's blob is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Group:
    """The owners (see `boxsnake.entries.Entry.owner`) whose entries make one layer."""

    name: str
    """For people: "interpreter", "numpy", "rest", "application"."""
    owners: tuple[str, ...]
    """Sorted."""


@dataclass(frozen=True, kw_only=True)
class LayerBlob:
    """A compressed layer in the store. Digests are "sha256:<hex>"."""

    name: str
    digest: str
    size: int
    diff_id: str
    """The digest of the uncompressed tar, as the OCI image specification defines it."""
    media_type: str
