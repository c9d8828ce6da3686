"""`boxsnake cache`: where the store is, what it takes, whether it is sound; and making room."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import click

from boxsnake.cli.console import console_of
from boxsnake.errors import IntegrityError
from boxsnake.plain_text import human_size
from boxsnake.store import Store

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """Look at, verify and clean the store.

    Removing it, or any part of it, costs time and nothing else: what is missing is fetched or made again.
    """


@command.command("dir")
@_AS_JSON
@click.pass_context
def show_folder(context: click.Context, as_json: bool) -> None:
    """Print the store's folder. BOXSNAKE_CACHE_DIR names another one."""
    console = console_of(context, as_json=as_json)
    root = Store.default_root()
    console.say(str(root))
    console.result(lambda: {"folder": str(root)})


@command.command()
@_AS_JSON
@click.pass_context
def size(context: click.Context, as_json: bool) -> None:
    """Print what the store takes on the disk."""
    console = console_of(context, as_json=as_json)
    store = Store(Store.default_root())
    found = store.size()
    console.say(f"{'files':<12} {human_size(found.blob_bytes):>9}  {found.blobs} packages and layers")
    console.say(f"{'results':<12} {human_size(found.selector_bytes):>9}  {found.selectors} remembered")
    console.say(f"{'work':<12} {human_size(found.temporary_bytes):>9}  of commands that run, or were killed")
    console.say(f"{'quarantine':<12} {human_size(found.quarantine_bytes):>9}  bytes that were not the right ones")
    console.say(f"{'caches':<12} {human_size(found.cache_bytes):>9}  of {found.caches} other programs")
    console.say(f"{'total':<12} {human_size(found.total_bytes):>9}  in {store.root}")
    console.result(lambda: {"folder": str(store.root), "total_bytes": found.total_bytes, **asdict(found)})


@command.command(epilog=f"Leaves with {IntegrityError.exit_code} when something was bad, with 0 otherwise.")
@_AS_JSON
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Hash every file. Bad ones are put aside, and fetched or made again when they are next needed.

    Other programs' caches are left alone: nothing is taken from them but by a digest.
    """
    console = console_of(context, as_json=as_json)
    store = Store(Store.default_root())
    with console.progress():
        verified = store.verify()
    for name in verified.bad:
        console.say(f"bad    {name}")
    if verified.bad:
        console.say(
            f"{len(verified.bad)} of {verified.checked} files were bad and are now in {store.quarantine_folder}"
        )
    else:
        console.say(f"{verified.checked} files are what they should be")
    console.result(lambda: {"folder": str(store.root), **asdict(verified)})
    if verified.bad:
        context.exit(IntegrityError.exit_code)


@command.command()
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Leave what was used in the last DAYS days."
)
@_AS_JSON
@click.pass_context
def clean(context: click.Context, older_than: float | None, as_json: bool) -> None:
    """Remove what no running command uses."""
    console = console_of(context, as_json=as_json)
    store = Store(Store.default_root())
    cleaned = store.clean(timedelta(days=older_than) if older_than is not None else None)
    what = f"{cleaned.blobs} files, {cleaned.selectors} results and {cleaned.caches} caches of other programs"
    console.say(f"removed {what}: {human_size(cleaned.freed_bytes)}")
    if cleaned.kept:
        console.say(f"left    {cleaned.kept} files that are in use, or were used lately")
    console.result(lambda: {"folder": str(store.root), **asdict(cleaned)})
