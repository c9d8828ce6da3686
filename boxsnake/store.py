"""The store: bytes by digest, results by the digest of their inputs. Removing it costs time and nothing else.

    <root>/v1/blobs/sha256/ab/ab12…          bytes, read-only, named by their SHA-256
    <root>/v1/selectors/<kind>/ab/ab12….json  inputs -> result, with a checksum of its own
    <root>/v1/tmp/<lease>/, <lease>.lock      work of one process, removed when it ends or by who comes next
    <root>/v1/quarantine/                     bytes that were not what they should be, kept as evidence
    <root>/v1/locks/                          flock files
    <root>/v1/caches/<program>/               what other programs keep for themselves: see `Store.cache_folder`

Everything is written under `tmp`, made durable and renamed; every blob is looked at again at its first use in a
process: hashed, or compared by its CRC-32 where a selector alone leads to it (`Store.sound`).
Any number of threads and processes may use one store at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from boxsnake import flock
from boxsnake.checksum import checksum
from boxsnake.disk import (
    disk_faults,
    nearest_folder,
    publish_file,
    publish_tree,
    remove_tree,
    resource_error,
)
from boxsnake.errors import IntegrityError, ResourceError
from boxsnake.progress import track
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

__all__ = [
    "Blob",
    "BlobWriter",
    "Cleaned",
    "Store",
    "StoreSize",
    "Verified",
    "canonical_json",
    "publish_file",
    "publish_tree",
]

_VERSION = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHUNK = 1 << 20
_CLEANING = "clean.lock"
_DAY = 86_400.0
# How long after its last change a file may still change without its times showing it, in nanoseconds.
_RACY = 1_000_000_000

_log = logging.getLogger(__name__)


def canonical_json(value: object) -> bytes:
    """Write the one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One run of bytes in the store: its digest ("sha256:<hex>") and its size in bytes."""

    digest: str
    size: int


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


class BlobWriter:
    """Takes bytes and hashes them on the way to the disk; the blob is known once the `with` block has ended."""

    def __init__(self, stream: BinaryIO, place: Path) -> None:
        self._stream = stream
        self._place = place
        self._hash = hashlib.sha256()
        self._size = 0
        self._blob: Blob | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Add bytes. Raises ResourceError when the disk does not take them."""
        with disk_faults(self._place):
            self._stream.write(data)
        self._hash.update(data)
        self._size += len(data)
        return len(data)

    def restart(self) -> None:
        """Forget what was written so far."""
        with disk_faults(self._place):
            self._stream.seek(0)
            self._stream.truncate()
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def size(self) -> int:
        """The number of bytes written so far."""
        return self._size

    @property
    def digest(self) -> str:
        """The digest of the bytes written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def blob(self) -> Blob:
        """What was published."""
        if self._blob is None:
            msg = "the blob is known after the block"
            raise RuntimeError(msg)
        return self._blob

    def publish(self, final: Path, temporary: Path) -> None:
        """Put the bytes under their final name; the store calls this."""
        with disk_faults(self._place):
            self._stream.flush()
            os.fchmod(self._stream.fileno(), 0o444)
        publish_file(temporary, final)
        self._blob = Blob(digest=self.digest, size=self._size)


class Store:
    """A store in a folder, which is made if it is absent.

    A folder that exists already keeps its owner and mode, and everything in the store follows them: a shared store is
    a folder made with the wanted group and mode. Raises ResourceError when the folder cannot be used, or was used by
    a newer boxsnake whose layout this one does not know. A store that cannot be written can still be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._top = self.root / f"v{_VERSION}"
        self._blobs = self._top / "blobs" / "sha256"
        self._selectors = self._top / "selectors"
        self._tmp = self._top / "tmp"
        self.quarantine_folder = self._top / "quarantine"
        self._locks = self._top / "locks"
        self._caches = self._top / "caches"
        self._verified: dict[str, tuple[int, ...]] = {}
        self._lease: _Lease | None = None
        self._joining = threading.Lock()
        self._lay_out()

    @staticmethod
    def default_root() -> Path:
        """`$BOXSNAKE_CACHE_DIR`, else the user's cache folder, else a private folder for temporary files.

        The last is for users without a home that can be written. Raises ResourceError when that is somebody else's.
        """
        given = os.environ.get("BOXSNAKE_CACHE_DIR")
        if given:
            return Path(given).expanduser().absolute()
        from platformdirs import user_cache_path

        try:
            usual = user_cache_path("boxsnake", appauthor=False)
        except RuntimeError:  # neither the environment nor the list of users knows a home
            return _temporary_root()
        there = nearest_folder(usual)
        # A home that does not exist is no home, even for root, who could make it.
        if usual.is_absolute() and there != Path("/") and os.access(there, os.W_OK | os.X_OK):
            return usual
        return _temporary_root()

    # Blobs

    def has(self, digest: str) -> bool:
        """Whether the store has these bytes; `clean` then leaves them as long as this process runs."""
        final = self._blob_path(digest)
        return _is_plain_file(final) and self._mark_used(final)

    def path(self, digest: str) -> Path:
        """Give the file with these bytes, which were hashed in this process, or found whole by `sound`.

        Raises ResourceError where the store has not got them or the disk fails, and IntegrityError where they have
        changed; changed bytes have been put aside, so that `has` now says no and they can be fetched again.
        """
        final = self._blob_path(digest)
        self._mark_used(final)
        try:
            found = final.lstat()
        except OSError as error:
            raise _absent(digest, error) from error
        identity = _identity(found)
        if stat.S_ISREG(found.st_mode) and self._verified.get(digest) == identity:
            return final
        actual = self._hash_blob(final, digest) if stat.S_ISREG(found.st_mode) else "not a plain file"
        if actual != digest:
            evidence = self.quarantine(digest)
            raise IntegrityError(
                f"cache entry {digest}",
                f"its bytes have changed on this machine (found {actual})",
                "Run the command again: it will be fetched or made again. If this returns, check the disk.",
                digest=digest,
                found=actual,
                evidence=str(evidence),
            )
        self._verified[digest] = identity
        return final

    def intact(self, digest: str) -> Path | None:
        """Give the verified file, or None where it is absent or has just been found bad (which is logged): heal it."""
        if not self.has(digest):
            return None
        try:
            return self.path(digest)
        except (IntegrityError, ResourceError) as error:
            _log.warning("%s: %s", error.thing, error.cause)
            return None

    def sound(self, digest: str) -> Path | None:
        """Give the file as `intact` does, for bytes that only a selector of this store leads to, such as layers.

        Who could change those on purpose could as well change the selector. So they are hashed once, and from then on
        their size and CRC-32 are compared: that finds what a disk has changed.
        """
        known = self.selected("checksum", _checksum_key(digest))
        if known is not None and self.has(digest) and self._has_checksum(digest, known):
            return self._blob_path(digest)
        found = self.intact(digest)
        if found is not None and known is None:
            with contextlib.suppress(OSError):  # only time is lost
                self._remember_checksum(digest, found.stat(), checksum(found))
        return found

    def is_file_of(self, digest: str, path: Path) -> bool:
        """Whether a path is a further name of a blob's file (a hard link)."""
        try:
            return self._blob_path(digest).samefile(path)
        except OSError:
            return False

    def untouched(self, digest: str) -> bool:
        """Whether nobody has written to a blob since it was last found whole, by its times: it is not read."""
        known = self.selected("checksum", _checksum_key(digest))
        try:
            there = self._blob_path(digest).lstat()
        except OSError:
            return False
        return (known is not None and known.get("was") == _written(there)) or self.sound(digest) is not None

    def _remember_checksum(self, digest: str, there: os.stat_result, crc32: object) -> None:
        settled = time.time_ns() - there.st_mtime_ns > _RACY
        found = {"size": there.st_size, "crc32": crc32, "was": _written(there) if settled else None}
        with contextlib.suppress(ResourceError):  # only time is lost
            self.select("checksum", _checksum_key(digest), found)

    def _has_checksum(self, digest: str, known: Mapping[str, object]) -> bool:
        final = self._blob_path(digest)
        try:
            there = final.lstat()
            if self._verified.get(digest) != _identity(there):
                if not stat.S_ISREG(there.st_mode) or [there.st_size, checksum(final)] != [
                    known["size"],
                    known["crc32"],
                ]:
                    return False
                self._verified[digest] = _identity(there)
                if known.get("was") != _written(there):
                    self._remember_checksum(digest, there, known["crc32"])
        except OSError:
            return False
        return True

    def quarantine(self, digest: str) -> Path | None:
        """Take a blob out of use and keep it as evidence: where it now lies, None where it cannot be moved."""
        self._verified.pop(digest, None)
        return self._set_aside(self._blob_path(digest), digest.removeprefix("sha256:"))

    def put_file(self, source: Path, expected: str | None = None) -> Blob:
        """Copy a file in. Raises IntegrityError where `expected` is another digest than the file's."""
        with disk_faults(source), source.open("rb") as stream, self.writer(expected, origin=str(source)) as writer:
            while chunk := stream.read(_CHUNK):
                writer.write(chunk)
        return writer.blob

    def put_bytes(self, data: bytes) -> Blob:
        """Put some bytes in."""
        with self.writer() as writer:
            writer.write(data)
        return writer.blob

    @contextlib.contextmanager
    def writer(self, expected: str | None = None, origin: str = "data") -> Iterator[BlobWriter]:
        """Open a stream into the store: published, durably, when the block ends without an exception.

        Bytes with another digest than `expected` go into quarantine and raise IntegrityError, which names `origin`.
        """
        with self.scratch("blob") as folder:
            temporary = folder / "blob"
            with disk_faults(self.root):
                stream = temporary.open("xb", buffering=_CHUNK)
            try:
                writer = BlobWriter(stream, self.root)
                yield writer
                if expected is not None and writer.digest != expected:
                    with disk_faults(self.root):
                        stream.flush()
                    raise self._wrong_bytes(temporary, origin, expected, writer)
                final = self._blob_path(writer.digest)
                self._make_folder(final.parent)
                with disk_faults(final):
                    if final.is_dir():  # damage that a rename would not replace
                        self._set_aside(final, final.name)
                    writer.publish(final, temporary)
                    self._verified[writer.digest] = _identity(final.lstat())
            finally:
                # What could not be written once is not tried again at close: the file is going away.
                with contextlib.suppress(OSError):
                    stream.close()

    def _wrong_bytes(self, temporary: Path, origin: str, expected: str, writer: BlobWriter) -> IntegrityError:
        evidence = self._set_aside(temporary, expected.removeprefix("sha256:"))
        kept = f" They are kept in {evidence}." if evidence else ""
        return IntegrityError(
            origin,
            f"its {writer.size} bytes are not those that were locked (expected {expected}, found {writer.digest})",
            f"Find out who changed the file before you lock it anew.{kept}",
            expected=expected,
            found=writer.digest,
            size=writer.size,
            evidence=str(evidence) if evidence else None,
        )

    def _hash_blob(self, final: Path, digest: str) -> str:
        try:
            return _hash_file(final)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise _absent(digest, error) from error
            if error.errno in (errno.EIO, errno.ESTALE):
                self.quarantine(digest)  # a rename does not read the bytes, and makes room for good ones
            raise resource_error(error, final) from error

    def _set_aside(self, path: Path, name: str) -> Path | None:
        for number in range(1_000):
            evidence = self.quarantine_folder / f"{name}-{number}"
            if evidence.is_symlink() or evidence.exists():
                continue
            try:
                path.rename(evidence)
            except OSError as error:
                _log.debug("cannot move %s: %s", path, error.strerror)
                return None
            return evidence
        return None

    # Results

    def selected(self, kind: str, key: Mapping[str, object]) -> dict[str, Any] | None:
        """Look up the result recorded for these inputs; None where there is none, or it cannot be trusted."""
        path = self._selector_path(kind, key)
        try:
            document = json.loads(path.read_bytes())
            result = document["result"]
            if document["sha256"] != _selector_sum(kind, key, result) or not isinstance(result, dict):
                return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        self._mark_used(path)
        return result

    def select(self, kind: str, key: Mapping[str, object], result: Mapping[str, object]) -> None:
        """Record the result for these inputs: plain JSON values both, without secrets and without times."""
        # No fsync: the checksum turns a file that a power cut has hurt into an absent one.
        path = self._selector_path(kind, key)
        document = canonical_json({"key": key, "result": result, "sha256": _selector_sum(kind, key, result)})
        self._make_folder(path.parent)
        with self.scratch("selector") as folder, disk_faults(path):
            temporary = folder / "selector"
            temporary.write_bytes(document)
            temporary.chmod(0o444)
            temporary.rename(path)

    def digest_of_file(self, path: Path) -> str:
        """Hash a file outside the store; remembered as long as the file's times, size and inode stay."""
        with disk_faults(path):
            before = path.stat()
            key = {"path": str(path.absolute()), "is": _identity(before)}
            known = self.selected("file-digest", key)
            if known is not None:
                return str(known["digest"])
            digest = _hash_file(path)
            after = path.stat()
        settled = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > _RACY
        if settled and _identity(before) == _identity(after):
            with contextlib.suppress(ResourceError):  # only time is lost
                self.select("file-digest", key, {"digest": digest})
        return digest

    def digest_of_files(self, folder: Path, endings: tuple[str, ...]) -> str:
        """Hash all files below a folder whose names end so, names included; remembered as `digest_of_file` does."""
        with disk_faults(folder):
            before = _identities(folder, endings)
            key = {"path": str(folder.absolute()), "is": hashlib.sha256(canonical_json(before)).hexdigest()}
            known = self.selected("folder-digest", key)
            if known is not None:
                return str(known["digest"])
            digest = hashlib.sha256()
            for name, _ in before:
                digest.update(canonical_json([name, _hash_file(folder / name[1:])]))
            found = f"sha256:{digest.hexdigest()}"
            latest = max((max(times) for _, (_, _, *times) in before), default=0)
            if time.time_ns() - latest > _RACY and _identities(folder, endings) == before:
                with contextlib.suppress(ResourceError):  # only time is lost
                    self.select("folder-digest", key, {"digest": found})
        return found

    # Work

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """Make a folder on the store's file system, removed at the end of the block (later if it is killed)."""
        lease = self._join()
        with disk_faults(self.root):
            folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=lease.folder))
        try:
            yield folder
        finally:
            if lease.pid == os.getpid():  # and not a child that was forked within the block
                with contextlib.suppress(OSError):
                    remove_tree(folder)

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 600.0) -> Iterator[None]:
        """Hold a lock among all threads and processes that use this store.

        Raises ResourceError when another holds it for more than `wait` seconds.
        """
        plain = name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()
        with flock.held(self._locks / f"{plain}.lock", wait=wait, mode=self._mode & 0o666):
            yield

    def cache_folder(self, program: str) -> Path:
        """Give the folder in which another program keeps a cache of its own; `clean` then leaves it to this process.

        What lies there is never trusted: no blob and no result comes from it but by a digest that was had elsewhere,
        and `verify` has nothing to say of it. It is counted by `size`, and goes as a whole.
        """
        if not _PLAIN_NAME.fullmatch(program):
            msg = f"not a name of a cache: {program!r}"
            raise ValueError(msg)
        folder = self._caches / program
        self._join()
        with flock.held(self._locks / _CLEANING, wait=60.0, shared=True, mode=self._mode & 0o666), disk_faults(folder):
            self._make_folder(folder)
            os.utime(folder)
        return folder

    # Housekeeping

    def size(self) -> StoreSize:
        """How much there is."""
        blobs = [size for _, size in _files(self._blobs)]
        selectors = [size for _, size in _files(self._selectors)]
        caches = _names(self._caches)
        return StoreSize(
            blobs=len(blobs),
            blob_bytes=sum(blobs),
            selectors=len(selectors),
            selector_bytes=sum(selectors),
            temporary_bytes=sum(size for _, size in _files(self._tmp)),
            quarantine_bytes=sum(size for _, size in _files(self.quarantine_folder)),
            caches=len(caches),
            cache_bytes=sum(size for _, size in _files(self._caches)),
        )

    def verify(self) -> Verified:
        """Hash every blob; bad ones are put aside. Raises ResourceError where the disk fails."""
        checked = 0
        bad: list[str] = []
        self._verified.clear()
        files = list(_files(self._blobs))
        with track("verify", sum(size for _, size in files)) as advance:
            for path, size in files:
                checked += 1
                fault = self._fault_of(path)
                if fault is not None:
                    bad.append(fault)
                advance(size)
        return Verified(checked=checked, bad=tuple(sorted(bad)))

    def _fault_of(self, path: Path) -> str | None:
        """Name a file of the store that is bad, and put it aside; None where it is sound, or has gone."""
        digest = f"sha256:{path.name}"
        if not _DIGEST.fullmatch(digest) or path.parent.name != path.name[:2]:
            self._set_aside(path, "stray")
            return str(path.relative_to(self._top))
        try:
            with disk_faults(path):
                sound = _is_plain_file(path) and _hash_file(path) == digest
        except ResourceError:
            if not path.exists():
                return None
            raise
        if sound:
            return None
        self.quarantine(digest)
        return digest

    def clean(self, older_than: timedelta | None = None) -> Cleaned:
        """Remove what has not been used for that time (None: everything), except what running processes use."""
        now = time.time()
        limit = now - older_than.total_seconds() if older_than is not None else float("inf")
        lease = self._join()
        # Nobody joins or marks a blob as used while this lock is held: what is old enough now stays unused.
        with flock.held(self._locks / _CLEANING, wait=60.0, mode=self._mode & 0o666):
            self._reap()
            first = self._oldest_lease()
            if first is not None:
                # A use is marked at most once a day.
                limit = min(limit, first - _DAY)
            removed, kept = _remove_older(self._blobs, limit)
            selectors, _ = _remove_older(self._selectors, limit)
            evidence, _ = _remove_older(self.quarantine_folder, limit)
            caches = self._remove_caches(limit, lease.folder)
            self._remove_locks()
        self._verified.clear()
        return Cleaned(
            blobs=len(removed),
            selectors=len(selectors),
            caches=len(caches),
            freed_bytes=sum(removed + selectors + evidence + caches),
            kept=kept,
        )

    def _remove_caches(self, limit: float, work: Path) -> list[int]:
        """Remove other programs' caches that were last used before the limit: their sizes.

        Each goes out of sight in one step first: a part of a cache might be taken for the whole.
        """
        removed: list[int] = []
        for name in sorted(_names(self._caches)):
            folder, gone = self._caches / name, work / f"cache-{name}"
            with disk_faults(folder):
                if folder.lstat().st_mtime < limit:
                    removed.append(sum(size for _, size in _files(folder)))
                    folder.rename(gone)
                    remove_tree(gone)
        return removed

    def _oldest_lease(self) -> float | None:
        """When the process that has used the store for longest began, others than this store's own left out."""
        own = self._lease.lock if self._lease is not None else None
        starts = []
        for lock in self._tmp.glob("*.lock"):
            with contextlib.suppress(OSError):
                if lock != own:
                    starts.append(lock.stat().st_mtime)
        return min(starts, default=None)

    def _remove_locks(self) -> None:
        """Remove the files of locks that nobody holds: their holders were killed, or stopped in a hurry."""
        for lock in self._locks.glob("*.lock"):
            if lock.name != _CLEANING:
                with contextlib.suppress(ResourceError, OSError):
                    handle = flock.try_acquire(lock, create=False)
                    if handle is not None:
                        lock.unlink()
                        os.close(handle)

    def _reap(self) -> None:
        """Remove what killed processes left."""
        for lock in self._tmp.glob("*.lock"):
            if self._lease is not None and lock == self._lease.lock:
                continue
            with contextlib.suppress(ResourceError, OSError):
                handle = flock.try_acquire(lock, create=False)
                if handle is not None:
                    try:
                        remove_tree(lock.with_suffix(""))
                        lock.unlink()
                    finally:
                        os.close(handle)
        for folder in self._tmp.iterdir():
            # A lease's lock is there before its folder and after it: such a folder is what some program that outlived
            # a killed process has made again.
            if folder.suffix != ".lock" and not folder.with_name(f"{folder.name}.lock").exists():
                with contextlib.suppress(OSError):
                    remove_tree(folder)

    # Inside

    def _lay_out(self) -> None:
        newer = [name for name in _names(self.root) if re.fullmatch(r"v[1-9][0-9]{0,8}", name)]
        newest = max((int(name[1:]) for name in newer), default=0)
        if newest > _VERSION:
            raise ResourceError(
                str(self.root),
                f"a newer boxsnake keeps its cache here (layout {newest}, this one knows {_VERSION})",
                "Use the newer boxsnake, or name another folder in BOXSNAKE_CACHE_DIR.",
            )
        with disk_faults(self.root):
            if not self.root.is_dir():
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.root.stat()
        self._mode = found.st_mode & 0o2777
        self._owner = (found.st_uid, found.st_gid)
        try:
            for folder in (self._blobs, self._selectors, self._tmp, self.quarantine_folder, self._locks):
                self._make_folder(folder)
        except ResourceError:
            if not self._blobs.is_dir():
                raise

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder.parent != folder and folder != self.root:
            self._make_folder(folder.parent)
        with disk_faults(folder):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                return
            if os.geteuid() == 0 and self._owner != (0, 0):
                os.chown(folder, *self._owner)
            folder.chmod(self._mode | 0o700)

    def _blob_path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            msg = f"not a digest: {digest!r}"
            raise ValueError(msg)
        name = digest.removeprefix("sha256:")
        return self._blobs / name[:2] / name

    def _selector_path(self, kind: str, key: Mapping[str, object]) -> Path:
        if not _PLAIN_NAME.fullmatch(kind):
            msg = f"not a kind of selector: {kind!r}"
            raise ValueError(msg)
        name = hashlib.sha256(canonical_json(key)).hexdigest()
        return self._selectors / kind / name[:2] / f"{name}.json"

    def _mark_used(self, path: Path) -> bool:
        """Note that the file is in use, so that `clean` leaves it; False where it has gone."""
        try:
            self._join()
            if time.time() - path.stat().st_mtime < _DAY:
                return True
            with flock.held(self._locks / _CLEANING, wait=60.0, shared=True, mode=self._mode & 0o666):
                os.utime(path)
        except FileNotFoundError:
            return False
        except (ResourceError, OSError):
            # A store that cannot be written cannot be cleaned either, as far as this user goes.
            return path.exists()
        return True

    def _join(self) -> _Lease:
        """Take this process's place among those that use the store."""
        lease = self._lease
        if lease is not None and lease.pid == os.getpid():
            return lease
        with self._joining:
            if self._lease is None or self._lease.pid != os.getpid():
                with flock.held(self._locks / _CLEANING, wait=60.0, shared=True, mode=self._mode & 0o666):
                    self._lease = _Lease.take(self._tmp)
                weakref.finalize(self, self._lease.release)
                self._reap()
            return self._lease


@dataclass(frozen=True, kw_only=True)
class _Lease:
    """One process's use of the store: a lock that lives as long as the process, and a folder for its work."""

    pid: int
    handle: int
    lock: Path
    folder: Path

    @classmethod
    def take(cls, tmp: Path) -> _Lease:
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


def _temporary_root() -> Path:
    root = Path(tempfile.gettempdir(), f"boxsnake-{os.getuid()}")
    with disk_faults(root), contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ResourceError(
            str(root),
            "the home folder cannot be written, and the place for temporary files is not this user's alone",
            "Name a folder in BOXSNAKE_CACHE_DIR.",
        )
    return root


def _absent(digest: str, error: OSError) -> ResourceError:
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return resource_error(error, digest)
    return ResourceError(
        digest, "is not in the cache", "Run the command again: it will be fetched or made again.", digest=digest
    )


def _selector_sum(kind: str, key: Mapping[str, object], result: object) -> str:
    return hashlib.sha256(canonical_json([kind, key, result])).hexdigest()


def _hash_file(path: Path) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _identity(found: os.stat_result) -> tuple[int, ...]:
    """Tell what changes whenever a file's bytes do: a file with the same identity need not be read again."""
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _identities(folder: Path, endings: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The name of every file below a folder that ends so, and what changes whenever its bytes do; sorted."""
    top = str(folder)
    found = [
        (f"{parent[len(top) :]}/{name}", _identity(os.stat(f"{parent}/{name}")))  # noqa: PTH116 - hundreds, each time
        for parent, _, names in os.walk(top)
        for name in names
        if name.endswith(endings)
    ]
    return sorted(found)


def _checksum_key(digest: str) -> dict[str, object]:
    return {"format": 1, "blob": digest}


def _written(found: os.stat_result) -> list[int]:
    """Tell what changes when somebody writes to a file, and not when it gets a further name."""
    return [found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns]


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise resource_error(error, folder) from error


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below a folder with its size, in the order of their names; what vanishes meanwhile is left out."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat().st_size


def _remove_older(folder: Path, limit: float) -> tuple[list[int], int]:
    """Remove files last used before the limit (seconds since 1970): their sizes, and how many were left."""
    removed: list[int] = []
    kept = 0
    for path, size in _files(folder):
        with contextlib.suppress(FileNotFoundError), disk_faults(path):
            if path.lstat().st_mtime < limit:
                path.unlink()
                removed.append(size)
            else:
                kept += 1
    return removed, kept
