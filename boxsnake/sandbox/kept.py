"""Sandboxes that stay when a boot is over, for people to look into: their files alone, as no process lasts."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import UsageError
from boxsnake.sandbox.identities import identities
from boxsnake.sandbox.running import RunningSandbox, Start
from boxsnake.store import Store

_SHELL = ("sh",)


def make(store: Store) -> Path:
    """A new folder for a sandbox that may stay."""
    folder = store.root / "kept" / secrets.token_hex(4)
    with disk_faults(folder):
        folder.mkdir(mode=0o755, parents=True)
    return folder


def enter(folder: Path, command: tuple[str, ...]) -> int:
    """Run a command in one with the terminal of this process, as its root; a shell where none is named: its exit code.

    Errors: UsageError where there is none, EngineError.
    """
    return _conversed(folder, command or _SHELL)


def remove(folder: Path) -> None:
    """Remove one, as only its own root may. Errors: as `enter`."""
    sandbox = _started(folder, tree=False)
    sandbox.end()
    with disk_faults(folder):
        remove_tree(folder)


def _conversed(folder: Path, command: tuple[str, ...]) -> int:
    sandbox = _started(folder, tree=True)
    try:
        sandbox.keep()
        return sandbox.converse(command, [stream.fileno() for stream in (sys.stdin, sys.stdout, sys.stderr)])
    finally:
        sandbox.end()


def _started(folder: Path, *, tree: bool) -> RunningSandbox:
    folder = folder.absolute()
    if not (folder / "root").is_dir() or not (folder / "tmp").is_dir():
        step = "Name the folder that `boxsnake boot --keep` has printed."
        raise UsageError(str(folder), "there is no sandbox", step)
    start = Start(
        folder=folder,
        name=f"kept-{folder.name}",
        layers=(),
        identities=identities(),
        environment={},
        capabilities=(),
        groups=None,
        small={},
        tree=tree,
    )
    return RunningSandbox(start)
