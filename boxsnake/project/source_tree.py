"""Source trees: which files of a project's folder make its wheel, their common digest, and copies of them."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from boxsnake.disk import disk_faults
from boxsnake.errors import PackError
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
_CHUNK = 1 << 20


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
    if leads_out(path, text) or not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise PackError(
            path,
            f"is a link that leads out of the project ({text})",
            "Put the file itself in its place, or remove the link.",
            path=path,
            target=text,
        )
    return text


def leads_out(path: str, text: str) -> bool:
    """Whether a link of that path and text leads out of the tree, by its text alone."""
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
                pour(source, sink)
            target.chmod(0o755 if file.executable else 0o644)
            os.utime(target, (epoch, epoch))


def pour(source: IO[bytes], sink: IO[bytes], limit: int | None = None) -> None:
    """Copy a file's bytes. Errors: ValueError where there are more than the limit."""
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if limit is not None and written > limit:
            raise ValueError("a member is larger than it says")
        sink.write(chunk)
