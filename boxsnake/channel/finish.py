"""The last step of a package: what the builder's machine left in it is taken out, and its glibc is written in.

rattler-build writes the moment and the folder of the build into a package. Here each file's time becomes one constant,
and the placeholder of the prefix one text of the same length; so the same sources give the same bytes, on any machine.
And packages with programs in them come to depend on the oldest glibc that has all that these programs ask for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from boxsnake import elf
from boxsnake.channel import archives
from boxsnake.errors import PackError
from boxsnake.value import dataclass

LEVEL = 9  # zstd: 19 takes ten times as long for a seventh less
GLIBC = re.compile(r"__glibc(?: +>=([0-9.]+))?")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What went through while the packed files were copied."""

    changed: dict[str, tuple[str, int]]
    """New SHA-256 and size of files whose placeholder changed, by path."""
    glibc: tuple[int, ...]
    """The oldest glibc that the programs run on; empty where there is none."""


def finish(package: Path, target: Path, *, epoch: int) -> None:
    """Write a `.conda` package to `target` as described above. `epoch`: the time of everything, in seconds since 1970.

    Errors: PackError where a noarch package holds programs of one machine.
    """
    info = archives.info_of(package)
    paths = json.loads(info["info/paths.json"])
    with tempfile.TemporaryFile(dir=target.parent) as packed:
        with archives.packed_files(package) as files, _tar_zst(packed) as out:
            content = _copy(files, out, _placeholders(paths), epoch)
        index = json.loads(info["info/index.json"])
        if content.glibc and index["subdir"] == "noarch":
            raise PackError(package.name, "a noarch package holds programs", "Take `noarch` out of its recipe.")
        index["timestamp"] = epoch * 1000
        index["depends"] = _with_glibc(index.get("depends", []), content.glibc)
        info["info/index.json"] = _json(index)
        info["info/paths.json"] = _json(_finished_paths(paths, content.changed))
        info["info/about.json"] = _json(_without_channels(json.loads(info.get("info/about.json", b"{}"))))
        _write_conda(target, info, packed, epoch)


def _without_channels(about: dict[str, Any]) -> dict[str, Any]:
    """What is said about a package, without the builder's folders."""
    return {key: value for key, value in about.items() if key != "channels"}


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode()


def _placeholders(paths: dict[str, Any]) -> dict[str, tuple[bytes, bytes]]:
    """The old and the new placeholder of each file that has one."""
    found = {}
    for row in paths["paths"]:
        old = row.get("prefix_placeholder", "")
        if old:
            found[row["_path"]] = (old.encode(), _constant(old).encode())
    return found


def _constant(placeholder: str) -> str:
    """A placeholder of the same length that says nothing of the builder."""
    return ("/placeholder" + "_placeholder" * len(placeholder))[: len(placeholder)]


def _copy(
    files: tarfile.TarFile, out: tarfile.TarFile, placeholders: dict[str, tuple[bytes, bytes]], epoch: int
) -> Content:
    changed: dict[str, tuple[str, int]] = {}
    glibc: tuple[int, ...] = ()
    for member in files:
        content = b""
        stream = files.extractfile(member) if member.isreg() else None
        if stream is not None:
            content = stream.read()
            if member.name in placeholders:
                content = content.replace(*placeholders[member.name])
                changed[member.name] = (hashlib.sha256(content).hexdigest(), len(content))
            glibc = max(glibc, elf.glibc_floor(content))
        _add(out, member, content, epoch)
    return Content(changed=changed, glibc=glibc)


def _add(out: tarfile.TarFile, member: tarfile.TarInfo, content: bytes, epoch: int) -> None:
    plain = tarfile.TarInfo(member.name)
    plain.type, plain.linkname, plain.mode = member.type, member.linkname, member.mode
    plain.size, plain.mtime = len(content), epoch
    out.addfile(plain, io.BytesIO(content))


def _with_glibc(depends: list[str], floor: tuple[int, ...]) -> list[str]:
    """The dependencies with the higher of the glibc that they name and the one that is needed."""
    others = [spec for spec in depends if not GLIBC.fullmatch(spec)]
    said = [match[1] for spec in depends if (match := GLIBC.fullmatch(spec)) and match[1]]
    highest = max([floor, *(tuple(int(part) for part in version.split(".") if part) for version in said)])
    return [f"__glibc >={'.'.join(map(str, highest))}", *others] if highest else others


def _finished_paths(paths: dict[str, Any], changed: dict[str, tuple[str, int]]) -> dict[str, Any]:
    rows = []
    for row in paths["paths"]:
        new = dict(row)
        if row["_path"] in changed:
            new["sha256"], new["size_in_bytes"] = changed[row["_path"]]
            new["prefix_placeholder"] = _constant(row["prefix_placeholder"])
        rows.append(new)
    return {**paths, "paths": rows}


@contextmanager
def _tar_zst(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    import zstandard

    packer = zstandard.ZstdCompressor(level=LEVEL, threads=max(1, len(os.sched_getaffinity(0))))
    with (
        packer.stream_writer(file, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as out,
    ):
        yield out


def _write_conda(target: Path, info: dict[str, bytes], packed: IO[bytes], epoch: int) -> None:
    """Write the outer archive (conda's package format 2): stored, the files before what is known of them."""
    with tempfile.TemporaryFile(dir=target.parent) as known:
        with _tar_zst(known) as out:
            for name in sorted(info):
                _add(out, tarfile.TarInfo(name), info[name], epoch)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as outer:
            outer.writestr(_entry("metadata.json"), b'{"conda_pkg_format_version":2}')
            for part, file in (("pkg", packed), ("info", known)):
                file.seek(0)
                with outer.open(_entry(f"{part}-{target.stem}.tar.zst"), "w", force_zip64=False) as member:
                    while chunk := file.read(1 << 20):
                        member.write(chunk)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # its default time is the oldest that the format has
    entry.external_attr = 0o100644 << 16
    return entry
