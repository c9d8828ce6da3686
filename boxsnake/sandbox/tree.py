"""The tree of a sandbox, made of an image's layers and compared with what it was, by those who are within it.

What unpacks is already in a root of its own: whatever a layer's names and links say, they lead nowhere else. Whiteouts
are those of the OCI Image Layer Filesystem Changeset.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from boxsnake.archive import gunzipped, gzip_error

OWN = ("dev", "proc", "sys")
"""Folders at the top that are the kernel's, and none of an image."""
_APART = frozenset(f"/{name}" for name in (*OWN, "tmp"))

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_REMOVED, _OPAQUE = ".wh.", ".wh..wh..opq"
_ATTRIBUTE = "SCHILY.xattr."
_CHUNK = 1 << 20
# Loaded now: within there are no modules.
gunzipped(io.BytesIO()).close()
_GZIP_ERROR = gzip_error()


class NotUnpackableError(Exception):
    """A layer that cannot be unpacked; the text says why."""


class Part(io.RawIOBase):
    """A part of an open file, for reading."""

    def __init__(self, handle: int, start: int, size: int) -> None:
        super().__init__()
        self._handle, self._start, self._at, self._end = handle, start, start, start + size

    def again(self) -> Part:
        """The same part from its beginning; whoever reads it may close it."""
        return Part(self._handle, self._start, self._end - self._start)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on elsewhere in it."""
        self._at = offset + {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at - self._start

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what io asks for with a narrower name
        """Read what comes next."""
        data = os.pread(self._handle, max(0, min(len(buffer), self._end - self._at)), self._at)
        self._at += len(data)
        buffer[: len(data)] = data
        return len(data)

    def give(self, out: int, start: int, size: int) -> None:
        """Write a part of it to an open file, past this process. Errors: EOFError where it is not as long."""
        at, end = self._start + start, self._start + start + size
        while at < end:
            given = os.sendfile(out, self._handle, at, end - at)
            if given == 0:
                raise EOFError("it is cut off")
            at += given


class _Hashed(io.RawIOBase):
    """A stream for reading whose bytes are hashed."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._sum = hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as above
        """Read what comes next."""
        data = self._stream.read(len(buffer))
        self._sum.update(data)
        buffer[: len(data)] = data
        return len(data)

    def digest(self) -> str:
        """Read what is left: the digest of all."""
        while data := self._stream.read(_CHUNK):
            self._sum.update(data)
        return f"sha256:{self._sum.hexdigest()}"


def unpack(layer: Part, diff_id: str) -> None:
    """Unpack one layer, a tar or gzip of one, over what lies below the root already.

    `diff_id` is "" where somebody has compared the bytes already. Errors: NotUnpackableError; OSError.
    """
    buffered = io.BufferedReader(layer, _CHUNK)
    begin = buffered.peek(4)[:4]
    if begin.startswith(_ZSTD):
        raise NotUnpackableError("is compressed by zstd, which the sandbox does not read")
    try:
        digest = _unpacked(buffered) if begin.startswith(_GZIP) else _unpacked_plain(layer, is_hashed=bool(diff_id))
    except (tarfile.TarError, _GZIP_ERROR, EOFError, ValueError) as error:
        raise NotUnpackableError(f"cannot be read: {error}") from error
    if diff_id and digest != diff_id:
        raise NotUnpackableError(f"has other bytes than it should: {digest}, not {diff_id}")


def _unpacked(compressed: BinaryIO) -> str:
    """The digest of what was unpacked."""
    hashed = _Hashed(gunzipped(compressed))
    with tarfile.open(fileobj=io.BufferedReader(hashed, _CHUNK), mode="r|", bufsize=_CHUNK) as members:
        _Unpacking().take(members)
    return hashed.digest()


def _unpacked_plain(layer: Part, *, is_hashed: bool) -> str:
    digest = _Hashed(io.BufferedReader(layer.again(), _CHUNK)).digest() if is_hashed else ""
    with tarfile.open(fileobj=io.BufferedReader(layer.again(), _CHUNK), mode="r:") as members:
        _Unpacking(layer=layer).take(members)
    return digest


def take_in(stream: BinaryIO, folder: str) -> None:
    """Unpack a tar into a folder. Errors: NotUnpackableError; OSError."""
    try:
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as members:
            _Unpacking(folder.rstrip("/")).take(members)
    except tarfile.TarError as error:
        raise NotUnpackableError(f"cannot be read: {error}") from error


class _Unpacking:
    """The state of unpacking one tar: which of its names are there already, and the times of its folders."""

    def __init__(self, below: str = "", layer: Part | None = None) -> None:
        self._below = below
        self._layer = layer
        self._written: set[str] = set()
        self._times: dict[str, float] = {}

    def take(self, members: tarfile.TarFile) -> None:
        for member in members:
            path = (self._below + _path_of(member.name)).rstrip("/") or "/"
            folder, _, name = path.rpartition("/")
            if not self._below and path.split("/")[1] in OWN:
                continue
            if name == _OPAQUE:
                self._empty(folder)
            elif name.startswith(_REMOVED):
                _remove(f"{folder}/{name.removeprefix(_REMOVED)}")
            else:
                self._place(members, member, path)
        for path, time in reversed(self._times.items()):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.utime(path, (time, time), follow_symlinks=False)

    def _empty(self, folder: str) -> None:
        """Remove what layers below have put into a folder."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(folder or "/"):  # noqa: PTH208 - texts are what is compared
                if f"{folder}/{name}" not in self._written:
                    _remove(f"{folder}/{name}")

    def _place(self, members: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        self._written.add(path)
        if path != "/":
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - one text of many
        if member.isdir():
            if path != "/" and not _is_folder(path):
                _remove(path)
                os.mkdir(path)  # noqa: PTH102 - as above
            self._times[path] = member.mtime
        else:
            _remove(path)
            _make(members, member, path, self._layer)
        if member.islnk():
            return
        _own(member, path)
        if not member.isdir() and not member.issym():
            os.utime(path, (member.mtime, member.mtime))


def _path_of(name: str) -> str:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise NotUnpackableError(f"names {name!r}, which leads out of it")
    return "/" + "/".join(parts)


def _make(members: tarfile.TarFile, member: tarfile.TarInfo, path: str, layer: Part | None) -> None:
    """Make what is no folder; `layer` is what the members are read from, where that is not compressed.

    A device is left out: no box needs one, and not everybody may make one.
    """
    if member.issym():
        Path(path).symlink_to(member.linkname)
    elif member.islnk():
        os.link(_path_of(member.linkname), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.isfile():
        with open(path, "xb", buffering=0) as out:  # noqa: PTH123 - one text of many
            # A sparse file is not in its tar as it is.
            if layer is not None and not member.issparse():
                layer.give(out.fileno(), member.offset_data, member.size)
            elif (source := members.extractfile(member)) is not None:
                shutil.copyfileobj(source, out, _CHUNK)
    else:
        with open(path, "xb"):  # noqa: PTH123 - as above
            pass


def _own(member: tarfile.TarInfo, path: str) -> None:
    try:
        os.lchown(path, member.uid, member.gid)
    except OSError as error:
        owner = f"{member.uid}:{member.gid}"
        raise NotUnpackableError(
            f"{path} belongs to {owner}, whom the sandbox cannot have ({error.strerror})"
        ) from error
    if member.issym():
        return
    os.chmod(path, member.mode & 0o7777)  # noqa: PTH101 - as above
    for key, value in member.pax_headers.items():
        # What a file system without them, or a user without the right to, cannot have is of no use to a box either.
        if key.startswith(_ATTRIBUTE):
            with contextlib.suppress(OSError):
                os.setxattr(path, key.removeprefix(_ATTRIBUTE), value.encode("utf-8", "surrogateescape"))


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(path: str) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)  # noqa: PTH108 - one text of many


def clear(root: tuple[int, int], tops: Sequence[str]) -> None:
    """Remove what is in these folders, but no mounts; nothing where the root is another one than this."""
    if identity("/") != root:
        return
    for top in tops:
        for name in os.listdir(top):  # noqa: PTH208 - as above
            path = os.path.join(top, name)  # noqa: PTH118 - as above
            if path not in _APART:
                with contextlib.suppress(OSError):
                    _remove(path)


def identity(path: str) -> tuple[int, int]:
    """What tells a folder from any other."""
    there = os.stat(path)  # noqa: PTH116 - one text of many
    return there.st_dev, there.st_ino


# What has changed

Snapshot = Mapping[str, tuple[int, int]]
"""For each path what tells whether it is as it was: its inode, and the time of the last change to it."""


def snapshot() -> Snapshot:
    """The tree as it is now, without what is mounted into it."""
    return dict(_entries("/"))


def _entries(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    device = Path("/").stat().st_dev
    folders = [folder]
    while folders:
        above = folders.pop()
        with os.scandir(above) as found:
            for entry in found:
                if entry.path in _APART:
                    continue
                there = entry.stat(follow_symlinks=False)
                if there.st_dev != device:
                    continue
                yield entry.path, (there.st_ino, there.st_ctime_ns)
                if stat.S_ISDIR(there.st_mode):
                    folders.append(entry.path)


def changes(before: Snapshot) -> list[tuple[str, str]]:
    """Every (path, "added", "changed" or "removed") since then, sorted; what went with its folder is not listed."""
    after = snapshot()
    found = [(path, "added") for path in after if path not in before]
    found += [(path, "changed") for path, told in after.items() if path in before and before[path] != told]
    gone = before.keys() - after.keys()
    found += [(path, "removed") for path in gone if path.rpartition("/")[0] not in gone]
    return sorted(found)
