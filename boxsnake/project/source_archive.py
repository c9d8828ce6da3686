"""Sdists and other archives of sources, unpacked: strictly, as their builds run what is in them."""

from __future__ import annotations

import gzip
import lzma
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError
from boxsnake.project.source_tree import SourceFile, leads_out, pour
from boxsnake.value import dataclass

_MAX_MEMBERS = 200_000
_MAX_BYTES = 4 << 30
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
)


def unpack(archive: Path, out: Path, *, shown: str, epoch: int) -> Path:
    """Unpack a sdist or a source archive, and return the project's folder: the one that everything lies in, or `out`.

    Raises IntegrityError, which names the member, for what does not belong into one: paths and links that lead out,
    devices, files under one name, more bytes than a source has.
    """
    out.mkdir()
    try:
        with archive.open("rb") as stream:
            is_zip = zipfile.is_zipfile(stream)
        members = _zip_members(archive) if is_zip else _tar_members(archive)
        _write_members(members, out, shown, epoch)
    except _BROKEN as error:
        raise IntegrityError(shown, f"cannot be unpacked ({error})", "Get the archive again.", file=shown) from error
    inside = list(out.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() else out


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One file or link of an archive; `content` opens it."""

    file: SourceFile
    size: int
    content: Callable[[], IO[bytes]] | None


def _tar_members(archive: Path) -> Iterator[_Member]:
    # One pass in order: seeking back in a compressed stream would decompress it again.
    with tarfile.open(archive, "r:*") as source:
        for info in source:
            if info.isdir() or info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                continue
            if info.issym():
                yield _Member(file=SourceFile(path=info.name, link=info.linkname), size=0, content=None)
                continue
            if not info.isreg() or info.issparse():
                raise ValueError(f"{info.name!r} is not a plain file")
            stream = source.extractfile(info)
            if stream is None:
                raise ValueError(f"{info.name!r} has no content")
            file = SourceFile(path=info.name, executable=bool(info.mode & 0o111))
            yield _Member(file=file, size=info.size, content=lambda stream=stream: stream)  # type: ignore[misc]


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise ValueError(f"{info.filename!r} is not a plain file")
            file = SourceFile(path=info.filename, executable=bool(mode & 0o111))
            yield _Member(file=file, size=info.file_size, content=lambda info=info: source.open(info))  # type: ignore[misc]


def _write_members(members: Iterator[_Member], out: Path, shown: str, epoch: int) -> None:
    total = 0
    links: list[SourceFile] = []
    names = _Names()
    for number, member in enumerate(members):
        path = _checked_name(member.file.path)
        total += member.size
        if number >= _MAX_MEMBERS or total > _MAX_BYTES:
            raise ValueError("it holds more than a source archive may")
        names.add(path)
        if member.content is None:
            links.append(SourceFile(path=path, link=member.file.link))
            continue
        target = out / path
        with disk_faults(out):
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.content() as source, target.open("xb") as sink:
                pour(source, sink, member.size)
            target.chmod(0o755 if member.file.executable else 0o644)
            os.utime(target, (epoch, epoch))
    _write_links(links, out, shown)


class _Names:
    """The names of an archive's members: no two the same, and none below a name that is no folder."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, path: str) -> None:
        parents = {path[:at] for at, character in enumerate(path) if character == "/"}
        if path in self._files or path in self._folders or parents & self._files:
            raise ValueError(f"{path!r} is in it twice, or below what is no folder")
        self._files.add(path)
        self._folders |= parents


def _write_links(links: Sequence[SourceFile], out: Path, shown: str) -> None:
    """After all files, so that none of them can be written through a link."""
    for file in links:
        text = file.link or ""
        if leads_out(file.path, text):
            raise IntegrityError(
                shown,
                f"its member {file.path!r} is a link that leads out of it ({text!r})",
                "Do not use this archive.",
                file=shown,
                member=file.path,
            )
        with disk_faults(out):
            (out / file.path).parent.mkdir(parents=True, exist_ok=True)
            (out / file.path).symlink_to(text)


def _checked_name(name: str) -> str:
    path = posixpath.normpath(name)
    bad = name.startswith("/") or "\\" in name or path == ".." or path.startswith("../")
    if bad or any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ValueError(f"the name {name!r} leads out of it or cannot be a file's")
    return path
