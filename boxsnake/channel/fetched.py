"""One file that was fetched for a recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file and what it is: the package's `name` and `version` are those of its archive or index."""

    kind: str
    """`debian`, `debian-source` or `pip`."""
    name: str
    version: str
    file: str
    sha256: str


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Errors: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
