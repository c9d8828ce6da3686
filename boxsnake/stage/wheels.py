"""Wheels into a tree, by pypa's installer: the only module that knows that library.

It is not uv that does this, because a tree is linked for a prefix where it does not lie yet: here the interpreter line
of scripts is a parameter, and no cache, direct_url.json or path of the build gets in that had to be taken out again.
RECORD is left to who knows the tree when it is whole (`boxsnake.stage.scrub`).
"""

from __future__ import annotations

import base64
import os
import posixpath
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from zipfile import ZIP_DEFLATED, ZipInfo

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import RecordEntry, parse_record_file
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelFile

from boxsnake.archive import gzip_error, inflated
from boxsnake.entries import Known
from boxsnake.errors import PackError
from boxsnake.relocation import script_start
from boxsnake.stage.owners import Owners, collision, holds, shown
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from installer.scripts import ScriptSection
    from installer.utils import Scheme

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


def install_wheel(wheel: Path, owner: str, *, root: Path, layout: Layout, owners: Owners) -> Installed:
    """Install one wheel, whose name on disk is its file name, into the tree at `root`; claims every path of it.

    Errors: PackError where a path has another owner, or the wheel cannot be installed.
    """
    try:
        with _Wheel.open(wheel) as source, ThreadPoolExecutor(_THREADS, thread_name_prefix="wheel") as pool:
            destination = _TreeDestination(root, layout, owners, owner, source.distribution, pool)
            install(source, destination, {"INSTALLER": f"{INSTALLER}\n".encode()})
            return Installed(scripts=destination.scripts, known=destination.known)
    except (InstallerError, AssertionError, KeyError, ValueError, gzip_error()) as error:
        cause = f"it cannot be installed: {str(error) or type(error).__name__}"
        raise PackError(wheel.name, cause, "Report it to the wheel's maintainer, or take another version.") from error


class _Packed:
    """A member of a wheel, which is read when it is written, by whatever thread does that."""

    def __init__(self, wheel: BinaryIO, item: ZipInfo, record: Sequence[str]) -> None:
        self._wheel = wheel
        self._item = item
        self._record = record
        self.size = item.file_size

    def chunks(self) -> Iterator[bytes]:
        """Its content. The wheel's own digest has been compared, so the sums in it need not be."""
        packed = self._packed()
        return inflated(packed) if self._item.compress_type == ZIP_DEFLATED else packed

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


class _Wheel(WheelFile):
    def get_contents(self) -> Iterator[WheelContentElement]:
        """Everything but byte-code, which is made here for all."""
        lines = parse_record_file(self.read_dist_info("RECORD").splitlines())
        records = {record[0]: record for record in lines}
        wheel = cast("BinaryIO", self._zipfile.fp)
        for item in self._zipfile.infolist():
            if item.filename.endswith("/") or "__pycache__" in item.filename.split("/"):
                continue
            record = records.get(item.filename, (item.filename, "", ""))
            mode = item.external_attr >> 16
            is_executable = bool(mode and stat.S_ISREG(mode) and mode & 0o111)
            # The library hands on what it gets, unread.
            yield record, cast("BinaryIO", _Packed(wheel, item, record)), is_executable


class _TreeDestination(WheelDestination):
    """Writes below a root and claims what it writes."""

    def __init__(
        self, root: Path, layout: Layout, owners: Owners, owner: str, distribution: str, pool: ThreadPoolExecutor
    ) -> None:
        self._root = root
        self._layout = layout
        self._owners = owners
        self._owner = owner
        self._distribution = distribution
        self._folders: set[str] = set()
        self._line = _interpreter_line(layout)
        self.scripts: list[str] = []
        self.known: dict[str, Known] = {}
        self._pool = pool
        self._waiting: list[tuple[str, _Packed, bool]] = []
        self._waiting_bytes = 0
        self._written: list[Future[None]] = []

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        _, content = Script(name, module, attr, section).generate("", "posix")
        self.scripts.append(f"bin/{name}")
        self._write(f"bin/{name}", [self._line, content.partition(b"\n")[2]], executable=True)
        return RecordEntry(name, None, None)

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,
    ) -> RecordEntry:
        place = posixpath.normpath(posixpath.join(self._layout.folder(scheme, self._distribution), str(path)))
        if place.startswith(("../", "/")) or place == "..":
            raise ValueError(f"{path} leads out of the tree")
        packed = stream if isinstance(stream, _Packed) else None
        if scheme != "scripts":
            self._write(place, packed or _chunks(stream), executable=is_executable)
        elif place not in self._owners or self._owner not in self._owners.of(place):
            # An entry point of the same name has been written already, and is the better of the two.
            content = BytesIO(b"".join(packed.chunks())) if packed else stream
            self._write(place, self._with_interpreter(content, place), executable=True)
        return RecordEntry(str(path), None, None)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        del records
        self._flush()
        for written in self._written:
            written.result()
        self._owners.claim(f"{self._layout.folder(scheme, self._distribution)}/{record_file_path}", self._owner)

    def _write(self, place: str, content: Iterable[bytes] | _Packed, *, executable: bool) -> None:
        others = self._owners.of(place) if place in self._owners else ()
        if others and self._owner not in others:
            chunks = content.chunks() if isinstance(content, _Packed) else content
            if not holds(self._root / place, chunks, executable=executable):
                raise collision(place, others[0], self._owner)
            self._owners.share(place, self._owner)
            return
        self._owners.claim(place, self._owner)
        try:
            self._make_folder(place.rpartition("/")[0])
        except (FileExistsError, NotADirectoryError) as error:
            raise self._obstructed(place) from error
        if not isinstance(content, _Packed):
            self._put(place, content, executable)
            return
        if known := content.known:
            self.known[place] = known
        self._waiting.append((place, content, executable))
        self._waiting_bytes += content.size
        if self._waiting_bytes > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        """Have what waits written: many small files at a time, as to ask for each would cost more than to write it."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0

        def put() -> None:
            for place, content, executable in waiting:
                self._put(place, content.chunks(), executable)

        self._written.append(self._pool.submit(put))

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

    def _with_interpreter(self, stream: BinaryIO, place: str) -> Iterator[bytes]:
        """A script with `#!python` replaced, as the binary distribution format asks."""
        first = stream.readline()
        if first.startswith(b"#!python"):
            self.scripts.append(place)
            first = self._line
        yield first
        yield from _chunks(stream)


def _interpreter_line(layout: Layout) -> bytes:
    """The first line of a script."""
    line = b"#!" + layout.interpreter.encode()
    prefix = line[2:].removesuffix(b"/bin/python")
    return (line if layout.relocatable else script_start(line, prefix, prefix)) + b"\n"


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk
