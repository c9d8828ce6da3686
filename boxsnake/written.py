"""Values as JSON and back, for whoever remembers them: nothing is checked, as that was done when they were made."""

from __future__ import annotations

import importlib
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def plain(value: object) -> Any:
    """A dataclass, or a tuple or table of such, as JSON values: what is as by default is left out."""
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {"table": {key: plain(inner) for key, inner in value.items()}}
    if not is_dataclass(value):
        return value
    kind = type(value)
    told = {
        spec.name: plain(getattr(value, spec.name))
        for spec in fields(value)
        if getattr(value, spec.name) != _default(spec)
    }
    return {"value": f"{kind.__module__}:{kind.__qualname__}", "told": told}


def value_of(document: Any) -> Any:
    """The value that was written. Errors: TypeError, KeyError, AttributeError where it is none."""
    if isinstance(document, list):
        return tuple(value_of(inner) for inner in document)
    if not isinstance(document, dict):
        return document
    if "table" in document:
        return {key: value_of(inner) for key, inner in document["table"].items()}
    return _kind(document["value"])(**{name: value_of(inner) for name, inner in document["told"].items()})


def _default(spec: Field[Any]) -> object:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()


def _kind(place: str) -> type:
    module, _, name = place.partition(":")
    kind: type = getattr(importlib.import_module(module), name)
    if not is_dataclass(kind):
        raise TypeError(f"{place} is no value")
    return kind
