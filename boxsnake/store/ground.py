"""Where a store lies and who uses it: its folders, their owner and mode, and the leases of running processes."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from boxsnake import flock
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import ResourceError
from boxsnake.store.files import names
from boxsnake.store.lease import Lease

VERSION = 1
"""Of the layout."""
DAY = 86_400.0
"""How often a use is marked, in seconds."""
_CLEANING = "clean.lock"

_log = logging.getLogger(__name__)


class Ground:
    """The folders of a store, made if they are absent. Errors: see `boxsnake.store.Store`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.top = self.root / f"v{VERSION}"
        self.blobs = self.top / "blobs" / "sha256"
        self.selectors = self.top / "selectors"
        self.tmp = self.top / "tmp"
        self.quarantine = self.top / "quarantine"
        self.locks = self.top / "locks"
        self.caches = self.top / "caches"
        self.lease: Lease | None = None
        self._joining = threading.Lock()
        self._numbers = itertools.count()
        self._lay_out()

    def _lay_out(self) -> None:
        newer = [name for name in names(self.root) if re.fullmatch(r"v[1-9][0-9]{0,8}", name)]
        newest = max((int(name[1:]) for name in newer), default=0)
        if newest > VERSION:
            raise ResourceError(
                str(self.root),
                f"a newer boxsnake keeps its cache here (layout {newest}, this one knows {VERSION})",
                "Use the newer boxsnake, or name another folder in BOXSNAKE_CACHE_DIR.",
            )
        with disk_faults(self.root):
            if not self.root.is_dir():
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.root.stat()
        self.mode = found.st_mode & 0o2777
        self._owner = (found.st_uid, found.st_gid)
        try:
            for folder in (self.blobs, self.selectors, self.tmp, self.quarantine, self.locks):
                self.make_folder(folder)
        except ResourceError:
            if not self.blobs.is_dir():
                raise

    def make_folder(self, folder: Path) -> None:
        """Make a folder of the store and those above it, with the store's owner and mode."""
        if folder.is_dir():
            return
        if folder.parent != folder and folder != self.root:
            self.make_folder(folder.parent)
        with disk_faults(folder):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                return
            if os.geteuid() == 0 and self._owner != (0, 0):
                os.chown(folder, *self._owner)
            folder.chmod(self.mode | 0o700)

    def mark_used(self, path: Path) -> bool:
        """Note that the file is in use, so that `clean` leaves it; False where it has gone."""
        try:
            self.join()
            if time.time() - path.stat().st_mtime < DAY:
                return True
            with self.held(shared=True):
                os.utime(path)
        except FileNotFoundError:
            return False
        except (ResourceError, OSError):
            # A store that cannot be written cannot be cleaned either, as far as this user goes.
            return path.exists()
        return True

    def join(self) -> Lease:
        """Take this process's place among those that use the store."""
        lease = self.lease
        if lease is not None and lease.pid == os.getpid():
            return lease
        with self._joining:
            if self.lease is None or self.lease.pid != os.getpid():
                with self.held(shared=True):
                    self.lease = Lease.take(self.tmp)
                weakref.finalize(self, self.lease.release)
                self.reap()
            return self.lease

    def held(self, *, shared: bool) -> contextlib.AbstractContextManager[None]:
        """Hold off what cleans the store (shared), or all who would join or mark a blob as used."""
        return flock.held(self.locks / _CLEANING, wait=60.0, shared=shared, mode=self.mode & 0o666)

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """Make a folder on the store's file system, removed at the end of the block (later if it is killed)."""
        lease = self.join()
        with disk_faults(self.root):
            folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=lease.folder))
        try:
            yield folder
        finally:
            if lease.pid == os.getpid():  # and not a child that was forked within the block
                with contextlib.suppress(OSError):
                    remove_tree(folder)

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """Name a file on the store's file system that is to be made and renamed, or else removed, within the block.

        It lies in no folder of its own: a file system may take longer to remove one than to write what was in it.
        """
        path = self.join().folder / f"file-{next(self._numbers)}"
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    def reap(self) -> None:
        """Remove what killed processes left."""
        for lock in self.tmp.glob("*.lock"):
            if self.lease is not None and lock == self.lease.lock:
                continue
            with contextlib.suppress(ResourceError, OSError):
                handle = flock.try_acquire(lock, create=False)
                if handle is not None:
                    try:
                        remove_tree(lock.with_suffix(""))
                        lock.unlink()
                    finally:
                        os.close(handle)
        for folder in self.tmp.iterdir():
            # A lease's lock is there before its folder and after it: such a folder is what some program that outlived
            # a killed process has made again.
            if folder.suffix != ".lock" and not folder.with_name(f"{folder.name}.lock").exists():
                with contextlib.suppress(OSError):
                    remove_tree(folder)

    def remove_locks(self) -> None:
        """Remove the files of locks that nobody holds: their holders were killed, or stopped in a hurry."""
        for lock in self.locks.glob("*.lock"):
            if lock.name != _CLEANING:
                with contextlib.suppress(ResourceError, OSError):
                    handle = flock.try_acquire(lock, create=False)
                    if handle is not None:
                        lock.unlink()
                        os.close(handle)

    def set_aside(self, path: Path, name: str) -> Path | None:
        """Take a file out of use and keep it as evidence: where it now lies, None where it cannot be moved."""
        for number in range(1_000):
            evidence = self.quarantine / f"{name}-{number}"
            if evidence.is_symlink() or evidence.exists():
                continue
            try:
                path.rename(evidence)
            except OSError as error:
                _log.debug("cannot move %s: %s", path, error.strerror)
                return None
            return evidence
        return None
