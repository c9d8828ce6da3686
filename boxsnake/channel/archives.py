"""Reading .conda and .tar.bz2 packages: their index, and the programs in them."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from boxsnake.channel import elf


def index_of(package: Path) -> dict[str, Any]:
    """The package's info/index.json."""
    with _tar(package, "info") as archive:
        for member in archive:
            if member.name == "info/index.json":
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a file has content
                document: dict[str, Any] = json.loads(content.read())
                return document
    raise ValueError(f"{package.name} has no info/index.json")


def programs_in(package: Path) -> Iterator[elf.Elf]:
    """The ELF files with a dynamic section in a package."""
    with _tar(package, "pkg") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None and content.read(len(elf.MAGIC)) == elf.MAGIC:
                content.seek(0)
                program = elf.Elf(content.read())
                if program.dynamic:
                    yield program


@contextmanager
def _tar(package: Path, part: str) -> Iterator[tarfile.TarFile]:
    """One of the two archives of a .conda package, or the whole of a .tar.bz2."""
    if package.suffix != ".conda":
        with tarfile.open(package) as archive:
            yield archive
        return
    import zstandard

    with zipfile.ZipFile(package) as outer:
        name = next(name for name in outer.namelist() if name.startswith(f"{part}-") and name.endswith(".tar.zst"))
        with outer.open(name) as packed:
            plain: IO[bytes] = io.BytesIO(zstandard.ZstdDecompressor().stream_reader(packed).read())
            with tarfile.open(fileobj=plain) as archive:
                yield archive


def extract_programs(wheel: Path, target: Path) -> None:
    """Unpacks a wheel's ELF files under numbered names."""
    with zipfile.ZipFile(wheel) as archive:
        for number, info in enumerate(archive.infolist()):
            with archive.open(info) as member:
                start = member.read(len(elf.MAGIC))
                if start == elf.MAGIC:
                    target.mkdir(parents=True, exist_ok=True)
                    (target / str(number)).write_bytes(start + member.read())
