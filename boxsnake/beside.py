"""Work beside its place: a hidden folder next to what is to be published, so that the rename crosses no file system."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake import flock
from boxsnake.disk import disk_faults, publish_file, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = ".boxsnake-"


@contextlib.contextmanager
def beside(final: Path, *, lingers: bool = False) -> Iterator[Path]:
    """A folder of one's own in `final`'s folder, gone at the end of the block.

    One that `lingers` is removed by a thread of its own, which the end of the process waits for: to remove what a disk
    has may take as long as to write it.

    What killed runs left there is removed first: the lock on each such folder tells whether somebody works in it, in
    whichever container that is. Errors: ResourceError.
    """
    sweep(final.parent)
    with disk_faults(final):
        folder, handle = _made(final.parent)
    try:
        yield folder
    finally:
        if lingers:
            threading.Thread(target=_clear, args=(folder, handle), name="clear").start()
        else:
            _clear(folder, handle)


def _clear(folder: Path, handle: int | None) -> None:
    with contextlib.suppress(OSError):
        remove_tree(folder)
    if handle is not None:
        flock.release(handle)


def sweep(parent: Path) -> None:
    """Remove the folders that killed runs left in `parent`."""
    for leftover in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = flock.try_acquire_folder(leftover)
            if handle is not None:
                remove_tree(leftover)
                flock.release(handle)


def _made(parent: Path) -> tuple[Path, int | None]:
    """A new folder and its lock; without a lock where the file system has none, and nobody sweeps."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            handle = flock.try_acquire_folder(folder)
        except OSError:
            return folder, None
        # Somebody who sweeps may come between the folder and its lock.
        if handle is not None:
            return folder, handle


def publish_bytes(data: bytes, final: Path, *, mode: int | None = None) -> None:
    """Put bytes under a final name, durably and atomically; as `boxsnake.disk.publish_file` for the rest.

    The file has `mode`; None: that of a new file, by the umask.
    """
    with beside(final) as folder:
        temporary = folder / final.name
        with disk_faults(final):
            temporary.write_bytes(data)
            if mode is not None:
                temporary.chmod(mode)
        publish_file(temporary, final)
