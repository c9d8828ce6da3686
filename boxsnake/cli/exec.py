"""`boxsnake exec`: a command in what is up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.options import about_manifest

if TYPE_CHECKING:
    from boxsnake.engine import Engine


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="It runs as the unit's own user with its variables, but without secrets. The exit code is the command's.",
)
@click.option("-s", "--service", help="In this service (default: the application).")
@about_manifest
@click.argument("words", nargs=-1, required=True, metavar="COMMAND...", type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, service: str | None, manifest: Path | None, words: tuple[str, ...]) -> None:
    """Run COMMAND in the application, or in one of its services, that `run` or `up` has started."""
    from boxsnake.cli.logs import chosen
    from boxsnake.cli.stack import identity_of
    from boxsnake.engine import connect
    from boxsnake.manifest_file import load
    from boxsnake.store import Store

    loaded = load(manifest, store=Store(Store.default_root()))
    engine = connect()
    (unit,) = chosen(engine, identity_of(loaded.root), (service or loaded.manifest.app.name,))
    context.exit(talk(engine, unit.id, words))


def talk(engine: Engine, identity: str, words: tuple[str, ...]) -> int:
    """Run a command with our own streams, and with a terminal where both ends of ours are one: its exit code."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    out, errors = sys.stdout.buffer, sys.stderr.buffer

    def write(data: bytes) -> None:
        out.write(data)
        out.flush()

    def complain(data: bytes) -> None:
        errors.write(data)
        errors.flush()

    return engine.converse(identity, words, source=sys.stdin.fileno(), out=write, errors=complain, terminal=terminal)
