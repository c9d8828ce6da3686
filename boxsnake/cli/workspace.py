"""What `build` and `boot` start from: a manifest, its lock, the user's settings and the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boxsnake import pack, settings
from boxsnake.credentials import Credentials
from boxsnake.errors import LockError
from boxsnake.lock import Lock
from boxsnake.manifest_file import LoadedManifest, load
from boxsnake.settings import Settings
from boxsnake.store import Store


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """An application's folder, opened."""

    loaded: LoadedManifest
    lock: Lock
    settings: Settings
    store: Store
    output: Path

    @property
    def credentials(self) -> Credentials:
        """What the user's settings and environment know of servers."""
        return Credentials.from_environment(self.settings.credentials)

    def boxes(self, formats: Sequence[str] = (), targets: Sequence[str] = ()) -> list[pack.Box]:
        """See `boxsnake.pack.boxes`."""
        return pack.boxes(
            self.loaded.manifest,
            self.lock,
            self.store,
            root=self.loaded.root,
            output=self.output,
            formats=formats,
            targets=targets,
        )


def open_workspace(manifest: Path | None, *, output: Path | None = None) -> Workspace:
    """Read the manifest and its lock. Errors: ManifestError; LockError where the lock is missing or stale."""
    loaded = load(manifest)
    store = Store(Store.default_root())
    configured = settings.load()
    return Workspace(
        loaded=loaded,
        lock=fresh_lock(loaded, store, configured),
        settings=configured,
        store=store,
        output=(output or loaded.root / "dist").absolute(),
    )


def fresh_lock(loaded: LoadedManifest, store: Store, configured: Settings) -> Lock:
    """The manifest's lock. Errors: LockError where it is missing, or where it was made for other requirements."""
    from boxsnake.lock_file import path_of_lock, read
    from boxsnake.resolve import inputs_of, stale

    path = path_of_lock(loaded)
    lock = read(path)
    changes = stale(lock, inputs_of(loaded, store, configured))
    if changes:
        listing = "\n".join(f"  {change}" for change in changes)
        cause = f"it does not fit {loaded.path.name} any more\n{listing}"
        raise LockError(path.name, cause, "Run `boxsnake lock`.", changes=changes)
    return lock
