"""Durable and atomic publishing of files and folders, and errors of the operating system in words that help.

The order is always: write under a temporary name on the same file system, make it durable, rename, make the name
durable. A rename alone is atomic for other processes but not across a power cut: the new name may then lead to a
file without bytes.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 1 << 20
_AT_ONCE = 4
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
# File systems which do not know a call answer with one of these, and a slower way is taken instead.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def resource_error(error: OSError, thing: str | Path) -> ResourceError:
    """Turn the operating system's refusal into an error that names what failed, why, and what to do."""
    path = Path(thing)
    cause, next_step = _explain(error, path)
    return ResourceError(str(thing), cause, next_step, errno=errno.errorcode.get(error.errno or 0, "?"))


@contextmanager
def disk_faults(thing: str | Path) -> Iterator[None]:
    """Within the block, an OSError becomes the ResourceError that names `thing`."""
    try:
        yield
    except OSError as error:
        raise resource_error(error, thing) from error


def file_chunks(path: Path, start: int = 0, size: int | None = None) -> Iterator[bytes]:
    """A part of a file; all that follows where no size is given. Errors: ResourceError."""
    with disk_faults(path), path.open("rb", buffering=0) as stream:
        left = path.stat().st_size - start if size is None else size
        stream.seek(start)
        while left and (chunk := stream.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk


def _explain(error: OSError, path: Path) -> tuple[str, str]:
    code = error.errno
    if code == errno.ENOSPC:
        return _no_space(path)
    if code == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"this process may open {limit} files at once, and has", "Raise the limit (ulimit -n) or lower --jobs."
    if code == errno.EFBIG:
        return "the file would be larger than this process may write", "Raise the limit (ulimit -f)."
    explained = {
        errno.EDQUOT: ("the disk quota is used up", "Free some space or ask for a larger quota, then run it again."),
        errno.EROFS: ("the file system is read-only", "Name a folder that can be written."),
        errno.EACCES: ("permission denied", "Give this user the permission, or name another folder."),
        errno.EPERM: ("not permitted", "Give this user the permission, or name another folder."),
        errno.EIO: ("the disk reports an error", "Look at the kernel's log (dmesg): the disk may be failing."),
        errno.ESTALE: ("the network file system lost the file", "Mount it again, or name a folder on a local disk."),
        errno.ENFILE: ("the system has too many files open", "Close other programs, then run it again."),
        errno.EXDEV: ("lies on another file system", "Name a folder on the same file system."),
        errno.ENOLCK: ("the file system gives no locks", "Name a folder on a local disk."),
    }
    known = explained.get(code or 0)
    if known:
        return known
    return error.strerror or type(error).__name__, "Correct this and run it again."


def _no_space(path: Path) -> tuple[str, str]:
    """ENOSPC has two causes, and they have different remedies."""
    folder = nearest_folder(path)
    try:
        usage = os.statvfs(folder)
    except OSError:
        usage = None
    # Some file systems make inodes as they need them and report none at all: that is not a shortage.
    if usage is not None and usage.f_files and not usage.f_favail:
        return f"the file system of {folder} has no free inodes", "Remove files that are not needed, then run it again."
    free = f" ({usage.f_bavail * usage.f_frsize} bytes free)" if usage is not None else ""
    return f"no space left on the file system of {folder}{free}", "Free some space, then run it again."


def nearest_folder(path: Path) -> Path:
    """Find the path itself if it is a folder, else the nearest parent that exists."""
    for candidate in (path, *path.parents):
        if candidate.is_dir():
            return candidate
    return Path()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def sync_file_system(folder: Path) -> None:
    """Make everything on the folder's file system durable: for many files far cheaper than one fsync for each."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(handle) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    if path.is_dir():
        sync_folder(path)
        return
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(paths: Iterable[Path]) -> None:
    """Make files and folders durable: a few at once, as a disk takes them together nearly as fast as one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(sync, paths))


def publish_file(temporary: Path, final: Path) -> None:
    """Put a finished file under its final name, durably and atomically; a file of that name is replaced.

    Both names lie on one file system. Raises ResourceError, and then the final name is what it was before; a failed
    fsync is never tried again, as a second one reports success for bytes that are lost.
    """
    with disk_faults(final):
        sync(temporary)
        temporary.rename(final)
        sync_folder(final.parent)


def publish_tree(temporary: Path, final: Path, *, is_durable: bool = False, leaves_old: bool = False) -> None:
    """Put a finished folder under its final name, durably and atomically; a folder of that name is replaced.

    `is_durable`: what is in it has been made durable already. `leaves_old`: what was replaced is under the temporary
    name then, instead of being removed.

    Both names lie on one file system. Who looks sees the old folder or the new one, never a mixture. Raises
    ResourceError, and then the final name is what it was before.
    """
    with disk_faults(final):
        if not is_durable:
            sync_file_system(temporary)
        # Whether something is there is not asked before: another process may publish at the same time.
        is_replaced = not _renamed(temporary, final)
        if is_replaced:
            _exchange(temporary, final)
        sync_folder(final.parent)
        if is_replaced and not leaves_old:
            remove_tree(temporary)


def _renamed(folder: Path, final: Path) -> bool:
    """Whether a folder could get a name: not one that something else has."""
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True


def _exchange(one: Path, other: Path) -> None:
    """Swap two names in one step (renameat2), or in three where the file system cannot."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(other))
    aside = other.with_name(f".{other.name}.replaced-{os.getpid()}")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a whole folder, folders without write permission in it too; absent is fine."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:  # another process removes it too
        shutil.rmtree(path, ignore_errors=True)
    except PermissionError:
        _unlock(path)
        shutil.rmtree(path)


def _unlock(folder: Path) -> None:
    folder.chmod(0o700)
    for parent, names, _ in os.walk(folder):
        for name in names:
            inner = Path(parent, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
