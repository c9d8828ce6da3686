"""`boxsnake schema`: what an editor needs to complete a manifest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from boxsnake.cli import boxsnake
from boxsnake.manifest import Manifest, Section
from boxsnake.manifest.schema import DIALECT, json_schema
from boxsnake.manifest.section import key_of
from boxsnake.packagers import packagers
from tests.test_manifest import TABLES, WHOLE

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    result = CliRunner().invoke(boxsnake, ["schema"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def complaints(value: Any, rule: dict[str, Any], schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """What the rules of the schema that it uses say against a value of a TOML document."""
    if "$ref" in rule:
        rule = {**rule, **schema["$defs"][rule["$ref"].removeprefix("#/$defs/")]}
    if "type" in rule and not isinstance(value, TYPES[rule["type"]]):
        yield f"{where} is no {rule['type']}"
        return
    if "enum" in rule and value not in rule["enum"]:
        yield f"{where} is none of {rule['enum']}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{where} does not match {rule['pattern']}"
    for number, item in enumerate(value) if isinstance(value, list) else ():
        yield from complaints(item, rule.get("items", {}), schema, f"{where}[{number}]")
    if isinstance(value, dict):
        yield from complaints_of_table(value, rule, schema, where)


def complaints_of_table(
    table: dict[str, Any], rule: dict[str, Any], schema: dict[str, Any], where: str
) -> Iterator[str]:
    if "oneOf" in rule and sum(set(choice["required"]) <= set(table) for choice in rule["oneOf"]) != 1:
        yield f"{where} is not one of {rule['oneOf']}"
    yield from (f"{where}.{key} is missing" for key in rule.get("required", ()) if key not in table)
    for key, inner in table.items():
        rules = [rule["properties"][key]] if key in rule.get("properties", {}) else []
        rules += [r for pattern, r in rule.get("patternProperties", {}).items() if re.search(pattern, key)]
        if not rules and rule.get("additionalProperties") is False:
            yield f"{where}.{key} is unknown"
        for found in rules:
            yield from complaints(inner, found, schema, f"{where}.{key}")


def every(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from every(inner)


def test_it_says_what_it_is(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DIALECT
    assert schema["$id"].startswith("urn:")
    assert (schema["title"], schema["type"], schema["required"]) == ("boxsnake.toml", "object", ["app"])


def test_it_has_every_format_with_every_option(schema: dict[str, Any]) -> None:
    formats = schema["properties"]["boxes"]["properties"]
    assert list(formats) == list(packagers())
    assert schema["properties"]["boxes"]["additionalProperties"] is False
    for name, packager in packagers().items():
        options = schema["$defs"][formats[name]["$ref"].removeprefix("#/$defs/")]
        keys = [key_of(spec.name) for spec in fields(packager.options)]
        assert list(options.get("properties", {})) == keys


@pytest.mark.parametrize("model", [Manifest, *TABLES])
def test_every_key_has_title_and_description(schema: dict[str, Any], model: type[Section]) -> None:
    definition = schema if model is Manifest else schema["$defs"][model.__name__]
    assert definition["description"]
    assert definition["additionalProperties"] is False
    keys = [key_of(spec.name) for spec in fields(model)]
    assert list(definition["properties"]) == keys
    for key, value in definition["properties"].items():
        assert value["title"] == key
        assert value["description"].strip()


def test_nothing_asks_for_null_and_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    for node in every(schema):
        assert node.get("type") != "null"
        assert node.get("default", ()) is not None
        reference = node.get("$ref")
        assert reference is None or reference.removeprefix("#/$defs/") in schema["$defs"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/boxsnake.toml")), ids=lambda path: path.parent.name)
def test_the_examples_fit(schema: dict[str, Any], path: Path) -> None:
    assert list(complaints(tomllib.loads(path.read_text(encoding="utf-8")), schema, schema)) == []


def test_a_manifest_with_every_table_fits() -> None:
    document = tomllib.loads(WHOLE)
    del document["boxes"]
    schema = json_schema({})
    assert list(complaints(document, schema, schema)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app = {}",
        "app = {name = 'A b'}",
        "app = {name = 'a', nam = 1}",
        "app = {name = 'a', command = 'x'}",
        "app = {name = 'a', ports = ['80']}",
        "app = {name = 'a'}\nboxes = {tea = {}}",
        "app = {name = 'a'}\ntargets.x.platform = 'linux-65'",
        "app = {name = 'a'}\ntargets.'../x' = {}",
        "app = {name = 'a'}\nhooks.post_install = 'x'",
        "app = {name = 'a'}\nchecks = [{name = 'a'}]",
        "app = {name = 'a'}\nchecks = [{name = 'a', run = ['x'], http = '/'}]",
    ],
)
def test_what_does_not_fit(schema: dict[str, Any], text: str) -> None:
    assert list(complaints(tomllib.loads(text), schema, schema))


def test_it_is_the_same_text_every_time(tmp_path: Path) -> None:
    texts = []
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.json"
        command = [sys.executable, "-m", "boxsnake", "schema", "--output", str(path)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "PATH": "/nowhere", "LC_ALL": "C"})
        texts.append(path.read_bytes())
    assert texts[0] == texts[1] == CliRunner().invoke(boxsnake, ["schema"]).output.encode("utf-8")
