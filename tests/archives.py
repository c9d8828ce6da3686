"""Wheels and conda packages made on the spot: good ones, and bad ones with exactly one fault."""

from __future__ import annotations

import base64
import bz2
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

INFO = "demo-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def wheel_files(**changes: str | bytes | None) -> dict[str, str | bytes]:
    """The files of a good wheel without its RECORD; a keyword replaces METADATA, WHEEL or entry_points."""
    files: dict[str, str | bytes] = {
        "demo/__init__.py": "x = 1\n",
        f"{INFO}/METADATA": METADATA,
        f"{INFO}/WHEEL": WHEEL,
    }
    for key, value in changes.items():
        name = f"{INFO}/{'entry_points.txt' if key == 'entry_points' else key}"
        if value is None:
            files.pop(name)
        else:
            files[name] = value
    return files


def make_wheel(
    folder: Path,
    files: Mapping[str, str | bytes] | None = None,
    *,
    name: str = "demo-1.0-py3-none-any.whl",
    record: Callable[[list[str]], list[str]] | None = None,
    modes: Mapping[str, int] | None = None,
    extra: Sequence[tuple[str, bytes]] = (),
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a wheel; `record` may change RECORD's lines, `extra` is added without being listed there."""
    contents = {
        key: value.encode() if isinstance(value, str) else value for key, value in (files or wheel_files()).items()
    }
    info = next((key.split("/")[0] for key in contents if key.endswith(".dist-info/METADATA")), INFO)
    lines = [record_line(key, data) for key, data in contents.items() if not key.endswith("/")]
    lines.append(f"{info}/RECORD,,")
    lines = record(lines) if record else lines
    path = folder / name
    with zipfile.ZipFile(path, "w", compression) as archive:
        for key, data in (*contents.items(), (f"{info}/RECORD", "\n".join(lines).encode()), *extra):
            member = zipfile.ZipInfo(key, (2020, 1, 1, 0, 0, 0))
            member.compress_type = compression
            member.external_attr = (modes or {}).get(key, 0o040755 if key.endswith("/") else 0o100644) << 16
            archive.writestr(member, data)
    return path


class Tar:
    """A tar in the making; each method adds one member."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.paths: list[dict[str, Any]] = []

    def file(self, name: str, data: bytes = b"x", mode: int = 0o644, *, listed: bool = True, **row: Any) -> Tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), mode
        self._tar.addfile(member, io.BytesIO(data))
        if listed:
            facts = {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
            self.paths.append({"_path": name, "path_type": "hardlink", **facts, **row})
        return self

    def link(self, name: str, target: str) -> Tar:
        self.paths.append({"_path": name, "path_type": "softlink", "sha256": "", "size_in_bytes": 0})
        return self.special(name, tarfile.SYMTYPE, target)

    def hard_link(self, name: str, target: str, data: bytes = b"x") -> Tar:
        facts = {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        self.paths.append({"_path": name, "path_type": "hardlink", **facts})
        return self.special(name, tarfile.LNKTYPE, target)

    def folder(self, name: str) -> Tar:
        return self.special(name, tarfile.DIRTYPE)

    def special(self, name: str, kind: bytes, target: str = "") -> Tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.mode = kind, target, 0o755
        self._tar.addfile(member)
        return self

    def raw(self, data: bytes) -> Tar:
        self._buffer.write(data)
        return self

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


INDEX = {"name": "demo", "version": "1.0", "build": "h0_0", "build_number": 0, "subdir": "linux-64", "depends": []}
STEM = "demo-1.0-h0_0"


def info_tar(
    content: Tar,
    *,
    index: Mapping[str, Any] | None = None,
    paths: object = None,
    link: object = None,
    tar: Tar | None = None,
) -> Tar:
    """The `info/` half of a package, or added to `tar`."""
    tar = tar or Tar()
    documents = {
        "info/index.json": INDEX if index is None else index,
        "info/paths.json": {"paths": content.paths, "paths_version": 1} if paths is None else paths,
        "info/link.json": link,
    }
    rows = list(content.paths)
    for name, document in documents.items():
        if document is not None:
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            tar.file(name, data, listed=False)
    assert rows == content.paths
    return tar


def make_conda(folder: Path, content: Tar | None = None, *, name: str = f"{STEM}.conda", **info: Any) -> Path:
    """Write a package of format 2."""
    content = content or Tar().file("lib/demo.txt")
    return zip_conda(folder / name, info_tar(content, **info).bytes(), content.bytes())


def zip_conda(path: Path, info: bytes, content: bytes, members: Mapping[str, bytes] | None = None) -> Path:
    """Write a package of format 2 from its two tars; `members` replaces members of the outer zip."""
    pack = zstandard.ZstdCompressor(level=1).compress
    parts = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"info-{STEM}.tar.zst": pack(info),
        f"pkg-{STEM}.tar.zst": pack(content),
        **(members or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, data in parts.items():
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data)
    return path


def make_tar_bz2(folder: Path, content: Tar | None = None, **info: Any) -> Path:
    """Write a package of format 1."""
    content = content or Tar().file("lib/demo.txt")
    path = folder / f"{STEM}.tar.bz2"
    path.write_bytes(bz2.compress(info_tar(content, tar=content, **info).bytes()))
    return path
