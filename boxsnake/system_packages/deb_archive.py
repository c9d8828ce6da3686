"""Debian packages, read without dpkg: what deb(5) describes."""

from __future__ import annotations

import io
import lzma
import posixpath
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from boxsnake.errors import IntegrityError
from boxsnake.value import dataclass

_MAGIC = b"!<arch>\n"
_HEAD = 60
_LARGEST_CONTROL = 64 << 20


@dataclass(frozen=True, kw_only=True)
class DebFile:
    """One path of a package, relative and without links above it. `content` for files, `link` for symbolic links."""

    path: str
    mode: int
    uid: int
    gid: int
    content: bytes | None = None
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class DebArchive:
    """A package: its control file, the sums of its files, the names of its scripts, and its files."""

    control: str
    sums: str
    scripts: tuple[str, ...]
    files: tuple[DebFile, ...]


def read_deb(path: Path) -> DebArchive:
    """Read a whole package. Errors: IntegrityError where it is not as deb(5) has it."""
    try:
        members = dict(_members(path.read_bytes()))
        control = dict(_texts(_tar(members, "control.tar")))
        files = tuple(_files(_tar(members, "data.tar")))
    except (KeyError, ValueError, EOFError, tarfile.TarError, lzma.LZMAError, UnicodeDecodeError) as error:
        step = "Lock again, or look for what is wrong with its archive."
        raise IntegrityError(path.name, f"is no Debian package that can be read: {error}", step) from None
    names = ("preinst", "postinst", "prerm", "postrm", "config")
    return DebArchive(
        control=control["control"],
        sums=control.get("md5sums", ""),
        scripts=tuple(name for name in names if name in control),
        files=files,
    )


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(_MAGIC):
        raise ValueError("it is no ar archive")
    place = len(_MAGIC)
    while place + _HEAD <= len(data):
        head = data[place : place + _HEAD]
        name = head[:16].decode("ascii").strip().rstrip("/")
        size = int(head[48:58])
        place += _HEAD
        if place + size > len(data):
            raise ValueError("it is cut off")
        yield name, data[place : place + size]
        place += size + size % 2


def _tar(members: dict[str, bytes], stem: str) -> tarfile.TarFile:
    name = next((name for name in members if re.fullmatch(rf"{re.escape(stem)}(\.(gz|xz|bz2|zst))?", name)), "")
    if not name:
        raise ValueError(f"it has no {stem}")
    data = members[name]
    if name.endswith(".zst"):
        import zstandard

        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return tarfile.open(fileobj=io.BytesIO(data), mode="r:*", encoding="utf-8", errors="strict")


def _texts(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in archive:
        stream = archive.extractfile(member) if member.size <= _LARGEST_CONTROL else None
        if stream is not None:
            yield member.name.removeprefix("./"), stream.read().decode("utf-8")


def _files(archive: tarfile.TarFile) -> Iterator[DebFile]:
    for member in archive:
        path = posixpath.normpath(member.name.lstrip("/"))
        if path == ".":
            continue
        if path.startswith(".."):
            raise ValueError(f"{member.name!r} lies outside of it")
        content, link = None, None
        if member.issym():
            link = member.linkname
        elif member.isreg() or member.islnk():
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
        elif not member.isdir():
            raise ValueError(f"{member.name!r} is a device or a pipe")
        yield DebFile(path=path, mode=member.mode & 0o7777, uid=member.uid, gid=member.gid, content=content, link=link)
