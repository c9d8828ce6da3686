"""Archives whose bytes depend on nothing but their content: tar, and gzip over it.

A tar is POSIX ustar; a pax record stands only before a member that ustar cannot describe. Members are sorted by name,
belong to 0:0 and have one time unless they say otherwise, and never belong to anybody by name. There are no hard links:
which of two names would be the link depends on what happened to the files before.

The gzip stream is a row of members of one fixed size each (RFC 1952, 2.2: their concatenation is a valid file), so
that several threads can compress it and its bytes do not depend on how many there are. Where a writer cuts, a member
ends before its size, and what follows can be taken into another stream as it is.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

from boxsnake.errors import PackError

GZIP_FORMAT = "isal-2-1MiB"
"""Names the compressor, its level and the size of its members: part of every key that a compressed blob is kept by."""

_BLOCK = 512
TAR_END = bytes(2 * _BLOCK)
"""What every tar ends with."""

_CHUNK = 1 << 20
# ISA-L's level 2 gives the same bytes on every x86-64 processor with SSE4.2. Level 3 does not: it has a way of its own
# for AVX2, another for AVX-512.
_GZIP_LEVEL = 2
_THREADS = 4  # compressing is so fast that reading and hashing cannot feed more
_USTAR = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_LARGEST = 0o77777777777  # what eleven octal digits hold
_LARGEST_ID = 0o7777777
_ZERO = b"0000000"
_ATTRIBUTE = "SCHILY.xattr."  # how star, GNU tar and all container engines name an extended attribute


class Sink(Protocol):
    """Where bytes go: an open file, the store, a compressor."""

    def write(self, data: bytes, /) -> object:
        """Take all of the bytes."""
        ...


class Member(NamedTuple):
    """One member of a tar, by its relative POSIX name.

    A file where `source` gives its bytes or the file to read them from, a symbolic link where `link` gives its text,
    another name of a file's where `twin` gives that, which must come before it in the order of names; else a folder.
    `mode` holds permission bits only.
    """

    name: str
    mode: int = 0o755
    source: Path | bytes | None = None
    link: str | None = None
    twin: str | None = None
    uid: int = 0
    gid: int = 0
    attributes: tuple[tuple[str, bytes], ...] = ()
    """Extended attributes by their names, such as the capabilities of a program (`security.capability`)."""
    time: int | None = None
    """In seconds since 1970. None: that of the whole archive."""


def file_member(name: str, source: Path | bytes, *, executable: bool = False) -> Member:
    """A plain file, 0644 or 0755."""
    return Member(name=name, mode=0o755 if executable else 0o644, source=source)


def write_tar(members: Iterable[Member], out: Sink, *, epoch: int) -> None:
    """Write a whole tar of these members and the folders above them, sorted; `epoch` is in seconds since 1970.

    Same members, same bytes. Files are read in chunks. Errors: PackError where two members have one name, or a file
    changes while it is read.
    """
    by_name = _by_name(members)
    for parent in folders_above(by_name) - by_name.keys():
        by_name[parent] = Member(name=parent)
    _write_sorted(by_name, out, epoch)
    out.write(TAR_END)


def write_members(members: Iterable[Member], out: Sink, *, epoch: int) -> None:
    """Write these members alone, sorted: a part of a tar, without the folders above them and without its end.

    Errors: those of `write_tar`.
    """
    _write_sorted(_by_name(members), out, epoch)


def without_members(part: bytes, names: Collection[str]) -> Iterator[bytes]:
    """What `write_members` would have written without the members of these names."""
    import tarfile

    with tarfile.open(fileobj=BytesIO(part + TAR_END), mode="r:", encoding="utf-8") as archive:
        members = archive.getmembers()
    ends = [*(member.offset for member in members[1:]), len(part)]
    for member, end in zip(members, ends, strict=True):
        if member.name not in names:
            yield part[member.offset : end]


def folders_above(names: Iterable[str]) -> set[str]:
    """Every folder above one of these relative POSIX names."""
    found: set[str] = set()
    for name in names:
        end = name.rfind("/")
        while end > 0 and (folder := name[:end]) not in found:
            found.add(folder)
            end = name.rfind("/", 0, end)
    return found


def _write_sorted(members: Mapping[str, Member], out: Sink, epoch: int) -> None:
    for _, member in sorted(members.items()):
        time = epoch if member.time is None else member.time
        if member.source is None:
            out.write(_header(member, 0, time))
        elif isinstance(member.source, bytes):
            size = len(member.source)
            out.write(_header(member, size, time) + member.source + _padding(size))
        else:
            _write_file(member, member.source, out, time)


def _by_name(members: Iterable[Member]) -> dict[str, Member]:
    by_name: dict[str, Member] = {}
    for member in members:
        if member.name in by_name:
            raise PackError(member.name, "two members of one archive have this name", "Report this: it is a bug.")
        by_name[member.name] = member
    return by_name


def _write_file(member: Member, source: Path, out: Sink, epoch: int) -> None:
    # Unbuffered: what is read goes on as it is.
    with source.open("rb", buffering=0) as stream:
        size = left = stream.seek(0, SEEK_END)
        stream.seek(0)
        data = _header(member, size, epoch)
        while left:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                break
            left -= len(chunk)
            if len(chunk) < _CHUNK:
                out.write(data + chunk)
            else:  # to join it with the header would copy all of it
                out.write(data)
                out.write(chunk)
            data = b""
        if left or stream.read(1):
            raise PackError(str(source), "the file changed while it was packed", "Pack again while nothing writes it.")
    out.write(data + _padding(size))


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _header(member: Member, size: int, epoch: int) -> bytes:
    """The member's ustar header, after a pax one where it is needed."""
    kind = _kind(member)
    records: list[tuple[str, str | bytes]] = []
    place = _split(f"{member.name}/" if kind == b"5" else member.name)
    if place is None:
        records.append(("path", member.name))
        place = b"", member.name.encode("ascii", "replace")[:100]
    target = member.link or member.twin or ""
    link = target.encode("utf-8")
    if len(link) > 100 or not link.isascii():
        records.append(("linkpath", target))
        link = target.encode("ascii", "replace")[:100]
    if size > _LARGEST:
        records.append(("size", str(size)))
        size = 0
    owner = (member.uid, member.gid)
    records += [(key, str(number)) for key, number in zip(("uid", "gid"), owner, strict=True) if number > _LARGEST_ID]
    owner = (min(member.uid, _LARGEST_ID), min(member.gid, _LARGEST_ID))
    records += [(f"{_ATTRIBUTE}{name}", value) for name, value in sorted(member.attributes)]
    header = _ustar(place, member.mode, size, epoch, kind, link, owner)
    return _pax(records, epoch) + header if records else header


def _kind(member: Member) -> bytes:
    if member.twin is not None:
        return b"1"
    return b"2" if member.link is not None else b"5" if member.source is None else b"0"


def _split(name: str) -> tuple[bytes, bytes] | None:
    """A path as ustar stores it: prefix and name, at most 155 and 100 bytes; None where that cannot hold it."""
    if not name.isascii():
        return None
    path = name.encode("ascii")
    if len(path) <= 100:
        return b"", path
    cut = path.find(b"/", len(path) - 101)
    if cut < 0 or cut > 155 or cut == len(path) - 1:
        return None
    return path[:cut], path[cut + 1 :]


def _ustar(
    place: tuple[bytes, bytes],
    mode: int,
    size: int,
    epoch: int,
    kind: bytes,
    link: bytes,
    owner: tuple[int, int] = (0, 0),
) -> bytes:
    prefix, name = place
    uid, gid = owner
    block = _USTAR.pack(
        name, b"%07o" % mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size, b"%011o" % epoch, b" " * 8, kind, link,
        b"ustar", b"00", b"", b"", _ZERO, _ZERO, prefix,
    )  # fmt: skip
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax(records: list[tuple[str, str | bytes]], epoch: int) -> bytes:
    """An extended header (POSIX pax, "ustar interchange format") for the member that follows it."""
    data = b"".join(_pax_record(key, value) for key, value in records)
    return _ustar((b"", b"././@PaxHeader"), 0o644, len(data), epoch, b"x", b"") + data + _padding(len(data))


def _pax_record(key: str, value: str | bytes) -> bytes:
    """`<length> <key>=<value>` and a line feed, where the length counts itself."""
    rest = f" {key}=".encode() + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


class GzipSink:
    """Compresses what is written to it into `out`, in a few threads. A context manager.

    `diff_id` ("sha256:<hex>" of the bytes before compression) and `sizes` are known after the block. `compress` makes a
    gzip member of a block.
    """

    def __init__(self, out: Sink, compress: Callable[[bytes], bytes] | None = None) -> None:
        self._out = out
        self._compress = compress or gzip_member
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gzip")
        self._pending: deque[Future[tuple[bytes, bytes | bytearray]]] = deque()
        self._pieces: list[bytes | memoryview] = []
        self._room = _CHUNK
        self._raw = hashlib.sha256()
        self._count = 0
        self.sizes: list[int] = []
        """Those of the gzip members, in bytes."""

    def __enter__(self) -> GzipSink:
        return self

    def __exit__(self, kind: object, *_raised: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    @property
    def diff_id(self) -> str:
        """The digest of everything that was written."""
        return f"sha256:{self._raw.hexdigest()}"

    def write(self, data: bytes, /) -> int:
        """Take some bytes."""
        rest = memoryview(data)
        while len(rest) >= self._room:
            self._pieces.append(rest[: self._room])
            rest = rest[self._room :]
            self._submit()
        if rest:
            self._pieces.append(rest)
            self._room -= len(rest)
        return len(data)

    def cut(self) -> int:
        """Have what comes next begin a gzip member: how many there are before it."""
        if self._pieces:
            self._submit()
        return self._count

    def take(self, packed: bytes) -> None:
        """Take a gzip member as it is, one that a sink has made of a block. Errors, here or later: DamagedError."""
        self.cut()
        self._add(lambda: (packed, gunzipped_member(packed)))

    def _submit(self) -> None:
        block = b"".join(self._pieces)
        self._pieces.clear()
        self._room = _CHUNK
        self._add(lambda: (self._compress(block), block))

    def _add(self, work: Callable[[], tuple[bytes, bytes | bytearray]]) -> None:
        self._count += 1
        self._pending.append(self._pool.submit(work))
        while len(self._pending) > 2 * _THREADS:
            self._put()

    def _put(self) -> None:
        packed, block = self._pending.popleft().result()
        self._raw.update(block)
        self._out.write(packed)
        self.sizes.append(len(packed))

    def _finish(self) -> None:
        if self._pieces or not self._count:
            self._submit()
        while self._pending:
            self._put()


class DamagedError(ValueError):
    """A gzip member is not what it was."""


def gzip_member(data: bytes) -> bytes:
    """One gzip member without name and time."""
    from isal import isal_zlib

    return bytes(isal_zlib.compress(data, _GZIP_LEVEL, wbits=31))


def gunzipped_member(packed: bytes) -> bytes | bytearray:
    """What a gzip member of at most a sink's block holds. Errors: DamagedError."""
    from deflate import DeflateError, gzip_decompress

    size = int.from_bytes(packed[-4:], "little")
    if size > _CHUNK:
        raise DamagedError(f"says that it holds {size} bytes")
    try:
        # libdeflate's, as it is a quarter faster than ISA-L's.
        return gzip_decompress(packed, size) if size else b""
    except DeflateError as error:
        raise DamagedError(str(error)) from None


def small_gzip_member(level: int) -> Callable[[bytes], bytes]:
    """What makes gzip members that are smaller than `gzip_member`'s: by libdeflate, whose level is 1 to 12.

    libdeflate looks for the same matches on every processor.
    """
    from deflate import gzip_compress

    return lambda data: bytes(gzip_compress(data, level))


def gunzipped(source: Path | BinaryIO) -> BinaryIO:
    """What a file or stream compressed by gzip holds, for reading; its members are read as one."""
    from isal import igzip

    opened: Callable[..., BinaryIO] = igzip.open
    return opened(source, "rb")


def inflated(data: Iterable[bytes]) -> Iterator[bytes]:
    """What a raw deflate stream (RFC 1951), as zips have it, holds. Raises `gzip_error` for bytes that are damaged."""
    from isal import isal_zlib

    stream = isal_zlib.decompressobj(wbits=-15)
    for chunk in data:
        rest = chunk
        while rest:
            yield stream.decompress(rest, _CHUNK)
            rest = stream.unconsumed_tail
    yield stream.flush()


def gzip_error() -> type[Exception]:
    """What reading `gunzipped` raises for bytes that are damaged; EOFError for what is cut off, OSError for no gzip."""
    from isal.igzip_lib import IsalError

    return cast("type[Exception]", IsalError)
