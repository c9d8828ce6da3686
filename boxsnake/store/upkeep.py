"""The upkeep of a store: how much there is, whether it is sound, and what nobody uses."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from pathlib import Path

from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import ResourceError
from boxsnake.progress import track
from boxsnake.store.files import DIGEST, files, hash_file, is_plain_file, names
from boxsnake.store.ground import DAY, Ground
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class StoreSize:
    """What the store takes: numbers of things and bytes."""

    blobs: int
    blob_bytes: int
    selectors: int
    selector_bytes: int
    temporary_bytes: int
    quarantine_bytes: int
    caches: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it, in bytes."""
        return sum(
            (self.blob_bytes, self.selector_bytes, self.temporary_bytes, self.quarantine_bytes, self.cache_bytes)
        )


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a look at every blob found: how many were hashed, and the digests of those that were bad."""

    checked: int
    bad: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was removed, and how many blobs were left because they are in use or too young."""

    blobs: int
    selectors: int
    caches: int
    freed_bytes: int
    kept: int


def size_of(ground: Ground) -> StoreSize:
    """How much there is."""
    blobs = [size for _, size in files(ground.blobs)]
    selectors = [size for _, size in files(ground.selectors)]
    caches = names(ground.caches)
    return StoreSize(
        blobs=len(blobs),
        blob_bytes=sum(blobs),
        selectors=len(selectors),
        selector_bytes=sum(selectors),
        temporary_bytes=sum(size for _, size in files(ground.tmp)),
        quarantine_bytes=sum(size for _, size in files(ground.quarantine)),
        caches=len(caches),
        cache_bytes=sum(size for _, size in files(ground.caches)),
    )


def verify(ground: Ground) -> Verified:
    """Hash every blob; bad ones are put aside. Raises ResourceError where the disk fails."""
    checked = 0
    bad: list[str] = []
    blobs = list(files(ground.blobs))
    with track("verify", sum(size for _, size in blobs)) as advance:
        for path, size in blobs:
            checked += 1
            fault = _fault_of(ground, path)
            if fault is not None:
                bad.append(fault)
            advance(size)
    return Verified(checked=checked, bad=tuple(sorted(bad)))


def _fault_of(ground: Ground, path: Path) -> str | None:
    """Name a file of the store that is bad, and put it aside; None where it is sound, or has gone."""
    digest = f"sha256:{path.name}"
    if not DIGEST.fullmatch(digest) or path.parent.name != path.name[:2]:
        ground.set_aside(path, "stray")
        return str(path.relative_to(ground.top))
    try:
        with disk_faults(path):
            sound = is_plain_file(path) and hash_file(path) == digest
    except ResourceError:
        if not path.exists():
            return None
        raise
    if sound:
        return None
    ground.set_aside(path, path.name)
    return digest


def clean(ground: Ground, older_than: timedelta | None) -> Cleaned:
    """Remove what has not been used for that time (None: everything), except what running processes use."""
    now = time.time()
    limit = now - older_than.total_seconds() if older_than is not None else float("inf")
    lease = ground.join()
    # Nobody joins or marks a blob as used while this lock is held: what is old enough now stays unused.
    with ground.held(shared=False):
        ground.reap()
        first = _oldest_lease(ground)
        if first is not None:
            # A use is marked at most once a day.
            limit = min(limit, first - DAY)
        removed, kept = _remove_older(ground.blobs, limit)
        selectors, _ = _remove_older(ground.selectors, limit)
        evidence, _ = _remove_older(ground.quarantine, limit)
        caches = _remove_caches(ground, limit, lease.folder)
        ground.remove_locks()
    return Cleaned(
        blobs=len(removed),
        selectors=len(selectors),
        caches=len(caches),
        freed_bytes=sum(removed + selectors + evidence + caches),
        kept=kept,
    )


def _remove_caches(ground: Ground, limit: float, work: Path) -> list[int]:
    """Remove other programs' caches that were last used before the limit: their sizes.

    Each goes out of sight in one step first: a part of a cache might be taken for the whole.
    """
    removed: list[int] = []
    for name in sorted(names(ground.caches)):
        folder, gone = ground.caches / name, work / f"cache-{name}"
        with disk_faults(folder):
            if folder.lstat().st_mtime < limit:
                removed.append(sum(size for _, size in files(folder)))
                folder.rename(gone)
                remove_tree(gone)
    return removed


def _oldest_lease(ground: Ground) -> float | None:
    """When the process that has used the store for longest began, others than this store's own left out."""
    own = ground.lease.lock if ground.lease is not None else None
    starts = []
    for lock in ground.tmp.glob("*.lock"):
        with contextlib.suppress(OSError):
            if lock != own:
                starts.append(lock.stat().st_mtime)
    return min(starts, default=None)


def _remove_older(folder: Path, limit: float) -> tuple[list[int], int]:
    """Remove files last used before the limit (seconds since 1970): their sizes, and how many were left."""
    removed: list[int] = []
    kept = 0
    for path, size in files(folder):
        with contextlib.suppress(FileNotFoundError), disk_faults(path):
            if path.lstat().st_mtime < limit:
                path.unlink()
                removed.append(size)
            else:
                kept += 1
    return removed, kept
