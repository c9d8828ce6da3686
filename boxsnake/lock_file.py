"""The lock file: `boxsnake.lock`, beside its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.beside import publish_bytes
from boxsnake.disk import resource_error
from boxsnake.errors import LockError
from boxsnake.lock import Lock
from boxsnake.lock.codec import decode, encode

if TYPE_CHECKING:
    from boxsnake.manifest_file import LoadedManifest

NAME = "boxsnake.lock"

LONGEST = 64_000_000
"""Bytes. A lock of a thousand packages for ten targets has a tenth of it."""


def path_of_lock(loaded: LoadedManifest) -> Path:
    """Where a manifest's lock lies."""
    return loaded.root.absolute() / NAME


def read(path: Path) -> Lock:
    """The lock in a file. Errors: LockError where it is missing or wrong, ResourceError where it cannot be read."""
    lock = read_if_any(path)
    if lock is None:
        raise LockError(path.name, "there is no lock yet", "Run `boxsnake lock`.", path=str(path))
    return lock


def read_if_any(path: Path) -> Lock | None:
    """The lock in a file, None where there is no file. Errors as of `read`."""
    try:
        size = path.stat().st_size
        text = path.read_bytes()[: LONGEST + 1].decode("utf-8") if size <= LONGEST else ""
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise LockError(path.name, "it is not UTF-8 text", "Run `boxsnake lock` again.", path=str(path)) from None
    except OSError as error:
        raise resource_error(error, path) from error
    if size > LONGEST:
        raise LockError(path.name, f"it has {size} bytes, which no lock has", "Run `boxsnake lock` again.")
    return decode(text, path.name, path.parent.absolute())


def write(path: Path, lock: Lock) -> bool:
    """Put the lock in its file, whole or not at all; False where the file has these very bytes already.

    Errors: ResourceError.
    """
    content = encode(lock, path.parent.absolute()).encode("utf-8")
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
    except OSError as error:
        raise resource_error(error, path) from error
    publish_bytes(content, path)
    return True
