"""`boxsnake enter`: what a boot has kept of a sandbox."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="As the sandbox's own root, without network. Nothing that ran in it runs any more; its files are as they "
    "were, and stay until `--remove`.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
@click.option("--remove", "is_removed", is_flag=True, help="Remove it.")
@click.pass_context
def command(context: click.Context, folder: Path, words: tuple[str, ...], is_removed: bool) -> None:
    """Open a shell, or run a command, in a sandbox that `boxsnake boot --keep` has left."""
    from boxsnake.sandbox import kept

    if is_removed:
        kept.remove(folder)
    else:
        context.exit(kept.enter(folder, words))
