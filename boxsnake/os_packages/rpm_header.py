"""The header of an RPM file: what the package says of itself, read without rpm.

The format is RPM v4's: a lead of 96 bytes, the signature header, filled up to eight bytes, then the header itself
(https://rpm-software-management.github.io/rpm/manual/format_v4.html).
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError

NAME = 1000
VERSION = 1001
RELEASE = 1002
EPOCH = 1003
SUMMARY = 1004
DESCRIPTION = 1005
BUILD_TIME = 1006
BUILD_HOST = 1007
SIZE = 1009
VENDOR = 1011
LICENSE = 1014
PACKAGER = 1015
GROUP = 1016
URL = 1020
ARCHITECTURE = 1022
BEFORE_INSTALL = 1023
AFTER_INSTALL = 1024
BEFORE_REMOVE = 1025
AFTER_REMOVE = 1026
FILE_SIZES = 1028
FILE_MODES = 1030
FILE_DIGESTS = 1035
FILE_LINKS = 1036
FILE_FLAGS = 1037
REQUIRE_FLAGS = 1048
REQUIRE_NAMES = 1049
REQUIRE_VERSIONS = 1050
VERIFY = 1079
FOLDER_INDEXES = 1116
FILE_NAMES = 1117
FOLDERS = 1118
PAYLOAD_DIGEST = 5092

LESS, GREATER, EQUAL = 2, 4, 8
"""The bits of REQUIRE_FLAGS that compare versions."""

GHOST = 1 << 6
"""The bit of FILE_FLAGS of a file that is known to the package and not in it."""

Value = int | str | bytes | tuple[int, ...] | tuple[str, ...]

_HEADER_DIGEST = 273
"""The tag of the signature header with the SHA-256 of the header itself."""
_LEAD = 96
_CHUNK = 1 << 20
_MAGIC = b"\x8e\xad\xe8\x01"
_STRUCTS = {2: "B", 3: "H", 4: "I", 5: "Q"}
_LARGEST = 256 << 20  # the limit that rpm itself sets for a header


def read(path: Path) -> dict[int, Value]:
    """All tags of the package's header; a tag that holds one number or text gives it by itself.

    Errors: IntegrityError where the file is no RPM or its header is cut short, ResourceError.
    """
    with disk_faults(path), path.open("rb") as stream:
        _signature(stream, path)
        return _tags(_section(stream, path), path)


def payload_start(path: Path) -> int:
    """Where the payload begins, in bytes. Errors: those of `read`."""
    with disk_faults(path), path.open("rb") as stream:
        _signature(stream, path)
        _section(stream, path)
        return stream.tell()


def installed(blob: bytes) -> dict[int, Value]:
    """All tags of a header as rpm's database keeps it, without what stands before one in a file.

    Errors: struct.error, ValueError, KeyError where it is none.
    """
    count, size = struct.unpack_from(">II", blob)
    data = blob[8 + count * 16 : 8 + count * 16 + size]
    rows = struct.iter_unpack(">IIII", blob[8 : 8 + count * 16])
    return {tag: _value(kind, data, offset, amount) for tag, kind, offset, amount in rows}


def digest(path: Path) -> str:
    """The SHA-256 of all that a signature speaks of, so that it is the same before and after signing.

    What the package says of its own bytes is checked on the way. Errors: IntegrityError, ResourceError.
    """
    with disk_faults(path), path.open("rb") as stream:
        promised = _tags(_signature(stream, path), path).get(_HEADER_DIGEST)
        start = stream.tell()
        header = _tags(_section(stream, path), path)
        end = stream.tell()
        stream.seek(start)
        head = stream.read(end - start)
        both, payload = hashlib.sha256(head), hashlib.sha256()
        while data := stream.read(_CHUNK):
            both.update(data)
            payload.update(data)
    if promised not in {None, hashlib.sha256(head).hexdigest()}:
        raise IntegrityError(str(path), "its header is not what was packed", "Build it again.")
    of_payload = header.get(PAYLOAD_DIGEST)
    if of_payload not in {None, (payload.hexdigest(),), payload.hexdigest()}:
        raise IntegrityError(str(path), "its payload is not what was packed", "Build it again.")
    return both.hexdigest()


_Section = tuple[list[tuple[int, int, int, int]], bytes]


def _signature(stream: BinaryIO, path: Path) -> _Section:
    """The signature header; what follows is the header itself."""
    lead = stream.read(_LEAD)
    if lead[:4] != b"\xed\xab\xee\xdb" or len(lead) < _LEAD:
        raise _damaged(path)
    section = _section(stream, path)
    stream.seek(-len(section[1]) % 8, 1)
    return section


def _tags(section: _Section, path: Path) -> dict[int, Value]:
    index, data = section
    try:
        return {tag: _value(kind, data, offset, count) for tag, kind, offset, count in index}
    except (struct.error, ValueError, KeyError) as error:
        raise _damaged(path) from error


def _section(stream: BinaryIO, path: Path) -> _Section:
    head = stream.read(16)
    if head[:4] != _MAGIC or len(head) < 16:
        raise _damaged(path)
    count, size = struct.unpack(">II", head[8:])
    if count * 16 + size > _LARGEST:
        raise _damaged(path)
    index, data = stream.read(count * 16), stream.read(size)
    if len(index) < count * 16 or len(data) < size:
        raise _damaged(path)
    return list(struct.iter_unpack(">IIII", index)), data


def _value(kind: int, data: bytes, offset: int, count: int) -> Value:
    if kind == 7:
        return data[offset : offset + count]
    if kind in _STRUCTS:
        numbers: tuple[int, ...] = struct.unpack_from(f">{count}{_STRUCTS[kind]}", data, offset)
        return numbers[0] if count == 1 else numbers
    texts: list[str] = []
    for _ in range(count):
        end = data.index(b"\0", offset)
        texts.append(data[offset:end].decode("utf-8", "surrogateescape"))
        offset = end + 1
    return texts[0] if kind in {6, 9} and count == 1 else tuple(texts)


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(str(path), "is no whole RPM", "Build it again.")
