"""The manifest's JSON schema, for editors that complete and check it while it is written."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from boxsnake.manifest.grammar import Table, model_of
from boxsnake.manifest.models import Manifest
from boxsnake.manifest.section import Section, key_of

if TYPE_CHECKING:
    from pydantic_core.core_schema import ModelSchema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER = "urn:boxsnake:manifest"


def json_schema(box_options: Mapping[str, type[Section]]) -> dict[str, Any]:
    """The schema of boxsnake.toml, `[boxes.<format>]` of every format in `box_options` included.

    Obeys JSON Schema draft 2020-12. What only decoding can tell (whether a requirement can be read, what contradicts
    what) is not in it. The same models give the same value, keys in the order in which they are declared.
    """
    mode: JsonSchemaMode = "validation"
    sections: list[type[Section]] = list(dict.fromkeys((Manifest, *box_options.values())))
    models: list[tuple[type[Table], JsonSchemaMode]] = [(model_of(section), mode) for section in sections]
    references, shared = models_json_schema(models, schema_generator=_Described)
    definitions: dict[str, Any] = shared["$defs"]
    root = definitions.pop(references[model_of(Manifest), mode]["$ref"].rpartition("/")[2])
    root["properties"]["boxes"] = {
        "title": "Boxes",
        "description": root["properties"]["boxes"]["description"],
        "type": "object",
        "additionalProperties": False,
        "properties": {name: references[model_of(options), mode] for name, options in box_options.items()},
    }
    return {
        "$schema": DIALECT,
        "$id": IDENTIFIER,
        "title": "boxsnake.toml",
        **{key: value for key, value in _tidied(root).items() if key != "title"},
        "$defs": {name: _tidied(definition) for name, definition in sorted(definitions.items())},
    }


class _Described(GenerateJsonSchema):
    """Fields described by the docstrings below them.

    pydantic can collect these itself, but only when a model is defined: then every command that reads a manifest
    would parse the models' source, for descriptions that the schema alone shows.
    """

    def model_schema(self, schema: ModelSchema) -> dict[str, Any]:
        described: dict[str, Any] = super().model_schema(schema)
        section: type[Section] = schema["cls"].SECTION
        for name, text in _docstrings(section).items():
            described["properties"][key_of(name)].setdefault("description", text)
        return {**described, **section.more_schema}


def _docstrings(section: type) -> dict[str, str]:
    """The texts below the attributes of a class, by attribute."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - what else has a class as its source
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and not ast.unparse(field.annotation).startswith("ClassVar")
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = inspect.cleandoc(text.value.value)
    return found


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
