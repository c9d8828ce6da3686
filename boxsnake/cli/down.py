"""`boxsnake down`: what `up` has started is removed."""

from __future__ import annotations

from pathlib import Path

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.options import about_manifest
from boxsnake.cli.stack import identity_of


@click.command(epilog="What the services held is gone with them. Nothing to remove is fine.")
@about_manifest
@click.option("--all", "everything", is_flag=True, help="Every stack of this user's engine, of whatever manifest.")
@click.pass_context
def command(context: click.Context, manifest: Path | None, everything: bool) -> None:
    """Stop and remove what `boxsnake up` has started."""
    from boxsnake.engine import connect
    from boxsnake.manifest_file import load
    from boxsnake.plain_text import counted
    from boxsnake.stack.running import STACK_LABEL, image_name, remove
    from boxsnake.store import Store

    console = console_of(context)
    own = [] if everything else [identity_of(load(manifest, store=Store(Store.default_root())).root)]
    engine = connect()
    found = own or list(dict.fromkeys(one.labels[STACK_LABEL] for one in engine.labelled(STACK_LABEL)))
    count = 0
    for identity in found:
        count += remove(engine, identity)
        engine.remove_image(image_name(identity))
    console.say(f"{counted(count, 'container')} removed" if count else "nothing was up")
