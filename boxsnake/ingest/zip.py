"""Zip files with one possible reading: the directory and the headers say the same, and there is nothing else.

Readers differ: some go by the directory at the end, some by the headers on the way. A file on which they may disagree
is refused (APPNOTE.TXT 6.3.10, sections 4.3 and 4.4, and the rules of the package indexes for wheels).
"""

from __future__ import annotations

import stat
import struct
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from boxsnake.disk import disk_faults
from boxsnake.ingest import MOST_MEMBERS, unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_FIELD = struct.Struct("<2H")
_SIZES64 = struct.Struct("<2Q")
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x1, 0x8, 0x800
_KNOWN_FLAGS = _DESCRIPTOR | _UTF8 | 0x6  # the two bits of 0x6 tell how hard deflate tried
_MASKED = 0xFFFFFFFF
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"


@contextmanager
def strict_zip(path: Path, archive: str) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Open a zip file and give its members in the order in which they lie. Raises IntegrityError, ResourceError."""
    with disk_faults(path), path.open("rb") as stream:
        start = _check_end(stream, archive)
        try:
            reader = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, UnicodeDecodeError) as error:
            raise unsafe(archive, None, f"is not a whole zip file ({error})") from error
        with reader:
            members = sorted(reader.infolist(), key=lambda member: member.header_offset)
            _check_layout(stream, archive, members, start)
            yield reader, members


@contextmanager
def reading(archive: str, member: zipfile.ZipInfo) -> Iterator[None]:
    """Within the block, what the zip or its compression says is wrong becomes an IntegrityError."""
    import zlib

    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise unsafe(archive, member.filename, f"cannot be read ({error})") from error


def file_type(member: zipfile.ZipInfo) -> int:
    """Give the file type in a member's Unix mode, 0 where it has none."""
    return stat.S_IFMT(member.external_attr >> 16)


def permissions(member: zipfile.ZipInfo) -> int:
    """Give the permissions in a member's Unix mode, 0 where it has none."""
    return stat.S_IMODE(member.external_attr >> 16)


def _check_end(stream: BinaryIO, archive: str) -> int:
    """Check the end of the file, and give the place of the central directory."""
    size = stream.seek(0, 2)
    if size < _END.size:
        raise unsafe(archive, None, "is too short for a zip file")
    stream.seek(size - _END.size)
    signature, disk, first_disk, here, count, length, start, comment = _END.unpack(stream.read(_END.size))
    if signature != b"PK\x05\x06" or comment:
        raise unsafe(archive, None, "is not a zip file, is cut off, or has bytes after its end")
    if disk or first_disk or here != count:
        raise unsafe(archive, None, "is one part of a zip file in several parts")
    end = size - _END.size
    wide = _read_end64(stream, archive, end)
    if wide is not None:
        end, count, length, start = wide
    if count > MOST_MEMBERS:
        raise unsafe(archive, None, f"has more than {MOST_MEMBERS} members")
    if start + length != end:
        raise unsafe(archive, None, "has bytes in front of the zip file, or in it, that belong to no member")
    return int(start)


def _read_end64(stream: BinaryIO, archive: str, end: int) -> tuple[int, int, int, int] | None:
    """Read the wide form of the end (zip64): its place, and the number, length and place of the directory."""
    if end < _LOCATOR64.size + _END64.size:
        return None
    stream.seek(end - _LOCATOR64.size)
    signature, _, place, _ = _LOCATOR64.unpack(stream.read(_LOCATOR64.size))
    if signature != b"PK\x06\x07":
        return None
    place = int(place)
    if place + _END64.size + _LOCATOR64.size != end:
        raise unsafe(archive, None, "has a zip64 end in an odd place")
    stream.seek(place)
    signature, *_, count, length, start = _END64.unpack(stream.read(_END64.size))
    if signature != b"PK\x06\x06":
        raise unsafe(archive, None, "has a broken zip64 end")
    return place, int(count), int(length), int(start)


def _check_layout(stream: BinaryIO, archive: str, members: list[zipfile.ZipInfo], start: int) -> None:
    """Members follow each other without gap or overlap, from the first byte to the central directory."""
    place: int = 0
    for member in members:
        if member.header_offset != place:
            raise unsafe(archive, member.filename, "overlaps another member, or bytes lie before it that are in none")
        place = _check_member(stream, archive, member)
    if place != start:
        raise unsafe(archive, None, "has bytes before its directory that belong to no member")


def _check_member(stream: BinaryIO, archive: str, member: zipfile.ZipInfo) -> int:
    """Compare a member's local header with the directory; give the place behind the member."""
    name = member.orig_filename
    stream.seek(member.header_offset)
    header = stream.read(_LOCAL.size)
    if len(header) != _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise unsafe(archive, name, "has no header where the directory says")
    fields: tuple[int, ...] = _LOCAL.unpack(header)[1:]
    _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = fields
    local_name = stream.read(name_length)
    local_extra = stream.read(extra_length)
    if flags != member.flag_bits or method != member.compress_type:
        raise unsafe(archive, name, "has a header and a directory entry that differ")
    _check_features(archive, member, local_name, local_extra)
    data = member.header_offset + _LOCAL.size + name_length + extra_length
    end = data + member.compress_size
    if flags & _DESCRIPTOR:
        # Written by tools that stream: the sizes stand behind the data. The header's own are 0 or already right.
        if packed not in (0, _MASKED, member.compress_size) or unpacked not in (0, _MASKED, member.file_size):
            raise unsafe(archive, name, "has other sizes in its header than in the directory")
        return end + _descriptor_length(stream, archive, member, end)
    wide = _wide_sizes(_extra_fields(local_extra) or {}, packed, unpacked)
    if wide != (member.file_size, member.compress_size) or crc != member.CRC:
        raise unsafe(archive, name, "has another size or sum in its header than in the directory")
    return end


def _check_features(archive: str, member: zipfile.ZipInfo, local_name: bytes, local_extra: bytes) -> None:
    """Refuse what readers of zip files understand differently."""
    name = member.orig_filename
    if member.flag_bits & _ENCRYPTED:
        raise unsafe(archive, name, "is encrypted")
    if member.flag_bits & ~_KNOWN_FLAGS:
        raise unsafe(archive, name, "uses a feature of zip that packages do not")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise unsafe(archive, name, f"is compressed by method {member.compress_type}")
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        raise unsafe(archive, name, "is not compressed, but has two sizes")
    if local_name != name.encode("utf-8" if member.flag_bits & _UTF8 else "cp437", "replace"):
        raise unsafe(archive, name, "has another name in its header than in the directory")
    if not member.flag_bits & _UTF8 and not local_name.isascii():
        raise unsafe(archive, name, "has a name in an encoding that is not told")
    for extra in (local_extra, member.extra):
        fields = _extra_fields(extra)
        if fields is None or _UNICODE_PATH in fields:
            raise unsafe(archive, name, "has extra fields that give it another name, or that are broken")


def _extra_fields(extra: bytes) -> dict[int, bytes] | None:
    """Take a member's extra fields apart, by their kind; None where they are broken."""
    fields: dict[int, bytes] = {}
    while extra:
        if len(extra) < _FIELD.size:
            # Aligned archives are padded by up to three zeros.
            return fields if not extra.strip(b"\0") else None
        kind, length = _FIELD.unpack_from(extra)
        fields[kind] = extra[_FIELD.size : _FIELD.size + length]
        if len(fields[kind]) != length:
            return None
        extra = extra[_FIELD.size + length :]
    return fields


def _wide_sizes(fields: dict[int, bytes], packed: int, unpacked: int) -> tuple[int, int] | None:
    """Give the unpacked and packed size of a local header, from its zip64 field where the header points there."""
    if _MASKED not in (packed, unpacked):
        return unpacked, packed
    field = fields.get(_ZIP64, b"")
    if len(field) < _SIZES64.size:
        return None
    wide_unpacked, wide_packed = _SIZES64.unpack_from(field)
    return int(wide_unpacked), int(wide_packed)


def _descriptor_length(stream: BinaryIO, archive: str, member: zipfile.ZipInfo, place: int) -> int:
    """Find the form of the data descriptor behind a member: with or without signature, sizes of 4 or of 8 bytes."""
    stream.seek(place)
    found = stream.read(24)
    sizes = (member.CRC, member.compress_size, member.file_size)
    for form in ("<3I", "<I2Q"):
        if form == "<3I" and max(sizes) > _MASKED:
            continue
        expected = struct.pack(form, *sizes)
        for signature in (_DESCRIPTOR_SIGNATURE, b""):
            if found.startswith(signature + expected):
                return len(signature) + len(expected)
    raise unsafe(archive, member.orig_filename, "has other sizes behind its data than in the directory")
