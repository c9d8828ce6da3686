"""The difference of two files in pieces, each compressed with the old file's part around its place at hand.

Every piece is a frame of zstd that refers to bytes of the old file as to ones that came before it (what `zstd
--patch-from` does for whole files). The pieces and what they may refer to are limited, and so is the memory.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

from boxsnake.progress import Advance

if sys.version_info >= (3, 14):  # pragma: no cover
    from compression import zstd
else:
    from backports import zstd

PIECE = 32 << 20
_REACH = 48 << 20
"""How far off its own place a piece finds what it had in the old file, to either side."""
_LEVEL = 9
_LONGEST_WINDOW = 28
_LENGTH = struct.Struct(">I")

DifferenceError = (zstd.ZstdError, EOFError)
"""What reading raises where the bytes are no difference of the file that is at hand."""


def write_difference(old: BinaryIO, new: BinaryIO, out: BinaryIO, advance: Advance) -> None:
    """Write all pieces of `new`, for whoever has `old`; both are files that can be read at any place."""
    new_size = _size(new)
    for start in range(0, new_size, PIECE):
        size = min(PIECE, new_size - start)
        frame = _frame(_around(old, start, size, new_size), os.pread(new.fileno(), size, start))
        out.write(_LENGTH.pack(len(frame)) + frame)
        advance(size)


def read_difference(old: BinaryIO, new_size: int, source: BinaryIO, advance: Advance) -> Iterator[bytes]:
    """The new file's bytes, piece by piece. Errors: those of `DifferenceError`."""
    for start in range(0, new_size, PIECE):
        size = min(PIECE, new_size - start)
        (length,) = _LENGTH.unpack(_exactly(source, _LENGTH.size))
        yield _piece(_around(old, start, size, new_size), _exactly(source, length), size)
        advance(size)


def _frame(around: bytes, piece: bytes) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
        zstd.CompressionParameter.window_log: min(max((len(around) + len(piece)).bit_length(), 17), _LONGEST_WINDOW),
    }
    return zstd.compress(piece, options=options, zstd_dict=_prefix(around))


def _piece(around: bytes, frame: bytes, size: int) -> bytes:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _LONGEST_WINDOW}
    piece = zstd.ZstdDecompressor(options=options, zstd_dict=_prefix(around)).decompress(frame, max_length=size)
    if len(piece) != size:
        raise EOFError("a piece has another size than it should")
    return piece


def _around(old: BinaryIO, start: int, size: int, new_size: int) -> bytes:
    """The part of the old file that a piece refers to: what lies around the same place in proportion."""
    old_size = _size(old)
    middle = (start + size // 2) * old_size // max(new_size, 1)
    begin = max(0, min(middle - _REACH, old_size - 2 * _REACH))
    return os.pread(old.fileno(), 2 * _REACH, begin)


def _prefix(around: bytes) -> tuple[zstd.ZstdDict, int] | None:
    # The library takes nothing shorter for a dictionary.
    return zstd.ZstdDict(around, is_raw=True).as_prefix if len(around) >= 8 else None


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError("it ends too early")
    return data
