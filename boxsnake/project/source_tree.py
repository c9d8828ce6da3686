"""Source trees: which files of a project's folder make its wheel, their common digest, and copies of them."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError, PackError
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.store import Store

# What tools leave in a project's folder and no wheel is made of.
_NEVER = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", ".tox", ".nox", ".eggs", "node_modules", ".DS_Store"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".coverage"}
)
_NEVER_BEGINNING = ".boxsnake-"  # our own work: see boxsnake/beside.py
_NEVER_ENDING = (".egg-info", ".pyc", ".pyo")
# The same, where a package of that name may lie deeper down.
_NEVER_ON_TOP = frozenset({"dist", "build", "boxsnake.toml", "boxsnake.lock"})
# Below this size a file is read faster than its remembered digest.
_SMALL = 1 << 16
_MAX_MEMBERS = 200_000
_MAX_BYTES = 4 << 30
_CHUNK = 1 << 20
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


@dataclass(frozen=True, kw_only=True, order=True)
class SourceFile:
    """One file or link of a source tree; `path` is relative to it, in POSIX form."""

    path: str
    executable: bool = False
    link: str | None = None
    """A link's text; None for a plain file."""


@dataclass(frozen=True, kw_only=True)
class SourceTree:
    """A folder's files that a wheel can depend on, and what each of them holds: its digest, or "link …"."""

    folder: Path
    files: tuple[SourceFile, ...]
    contents: tuple[str, ...]

    @property
    def digest(self) -> str:
        """As bare hex."""
        return digest_of(self.files, self.contents)


def files_of(folder: Path, *, without: Sequence[Path] = ()) -> tuple[SourceFile, ...]:
    """The files that a project's wheel can depend on, sorted: no caches, virtual environments or earlier results.

    `without` are further paths that are left out. Raises PackError for what cannot be copied: links that lead out of
    the folder, sockets, devices.
    """
    left_out = frozenset(path.absolute() for path in without)
    with disk_faults(folder):
        return tuple(sorted(_walk(folder, "", left_out)))


def _walk(folder: Path, inside: str, left_out: frozenset[Path]) -> Iterator[SourceFile]:
    with os.scandir(folder / inside) as entries:
        found = [entry for entry in entries if not _is_left_out(entry, inside, left_out)]
    for entry in found:
        path = posixpath.join(inside, entry.name)
        if entry.is_symlink():
            yield SourceFile(path=path, link=_checked_link(folder, path))
        elif entry.is_dir():
            yield from _walk(folder, path, left_out)
        elif entry.is_file():
            yield SourceFile(path=path, executable=bool(entry.stat().st_mode & 0o111))
        else:
            raise PackError(path, "is neither a file nor a folder", "Remove it from the project.", path=path)


def _is_left_out(entry: os.DirEntry[str], inside: str, left_out: frozenset[Path]) -> bool:
    if entry.name in _NEVER or entry.name.startswith(_NEVER_BEGINNING) or entry.name.endswith(_NEVER_ENDING):
        return True
    if Path(entry.path).absolute() in left_out:
        return True
    if not inside and entry.name in _NEVER_ON_TOP:
        return not Path(entry.path, "__init__.py").is_file()
    return entry.is_dir(follow_symlinks=False) and Path(entry.path, "pyvenv.cfg").is_file()


def _checked_link(folder: Path, path: str) -> str:
    text = (folder / path).readlink().as_posix()
    if _leads_out(path, text) or not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise PackError(
            path,
            f"is a link that leads out of the project ({text})",
            "Put the file itself in its place, or remove the link.",
            path=path,
            target=text,
        )
    return text


def _leads_out(path: str, text: str) -> bool:
    aim = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    return text.startswith("/") or aim == ".." or aim.startswith("../")


def tree_of(store: Store, folder: Path, *, without: Sequence[Path] = ()) -> SourceTree:
    """Look at a project's folder; arguments and errors are those of `files_of`."""
    files = files_of(folder, without=without)
    with disk_faults(folder):
        contents = tuple(
            _digest_of_file(store, folder / file.path) if file.link is None else f"link {file.link}" for file in files
        )
    return SourceTree(folder=folder, files=files, contents=contents)


def digest_of(files: Sequence[SourceFile], contents: Sequence[str]) -> str:
    """The digest of files, with their names and modes and what they hold, as bare hex: not of times or the place."""
    total = hashlib.sha256()
    for file, content in zip(files, contents, strict=True):
        # A NUL cannot be part of a name, and so no two trees give the same line.
        total.update(f"{file.path}\0{'x' if file.executable else '-'}\0{content}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _digest_of_file(store: Store, path: Path) -> str:
    if path.stat().st_size > _SMALL:
        return store.digest_of_file(path)
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def copy(folder: Path, files: Sequence[SourceFile], out: Path, epoch: int) -> None:
    """Copy a source tree: modes 0644 and 0755, all times `epoch` (seconds), since times are no part of its digest."""
    with disk_faults(folder):
        for file in files:
            target = out / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.link is not None:
                target.symlink_to(file.link)
                continue
            with (folder / file.path).open("rb") as source, target.open("xb") as sink:
                _pour(source, sink)
            target.chmod(0o755 if file.executable else 0o644)
            os.utime(target, (epoch, epoch))


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
                _pour(source, sink, member.size)
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
        if _leads_out(file.path, text):
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


def _pour(source: IO[bytes], sink: IO[bytes], limit: int | None = None) -> None:
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if limit is not None and written > limit:
            raise ValueError("a member is larger than it says")
        sink.write(chunk)
