"""Tars in pieces, so that nothing is held whole: what goes into containers and engines."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from boxsnake.archive import TAR_END
from boxsnake.disk import disk_faults

_CHUNK = 1 << 20


def tar_stream(source: Path, name: str) -> Iterator[bytes]:
    """Pack `source` as `name` (its parent folders come first), owned by root and readable by all, times left out.

    Errors: ResourceError where the disk does not give the bytes.
    """
    with disk_faults(source):
        parts = name.split("/")
        for depth in range(1, len(parts)):
            yield _folder("/".join(parts[:depth]))
        yield from _entry(source, name)
        yield TAR_END


def retold(archive: Path, change: Callable[[tarfile.TarInfo], tuple[str, int]]) -> Iterator[bytes]:
    """A tar again, each under the name and with the size that `change` gives.

    Without a name, it is left out; a smaller size cuts it off. Times are left out. Errors: ResourceError where the
    disk does not give the bytes.
    """
    with disk_faults(archive), archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as members:
        for member in members:
            name, size = change(member)
            if not name:
                continue
            yield _header(name, member.type, member.mode, size=size, link=member.linkname)
            stream.seek(member.offset_data)
            yield from _content(stream, size)
            stream.seek(member.offset_data)
        yield TAR_END


def tar_file(name: str, content: bytes) -> Iterator[bytes]:
    """A file of a tar, before what ends with the tar's own end."""
    return tar_part(name, len(content), [content])


def tar_part(name: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same, out of pieces of `size` bytes in all."""
    yield _header(name, tarfile.REGTYPE, 0o644, size=size)
    left = size
    for chunk in chunks:
        left -= len(chunk)
        yield chunk
    # A file that has become shorter is filled up: the header has promised its size.
    yield bytes(max(left, 0) + -size % tarfile.BLOCKSIZE)


def _entry(source: Path, name: str) -> Iterator[bytes]:
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        yield _header(name, tarfile.SYMTYPE, 0o777, link=os.fsdecode(source.readlink()))
    elif stat.S_ISDIR(mode):
        yield _folder(name)
        for child in sorted(source.iterdir()):
            yield from _entry(child, f"{name}/{child.name}")
    elif stat.S_ISREG(mode):
        yield from _file(source, name, 0o755 if mode & 0o111 else 0o644)


def _file(source: Path, name: str, mode: int) -> Iterator[bytes]:
    with source.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        yield _header(name, tarfile.REGTYPE, mode, size=size)
        yield from _content(stream, size)


def _content(stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left and (chunk := stream.read(min(_CHUNK, left))):
        left -= len(chunk)
        yield chunk
    # A file that has become shorter is filled up: the header has promised its size.
    yield bytes(left + -size % tarfile.BLOCKSIZE)


def _folder(name: str) -> bytes:
    return _header(name, tarfile.DIRTYPE, 0o755)


def _header(name: str, kind: bytes, mode: int, *, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, size, link
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")
