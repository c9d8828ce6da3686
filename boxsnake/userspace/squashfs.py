"""Reading squashfs 4.0 images whose blocks are compressed by gzip, without the kernel's or anybody's help.

Images carry this module: it needs nothing but the standard library of Python 3.8. The format is that of the kernel's
`fs/squashfs/squashfs_fs.h`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

_MAGIC = 0x73717368
_GZIP = 1
_NONE = 0xFFFFFFFF
_SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
_FOLDER, _FILE, _LINK, _LONG_FOLDER, _LONG_FILE, _LONG_LINK = 1, 2, 3, 8, 9, 10
_KEPT_FRAGMENTS = 16


class ImageError(Exception):
    """The image is damaged, or of a kind that is not known here."""


@dataclass(frozen=True)
class Node:
    """A path of the image: permission bits, and one of a file's blocks, a link's text or a folder's place."""

    path: str
    mode: int
    is_folder: bool = False
    target: str | None = None
    size: int = 0
    start: int = 0
    blocks: tuple[int, ...] = ()
    fragment: int = _NONE
    offset: int = 0


class Image:
    """A squashfs image that begins at `begin` of an open file."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self._file, self._begin = file, begin
        fields = _SUPERBLOCK.unpack(self._at(0, _SUPERBLOCK.size))
        if fields[0] != _MAGIC or fields[5] != _GZIP or fields[9] != 4:
            raise ImageError("there is no squashfs 4 image that gzip has compressed")
        self._block_size, self._fragments, self._root = fields[3], fields[4], fields[11]
        self._inodes, self._folders, self._fragment_table = fields[15], fields[16], fields[17]
        self._metadata: dict[int, tuple[bytes, int]] = {}
        self._kept: dict[int, bytes] = {}
        self._fragment_list = self._read_fragment_list()

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every path below the image's root, folders before what is in them."""
        return tuple(self._below("", self._root))

    def content(self, node: Node) -> Iterator[bytes]:
        """A file's bytes, block by block."""
        place, left = node.start, node.size
        for entry in node.blocks:
            size = min(left, self._block_size)
            stored = entry & 0xFFFFFF
            yield self._block(place, entry, size) if stored else bytes(size)
            place, left = place + stored, left - size
        if node.fragment != _NONE and left:
            yield self._fragment(node.fragment)[node.offset : node.offset + left]

    def _at(self, place: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, self._begin + place)
        if len(data) != size:
            raise ImageError("the image ends too early")
        return data

    def _block(self, place: int, entry: int, size: int) -> bytes:
        data = self._at(place, entry & 0xFFFFFF)
        if not entry & 1 << 24:
            data = zlib.decompress(data)
        if len(data) > size:
            raise ImageError("a block is longer than it may be")
        return data

    def _fragment(self, number: int) -> bytes:
        if number not in self._kept:
            if len(self._kept) >= _KEPT_FRAGMENTS:
                del self._kept[next(iter(self._kept))]
            place, entry = self._fragment_list[number]
            self._kept[number] = self._block(place, entry, self._block_size)
        return self._kept[number]

    def _read_fragment_list(self) -> list[tuple[int, int]]:
        count = -(-self._fragments // 512)
        places = struct.unpack(f"<{count}Q", self._at(self._fragment_table, 8 * count))
        rows = b"".join(self._metadata_block(place)[0] for place in places)
        return [(row[0], row[1]) for row in struct.iter_unpack("<QII", rows)]

    def _metadata_block(self, place: int) -> tuple[bytes, int]:
        """A block of metadata, and the place of the next one."""
        if place not in self._metadata:
            (header,) = struct.unpack("<H", self._at(place, 2))
            size = header & 0x7FFF
            data = self._at(place + 2, size)
            self._metadata[place] = (data if header & 0x8000 else zlib.decompress(data), place + 2 + size)
        return self._metadata[place]

    def _metadata_from(self, place: int, offset: int, size: int) -> bytes:
        """So many bytes of metadata, which may go on in the blocks that follow."""
        data, following = self._metadata_block(place)
        while offset >= len(data) > 0:
            offset -= len(data)
            data, following = self._metadata_block(following)
        found = data[offset : offset + size]
        while len(found) < size:
            data, following = self._metadata_block(following)
            found += data[: size - len(found)]
        return found

    def _below(self, folder: str, reference: int) -> Iterator[Node]:
        for name, kind, child in self._list(reference):
            node = self._node(f"{folder}{name}", kind, child)
            yield node
            if node.is_folder:
                yield from self._below(f"{folder}{name}/", child)

    def _list(self, reference: int) -> Iterator[tuple[str, int, int]]:
        """What a folder has: (name, kind, reference of its inode)."""
        place, offset = self._inodes + (reference >> 16), reference & 0xFFFF
        (kind,) = struct.unpack("<H", self._metadata_from(place, offset, 2))
        if kind == _FOLDER:
            start, _, size, begin, _ = struct.unpack("<IIHHI", self._metadata_from(place, offset + 16, 16))
        else:
            _, size, start, _, _, begin, _ = struct.unpack("<IIIIHHI", self._metadata_from(place, offset + 16, 24))
        rows = self._metadata_from(self._folders + start, begin, size - 3)
        at = 0
        while at < len(rows):
            count, block, _ = struct.unpack_from("<III", rows, at)
            at += 12
            for _ in range(count + 1):
                inode, _, kind, length = struct.unpack_from("<HhHH", rows, at)
                name = os.fsdecode(rows[at + 8 : at + 9 + length])
                if name in {".", "..", ""} or "/" in name:
                    raise ImageError("a folder has a name that none can have")
                at += 9 + length
                yield name, kind, block << 16 | inode

    def _node(self, path: str, kind: int, reference: int) -> Node:
        place, offset = self._inodes + (reference >> 16), reference & 0xFFFF
        kind, mode = struct.unpack("<HH", self._metadata_from(place, offset, 4))
        offset += 16
        if kind in {_FOLDER, _LONG_FOLDER}:
            return Node(path, mode & 0o777, is_folder=True)
        if kind in {_LINK, _LONG_LINK}:
            _, size = struct.unpack("<II", self._metadata_from(place, offset, 8))
            target = self._metadata_from(place, offset, 8 + size)[8:]
            return Node(path, mode & 0o777, target=os.fsdecode(target))
        if kind == _FILE:
            layout, head = "<IIII", 16
            start, fragment, begin, size = struct.unpack(layout, self._metadata_from(place, offset, head))
        elif kind == _LONG_FILE:
            layout, head = "<QQQIIII", 40
            start, size, _, _, fragment, begin, _ = struct.unpack(layout, self._metadata_from(place, offset, head))
        else:
            raise ImageError(f"{path} is neither file nor link nor folder")
        count = size // self._block_size if fragment != _NONE else -(-size // self._block_size)
        blocks = struct.unpack(f"<{count}I", self._metadata_from(place, offset, head + 4 * count)[head:])
        return Node(path, mode & 0o777, size=size, start=start, blocks=blocks, fragment=fragment, offset=begin)
