r"""A delta's file: what it says of itself, and its checksum.

boxsnake delta 1\n
4 bytes                 the header's length, big-endian
the header              JSON, compressed by zlib
pieces                  see `boxsnake.delta.pieces`
32 bytes                SHA-256 of all that comes before
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO

from boxsnake.errors import IntegrityError, UsageError
from boxsnake.value import dataclass

MAGIC = b"boxsnake delta 1\n"
_LENGTH = struct.Struct(">I")
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A file as a whole: its name without folders, its bytes, their digest (SHA-256, hex), whether it is a program."""

    name: str
    size: int
    sha256: str
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Header:
    """What it takes to apply a delta.

    `old_streams` are those that are unfolded in the old file: how many bytes lie between each and the one before it,
    and whether it is zstd's. `new_streams` are those to be made again in the new one: the bytes before each, its plain
    bytes, and the place of its encoder in `encoders`. `unfolded` is the size and digest of the old file's unfolded
    form, and the size of the new one's. `libraries` are the versions of the compressors that were used.
    """

    old: Whole
    new: Whole
    unfolded: tuple[int, str, int]
    old_streams: Sequence[tuple[int, bool]] = ()
    new_streams: Sequence[tuple[int, int, int]] = ()
    encoders: Sequence[str] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)


def write_header(header: Header, out: BinaryIO) -> None:
    """Write the file's beginning."""
    data = zlib.compress(json.dumps(asdict(header), separators=(",", ":"), sort_keys=True).encode(), 9)
    out.write(MAGIC + _LENGTH.pack(len(data)) + data)


def seal(stream: BufferedRandom) -> None:
    """Add the checksum at the end of a file that is open for reading and writing."""
    stream.flush()
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").digest()
    stream.seek(0, os.SEEK_END)
    stream.write(digest)


def read_header(path: Path, stream: BinaryIO) -> Header:
    """The header of a delta that is whole; what follows it is read next. Errors: UsageError, IntegrityError."""
    if stream.read(len(MAGIC)) != MAGIC:
        step = "Name the file that `boxsnake delta` has written, after the old one: boxsnake patch OLD DELTA."
        raise UsageError(str(path), "is no delta of boxsnake's", step)
    digest = hashlib.sha256(MAGIC)
    left = os.fstat(stream.fileno()).st_size - len(MAGIC) - _DIGEST
    while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    if stream.read() != digest.digest():
        raise IntegrityError(str(path), "is damaged or cut off", "Copy or download it again.")
    stream.seek(len(MAGIC))
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    try:
        return _header(json.loads(zlib.decompress(stream.read(length))))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        step = "Make it again by this version of boxsnake, or take the one that made it."
        raise UsageError(str(path), f"is a delta of a kind that is not known here ({error})", step) from error


def _header(document: dict[str, Any]) -> Header:
    new = Whole(**document.pop("new"))
    if new.name in {"", ".", ".."} or set(new.name) & set("/\0"):
        raise ValueError(f"the name {new.name!r} leads elsewhere")
    return Header(old=Whole(**document.pop("old")), new=new, **document)
