"""`boxsnake schema`: the manifest's JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(name="schema")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file instead of printing."
)
def command(output: Path | None) -> None:
    """Print the manifest's JSON schema, for editors.

    It describes boxsnake.toml with the options of every format (in pyproject.toml: the table [tool.boxsnake]).
    Editors that know TOML schemas take it from a first line such as "#:schema ./boxsnake.schema.json".
    """
    from boxsnake.beside import publish_bytes
    from boxsnake.manifest.schema import json_schema
    from boxsnake.packagers import box_options

    schema = json_schema(box_options())
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        publish_bytes(text.encode("utf-8"), output)
