"""`boxsnake ps`: what is up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.options import about_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from boxsnake.engine import Listed


@click.command(epilog="Without a manifest here, or with --all, every stack is listed.")
@about_manifest
@click.option("--all", "everything", is_flag=True, help="Every stack, of whatever manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, manifest: Path | None, everything: bool, as_json: bool) -> None:
    """List the containers that `boxsnake run` and `up` have started."""
    from boxsnake.engine import connect
    from boxsnake.stack.running import STACK_LABEL

    console = console_of(context, as_json=as_json)
    identity = "" if everything else _identity(manifest)
    found = connect().labelled(STACK_LABEL, identity)
    if found:
        console.show(lambda: _table(found))
    else:
        console.say("nothing is up")
    console.result(lambda: {"containers": [_facts(one) for one in found]})


def _identity(manifest: Path | None) -> str:
    """The stack of the manifest that is named or lies here, or "" for every stack."""
    from boxsnake.cli.stack import identity_of
    from boxsnake.errors import UsageError
    from boxsnake.manifest_file import load
    from boxsnake.store import Store

    try:
        return identity_of(load(manifest, store=Store(Store.default_root())).root)
    except UsageError:
        if manifest is not None:
            raise
        return ""


def _table(found: Sequence[Listed]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("stack", "environment", "unit", "kind", "state", "reached at"):
        table.add_column(column, overflow="fold")
    for one in found:
        facts = _facts(one)
        state = one.state if one.exit_code is None else f"{one.state} ({one.exit_code})"
        table.add_row(
            *(facts["stack"], facts["environment"], facts["unit"], facts["kind"], state, " ".join(facts["urls"]))
        )
    return table


def _facts(one: Listed) -> dict[str, Any]:
    from boxsnake.stack.running import ENVIRONMENT_LABEL, KIND_LABEL, NAME_LABEL, UNIT_LABEL, urls

    unit = one.labels.get(UNIT_LABEL, "")
    application = one.labels.get(NAME_LABEL, "")
    return {
        "id": one.id,
        "stack": application,
        "environment": one.labels.get(ENVIRONMENT_LABEL, ""),
        "unit": unit,
        "kind": one.labels.get(KIND_LABEL, ""),
        "state": one.state,
        "exit-code": one.exit_code,
        "urls": [url for _, url in urls(application, {unit: one.ports})],
    }
