"""Inspection: what is in a box, of whatever format, without installing it.

Every box comes down to members of an archive. A ledger notes them, looks into wheels and layers within, and keeps
what tells of packages: metadata of distributions, conda's records, the databases of dpkg and rpm.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from boxsnake.archive import gzip_error
from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError, ResourceError, UsageError
from boxsnake.inspection import packages as found_in
from boxsnake.inspection.archives import enter_archive, enter_folder, enter_squashfs, enter_tail
from boxsnake.inspection.image import lay_out, read_image
from boxsnake.inspection.ledger import Ledger
from boxsnake.inspection.locks import inspect_lock
from boxsnake.inspection.os_package import enter_deb, enter_rpm
from boxsnake.inspection.value import EntryPoint, File, Inspection, Package, Part, Share
from boxsnake.userspace.squashfs import ImageError

__all__ = ["EntryPoint", "File", "Inspection", "Package", "Part", "Share", "inspect"]

_HEAD = 1 << 16
_LOCK = re.compile(rb"^lock-version = ", re.MULTILINE)
_PAYLOAD = re.compile(rb"^payload_size=([0-9]+)$", re.MULTILINE)
_SQUASHFS = re.compile(rb"^IMAGE_AT='?([0-9]+)'?$", re.MULTILINE)
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    ImageError,
)

Enter = Callable[[Path, Ledger], Inspection]


def inspect(path: Path, *, digests: bool = False, target: str = "") -> Inspection:
    """Look into a box, a folder or a lock; of a lock for several targets, `target` is looked at.

    With `digests`, every file's is taken, which needs all bytes to be read. Errors: ResourceError where there is
    nothing or it cannot be read, UsageError for what is no box, IntegrityError for a damaged one.
    """
    if not path.exists():
        raise ResourceError(str(path), "there is no such file", "Build it first, or correct the name.")
    if not (path.is_file() or path.is_dir()):
        step = "Name one; what comes through a pipe is written to a file first."
        raise UsageError(str(path), "is neither a file nor a folder", step)
    with _faults(path):
        if path.is_file() and _LOCK.search(_head(path)):
            return _measured(inspect_lock(path, target))
        enter = _kind(path)
        ledger = Ledger(digests=digests)
        found = enter(path, ledger)
        listed = found_in.packages(ledger)
        said = replace(
            found,
            packages=listed,
            entry_points=found_in.entry_points(ledger),
            python=found.python or found_in.python(ledger, listed),
            prefix=found_in.prefix(ledger),
            placed=found_in.placed(ledger),
            shares=found_in.shares(ledger, found.parts),
            base=found.base or found_in.system_name(ledger),
            files=dict(sorted(ledger.files.items())),
            notes=(*found.notes, *ledger.notes),
        )
    return _measured(said)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    import zstandard

    with disk_faults(path):
        try:
            yield
        except (*_BROKEN, gzip_error(), zstandard.ZstdError, OSError) as error:
            # gzip says so by an error of its own, and zipfile seeks to where nothing can be.
            if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
                raise
            step = "Build or fetch it again."
            raise IntegrityError(str(path), f"is damaged or cut off: {str(error) or repr(error)}", step) from None


def _kind(path: Path) -> Enter:
    """How it is read, by what it begins with. Errors: UsageError; EOFError for an archive that is cut off."""
    if path.is_dir():
        return _enter_image if (path / "index.json").is_file() and (path / "blobs").is_dir() else enter_folder
    head = _head(path)
    by_magic: tuple[tuple[bytes, Enter], ...] = ((b"\xed\xab\xee\xdb", enter_rpm), (b"!<arch>\n", enter_deb))
    for magic, enter in by_magic:
        if head.startswith(magic):
            return enter
    if head.startswith(b"#!") and (match := _SQUASHFS.search(head)):
        return enter_squashfs(int(match[1]))
    if head.startswith(b"#!") and (match := _PAYLOAD.search(head)):
        return enter_tail(int(match[1]))
    if head[:4] == b"\x7fELF" and head[8:10] == b"AI":
        return enter_squashfs(_end_of_elf(head))
    if head[257:262] == b"ustar" or _is_plain_tar(head):
        _check_end(path)
        return _enter_image if _is_image(path) else enter_archive
    if _is_compressed(head) or zipfile.is_zipfile(path):
        return enter_archive
    # A PEX has an interpreter's line before it.
    if re.match(rb"(?:#![^\n]*\n)?PK\x03\x04", head):
        raise EOFError("it is a zip without an end")
    known = "an RPM, deb, wheel, PEX, image, conda package, installer, AppImage, lock, zip or tar archive, or a folder"
    raise UsageError(str(path), "is nothing that can be looked into", f"Name {known}.")


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD)


def _is_compressed(head: bytes) -> bool:
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


def _is_plain_tar(head: bytes) -> bool:
    """A tar of the kind before ustar has no magic; its checksum tells."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _check_end(path: Path) -> None:
    """Errors: EOFError for a tar without the empty blocks at its end: cut between two members, it looks whole."""
    with path.open("rb") as stream:
        stream.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
        if stream.read().strip(b"\0"):
            raise EOFError("it has no end")


def _is_image(path: Path) -> bool:
    with tarfile.open(path, mode="r:") as archive:
        return any(member.name.removeprefix("./") in {"manifest.json", "oci-layout"} for member in archive)


def _end_of_elf(head: bytes) -> int:
    """Where the program ends that an AppImage begins with: behind its table of sections."""
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count = struct.unpack_from("<HH", head, 58)
    return int(table + size * count)


def _enter_image(path: Path, ledger: Ledger) -> Inspection:
    image = read_image(path)
    lay_out(image, ledger)
    return Inspection(
        artifact=str(path),
        format="image",
        name=image.name,
        version=image.version,
        platform=image.platform,
        base=image.base,
        starts=image.starts,
        parts=tuple(part for part, _ in image.layers),
        notes=image.notes,
    )


def _measured(found: Inspection) -> Inspection:
    path = Path(found.artifact)
    if not path.is_file():
        return found
    with disk_faults(path), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return replace(found, size=path.stat().st_size, digest=f"sha256:{digest}")
