"""Compressed streams within a file, and what makes them again.

A change of one byte changes all that is compressed after it. So files are compared by their unfolded form: every stream
that can be made again from its plain bytes, to the last bit, is replaced by these; all else stays. Streams are looked
for by the first bytes of gzip members, zlib streams, zip entries and zstd frames, whatever file they lie in.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

from boxsnake.progress import Advance
from boxsnake.value import dataclass

_CHUNK = 1 << 18
_LARGE = 8 << 20
"""Streams with more plain bytes are only ever handled in pieces, by the encoders that can do that."""
_LEAST = 64
_KEPT = 32 << 20
_GIVE_UP = 8
"""After so many streams that nothing makes again, only what has made one before is tried."""
_ZSTD_THREADS = 2
_STARTS = re.compile(
    rb"\x1f\x8b\x08[\x00-\x1f]"  # gzip (RFC 1952)
    rb"|\x78[\x01\x5e\x9c\xda]"  # zlib (RFC 1950)
    rb"|PK\x03\x04.{4}\x08\x00"  # an entry of a zip, deflated
    rb"|\x28\xb5\x2f\xfd",  # zstd (RFC 8878)
    re.DOTALL,
)
_DEFLATE = ("isal-2", "zlib-6", "libdeflate-5", "zlib-9", "libdeflate-6", "zlib-4", "zlib-1")
_OTHERS = tuple(f"zlib-{level}" for level in (2, 3, 5, 7, 8)) + tuple(
    f"libdeflate-{level}" for level in (1, 2, 3, 4, 7, 8, 9, 10, 11, 12)
)
_ZSTD = ("zstd-9", "zstd-3", "zstd-6", "zstd-1")

Encode = Callable[[Iterable[bytes]], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A compressed stream: where its bytes begin in the file, how many they are, and how many plain ones.

    `encoder` makes it again: the compressor and its level; where nobody asked for that, "zstd" or "deflate".
    """

    at: int
    packed: int
    plain: int
    encoder: str


class BrokenStreamError(ValueError):
    """What should be a compressed stream is none."""


def unfold(data: mmap.mmap, out: BinaryIO, advance: Advance, *, proves: bool = True) -> list[Stream]:
    """Write the unfolded form of a file, and tell which streams were unfolded, in order.

    Those that can be made again; unless it `proves` that, all that there are.
    """
    return _Unfolding(data, out, proves=proves).run(advance)


def unfold_again(data: mmap.mmap, places: Iterable[tuple[int, bool]], out: BinaryIO) -> None:
    """Write the same form; `places` says where the streams begin, and whether each is zstd's.

    Nothing is compressed for it. Errors: BrokenStreamError.
    """
    done = 0
    for at, is_zstd in places:
        _copy(data, done, at, out)
        done = at + _expand(data, at, out, is_zstd=is_zstd)[0]
        _forget(data, at, done)
    _copy(data, done, len(data), out)


def fold(source: BinaryIO, streams: Iterable[tuple[int, int, str]], out: BinaryIO) -> None:
    """Write the file whose unfolded form is `source`.

    `streams` tells of each how many bytes as they are come before it, its plain bytes, and its encoder.
    """
    for gap, plain, encoder in streams:
        out.writelines(_read(source, gap))
        out.writelines(encoder_of(encoder)(_read(source, plain)))
    while chunk := source.read(_CHUNK):
        out.write(chunk)


def encoder_of(name: str) -> Encode:
    """What makes streams again. Errors: ValueError for one that is not known here."""
    kind, _, level = name.partition("-")
    known: dict[str, Callable[[int, Iterable[bytes]], Iterator[bytes]]] = {
        "zlib": _by_zlib, "libdeflate": _by_libdeflate, "isal": _by_isal, "zstd": _by_zstd,
    }  # fmt: skip
    if kind not in known or not level.isdecimal():
        raise ValueError(f"no compressor {name!r} is known here")
    return partial(known[kind], int(level))


def versions() -> dict[str, str]:
    """The compressors' versions: others may make other bytes."""
    from importlib.metadata import version

    return {"zlib": zlib.ZLIB_RUNTIME_VERSION} | {name: version(name) for name in ("deflate", "isal", "zstandard")}


class _Unfolding:
    """One pass over a file."""

    def __init__(self, data: mmap.mmap, out: BinaryIO, *, proves: bool) -> None:
        self._data, self._out, self._proves = data, out, proves
        self._streams: list[Stream] = []
        self._copied = 0
        self._failures = 0
        self._proven: list[str] = []

    def run(self, advance: Advance) -> list[Stream]:
        place = told = 0
        while found := _STARTS.search(self._data, place):
            place = self._take(found)
            if place - told > _KEPT:
                _forget(self._data, told, place)
                advance(place - told)
                told = place
            if self._failures > _GIVE_UP and not self._proven:
                break
        _copy(self._data, self._copied, len(self._data), self._out)
        advance(len(self._data) - told)
        return self._streams

    def _take(self, found: re.Match[bytes]) -> int:
        """Unfold the stream that may begin there; where to look on."""
        is_zstd = found.group().startswith(b"\x28")
        at = _body(self._data, found)
        if at is None:
            return found.start() + 1
        before = self._out.tell()
        _copy(self._data, self._copied, at, self._out)
        start = self._out.tell()
        try:
            packed, plain = _expand(self._data, at, self._out, is_zstd=is_zstd)
        except BrokenStreamError:
            packed = plain = 0
        encoder = None
        if packed >= _LEAST:
            encoder = self._encoder(at, packed, start, plain, is_zstd=is_zstd)
        if encoder is None:
            self._out.seek(before)
            self._out.truncate()
            # Nothing lies within a stream that holds together; but what is no stream may hold one.
            return at + packed if packed >= _LEAST else found.start() + 1
        self._streams.append(Stream(at=at, packed=packed, plain=plain, encoder=encoder))
        self._copied = at + packed
        return self._copied

    def _encoder(self, at: int, packed: int, start: int, plain: int, *, is_zstd: bool) -> str | None:
        """What makes the stream again, of which the plain bytes have been written at `start`."""
        if not self._proves:
            return "zstd" if is_zstd else "deflate"
        proven = [name for name in self._proven if name.startswith("zstd") == is_zstd]
        names = [*proven, *(() if self._failures > _GIVE_UP else _ZSTD if is_zstd else (*_DEFLATE, *_OTHERS))]
        for name in dict.fromkeys(names):
            if plain > _LARGE and name.startswith(("isal", "libdeflate")):
                continue
            self._out.seek(start)
            if _is_same(encoder_of(name)(_read(self._out, plain)), self._data, at, packed):
                self._proven = [name, *(other for other in self._proven if other != name)]
                self._out.seek(start + plain)
                return name
        self._failures += 1
        return None


def _body(data: mmap.mmap, found: re.Match[bytes]) -> int | None:
    """Where the stream itself begins, behind its header; a frame of zstd is taken as a whole."""
    start, head = found.start(), found.group()
    if head.startswith(b"\x28"):
        return start
    if head.startswith(b"\x78"):
        return found.end()
    if head.startswith(b"PK"):
        sizes = data[start + 26 : start + 30]
        return start + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
    flags, at = head[3], start + 10
    if flags & 4:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            end = data.find(b"\0", at, at + 4096)
            if end < 0:
                return None
            at = end + 1
    return at + (2 if flags & 2 else 0)


def _expand(data: mmap.mmap, at: int, out: BinaryIO, *, is_zstd: bool) -> tuple[int, int]:
    """Write the plain bytes of a stream; how many were read and written. Errors: BrokenStreamError."""
    import zstandard
    from isal import isal_zlib

    broken: Any = (isal_zlib.error, zstandard.ZstdError)
    expander = zstandard.ZstdDecompressor().decompressobj() if is_zstd else isal_zlib.decompressobj(-15)
    place = written = 0
    try:
        while not expander.eof:
            chunk = data[at + place : at + place + _CHUNK]
            if not chunk:
                raise BrokenStreamError("a stream has no end")
            plain = expander.decompress(chunk)
            place += len(chunk)
            written += len(plain)
            out.write(plain)
    except broken as error:
        raise BrokenStreamError(str(error)) from None
    return place - len(expander.unused_data), written


def _is_same(made: Iterator[bytes], data: mmap.mmap, at: int, size: int) -> bool:
    end = at + size
    for chunk in made:
        if chunk != data[at : min(at + len(chunk), end)]:
            return False
        at += len(chunk)
    return at == end


def _read(source: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = source.read(min(size, _CHUNK))
        if not chunk:
            raise BrokenStreamError("the unfolded form ends too early")
        size -= len(chunk)
        yield chunk


def _copy(data: mmap.mmap, start: int, end: int, out: BinaryIO) -> None:
    out.writelines(data[place : min(place + _CHUNK, end)] for place in range(start, end, _CHUNK))


def _forget(data: mmap.mmap, start: int, end: int) -> None:
    """Let the kernel have the memory of what will not be read again soon."""
    first, last = (-(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE)
    if last > first:
        data.madvise(mmap.MADV_DONTNEED, first, last - first)


def _by_zlib(level: int, plain: Iterable[bytes]) -> Iterator[bytes]:
    encoder = zlib.compressobj(level, zlib.DEFLATED, -15)
    for chunk in plain:
        yield encoder.compress(chunk)
    yield encoder.flush()


def _by_zstd(level: int, plain: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard

    encoder = zstandard.ZstdCompressor(level=level, threads=_ZSTD_THREADS).compressobj()
    for chunk in plain:
        yield encoder.compress(chunk)
    yield encoder.flush()


def _by_libdeflate(level: int, plain: Iterable[bytes]) -> Iterator[bytes]:
    from deflate import deflate_compress

    yield bytes(deflate_compress(b"".join(plain), level))


def _by_isal(level: int, plain: Iterable[bytes]) -> Iterator[bytes]:
    from isal import isal_zlib

    yield bytes(isal_zlib.compress(b"".join(plain), level, wbits=-15))
