"""The control member of a Debian package: what the package says of itself, read without dpkg.

A package is an `ar` archive of three members (deb(5)); its control fields are one paragraph (deb-control(5)).
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import BinaryIO

from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError
from boxsnake.value import dataclass

_MAGIC = b"!<arch>\n"
_HEADER = 60
_CONTROL = "control.tar.gz"
_LARGEST = 256 << 20
"""Bytes of the control member; it holds a line for each file of the package."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """A package's control member. `fields` are as written, a folded one with its line feeds and leading blanks."""

    fields: dict[str, str]
    files: dict[str, str]
    """The other files, such as "postinst" and "md5sums", by their names."""
    members: tuple[str, ...]
    """The names of the package's own members, in their order."""


def read(path: Path) -> Control:
    """What the package says of itself. Errors: IntegrityError where it is no whole package, ResourceError."""
    with disk_faults(path), path.open("rb") as stream:
        try:
            return _read(stream, path.stat().st_size)
        except (ValueError, KeyError, tarfile.TarError, EOFError) as error:
            raise IntegrityError(str(path), "is no whole Debian package", "Build it again.") from error


def _read(stream: BinaryIO, whole: int) -> Control:
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("no ar archive")
    names: list[str] = []
    files: dict[str, str] = {}
    while header := stream.read(_HEADER):
        name, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
        names.append(name)
        end = stream.tell() + size
        if len(header) < _HEADER or end > whole:
            raise ValueError("cut short")
        if name == _CONTROL and size <= _LARGEST:
            files = _texts(stream.read(size))
        stream.seek(end + end % 2)
    if len(names) != 3:
        raise ValueError("not three members")
    return Control(fields=_fields(files.pop("control")), files=files, members=tuple(names))


def _texts(archive: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
        for member in members:
            content = members.extractfile(member)
            if content is not None:
                found[member.name.removeprefix("./")] = content.read().decode("utf-8")
    return found


def _fields(paragraph: str) -> dict[str, str]:
    """The fields; a line that begins with a blank goes on with the field before it."""
    found: dict[str, str] = {}
    name = ""
    for line in paragraph.removesuffix("\n").split("\n"):
        if line[:1] in {" ", "\t"}:
            found[name] += f"\n{line}"
            continue
        name, colon, value = line.partition(":")
        if not colon or name in found:
            raise ValueError("no field, or one twice")
        found[name] = value.strip(" ")
    return found
