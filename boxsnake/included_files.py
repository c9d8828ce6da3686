"""Files of the project that go into a box as they are, under names that the manifest gives them."""

from __future__ import annotations

import hashlib
import posixpath
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from boxsnake.disk import disk_faults
from boxsnake.errors import Fault, ManifestError


def included_files(include: Mapping[str, str], root: Path, *, key: str) -> dict[str, Path]:
    """Every file by its name in the box, sorted; a folder of `include` stands for all files below it.

    `root` is the folder that the sources are relative to, `key` the manifest's for messages.
    Errors: ManifestError where there is no such file, or two would have one name.
    """
    found: dict[str, Path] = {}
    for target, source in include.items():
        for name, path in _files(posixpath.normpath(target), root / source):
            if name in found:
                raise _fault(f"{key}.{target}", f"{name} is brought by {found[name].name} already")
            found[name] = path
        if not (root / source).exists():
            raise _fault(f"{key}.{target}", f"there is no file or folder {source}")
    return dict(sorted(found.items()))


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """What decides the bytes of a box with these files: their content, and whether they are programs."""
    found = {}
    for name, path in files.items():
        with disk_faults(path):
            mode = "x" if path.stat().st_mode & 0o100 else "-"
            found[name] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def lay_out(files: Mapping[str, Path], folder: Path) -> None:
    """Copy the files into a folder under their names in the box, 0644 or 0755."""
    for name, path in files.items():
        copy = folder / name
        with disk_faults(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _files(target: str, source: Path) -> Iterator[tuple[str, Path]]:
    if source.is_file():
        yield target, source
    elif source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                yield posixpath.join(target, path.relative_to(source).as_posix()), path


def _fault(key: str, message: str) -> ManifestError:
    return ManifestError("manifest", (Fault(source="manifest", line=0, key=key, message=message),))
