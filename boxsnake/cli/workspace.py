"""What `build` and `boot` start from: a manifest, its lock, the user's settings and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from boxsnake import pack, settings
from boxsnake.errors import LockError
from boxsnake.lock import Lock, stale
from boxsnake.lock_file import path_of_lock, read
from boxsnake.manifest_file import LoadedManifest, load
from boxsnake.materials import Access
from boxsnake.registry import Registries
from boxsnake.resolve import Asked, asked_of, inputs
from boxsnake.store import Store


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """An application's folder, opened."""

    asked: Asked
    lock: Lock
    store: Store
    output: Path
    access: Access

    def boxes(
        self,
        formats: Sequence[str] = (),
        targets: Sequence[str] = (),
        meanwhile: Callable[[], None] | None = None,
    ) -> list[pack.Box]:
        """See `boxsnake.pack.boxes`."""
        return pack.boxes(
            self.asked,
            self.lock,
            self.store,
            self.access,
            output=self.output,
            formats=formats,
            targets=targets,
            meanwhile=meanwhile,
        )

    def candidates(self, formats: Sequence[str] = (), targets: Sequence[str] = ()) -> Iterator[pack.Candidate]:
        """See `boxsnake.pack.candidates`."""
        return pack.candidates(
            self.asked, self.lock, self.store, self.access, output=self.output, formats=formats, targets=targets
        )


def open_workspace(manifest: Path | None, *, output: Path | None = None, offline: bool = False) -> Workspace:
    """Read the manifest and its lock. Errors: ManifestError; LockError where the lock is missing or stale."""
    loaded = load(manifest)
    store = Store(Store.default_root())
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
    changes = stale(lock, inputs(asked, store))
    if changes:
        listing = "\n".join(f"  {change}" for change in changes)
        cause = f"it does not fit {loaded.path.name} any more\n{listing}"
        raise LockError(path.name, cause, "Run `boxsnake lock`.", changes=changes)
    return lock
