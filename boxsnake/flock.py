"""Locks between processes that the kernel releases when their holder dies, however it dies (flock)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from boxsnake.disk import disk_faults
from boxsnake.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST_PAUSE = 0.002  # seconds between two attempts: doubled each time up to the longest
_LONGEST_PAUSE = 0.1


@contextmanager
def held(path: Path, *, wait: float, shared: bool = False, mode: int = 0o666) -> Iterator[None]:
    """Hold the lock on `path` (made if absent) within the block.

    An exclusive lock's file is removed at the end, so that locks by digest do not pile up. Raises ResourceError when
    others hold the lock for longer than `wait` seconds, naming the holder's process where it is known.
    """
    handle = acquire(path, wait=wait, shared=shared, mode=mode)
    try:
        yield
    finally:
        if not shared:
            with suppress(OSError):
                path.unlink()
        os.close(handle)


def acquire(path: Path, *, wait: float, shared: bool = False, mode: int = 0o666) -> int:
    """Lock and return the handle, which the caller closes; as `held` for the rest."""
    give_up = time.monotonic() + wait
    pause = _FIRST_PAUSE
    while True:
        handle = try_acquire(path, shared=shared, mode=mode)
        if handle is not None:
            return handle
        if time.monotonic() >= give_up:
            raise _busy(path)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def try_acquire(path: Path, *, shared: bool = False, create: bool = True, mode: int = 0o666) -> int | None:
    """Lock and return the handle, or None where another holds it."""
    with disk_faults(path):
        handle = _open(path, create=create, mode=mode)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
    # The holder before us removes the file before it lets go: what we hold may have no name any more.
    if not _is_named(handle, path):
        os.close(handle)
        return None
    if not shared:
        _sign(handle)
    return handle


def try_acquire_folder(folder: Path) -> int | None:
    """Lock a folder itself and return the handle for `release`; None where another holds it, or it has gone.

    Raises OSError where it cannot be opened, or the file system has no locks.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    if not _is_named(handle, folder):
        os.close(handle)
        return None
    return handle


def release(handle: int) -> None:
    """Let go of a lock."""
    os.close(handle)


def _open(path: Path, *, create: bool, mode: int) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        return os.open(path, os.O_RDWR | flags, mode)
    except OSError as error:
        # Another user's file, or a store that is mounted read-only: a lock needs no more than a look.
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        raise


def _is_named(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def _sign(handle: int) -> None:
    """Leave the holder's number for the message that somebody else may have to show."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _busy(path: Path) -> ResourceError:
    holder = ""
    with suppress(OSError, UnicodeDecodeError):
        holder = path.read_text(encoding="ascii").strip()[:20]
    if holder.isdigit():
        return ResourceError(
            str(path), f"process {holder} holds this lock", "Wait until it has ended, or end it.", pid=int(holder)
        )
    return ResourceError(str(path), "another process holds this lock", "Wait until it has ended, or end it.")
