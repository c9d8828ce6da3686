"""The inventory of a staged tree: every path with its owner and digest, and nothing that nobody brought."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from pathlib import Path

from boxsnake.archive import folders_above
from boxsnake.entries import NOBODY, Entry, Known
from boxsnake.errors import PackError
from boxsnake.stage.owners import Owners, shown

_CHUNK = 1 << 20
_FOLDER = 0o755


def inventory(
    root: Path,
    owners: Owners,
    *,
    later: Collection[str],
    forbidden: Sequence[bytes],
    known: Mapping[str, Known] | None = None,
) -> dict[str, Entry]:
    """Every file and link of the tree by its path; modes are set to 0644 and 0755, and empty folders removed.

    Paths in `later` are left out: they are written when the others are known. Folders are not in it (`with_folders`).
    Files that are `known`, and have the size that they should have, are not read.
    Errors: PackError for a path without owner, an owned path that is not there, a file that is neither plain nor a
    link, and bytes that hold one of the `forbidden` texts.
    """
    found: dict[str, Entry] = {}
    for path, state in _walk(str(root), ""):
        if path in later:
            continue
        if path not in owners:
            step = "Report it: a file of a box must belong to one of its packages."
            raise PackError(path, "no package owns this file of the tree", step, path=path)
        told = known.get(path) if known else None
        found[path] = _entry(root, path, state, owners.of(path), forbidden, told)
    missing = sorted(path for path in owners if path not in found and path not in later)
    if missing:
        cause = f"{shown(owners.of(missing[0])[0])} lists this path, but it was not put into the tree"
        raise PackError(missing[0], cause, "Take another build or version of it.", paths=missing[:20])
    return found


def write_entry(root: Path, path: str, content: bytes, owners: tuple[str, ...]) -> Entry:
    """Write a small file of the tree anew: its entry."""
    place = root / path
    # Never in place: the file may be a hard link to somebody else's.
    place.unlink(missing_ok=True)
    place.write_bytes(content)
    place.chmod(0o644)
    digest = hashlib.sha256(content).hexdigest()
    size = len(content)
    return Entry(path=path, kind="file", mode=0o644, owner=owners[0], also=owners[1:], size=size, sha256=digest)


def with_folders(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries and every folder above one of them, sorted by path."""
    found = {entry.path: entry for entry in entries}
    found |= {path: Entry(path=path, kind="folder", mode=_FOLDER, owner=NOBODY) for path in folders_above(found)}
    return tuple(found[path] for path in sorted(found))


def set_times(root: Path, entries: Sequence[Entry], epoch: int) -> None:
    """Give everything in the tree one time; folders after what is in them."""
    for entry in reversed(entries):
        os.utime(root / entry.path, (epoch, epoch), follow_symlinks=False)
    os.utime(root, (epoch, epoch))


def _walk(folder: str, prefix: str) -> Generator[tuple[str, os.stat_result], None, bool]:
    """Everything but folders below a folder; those without content are removed. Returns whether this one had any."""
    with os.scandir(folder) as found:
        names = sorted(found, key=lambda item: item.name)
    # Strings, as paths cost more than the calls for thousands of them.
    if stat.S_IMODE(os.lstat(folder).st_mode) != _FOLDER:
        os.chmod(folder, _FOLDER)  # noqa: PTH101
    is_kept = not prefix
    for item in names:
        path = f"{prefix}{item.name}"
        if item.is_dir(follow_symlinks=False):
            is_kept |= yield from _walk(item.path, f"{path}/")
        else:
            is_kept = True
            yield path, item.stat(follow_symlinks=False)
    if not is_kept:
        os.rmdir(folder)  # noqa: PTH106
    return is_kept


def _entry(
    root: Path,
    path: str,
    state: os.stat_result,
    owners: tuple[str, ...],
    forbidden: Sequence[bytes],
    known: Known | None,
) -> Entry:
    owner, *others = owners
    also = tuple(others)
    place = f"{root}/{path}"
    if stat.S_ISLNK(state.st_mode):
        target = os.readlink(place)  # noqa: PTH115
        if any(text in os.fsencode(target) for text in forbidden):
            raise _leak(path, owner)
        return Entry(path=path, kind="link", mode=0o777, owner=owner, also=also, target=target)
    if not stat.S_ISREG(state.st_mode):
        cause = f"{shown(owner)} brings something that is neither file, folder nor link"
        raise PackError(path, cause, "Take another build or version of it.", path=path, owner=owner)
    mode = 0o755 if state.st_mode & 0o111 else 0o644
    if stat.S_IMODE(state.st_mode) != mode:
        os.chmod(place, mode)  # noqa: PTH101
    digest = known.sha256 if known and known.size == state.st_size else _digest(place, forbidden)
    if digest is None:
        raise _leak(path, owner)
    return Entry(path=path, kind="file", mode=mode, owner=owner, also=also, size=state.st_size, sha256=digest)


def _digest(place: str, forbidden: Sequence[bytes]) -> str | None:
    """The SHA-256 of a file's content, None where it holds a forbidden text; in one pass, a chunk at a time."""
    digest = hashlib.sha256()
    overlap = max(map(len, forbidden), default=1) - 1
    tail = b""
    with open(place, "rb", buffering=0) as stream:  # noqa: PTH123
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            window = tail + chunk if tail else chunk
            if any(text in window for text in forbidden):
                return None
            tail = window[-overlap:] if len(chunk) == _CHUNK and overlap else b""
    return digest.hexdigest()


def _leak(path: str, owner: str) -> PackError:
    cause = f"{shown(owner)} holds the path of the folder that it was staged in"
    return PackError(path, cause, "Report it: a box must not know where it was made.", path=path, owner=owner)
