"""Wheels into a tree, as the binary distribution format has it (PEP 427, entry points, RECORD).

The ingest check has read what a wheel says of itself and compared its files with RECORD. What is left is little: each
file goes where its scheme wants it, and each entry point that is a command gets its program. No installer does it, as
a tree is linked for a prefix where it does not lie yet: here the interpreter line of programs is a parameter, and no
cache, direct_url.json or path of the build gets in that had to be taken out again.
RECORD is left to who knows the tree when it is whole (`boxsnake.stage.scrub`).
"""

from __future__ import annotations

import base64
import csv
import io
import os
import posixpath
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from boxsnake.archive import gzip_error, inflated
from boxsnake.entries import Known
from boxsnake.entry_points import program
from boxsnake.errors import PackError
from boxsnake.relocation import script_start
from boxsnake.stage.owners import Owners, collision, holds, shown
from boxsnake.value import dataclass

INSTALLER = "boxsnake"
"""What the file of that name in a dist-info says (PyPA's specification "Recording installed projects")."""

_CHUNK = 1 << 20
_THREADS = 3
_TOGETHER = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things go below the prefix, as relative POSIX paths, and which interpreter runs scripts."""

    site_packages: str
    headers: str
    interpreter: str
    """Absolute, under the final prefix."""
    relocatable: bool = False
    """Whether scripts get a line that the tree's placing will make readable."""

    def folder(self, scheme: str, distribution: str) -> str:
        """The folder of one of the schemes of the binary distribution format."""
        if scheme in {"purelib", "platlib"}:
            return self.site_packages
        return {"scripts": "bin", "headers": f"{self.headers}/{distribution}", "data": ""}[scheme]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What installing a wheel has come to."""

    scripts: Sequence[str]
    """The paths of those that name the interpreter."""
    known: Mapping[str, Known]
    """The files that are as RECORD tells of them, which the ingest check has compared."""


def install_wheel(
    wheel: Path, commands: Sequence[tuple[str, str]], owner: str, *, root: Path, layout: Layout, owners: Owners
) -> Installed:
    """Install one wheel, whose name on disk is its file name, into the tree at `root`; claims every path of it.

    `commands` are the names and targets of its entry points that are commands.
    Errors: PackError where a path has another owner, or the wheel cannot be installed.
    """
    try:
        with wheel.open("rb") as file, ThreadPoolExecutor(_THREADS, thread_name_prefix="wheel") as pool:
            writing = _Writing(root, layout, owners, owner, pool)
            # Before the files: of two programs of a name, that of the entry point is the better one.
            for name, target in commands:
                writing.write_command(f"bin/{name}", target)
            _install(_Wheel(file, wheel.name), writing, layout)
            return Installed(scripts=writing.scripts, known=writing.known)
    except (zipfile.BadZipFile, KeyError, ValueError, gzip_error()) as error:
        cause = f"it cannot be installed: {str(error) or type(error).__name__}"
        raise PackError(wheel.name, cause, "Report it to the wheel's maintainer, or take another version.") from error


def _install(wheel: _Wheel, writing: _Writing, layout: Layout) -> None:
    for member in wheel.members():
        place = posixpath.normpath(posixpath.join(layout.folder(member.scheme, wheel.distribution), member.path))
        if place.startswith(("../", "/")) or place == "..":
            raise ValueError(f"{member.path} leads out of the tree")
        if member.scheme == "scripts":
            writing.write_script(place, member)
        else:
            writing.write(place, member)
    info = f"{layout.site_packages}/{wheel.info}"
    writing.write_bytes(f"{info}/INSTALLER", f"{INSTALLER}\n".encode())
    writing.finish()
    writing.claim(f"{info}/RECORD")


class _Member:
    """A file of a wheel, which is read when it is written, by whatever thread does that."""

    def __init__(self, wheel: BinaryIO, item: zipfile.ZipInfo, scheme: str, path: str, record: Sequence[str]) -> None:
        self._wheel = wheel
        self._item = item
        self._record = record
        self.scheme = scheme
        self.path = path
        """Below the scheme's folder."""
        self.size = item.file_size
        mode = item.external_attr >> 16
        self.is_executable = bool(stat.S_ISREG(mode) and mode & 0o111)

    def chunks(self) -> Iterator[bytes]:
        """Its content. The wheel's own digest has been compared, so the sums in it need not be."""
        packed = self._packed()
        return inflated(packed) if self._item.compress_type == zipfile.ZIP_DEFLATED else packed

    def _packed(self) -> Iterator[bytes]:
        number = self._wheel.fileno()
        name, extra = struct.unpack("<26x2H", os.pread(number, 30, self._item.header_offset))
        at = self._item.header_offset + 30 + int(name) + int(extra)
        end = at + self._item.compress_size
        while at < end and (chunk := os.pread(number, min(_CHUNK, end - at), at)):
            at += len(chunk)
            yield chunk

    @property
    def known(self) -> Known | None:
        """What RECORD tells of it; None where that has it by another hash."""
        _, digest, size = self._record
        algorithm, _, text = digest.partition("=")
        if algorithm != "sha256" or not size.isdecimal():
            return None
        sha256 = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
        return Known(size=int(size), sha256=sha256)


class _Wheel:
    """A wheel whose files are read."""

    def __init__(self, file: BinaryIO, file_name: str) -> None:
        self.distribution = file_name.partition("-")[0]
        self._file = file
        self._archive = zipfile.ZipFile(file)
        names = self._archive.namelist()
        (self.info,) = {top for name in names if (top := name.partition("/")[0]).endswith(".dist-info")}

    def members(self) -> Iterator[_Member]:
        """Its files, but for byte-code, which is made here for all, and for what an installer writes."""
        record = io.StringIO(self._archive.read(f"{self.info}/RECORD").decode())
        records = {row[0]: row for row in csv.reader(record) if row}
        data = f"{self.info.removesuffix('.dist-info')}.data/"
        written = {f"{self.info}/RECORD", f"{self.info}/INSTALLER"}
        for item in self._archive.infolist():
            name = item.filename
            if name.endswith("/") or name in written or "__pycache__" in name.split("/"):
                continue
            scheme, path = "purelib", name
            if name.startswith(data):
                scheme, _, path = name.removeprefix(data).partition("/")
            yield _Member(self._file, item, scheme, path, records.get(name, (name, "", "")))


class _Writing:
    """Files of one owner, written below a root and claimed."""

    def __init__(self, root: Path, layout: Layout, owners: Owners, owner: str, pool: ThreadPoolExecutor) -> None:
        self._root = root
        self._owners = owners
        self._owner = owner
        self._folders: set[str] = set()
        self._line = _interpreter_line(layout)
        self.scripts: list[str] = []
        self.known: dict[str, Known] = {}
        self._pool = pool
        self._waiting: list[tuple[str, _Member]] = []
        self._waiting_bytes = 0
        self._written: list[Future[None]] = []

    def write_command(self, place: str, target: str) -> None:
        """The program of an entry point."""
        self.scripts.append(place)
        self.write_bytes(place, self._line + program(target).encode(), is_executable=True)

    def write_script(self, place: str, member: _Member) -> None:
        """A script, with `#!python` replaced as the format asks, unless an entry point has written its name."""
        if place in self._owners and self._owner in self._owners.of(place):
            return
        first, end, rest = b"".join(member.chunks()).partition(b"\n")
        line = first + end
        if first.startswith(b"#!python"):
            self.scripts.append(place)
            line = self._line
        self.write_bytes(place, line + rest, is_executable=True)

    def write_bytes(self, place: str, content: bytes, *, is_executable: bool = False) -> None:
        """A file that is made here."""
        if self._is_mine(place, [content], is_executable=is_executable):
            self._put(place, [content], is_executable)

    def write(self, place: str, member: _Member) -> None:
        """A file as it is, some time before the end."""
        if not self._is_mine(place, member.chunks(), is_executable=member.is_executable):
            return
        if known := member.known:
            self.known[place] = known
        self._waiting.append((place, member))
        self._waiting_bytes += member.size
        if self._waiting_bytes > _TOGETHER:
            self._written.append(self._pool.submit(self._put_all, self._waiting))
            self._waiting, self._waiting_bytes = [], 0

    def finish(self) -> None:
        """Have everything written."""
        self._put_all(self._waiting)
        for written in self._written:
            written.result()

    def claim(self, place: str) -> None:
        """Have a path that somebody else will write."""
        self._owners.claim(place, self._owner)

    def _is_mine(self, place: str, content: Iterable[bytes], *, is_executable: bool) -> bool:
        """Claim a path, which is then to be written unless another owner has the same file there already."""
        others = self._owners.of(place) if place in self._owners else ()
        if others and self._owner not in others:
            if not holds(self._root / place, content, executable=is_executable):
                raise collision(place, others[0], self._owner)
            self._owners.share(place, self._owner)
            return False
        self._owners.claim(place, self._owner)
        try:
            self._make_folder(place.rpartition("/")[0])
        except (FileExistsError, NotADirectoryError) as error:
            raise self._obstructed(place) from error
        return True

    def _put_all(self, files: Sequence[tuple[str, _Member]]) -> None:
        """Many small ones at a time, as to ask for each would cost more than to write it."""
        for place, member in files:
            self._put(place, member.chunks(), member.is_executable)

    def _put(self, place: str, content: Iterable[bytes], executable: bool) -> None:
        path = f"{self._root}/{place}"
        try:
            with open(path, "xb") as out:  # noqa: PTH123 - a path costs more than the call
                out.writelines(content)
                if executable:
                    os.fchmod(out.fileno(), stat.S_IMODE(os.fstat(out.fileno()).st_mode) | 0o111)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self._obstructed(place) from error

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            (self._root / folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    def _obstructed(self, place: str) -> PackError:
        """A file where another owner has a folder, or the other way round."""
        above = [place, *(str(parent) for parent in Path(place).parents)]
        below = f"{place}/"
        for path in self._owners:
            owner = self._owners.of(path)[0]
            if owner != self._owner and (path in above or path.startswith(below)):
                return collision(path, owner, self._owner)
        step = "Take another version of it."
        return PackError(place, f"{shown(self._owner)} brings this path twice", step, path=place, owners=[self._owner])


def _interpreter_line(layout: Layout) -> bytes:
    """The first line of a script."""
    line = b"#!" + layout.interpreter.encode()
    prefix = line[2:].removesuffix(b"/bin/python")
    return (line if layout.relocatable else script_start(line, prefix, prefix)) + b"\n"
