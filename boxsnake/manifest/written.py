"""A decoded manifest as JSON values and back: the options of each format are read when they are asked for.

A format is imported with its options, and few commands are about every format.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from boxsnake.manifest.models import Manifest
from boxsnake.on_demand import OnDemand
from boxsnake.written import plain, value_of


def written(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values."""
    boxes = {name: plain(options) for name, options in manifest.boxes.items()}
    return {"manifest": plain(replace(manifest, boxes={})), "boxes": boxes, "order": list(boxes)}


def read(document: dict[str, Any]) -> Manifest:
    """The manifest that was written. Errors: as of `boxsnake.written.value_of`."""
    boxes: dict[str, Any] = document["boxes"]
    manifest: Manifest = value_of(document["manifest"])
    return replace(manifest, boxes=OnDemand(document["order"], lambda name: value_of(boxes[name])))
