"""The manifest's JSON schema, for editors that complete and check it while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from boxsnake.manifest.models import Manifest, Section

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER = "urn:boxsnake:manifest"


def json_schema(box_options: Mapping[str, type[Section]]) -> dict[str, Any]:
    """The schema of boxsnake.toml, `[boxes.<format>]` of every format in `box_options` included.

    Obeys JSON Schema draft 2020-12. What only decoding can tell (whether a requirement can be read, what contradicts
    what) is not in it. The same models give the same value, keys in the order in which they are declared.
    """
    mode: JsonSchemaMode = "validation"
    models: list[type[Section]] = list(dict.fromkeys((Manifest, *box_options.values())))
    references, shared = models_json_schema([(model, mode) for model in models])
    definitions: dict[str, Any] = shared["$defs"]
    root = definitions.pop(references[Manifest, mode]["$ref"].rpartition("/")[2])
    root["properties"]["boxes"] = {
        "title": "Boxes",
        "description": root["properties"]["boxes"]["description"],
        "type": "object",
        "additionalProperties": False,
        "properties": {name: references[options, mode] for name, options in box_options.items()},
    }
    return {
        "$schema": DIALECT,
        "$id": IDENTIFIER,
        "title": "boxsnake.toml",
        **{key: value for key, value in _tidied(root).items() if key != "title"},
        "$defs": {name: _tidied(definition) for name, definition in sorted(definitions.items())},
    }


def _tidied(schema: Any) -> Any:
    """A schema as TOML needs it: without null, which TOML cannot say, and the defaults of whole tables."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema = {key: value for key, value in schema.items() if key != "anyOf"} | choices[0]
    tidied = {key: _tidied(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        tidied["properties"] = {
            key: {"title": key, **{k: v for k, v in _tidied(inner).items() if k != "title"}}
            for key, inner in schema["properties"].items()
        }
    if "patternProperties" in tidied:
        tidied["additionalProperties"] = False
    if tidied.get("default", ()) is None or isinstance(tidied.get("default"), dict):
        del tidied["default"]
    if isinstance(tidied.get("description"), str):
        tidied["description"] = " ".join(tidied["description"].split())
    return tidied
