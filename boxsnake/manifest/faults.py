"""What is wrong with a manifest, in words: validation errors as faults with their key, line and nearest known key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

from boxsnake.errors import Fault
from boxsnake.manifest.section import Section, key_of
from boxsnake.plain_text import escaped, shortened
from boxsnake.toml_lines import KeyPath, line_of
from boxsnake.urls import redact
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

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
    error: ValidationError, section: type[Section], data: Any, path: KeyPath, places: Places
) -> Iterator[Fault]:
    """The faults of `data`, which stands at `path` and was validated as a `section`."""
    for details in error.errors(include_url=False, include_context=True, include_input=True):
        location = _written(details["loc"], data, details["type"] in {"missing", "extra_forbidden"})
        yield places.fault((*path, *location), _message(details, section, location))


def _message(details: ErrorDetails, section: type[Section], location: KeyPath) -> str:
    kind, given = details["type"], details["input"]
    if kind == "missing":
        return "is needed"
    if kind == "extra_forbidden":
        return _unknown_key(section, location)
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


def _unknown_key(section: type[Section], location: KeyPath) -> str:
    key = str(location[-1])
    parent = _section_at(section, location[:-1])
    homes = [] if key in _keys(parent) else [table for table, inner in _tables(section) if key in _keys(inner)]
    if homes and not difflib.get_close_matches(key, _keys(parent), n=1):
        return f"unknown key here; it belongs in {' or '.join(homes)}"
    return f"unknown key; {nearest(key, _keys(parent))}"


def _keys(section: type[Section] | None) -> list[str]:
    return [key_of(spec.name) for spec in fields(section)] if section else []


def _tables(section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    for key in _keys(section):
        for path, text in (((key,), f"[{key}]"), ((key, "name"), f"[{key}.<name>]"), ((key, 0), f"[[{key}]]")):
            if inner := _section_at(section, path):
                yield text, inner


def _section_at(section: type[Section], path: KeyPath) -> type[Section] | None:
    """The section of the table at `path`; None where it is no table with known keys."""
    annotation: Any = section
    for part in path:
        annotation = _inner(annotation, part)
    annotation = _unwrapped(annotation)
    return annotation if _is_section(annotation) else None


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _inner(annotation: Any, part: str | int) -> Any:
    annotation = _unwrapped(annotation)
    if _is_section(annotation):
        return get_type_hints(annotation).get(str(part).replace("-", "_")) if part in _keys(annotation) else None
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
