"""Wheels into a tree, by pypa's installer: the only module that knows that library.

It is not uv that does this, because a tree is linked for a prefix where it does not lie yet: here the interpreter line
of scripts is a parameter, and no cache, direct_url.json or path of the build gets in that had to be taken out again.
RECORD is left to who knows the tree when it is whole (`boxsnake.stage.scrub`).
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import RecordEntry
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelFile

from boxsnake.errors import PackError
from boxsnake.relocation import script_start
from boxsnake.stage.owners import Owners, collision, holds, shown
from boxsnake.value import dataclass

if TYPE_CHECKING:
    import os

    from installer.scripts import ScriptSection
    from installer.utils import Scheme

INSTALLER = "boxsnake"
"""What the file of that name in a dist-info says (PyPA's specification "Recording installed projects")."""

_CHUNK = 1 << 20


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


def install_wheel(wheel: Path, owner: str, *, root: Path, layout: Layout, owners: Owners) -> Sequence[str]:
    """Install one wheel, whose name on disk is its file name, into the tree at `root`; claims every path of it.

    Returns the paths of the scripts that name the interpreter.

    Errors: PackError where a path has another owner, or the wheel cannot be installed.
    """
    try:
        with _Wheel.open(wheel) as source:
            destination = _TreeDestination(root, layout, owners, owner, source.distribution)
            install(source, destination, {"INSTALLER": f"{INSTALLER}\n".encode()})
            return destination.scripts
    except (InstallerError, AssertionError, KeyError, ValueError) as error:
        cause = f"it cannot be installed: {str(error) or type(error).__name__}"
        raise PackError(wheel.name, cause, "Report it to the wheel's maintainer, or take another version.") from error


class _Wheel(WheelFile):
    def get_contents(self) -> Iterator[WheelContentElement]:
        """Everything but byte-code, which is made here for all."""
        return (element for element in super().get_contents() if "__pycache__" not in element[0][0].split("/"))


class _TreeDestination(WheelDestination):
    """Writes below a root and claims what it writes."""

    def __init__(self, root: Path, layout: Layout, owners: Owners, owner: str, distribution: str) -> None:
        self._root = root
        self._layout = layout
        self._owners = owners
        self._owner = owner
        self._distribution = distribution
        self._folders: set[str] = set()
        self._line = _interpreter_line(layout)
        self.scripts: list[str] = []

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
        if scheme != "scripts":
            self._write(place, _chunks(stream), executable=is_executable)
        elif place not in self._owners or self._owner not in self._owners.of(place):
            # An entry point of the same name has been written already, and is the better of the two.
            self._write(place, self._with_interpreter(stream, place), executable=True)
        return RecordEntry(str(path), None, None)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        del records
        self._owners.claim(f"{self._layout.folder(scheme, self._distribution)}/{record_file_path}", self._owner)

    def _write(self, place: str, content: Iterable[bytes], *, executable: bool) -> None:
        path = self._root / place
        others = self._owners.of(place) if place in self._owners else ()
        if others and self._owner not in others:
            if not holds(path, content, executable=executable):
                raise collision(place, others[0], self._owner)
            self._owners.share(place, self._owner)
            return
        self._owners.claim(place, self._owner)
        try:
            self._make_folder(place.rpartition("/")[0])
            with path.open("xb", buffering=0) as out:
                for chunk in content:
                    out.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise self._obstructed(place) from error
        if executable:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o111)

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
