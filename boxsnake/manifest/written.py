"""A decoded manifest as JSON values and back, for whoever keeps one: nothing is validated, as that was done before."""

from __future__ import annotations

import importlib
from dataclasses import MISSING, Field, fields, replace
from typing import Any

from boxsnake.manifest.models import Manifest
from boxsnake.manifest.section import Section
from boxsnake.on_demand import OnDemand


def written(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values: what is as by default is left out."""
    boxes = {name: _of_section(options) for name, options in manifest.boxes.items()}
    return {"manifest": _of_section(replace(manifest, boxes={})), "boxes": boxes, "order": list(boxes)}


def read(document: dict[str, Any]) -> Manifest:
    """The manifest that was written. Errors: TypeError where the document is none."""
    boxes: dict[str, Any] = document["boxes"]
    manifest = _value(document["manifest"])
    if not isinstance(manifest, Manifest):
        raise TypeError("is no manifest")
    # A format is imported with its options, and few commands are about every format.
    return replace(manifest, boxes=OnDemand(document["order"], lambda name: _value(boxes[name])))


def _of_section(section: Section) -> dict[str, Any]:
    kind = type(section)
    told = {
        spec.name: _plain(getattr(section, spec.name))
        for spec in fields(section)
        if getattr(section, spec.name) != _default(spec)
    }
    return {"section": f"{kind.__module__}:{kind.__qualname__}", "told": told}


def _default(spec: Field[Any]) -> object:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()


def _plain(value: object) -> Any:
    if isinstance(value, Section):
        return _of_section(value)
    if isinstance(value, dict):
        return {"table": {key: _plain(inner) for key, inner in value.items()}}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_value(inner) for inner in plain)
    if not isinstance(plain, dict):
        return plain
    if "table" in plain:
        return {key: _value(inner) for key, inner in plain["table"].items()}
    return _section(plain["section"])(**{name: _value(inner) for name, inner in plain["told"].items()})


def _section(place: str) -> type[Section]:
    module, _, name = place.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Section)):
        raise TypeError(f"{place} is no table of a manifest")
    return found
