"""The manifest's file: `boxsnake.toml`, or a pyproject.toml with `[tool.boxsnake]`; found, read and decoded."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.disk import resource_error
from boxsnake.errors import Fault, ManifestError, UsageError
from boxsnake.manifest.written import read, written
from boxsnake.remembered import remembered
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.manifest import Manifest, Section
    from boxsnake.store import Store

NAME = "boxsnake.toml"
PYPROJECT = "pyproject.toml"

LONGEST = 4_000_000
"""Bytes that a manifest or a requirement file may have. The longest known ones have a hundredth of it."""


@dataclass(frozen=True, kw_only=True)
class LoadedManifest:
    """A manifest, its file, and the folder against which its paths are read."""

    manifest: Manifest
    path: Path
    root: Path


def find(start: Path) -> Path:
    """The manifest's file in the folder `start`: boxsnake.toml, else a pyproject.toml with `[tool.boxsnake]`.

    Folders above are not used, since a manifest runs scripts, but they are named where they have one.
    Errors: UsageError where there is none.
    """
    found = _manifest_in(start)
    if found is not None:
        return found
    above = next(filter(None, (_manifest_in(folder) for folder in start.absolute().parents)), None)
    if above is not None:
        step = f"Go to {above.parent}, or name it with --manifest."
    else:
        step = "Write one with `boxsnake init`, or name one with --manifest."
    raise UsageError(str(start), f"there is no {NAME} and no {PYPROJECT} with [tool.boxsnake]", step, folder=str(start))


def load(
    path: Path | None = None,
    *,
    box_options: Mapping[str, type[Section]] | None = None,
    store: Store | None = None,
) -> LoadedManifest:
    """Read a manifest: the file or folder given, else what `find` finds in the working folder.

    `box_options` are the tables of `[boxes.<format>]`; left out: those of every packager. A `store` remembers what a
    text has been decoded to, so that it need not be validated again.
    Errors: ManifestError with all faults; UsageError where there is none; ResourceError where it cannot be read.
    """
    file = find(Path()) if path is None else find(path) if path.is_dir() else path
    text = read_text(file)
    if box_options is not None:
        manifest = _decoded(text, file, box_options)
    elif store is not None:
        content = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        told = {"text": content, "name": file.name}
        manifest = remembered(store, "manifest", told, lambda: _decoded(text, file), write=written, read=read)
    else:
        manifest = _decoded(text, file)
    return LoadedManifest(manifest=manifest, path=file, root=file.absolute().parent)


def _decoded(text: str, file: Path, box_options: Mapping[str, type[Section]] | None = None) -> Manifest:
    from boxsnake.manifest.decoding import decode

    if box_options is None:
        from boxsnake.packagers import box_options as every_format

        box_options = every_format()
    return decode(text, str(file), box_options=box_options)


def read_text(file: Path) -> str:
    """The text of a manifest, without a byte order mark.

    Errors: UsageError where there is no such file, ManifestError where it is no UTF-8, ResourceError.
    """
    try:
        data = read_bytes(file)
    except FileNotFoundError:
        step = "Name a file that exists, or write one with `boxsnake init`."
        raise UsageError(str(file), "there is no such file", step, path=str(file)) from None
    except ValueError as error:
        raise _unreadable(file, 0, str(error)) from None
    except OSError as error:
        raise resource_error(error, file) from error
    try:
        return text_of(data)
    except UnicodeDecodeError as error:
        raise _unreadable(file, data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text") from None
    except ValueError as error:
        raise _unreadable(file, 0, str(error)) from None


def read_bytes(file: Path) -> bytes:
    """The bytes of a file that a person wrote. Errors: OSError; ValueError where it is no file or far too long."""
    if not file.is_file():
        file.stat()
        raise ValueError("is not a file")
    with file.open("rb") as stream:
        data = stream.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise ValueError(f"has more than {LONGEST} bytes")
    return data


def text_of(data: bytes) -> str:
    """UTF-8 bytes as text, without a byte order mark. Errors: UnicodeDecodeError; ValueError for UTF-16 and 32."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        raise ValueError("is UTF-16 or UTF-32, as PowerShell's `>` writes it; save it as UTF-8")
    return data.decode("utf-8-sig")


def _manifest_in(folder: Path) -> Path | None:
    if (folder / NAME).is_file():
        return folder / NAME
    pyproject = folder / PYPROJECT
    return pyproject if has_table(pyproject) else None


def has_table(pyproject: Path) -> bool:
    """Whether a file is a pyproject.toml with `[tool.boxsnake]`, as far as can be seen."""
    try:
        text = text_of(read_bytes(pyproject))
    except (OSError, ValueError):
        return False
    try:
        tool = tomllib.loads(text).get("tool")
    except (ValueError, RecursionError):
        # Whoever wrote such a table is told what is wrong with the file when it is loaded.
        return "[tool.boxsnake" in text
    return isinstance(tool, dict) and "boxsnake" in tool


def _unreadable(file: Path, line: int, message: str) -> ManifestError:
    source = os.fspath(file)
    return ManifestError(source, (Fault(source=source, line=line, key="", message=message),))
