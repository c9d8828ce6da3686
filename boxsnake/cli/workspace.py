"""What `build` and `boot` start from: a manifest, its lock, the user's settings and the store."""

from __future__ import annotations

from pathlib import Path

from boxsnake import settings
from boxsnake.asked import Asked, asked_of, inputs
from boxsnake.boxes import Workspace
from boxsnake.errors import LockError
from boxsnake.lock import Inputs, Lock
from boxsnake.lock_file import path_of_lock, read
from boxsnake.manifest_file import LoadedManifest, load
from boxsnake.materials import Access
from boxsnake.registry import Registries
from boxsnake.store import Store


def open_workspace(manifest: Path | None, *, output: Path | None = None, offline: bool = False) -> Workspace:
    """Read the manifest and its lock. Errors: ManifestError; LockError where the lock is missing or stale."""
    store = Store(Store.default_root())
    loaded = load(manifest, store=store)
    configured = settings.load()
    asked = asked_of(loaded, store, configured)
    return Workspace(
        asked=asked,
        lock=fresh_lock(loaded, asked, store),
        store=store,
        output=(output or loaded.root / "dist").absolute(),
        access=Access(
            credentials=asked.credentials,
            index=asked.index.variables(),
            bases=configured.bases,
            registries=Registries.of(configured, asked.credentials),
            mirrors=configured.mirrors,
            offline=offline,
        ),
    )


def fresh_lock(loaded: LoadedManifest, asked: Asked, store: Store) -> Lock:
    """The manifest's lock. Errors: LockError where it is missing, or where it was made for other requirements."""
    path = path_of_lock(loaded)
    lock = read(path)
    wanted = inputs(asked, store)
    if lock.inputs != wanted:
        _refuse_stale(path, lock, wanted, loaded.path.name)
    return lock


def _refuse_stale(path: Path, lock: Lock, wanted: Inputs, manifest: str) -> None:
    from boxsnake.lock.difference import stale

    changes = stale(lock, wanted)
    if changes:
        listing = "\n".join(f"  {change}" for change in changes)
        cause = f"it does not fit {manifest} any more\n{listing}"
        raise LockError(path.name, cause, "Run `boxsnake lock`.", changes=changes)
