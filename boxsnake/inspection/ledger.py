"""The ledger of a box: its files by path, and the content of those that say what is in it."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Iterable

from boxsnake.inspection.members import Member, of_squashfs, of_tar, of_zip
from boxsnake.inspection.value import File
from boxsnake.userspace.squashfs import ImageError

_LARGEST_TEXT = 64 << 20
_LARGEST_WHEEL = 1 << 30
_TELLING = re.compile(
    r"""(?x) (^|/) (
        [^/]+\.(dist-info|egg-info)/(METADATA|PKG-INFO|RECORD|entry_points\.txt|WHEEL) | [^/]+\.egg-info
        | conda-meta/[^/]+\.json | info/index\.json
        | var/lib/dpkg/info/[^/]+\.list | var/lib/dpkg/status | var/lib/dpkg/status\.d/[^/]+
        | (var/lib|usr/lib/sysimage|usr/share)/rpm/rpmdb\.sqlite
        | etc/os-release | usr/lib/os-release
        | PEX-INFO | house\.json | PKG-INFO | Dockerfile | metadata\.json | pyvenv\.cfg
    ) $"""
)
# Neither one within a wheel, nor those that a Python keeps to install pip from.
_WHEEL = re.compile(r"^(?!.*(\.whl|/ensurepip/_bundled)/).*\.whl$")
_LAYER = re.compile(r"(^|/)layers/[^/]+\.tar(\.gz|\.zst)?$")
_OF_CONDA = re.compile(r"^(pkg|info)-[^/]+\.tar\.zst$")
_FILE_SYSTEM = re.compile(r"\.(squashfs|erofs|iso)$")
_HIDES = ".wh."
_HIDES_ALL = ".wh..wh..opq"


class Ledger:
    """Files as they are added, later ones in place of earlier ones; what is packed in others is looked into."""

    def __init__(self, *, digests: bool) -> None:
        self.files: dict[str, File] = {}
        self.kept: dict[str, bytes] = {}
        self.notes: list[str] = []
        self.part_of: dict[str, int] = {}
        """Which layer a path comes from, counted from the lowest; those of the lowest may be left out."""
        self._layer = 0
        self._digests = digests

    def add(self, members: Iterable[Member], above: str = "") -> None:
        """Add an archive's members, below a folder."""
        for member in members:
            path = f"{above}{member.path}"
            if _WHEEL.search(path) and not member.link and member.size <= _LARGEST_WHEEL:
                self.add(of_zip(io.BytesIO(member.read())), f"{path}/")
            elif _LAYER.search(path) or (not above and _OF_CONDA.search(path)):
                self.add(of_tar(io.BytesIO(member.read())))
            elif _FILE_SYSTEM.search(path) and not member.link:
                self._add_file_system(path, member)
            else:
                self._put(path, member)

    def lay_over(self, members: Iterable[Member]) -> None:
        """Add an image's layer over those below it, with what it removes (the OCI image specification's whiteouts)."""
        added: dict[str, Member] = {}
        for member in members:
            folder, _, name = member.path.rpartition("/")
            if name == _HIDES_ALL:
                self._drop_below(folder, but=added)
            elif name.startswith(_HIDES):
                hidden = f"{folder}/{name.removeprefix(_HIDES)}" if folder else name.removeprefix(_HIDES)
                self._drop(hidden)
                self._drop_below(hidden, but=added)
            else:
                added[member.path] = member
                self._put(member.path, member)
                self.part_of[member.path] = self._layer
        self._layer += 1

    def _put(self, path: str, member: Member) -> None:
        self.kept.pop(path, None)
        if member.same:
            other = self.files.get(member.same)
            self.files[path] = other or File(size=member.size)
            if member.same in self.kept:
                self.kept[path] = self.kept[member.same]
            return
        telling = not member.link and member.size <= _LARGEST_TEXT and _TELLING.search(path)
        data = member.read() if telling or (self._digests and not member.link) else b""
        if telling:
            self.kept[path] = data
        digest = hashlib.sha256(data).hexdigest() if self._digests and not member.link else ""
        self.files[path] = File(size=member.size, sha256=digest, link=member.link)

    def _add_file_system(self, path: str, member: Member) -> None:
        if not path.endswith(".squashfs"):
            self.notes.append(f"{path} is a file system, which is not looked into")
            self._put(path, member)
            return
        with tempfile.TemporaryFile() as file:
            file.write(member.read())
            file.flush()
            try:
                self.add(of_squashfs(file, 0))
            except ImageError as error:
                self.notes.append(f"{path} is not looked into: {error}")
                self.files[path] = File(size=member.size)

    def _drop(self, path: str) -> None:
        self.files.pop(path, None)
        self.kept.pop(path, None)

    def _drop_below(self, folder: str, *, but: Iterable[str]) -> None:
        start = f"{folder}/" if folder else ""
        kept = set(but)
        for path in [path for path in self.files if path.startswith(start) and path not in kept]:
            self._drop(path)
