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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake import flock
from boxsnake.canonical import canonical_json
from boxsnake.checksum import checksum
from boxsnake.disk import disk_faults, nearest_folder, resource_error
from boxsnake.errors import IntegrityError, ResourceError
from boxsnake.store.files import DIGEST, hash_file, identities, identity, is_plain_file, written
from boxsnake.store.ground import Ground
from boxsnake.store.writer import Blob, BlobWriter
from boxsnake.user_folders import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from boxsnake.store.upkeep import Cleaned, StoreSize, Verified

__all__ = ["Blob", "BlobWriter", "Store"]

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHUNK = 1 << 20
# A selector's text around its result.
_RESULT_OF = b'{"key":%b,"result":'
_SUM = b',"sha256":"%b"}'
_SUM_SIZE = len(_SUM % bytes(64))
# How long after its last change a file may still change without its times showing it, in nanoseconds.
_RACY = 1_000_000_000

_log = logging.getLogger(__name__)


class Store:
    """A store in a folder, which is made if it is absent.

    A folder that exists already keeps its owner and mode, and everything in the store follows them: a shared store is
    a folder made with the wanted group and mode. Raises ResourceError when the folder cannot be used, or was used by
    a newer boxsnake whose layout this one does not know. A store that cannot be written can still be read.
    """

    def __init__(self, root: Path) -> None:
        self._ground = Ground(root)
        self.root = self._ground.root
        self.quarantine_folder = self._ground.quarantine
        self._verified: dict[str, tuple[int, ...]] = {}
        self._looks: dict[str, threading.Lock] = {}
        self._sound: dict[str, tuple[int, ...]] = {}

    @staticmethod
    def default_root() -> Path:
        """`$BOXSNAKE_CACHE_DIR`, else the user's cache folder, else a private folder for temporary files.

        The last is for users without a home that can be written. Raises ResourceError when that is somebody else's.
        """
        given = os.environ.get("BOXSNAKE_CACHE_DIR")
        if given:
            return Path(given).expanduser().absolute()
        usual = cache_folder()
        there = nearest_folder(usual)
        # A home that does not exist is no home, even for root, who could make it.
        if usual.is_absolute() and there != Path("/") and os.access(there, os.W_OK | os.X_OK):
            return usual
        return _temporary_root()

    # Blobs

    def has(self, digest: str) -> bool:
        """Whether the store has these bytes; `clean` then leaves them as long as this process runs."""
        final = self._blob_path(digest)
        return is_plain_file(final) and self._ground.mark_used(final)

    def path(self, digest: str) -> Path:
        """Give the file with these bytes, which were hashed in this process, or found whole by `sound`.

        Raises ResourceError where the store has not got them or the disk fails, and IntegrityError where they have
        changed; changed bytes have been put aside, so that `has` now says no and they can be fetched again.
        """
        final = self._blob_path(digest)
        self._ground.mark_used(final)
        try:
            found = final.lstat()
        except OSError as error:
            raise _absent(digest, error) from error
        looks = identity(found)
        if stat.S_ISREG(found.st_mode) and self._verified.get(digest) == looks:
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
        self._verified[digest] = looks
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
        # Who wants to know what another thread is about to find out waits for it.
        with self._looks.setdefault(digest, threading.Lock()):
            if self.has(digest) and self._was_sound(digest):
                return self._blob_path(digest)
            known = self.selected("checksum", _checksum_key(digest))
            if known is not None and self.has(digest) and self._has_checksum(digest, known):
                self._sound[digest] = self._verified[digest]
                return self._blob_path(digest)
        found = self.intact(digest)
        if found is not None and known is None:
            with contextlib.suppress(OSError):  # only time is lost
                self._remember_checksum(digest, found.stat(), checksum(found))
        return found

    def _was_sound(self, digest: str) -> bool:
        """Whether this process has compared it already, and its times are those of then."""
        try:
            return self._sound.get(digest) == identity(self._blob_path(digest).lstat())
        except OSError:
            return False

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
        return (known is not None and known.get("was") == written(there)) or self.sound(digest) is not None

    def _remember_checksum(self, digest: str, there: os.stat_result, crc32: object) -> None:
        settled = time.time_ns() - there.st_mtime_ns > _RACY
        found = {"size": there.st_size, "crc32": crc32, "was": written(there) if settled else None}
        with contextlib.suppress(ResourceError):  # only time is lost
            self.select("checksum", _checksum_key(digest), found)

    def _has_checksum(self, digest: str, known: Mapping[str, object]) -> bool:
        final = self._blob_path(digest)
        try:
            there = final.lstat()
            if self._verified.get(digest) != identity(there):
                if not stat.S_ISREG(there.st_mode) or [there.st_size, checksum(final)] != [
                    known["size"],
                    known["crc32"],
                ]:
                    return False
                self._verified[digest] = identity(there)
                if known.get("was") != written(there):
                    self._remember_checksum(digest, there, known["crc32"])
        except OSError:
            return False
        return True

    def quarantine(self, digest: str) -> Path | None:
        """Take a blob out of use and keep it as evidence: where it now lies, None where it cannot be moved."""
        self._verified.pop(digest, None)
        return self._ground.set_aside(self._blob_path(digest), digest.removeprefix("sha256:"))

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
        """Open a stream into the store: published, all of it durable, when the block ends without an exception.

        Bytes with another digest than `expected` go into quarantine and raise IntegrityError, which names `origin`.
        """
        with self._ground.temporary() as temporary:
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
                self._ground.make_folder(final.parent)
                with disk_faults(final):
                    if final.is_dir():  # damage that a rename would not replace
                        self._ground.set_aside(final, final.name)
                    writer.publish(final, temporary)
                    self._verified[writer.digest] = identity(final.lstat())
            finally:
                # What could not be written once is not tried again at close: the file is going away.
                with contextlib.suppress(OSError):
                    stream.close()

    def _wrong_bytes(self, temporary: Path, origin: str, expected: str, writer: BlobWriter) -> IntegrityError:
        evidence = self._ground.set_aside(temporary, expected.removeprefix("sha256:"))
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
            return hash_file(final)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise _absent(digest, error) from error
            if error.errno in (errno.EIO, errno.ESTALE):
                self.quarantine(digest)  # a rename does not read the bytes, and makes room for good ones
            raise resource_error(error, final) from error

    # Results

    def selected(self, kind: str, key: Mapping[str, object]) -> dict[str, Any] | None:
        """Look up the result recorded for these inputs; None where there is none, or it cannot be trusted."""
        inputs = canonical_json(key)
        path = self._selector_path(kind, inputs)
        try:
            document = path.read_bytes()
            text = document[len(_RESULT_OF % inputs) : -_SUM_SIZE]
            result = json.loads(text) if document == _selector(kind, inputs, text) else None
        except (OSError, ValueError, RecursionError):
            return None
        self._ground.mark_used(path)
        return result if isinstance(result, dict) else None

    def select(self, kind: str, key: Mapping[str, object], result: Mapping[str, object]) -> None:
        """Record the result for these inputs: plain JSON values both, without secrets and without times."""
        # No fsync: the checksum turns a file that a power cut has hurt into an absent one.
        inputs = canonical_json(key)
        path = self._selector_path(kind, inputs)
        document = _selector(kind, inputs, canonical_json(result))
        self._ground.make_folder(path.parent)
        with self._ground.temporary() as temporary, disk_faults(path):
            temporary.write_bytes(document)
            temporary.chmod(0o444)
            temporary.rename(path)

    def digest_of_file(self, path: Path) -> str:
        """Hash a file outside the store; remembered as long as the file's times, size and inode stay."""
        with disk_faults(path):
            before = path.stat()
            key = {"path": str(path.absolute()), "is": identity(before)}
            known = self.selected("file-digest", key)
            if known is not None:
                return str(known["digest"])
            digest = hash_file(path)
            after = path.stat()
        settled = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > _RACY
        if settled and identity(before) == identity(after):
            with contextlib.suppress(ResourceError):  # only time is lost
                self.select("file-digest", key, {"digest": digest})
        return digest

    def digest_of_files(self, folder: Path, endings: tuple[str, ...]) -> str:
        """Hash all files below a folder whose names end so, names included; remembered as `digest_of_file` does."""
        with disk_faults(folder):
            before = identities(folder, endings)
            key = {"path": str(folder.absolute()), "is": hashlib.sha256(canonical_json(before)).hexdigest()}
            known = self.selected("folder-digest", key)
            if known is not None:
                return str(known["digest"])
            digest = hashlib.sha256()
            for name, _ in before:
                digest.update(canonical_json([name, hash_file(folder / name[1:])]))
            found = f"sha256:{digest.hexdigest()}"
            latest = max((max(times) for _, (_, _, *times) in before), default=0)
            if time.time_ns() - latest > _RACY and identities(folder, endings) == before:
                with contextlib.suppress(ResourceError):  # only time is lost
                    self.select("folder-digest", key, {"digest": found})
        return found

    # Work

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 600.0) -> Iterator[None]:
        """Hold a lock among all threads and processes that use this store.

        Raises ResourceError when another holds it for more than `wait` seconds.
        """
        plain = name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()
        with flock.held(self._ground.locks / f"{plain}.lock", wait=wait, mode=self._ground.mode & 0o666):
            yield

    def cache_folder(self, program: str) -> Path:
        """Give the folder in which another program keeps a cache of its own; `clean` then leaves it to this process.

        What lies there is never trusted: no blob and no result comes from it but by a digest that was had elsewhere,
        and `verify` has nothing to say of it. It is counted by `size`, and goes as a whole.
        """
        if not _PLAIN_NAME.fullmatch(program):
            msg = f"not a name of a cache: {program!r}"
            raise ValueError(msg)
        folder = self._ground.caches / program
        self._ground.join()
        with self._ground.held(shared=True), disk_faults(folder):
            self._ground.make_folder(folder)
            os.utime(folder)
        return folder

    def scratch(self, prefix: str) -> contextlib.AbstractContextManager[Path]:
        """Make a folder on the store's file system, removed at the end of the block (later if it is killed)."""
        return self._ground.scratch(prefix)

    # Housekeeping

    def size(self) -> StoreSize:
        """How much there is."""
        from boxsnake.store.upkeep import size_of

        return size_of(self._ground)

    def verify(self) -> Verified:
        """Hash every blob; bad ones are put aside. Raises ResourceError where the disk fails."""
        from boxsnake.store.upkeep import verify

        self._verified.clear()
        self._sound.clear()
        return verify(self._ground)

    def clean(self, older_than: timedelta | None = None) -> Cleaned:
        """Remove what has not been used for that time (None: everything), except what running processes use."""
        from boxsnake.store.upkeep import clean

        cleaned = clean(self._ground, older_than)
        self._verified.clear()
        self._sound.clear()
        return cleaned

    # Inside

    def _blob_path(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            msg = f"not a digest: {digest!r}"
            raise ValueError(msg)
        name = digest.removeprefix("sha256:")
        return self._ground.blobs / name[:2] / name

    def _selector_path(self, kind: str, inputs: bytes) -> Path:
        if not _PLAIN_NAME.fullmatch(kind):
            msg = f"not a kind of selector: {kind!r}"
            raise ValueError(msg)
        name = hashlib.sha256(inputs).hexdigest()
        return self._ground.selectors / kind / name[:2] / f"{name}.json"


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


def _selector(kind: str, inputs: bytes, result: bytes) -> bytes:
    """The text of a selector, of canonical JSON, which is put together and compared as it is."""
    checksum = hashlib.sha256(b'["%b",%b,%b]' % (kind.encode(), inputs, result)).hexdigest().encode()
    return _RESULT_OF % inputs + result + _SUM % checksum


def _checksum_key(digest: str) -> dict[str, object]:
    return {"format": 1, "blob": digest}
