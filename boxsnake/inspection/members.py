"""Archives and folders as one row of members each, whatever they are made of; nothing is unpacked.

A member's content is to be read before the next one is taken: it may come out of a stream.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from boxsnake.archive import gunzipped
from boxsnake.errors import ResourceError
from boxsnake.userspace.squashfs import Image
from boxsnake.value import dataclass

_CPIO = 110


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file or a link. `path` is relative, `link` a symbolic link's text, `same` the path of a hard link's other."""

    path: str
    size: int
    read: Callable[[], bytes]
    link: str = ""
    same: str = ""


def uncompressed(stream: BinaryIO) -> BinaryIO:
    """What a stream holds, by its first bytes; one that nothing has compressed as it is."""
    head = stream.read(6)
    whole = cast("BinaryIO", _Again(head, stream))
    if head[:2] == b"\x1f\x8b":
        return gunzipped(whole)
    if head[:3] == b"BZh":
        return cast("BinaryIO", bz2.open(whole))
    if head == b"\xfd7zXZ\0" or head[:3] == b"\x5d\0\0":
        return cast("BinaryIO", lzma.open(whole))
    if head[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True)
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", reader)))
    return whole


class _Read(io.RawIOBase):
    """A stream whose `read` is all that it has of its own, and is never short but at the end."""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As any stream's."""
        data = self.read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)


class _Again(_Read):
    """A stream with the bytes before it that were taken already."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        """As any stream's; fewer bytes only at its end."""
        if size < 0:
            head, self._head = self._head, b""
            return head + self._rest.read()
        head, self._head = self._head[:size], self._head[size:]
        return head + self._rest.read(size - len(head)) if size > len(head) else head


class Joined(_Read):
    """Chunks of bytes as one stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """As any stream's; fewer bytes only at its end."""
        found, wanted = [], sys.maxsize if size < 0 else size
        while wanted:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            found.append(self._rest[:wanted])
            self._rest = self._rest[wanted:]
            wanted -= len(found[-1])
        return b"".join(found)


def of_tar(stream: BinaryIO) -> Iterator[Member]:
    """Those of a tar, compressed or not. Errors: tarfile.TarError, and those of the compression."""
    with tarfile.open(fileobj=uncompressed(stream), mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        sizes: dict[str, int] = {}
        for member in archive:
            path = plain_path(member.name)
            if member.issym():
                yield Member(path=path, size=0, read=bytes, link=member.linkname)
            elif member.islnk():
                same = plain_path(member.linkname)
                yield Member(path=path, size=sizes.get(same, 0), read=bytes, same=same)
            elif member.isreg():
                sizes[path] = member.size
                content = archive.extractfile(member)
                yield Member(path=path, size=member.size, read=content.read if content else bytes)


def of_zip(source: Path | BinaryIO) -> Iterator[Member]:
    """Those of a zip archive. Errors: zipfile.BadZipFile."""
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            read = _reader(archive, info)
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            link = read().decode("utf-8", "surrogateescape") if is_link else ""
            yield Member(path=plain_path(info.filename), size=info.file_size, read=read, link=link)


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    return lambda: archive.read(info)


def of_cpio(stream: BinaryIO) -> Iterator[Member]:
    """Those of a cpio archive of the new portable kind, as RPM's payloads are. Errors: ValueError, EOFError."""
    waiting: dict[tuple[str, ...], list[str]] = {}
    while True:
        head = stream.read(_CPIO)
        if head[:6] not in {b"070701", b"070702"} or len(head) < _CPIO:
            raise ValueError(f"its payload has {head[:6]!r} where a cpio header should be")
        fields = [head[start : start + 8].decode("ascii") for start in range(6, _CPIO, 8)]
        mode, links, size, name_size = (int(fields[index], 16) for index in (1, 4, 6, 11))
        name = stream.read(name_size + -(_CPIO + name_size) % 4)[: name_size - 1].decode("utf-8", "surrogateescape")
        data = stream.read(size + -size % 4)[:size]
        if len(data) < size:
            raise EOFError("its payload is cut off")
        if name == "TRAILER!!!":
            return
        path = plain_path(name)
        if stat.S_ISLNK(mode):
            yield Member(path=path, size=0, read=bytes, link=data.decode("utf-8", "surrogateescape"))
        elif stat.S_ISREG(mode):
            inode = (fields[0], *fields[7:9])
            if links > 1 and not size:
                # Of several names of one file, the last one has the content.
                waiting.setdefault(inode, []).append(path)
                continue
            for one in (*waiting.pop(inode, ()), path):
                yield Member(path=one, size=size, read=lambda data=data: data)  # type: ignore[misc]


def of_squashfs(file: BinaryIO, begin: int) -> Iterator[Member]:
    """Those of a squashfs image that gzip has compressed. Errors: ImageError."""
    image = Image(file, begin)
    for node in image.nodes:
        if node.target is not None:
            yield Member(path=node.path, size=0, read=bytes, link=node.target)
        elif not node.is_folder:
            yield Member(path=node.path, size=node.size, read=lambda node=node: b"".join(image.content(node)))  # type: ignore[misc]


def of_folder(folder: Path) -> Iterator[Member]:
    """Those of a folder, sorted. Errors: ResourceError where it cannot be read."""

    def refuse(error: OSError) -> None:
        raise ResourceError(str(error.filename), str(error.strerror), "Check its owner and mode.") from error

    for above, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(files + [one for one in folders if (Path(above) / one).is_symlink()]):
            path = Path(above) / name
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield Member(path=inside, size=0, read=bytes, link=os.fspath(path.readlink()))
            elif path.is_file():
                yield Member(path=inside, size=path.stat().st_size, read=path.read_bytes)


def plain_path(name: str) -> str:
    """A member's name as a relative path without "." and "..": nothing is written there, but paths shall compare."""
    return "/".join(part for part in name.split("/") if part not in {"", ".", ".."})
