"""Single files of a base image, read out of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from boxsnake.bases.value import Base
from boxsnake.store import Store

if TYPE_CHECKING:
    import tarfile

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_LARGEST = 256 << 20  # bytes of one file


def read_files(store: Store, base: Base, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The contents of plain files, by their paths without the first slash ("etc/os-release").

    `wanted` chooses by path. Upper layers hide what lies in lower ones, as the OCI image specification has it.
    """
    import gzip
    import tarfile

    found: dict[str, bytes] = {}
    for layer in base.layers:
        hidden: list[str] = []
        with gzip.open(store.path(layer.digest)) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            fresh = dict(_files(members, wanted, hidden))
        found = {path: data for path, data in found.items() if not _is_hidden(path, hidden)} | fresh
    return found


def _files(members: tarfile.TarFile, wanted: Callable[[str], bool], hidden: list[str]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        path = member.name.removeprefix("./").strip("/")
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            hidden.append(f"{folder}/")
        elif name.startswith(_WHITEOUT):
            hidden.append(f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
        elif member.isreg() and member.size <= _LARGEST and wanted(path):
            stream = members.extractfile(member)
            yield path, stream.read() if stream else b""
        elif not member.isdir():
            # Whatever takes the place of a file hides it.
            hidden.append(path)


def _is_hidden(path: str, hidden: list[str]) -> bool:
    return any(path == name or path.startswith(f"{name.rstrip('/')}/") for name in hidden)
