"""Who uses a store: leases, which end with their processes however these end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from boxsnake import flock
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One process's use of the store: a lock that lives as long as the process, and a folder for its work."""

    pid: int
    handle: int
    lock: Path
    folder: Path

    @classmethod
    def take(cls, tmp: Path) -> Lease:
        """Take a new one among those in this folder."""
        while True:
            folder = tmp / f"{os.getpid()}-{os.urandom(6).hex()}"
            lock = folder.with_name(f"{folder.name}.lock")
            handle = flock.try_acquire(lock, mode=0o600)
            # Somebody who removes what killed processes left may come between the file and its lock.
            if handle is not None:
                with disk_faults(folder):
                    folder.mkdir(mode=0o700)
                return cls(pid=os.getpid(), handle=handle, lock=lock, folder=folder)

    def release(self) -> None:
        """Remove the folder, then the lock; a forked child has no right to."""
        if os.getpid() != self.pid:
            return
        with contextlib.suppress(OSError):
            remove_tree(self.folder)
            self.lock.unlink()
        os.close(self.handle)
