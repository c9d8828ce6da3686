"""What is wrong with a manifest, in words: validation errors as faults with their key, line and nearest known key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from boxsnake.errors import Fault
from boxsnake.plain_text import escaped, shortened
from boxsnake.toml_lines import KeyPath, line_of
from boxsnake.urls import redact

_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "an array",
    "list_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_TOML_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a whole number"),
    (float, "a number"),
    (list, "an array"),
    (tuple, "an array"),
    (dict, "a table"),
)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the keys of a manifest stand: in which file, below which table, and at which lines.

    `elsewhere` leads from a key that was filled in to the one that it was taken from.
    """

    source: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    prefix: KeyPath = ()
    elsewhere: Mapping[KeyPath, KeyPath] = field(default_factory=dict)

    def fault(self, path: KeyPath, message: str) -> Fault:
        """A fault at a key path of the manifest."""
        path = self.elsewhere.get(path, (*self.prefix, *path))
        line = line_of(self.lines, path)
        return Fault(source=self.source, line=line, key=key_text(path), message=escaped(redact(message)))


def key_text(path: KeyPath) -> str:
    """A key path as people write it: "checks[0].name"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        bare = part if part.replace("-", "").replace("_", "").isalnum() and part.isascii() else f'"{part}"'
        text += f".{bare}" if text else bare
    return shortened(escaped(redact(text)), 120)


def nearest(key: str, known: Iterable[str]) -> str:
    """A hint at the one of `known` that is most like `key`, else at all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(key, known, n=1)
    return f"is {near[0]!r} meant?" if near else f"known are {', '.join(known) or 'none'}"


def validation_faults(
    error: ValidationError, model: type[BaseModel], data: Any, path: KeyPath, places: Places
) -> Iterator[Fault]:
    """The faults of `data`, which stands at `path` and was validated as `model`."""
    for details in error.errors(include_url=False, include_context=True, include_input=True):
        location = _written(details["loc"], data, details["type"] in {"missing", "extra_forbidden"})
        yield places.fault((*path, *location), _message(details, model, location))


def _message(details: ErrorDetails, model: type[BaseModel], location: KeyPath) -> str:
    kind, given = details["type"], details["input"]
    if kind == "missing":
        return "is needed"
    if kind == "extra_forbidden":
        return _unknown_key(model, location)
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}, not {_type_of(given)}"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "literal_error":
        return f"must be {details['ctx']['expected']}"
    words = details["msg"].replace("Input should", "must")
    return words[:1].lower() + words[1:]


def _type_of(value: object) -> str:
    return next((words for kind, words in _TOML_TYPES if isinstance(value, kind)), "a date or time")


def _unknown_key(model: type[BaseModel], location: KeyPath) -> str:
    key = str(location[-1])
    parent = _model_at(model, location[:-1])
    homes = [] if key in _keys(parent) else [table for table, inner in _tables(model) if key in _keys(inner)]
    if homes and not difflib.get_close_matches(key, _keys(parent), n=1):
        return f"unknown key here; it belongs in {' or '.join(homes)}"
    return f"unknown key; {nearest(key, _keys(parent))}"


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()] if model else []


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for key in _keys(model):
        for path, text in (((key,), f"[{key}]"), ((key, "name"), f"[{key}.<name>]"), ((key, 0), f"[[{key}]]")):
            if inner := _model_at(model, path):
                yield text, inner


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The model of the table at `path`; None where it is no table with known keys."""
    annotation: Any = model
    for part in path:
        annotation = _inner(annotation, part)
    annotation = _unwrapped(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _inner(annotation: Any, part: str | int) -> Any:
    annotation = _unwrapped(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return next((f.annotation for name, f in annotation.model_fields.items() if (f.alias or name) == part), None)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict and isinstance(part, str):
        return arguments[1]
    if get_origin(annotation) in {tuple, list} and isinstance(part, int):
        return arguments[0]
    return None


def _unwrapped(annotation: Any) -> Any:
    """An annotation without what is around it: `Annotated`, `… | None`."""
    if get_origin(annotation) is Annotated:
        return _unwrapped(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        inner = [argument for argument in get_args(annotation) if argument is not type(None)]
        return _unwrapped(inner[0]) if len(inner) == 1 else annotation
    return annotation


def _written(location: tuple[int | str, ...], data: Any, last_is_key: bool) -> KeyPath:
    """The part of an error's location that is in the data; the rest names validators, not keys."""
    path: list[str | int] = []
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            break
        path.append(part)
    if last_is_key and len(path) < len(location):
        path.append(location[-1])
    return tuple(path)
