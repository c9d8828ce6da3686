"""Reading .conda and .tar.bz2 packages."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def index_of(package: Path) -> dict[str, Any]:
    """The package's info/index.json."""
    document: dict[str, Any] = json.loads(info_of(package)["info/index.json"])
    return document


def info_of(package: Path) -> dict[str, bytes]:
    """The files below info/ of a package."""
    found = {}
    with _tar(package, "info") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() and member.name.startswith("info/") else None
            if content is not None:
                found[member.name] = content.read()
    return found


@contextmanager
def packed_files(package: Path) -> Iterator[tarfile.TarFile]:
    """The archive, read from front to back, of the files that a .conda package installs."""
    with _tar(package, "pkg") as archive:
        yield archive


@contextmanager
def _tar(package: Path, part: str) -> Iterator[tarfile.TarFile]:
    """One of the two archives of a .conda package, or the whole of a .tar.bz2."""
    if package.suffix != ".conda":
        with tarfile.open(package, "r|bz2") as archive:
            yield archive
        return
    import zstandard

    with zipfile.ZipFile(package) as outer:
        name = next(name for name in outer.namelist() if name.startswith(f"{part}-") and name.endswith(".tar.zst"))
        with (
            outer.open(name) as packed,
            zstandard.ZstdDecompressor().stream_reader(packed) as plain,
            tarfile.open(fileobj=plain, mode="r|") as archive,
        ):
            yield archive
