"""Files as the store looks at them: their digests, and what tells that they are those of before."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from boxsnake.disk import resource_error
from boxsnake.pattern import pattern

DIGEST = pattern(r"sha256:[0-9a-f]{64}")
"""How digests are written."""


def hash_file(path: Path) -> str:
    """The digest of a file."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Tell what changes whenever a file's bytes do: a file with the same identity need not be read again."""
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def identities(folder: Path, endings: tuple[str, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The name of every file below a folder that ends so, and what changes whenever its bytes do; sorted."""
    top = str(folder)
    found = [
        (f"{parent[len(top) :]}/{name}", identity(os.stat(f"{parent}/{name}")))  # noqa: PTH116 - hundreds, each time
        for parent, _, names in os.walk(top)
        for name in names
        if name.endswith(endings)
    ]
    return sorted(found)


def written(found: os.stat_result) -> list[int]:
    """Tell what changes when somebody writes to a file, and not when it gets a further name."""
    return [found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns]


def is_plain_file(path: Path) -> bool:
    """Whether there is one, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where there is none. Errors: ResourceError."""
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise resource_error(error, folder) from error


def files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below a folder with its size, in the order of their names; what vanishes meanwhile is left out."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat().st_size
