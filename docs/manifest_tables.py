"""Write the tables of docs/manifest.md that are made from the manifest's models, between their markers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from boxsnake.manifest.schema import json_schema

PAGE = Path(__file__).parent / "manifest.md"

_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "object": "table",
    "array": "array",
    "boolean": "true or false",
}


def table(definition: dict[str, Any]) -> str:
    """The keys of one table of the manifest, as Markdown."""
    required = definition.get("required", [])
    rows = []
    for key, value in definition["properties"].items():
        default = "**needed**" if key in required else f"`{json.dumps(value['default'])}`" if "default" in value else ""
        rows.append(f"| `{key}` | {_type_of(value)} | {default} | {value['description']} |".replace("  ", " "))
    return "\n".join(["| key | type | default | what it is |", "|---|---|---|---|", *rows])


def written(text: str) -> str:
    """The page with its tables as the models have them."""
    for name, definition in json_schema({})["$defs"].items():
        made = table(definition).replace("\\", r"\\")
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\1{made}\n\2", text, flags=re.DOTALL)
    return text


def _type_of(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return _TYPES["object"]
    if "enum" in value:
        return ", ".join(f'"{choice}"' for choice in value["enum"])
    if value["type"] == "array":
        return f"array of {_type_of(value['items'])}s".replace("texts", "text")
    return _TYPES[value["type"]]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
