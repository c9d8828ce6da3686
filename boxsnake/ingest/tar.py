"""A reader of tar that refuses what it does not know: streaming, and with one possible reading.

Reads ustar (POSIX.1-1988), pax headers (POSIX.1-2001) and GNU's long names. Sparse files, several volumes and every
other extension are refused, as are bytes after the end. Python's own `tarfile` takes an unreadable header for the end
of the archive, where other readers go on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol

from boxsnake.ingest import unsafe
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 512
_CHUNK = 1 << 20
_LONGEST_HEADER = 1 << 20  # bytes of one pax header or long name
_MOST_PADDING = 1 << 20  # bytes of zeros behind the end: writers fill up to a record, of 10 kB mostly
_NUMBER = re.compile(rb" *([0-7]{0,21})[\0 ]*")
_PAX_RECORD = re.compile(rb"([0-9]{1,9}) ")
# Times, owners and comments say nothing about where bytes go.
_PAX_IGNORED = re.compile(r"mtime|atime|ctime|uid|gid|uname|gname|comment|SCHILY\.(?:dev|ino|nlink)|LIBARCHIVE\..*")
_KINDS: dict[bytes, Literal["file", "folder", "link", "hard link"]] = {
    b"0": "file",
    b"\0": "file",
    b"1": "hard link",
    b"2": "link",
    b"5": "folder",
}
_REFUSED = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"M": "a part of a file",
    b"V": "a volume's label",
}


class Source(Protocol):
    """Where the bytes of the tar come from; may give fewer than asked for, none at the end."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """One member: its path as written, what it is, the permission bits, a file's size, a link's target."""

    name: str
    kind: Literal["file", "folder", "link", "hard link"]
    mode: int
    size: int
    target: str


def read_tar(
    source: Source, archive: str, judge: Callable[[str, int], None]
) -> Iterator[tuple[TarMember, Iterator[bytes]]]:
    """Give each member with its bytes in pieces; what a caller leaves of them is read over.

    `judge` is called with the name and the number of bytes unpacked so far, before they are read, and refuses bombs.
    Raises IntegrityError.
    """
    reader = _Reader(source, archive)
    extended: dict[str, str] = {}
    while True:
        header = reader.block()
        if not header.strip(b"\0"):
            if extended:
                raise unsafe(archive, None, "ends behind the header of a member that does not come")
            reader.end()
            return
        kind, size = _checked(header, archive)
        if kind in (b"x", b"g", b"L", b"K"):
            reader.extension(kind, size, extended)
            continue
        member = _member(header, kind, size, extended, archive)
        extended = {}
        judge(member.name, reader.taken + member.size)
        pieces = reader.pieces(member.size)
        yield member, pieces
        for _ in pieces:
            pass


class _Reader:
    """The stream, block by block."""

    def __init__(self, source: Source, archive: str) -> None:
        self._source = source
        self._archive = archive
        self.taken = 0

    def exactly(self, size: int) -> bytes:
        parts = []
        missing = size
        while missing:
            part = self._source.read(missing)
            if not part:
                raise unsafe(self._archive, None, "is cut off in the middle of a member")
            parts.append(part)
            missing -= len(part)
        self.taken += size
        return b"".join(parts)

    def block(self) -> bytes:
        return self.exactly(_BLOCK)

    def pieces(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            piece = self.exactly(min(left, _CHUNK))
            left -= len(piece)
            yield piece
        if -size % _BLOCK:
            self.exactly(-size % _BLOCK)

    def extension(self, kind: bytes, size: int, extended: dict[str, str]) -> None:
        """Read a header that says something about the next member."""
        if size > _LONGEST_HEADER:
            raise unsafe(self._archive, None, f"has a header of {size} bytes")
        content = b"".join(self.pieces(size))
        if kind in (b"L", b"K"):
            values = {"path" if kind == b"L" else "linkpath": _text(content.removesuffix(b"\0"))}
        else:
            values = _pax(content, self._archive)
            if kind == b"g" and values:
                raise unsafe(self._archive, None, f"has a header for all members that sets {', '.join(values)}")
        for key, value in values.items():
            if key in extended:
                raise unsafe(self._archive, value, f"has two headers that set its {key}")
            extended[key] = value

    def end(self) -> None:
        """Nothing but zeros may come after the end: another reader might go on there."""
        left = _MOST_PADDING
        while chunk := self._source.read(_CHUNK):
            left -= len(chunk)
            if left < 0 or chunk.strip(b"\0"):
                raise unsafe(self._archive, None, "has bytes after its end")


def _checked(header: bytes, archive: str) -> tuple[bytes, int]:
    """Check a header's sum; give its type and the number of bytes that follow."""
    stated = _number(header[148:156], archive)
    blanked = header[:148] + b" " * 8 + header[156:]
    if sum(blanked) != stated:
        raise unsafe(archive, None, "has a header whose sum is wrong")
    return header[156:157], _number(header[124:136], archive)


def _member(header: bytes, kind: bytes, size: int, extended: dict[str, str], archive: str) -> TarMember:
    name = extended.get("path", _ustar_name(header))
    if kind not in _KINDS:
        raise unsafe(archive, name, f"is {_REFUSED.get(kind, f'of the unknown type {kind!r}')}")
    plain = _KINDS[kind]
    if "size" in extended:
        if not re.fullmatch(r"[0-9]{1,18}", extended["size"]):
            raise unsafe(archive, name, "has a size that is no number")
        size = int(extended["size"])
    if plain == "file" and name.endswith("/"):
        # Archives older than POSIX mark folders so; some readers still do, others make a file.
        raise unsafe(archive, name, "is a file with the name of a folder")
    if plain != "file" and size:
        raise unsafe(archive, name, "is no file, but has bytes")
    target = extended.get("linkpath", _text(header[157:257].partition(b"\0")[0])) if plain in _LINKS else ""
    # `./` in front is how `tar .` writes names; it changes nothing.
    path = "" if name == "." else name.removeprefix("./")
    return TarMember(name=path, kind=plain, mode=_number(header[100:108], archive) & 0o7777, size=size, target=target)


_LINKS = ("link", "hard link")


def _ustar_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    # GNU's old form has times where POSIX has the prefix.
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _number(field: bytes, archive: str) -> int:
    """Read a number in octal, or in GNU's base 256 where it would not fit."""
    if field[0] == 0x80:  # the mark of base 256, for a number that is not negative
        return int.from_bytes(field[1:], "big")
    match = _NUMBER.fullmatch(field)
    if match is None:
        raise unsafe(archive, None, "has a header with something else than a number")
    return int(match[1] or b"0", 8)


def _pax(content: bytes, archive: str) -> dict[str, str]:
    """Read the records of a pax header: those that matter, and none that is unknown."""
    values: dict[str, str] = {}
    while content:
        match = _PAX_RECORD.match(content)
        length = int(match[1]) if match else 0
        record = content[match.end() : length] if match else b""
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or len(content) < length:
            raise unsafe(archive, None, "has a broken pax header")
        content = content[length:]
        name = _text(key)
        if name in ("path", "linkpath", "size"):
            if name in values:
                raise unsafe(archive, None, f"has a pax header that sets {name} twice")
            values[name] = _text(value[:-1])
        elif not _PAX_IGNORED.fullmatch(name):
            raise unsafe(archive, None, f"has a pax header with {name!r}, which is not known")
    return values
