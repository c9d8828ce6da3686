"""Bytes on their way into the store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from boxsnake.disk import disk_faults
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One run of bytes in the store: its digest ("sha256:<hex>") and its size in bytes."""

    digest: str
    size: int


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
        """Put the bytes, made durable, under their final name; the store calls this.

        The name is not made durable: what a power cut takes from the store as a whole is brought or made again.
        """
        with disk_faults(self._place):
            self._stream.flush()
            os.fchmod(self._stream.fileno(), 0o444)
        with disk_faults(final):
            os.fsync(self._stream.fileno())
            temporary.rename(final)
        self._blob = Blob(digest=self.digest, size=self._size)
