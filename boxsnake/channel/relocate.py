"""Making programs relocatable that were compiled for /usr.

Distributions' binaries hold absolute paths and no RPATH. `relocatable` gives them one, and moves chosen C strings to a
segment of their own, where a longer text has room: a package's prefix placeholder, which the installer replaces. The
formats are those of the System V ABI and its supplements for x86-64 and AArch64.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence

from boxsnake.elf import (
    DT_RELA,
    DT_RELASZ,
    DT_RPATH,
    DT_RUNPATH,
    DT_STRSZ,
    DT_STRTAB,
    DYNAMIC,
    EM_AARCH64,
    EM_X86_64,
    PF_R,
    PF_X,
    PT_DYNAMIC,
    PT_LOAD,
    PT_NOTE,
    RELOCATION,
    SECTION,
    Elf,
    ElfError,
    Segment,
)

RELATIVE_RELOCATION = {EM_X86_64: 8, EM_AARCH64: 1027}
PAGE_SIZE = {EM_X86_64: 0x1000, EM_AARCH64: 0x10000}  # the largest that the architecture's kernels use

# lea disp32(%rip), %r64: the only way in which position-independent x86-64 code takes a string's address
LEA_RIP = re.compile(rb"(?=[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](.{4}))", re.DOTALL)
# adrp Xd, page; add Xd, Xd, #offset: the same on AArch64, with up to so many instructions from the first to the second
ADRP, ADD, ADD_WINDOW = 0x90000000, 0x91000000, 16


def relocatable(image: bytes, *, search_path: str | None = None, strings: Mapping[bytes, bytes] | None = None) -> bytes:
    """The same program with an RPATH, and with other texts in place of some of its C strings.

    `search_path` replaces an RPATH or RUNPATH that is there. `strings` maps a part of a string (a path) to what stands
    in its place; every C string with such a part is copied to a new segment, changed, and all references to it then
    lead there. A part that no reference leads to is an `ElfError`: nothing would have changed.
    """
    elf = Elf(image)
    new = _Addition(elf)
    changed = bytearray(image)
    if search_path is not None:
        _set_search_path(elf, changed, new, search_path)
    for part, text in (strings or {}).items():
        _repoint(elf, changed, new, part, text)
    return new.appended_to(changed) if new.content else bytes(changed)


class _Addition:
    """A read-only segment behind all others: a new one, or the one that an earlier change added, which then grows."""

    def __init__(self, elf: Elf) -> None:
        if elf.machine not in PAGE_SIZE:
            raise ElfError(f"machine {elf.machine} is none of those that this module changes")
        page = PAGE_SIZE[elf.machine]
        last = max((s for s in elf.segments if s.kind == PT_LOAD), key=lambda s: s.address)
        grows = last.flags == PF_R and last.offset + last.file_size == len(elf.image)
        self.elf = elf
        self.before = last if grows else None
        self.offset = len(elf.image) if grows else _rounded_up(len(elf.image), page)
        self.address = last.address + last.file_size if grows else _rounded_up(last.address + last.memory_size, page)
        self.align = page
        self.content = bytearray()

    def add(self, content: bytes) -> int:
        """Put content in; its address."""
        address = self.address + len(self.content)
        self.content += content
        return address

    def appended_to(self, changed: bytearray) -> bytes:
        size = len(self.content)
        if self.before is not None:
            whole = self.before.file_size + size
            table = [
                s._replace(file_size=whole, memory_size=whole) if s is self.before else s for s in self.elf.segments
            ]
        else:
            place = {"offset": self.offset, "address": self.address, "physical": self.address}
            segment = Segment(kind=PT_LOAD, flags=PF_R, **place, file_size=size, memory_size=size, align=self.align)
            table = _with_load(self.elf.segments, segment)
        start = self.elf.header[4]
        packed = b"".join(segment.packed() for segment in table)
        changed[start : start + len(packed)] = packed
        changed += bytes(self.offset - len(changed))
        return bytes(changed + self.content)


def _rounded_up(number: int, step: int) -> int:
    return -number % step + number


def _with_load(segments: Sequence[Segment], new: Segment) -> list[Segment]:
    """The program headers with a new one behind the last that is loaded: the loader wants them by address.

    A note (build id, ABI tag: nothing that a program needs to run) gives its place, as the table cannot grow.
    """
    notes = [segment for segment in segments if segment.kind == PT_NOTE]
    if not notes:
        raise ElfError("no header to spare for a new segment")
    kept = [segment for segment in segments if segment is not notes[-1]]
    last = max(number for number, segment in enumerate(kept) if segment.kind == PT_LOAD)
    return [*kept[: last + 1], new, *kept[last + 1 :]]


def _set_search_path(elf: Elf, changed: bytearray, new: _Addition, search_path: str) -> None:
    """Give it a DT_RPATH, which the program's own libraries inherit and LD_LIBRARY_PATH does not override."""
    if not elf.dynamic:
        raise ElfError("a static program has no RPATH")
    dynamic = next(segment for segment in elf.segments if segment.kind == PT_DYNAMIC)
    values = dict(elf.dynamic)
    start, size = elf.offset_of(values[DT_STRTAB]), values[DT_STRSZ]
    names = elf.image[start : start + size]
    moved = new.add(names + search_path.encode() + b"\0")
    moved_size = size + len(search_path.encode()) + 1
    entries = [(tag, value) for tag, value in elf.dynamic if tag not in {DT_RPATH, DT_RUNPATH}]
    entries = [(tag, moved if tag == DT_STRTAB else moved_size if tag == DT_STRSZ else value) for tag, value in entries]
    entries.append((DT_RPATH, size))
    if (len(entries) + 1) * DYNAMIC.size > dynamic.file_size:
        raise ElfError("no room for an RPATH in the dynamic section")
    table = b"".join(DYNAMIC.pack(tag, value) for tag, value in entries).ljust(dynamic.file_size, b"\0")
    changed[dynamic.offset : dynamic.offset + dynamic.file_size] = table
    _move_section(elf, changed, values[DT_STRTAB], moved, moved - new.address + new.offset, moved_size)


def _move_section(elf: Elf, changed: bytearray, old: int, address: int, offset: int, size: int) -> None:
    """Tell the section headers (debuggers and linkers read them, the loader does not) where a section went."""
    start, count = elf.header[5], elf.header[11]
    for i in range(count):
        at = start + i * SECTION.size
        fields = list(SECTION.unpack_from(elf.image, at))
        if fields[3] == old and fields[1] == 3:  # SHT_STRTAB
            fields[3:6] = [address, offset, size]
            SECTION.pack_into(changed, at, *fields)


def _repoint(elf: Elf, changed: bytearray, new: _Addition, part: bytes, text: bytes) -> None:
    targets = {address: new.add(old.replace(part, text) + b"\0") for address, old in _strings_with(elf, part)}
    in_code = {EM_X86_64: _repoint_x86_64, EM_AARCH64: _repoint_aarch64}[elf.machine]
    found = in_code(elf, changed, targets) | _repoint_relocations(elf, changed, targets)
    if not targets or found != targets.keys():
        raise ElfError(f"not every string with {part.decode(errors='replace')} is referred to in a way that is known")


def _strings_with(elf: Elf, part: bytes) -> Iterator[tuple[int, bytes]]:
    """Addresses and texts of the C strings that hold the part, once each."""
    seen = -1
    for match in re.finditer(re.escape(part), elf.image):
        start = elf.image.rfind(b"\0", 0, match.start()) + 1
        address = elf.address_of(start)
        if start != seen and address is not None:
            seen = start
            yield address, elf.image[start : elf.image.index(b"\0", start)]


def _code(elf: Elf) -> Iterator[Segment]:
    return (segment for segment in elf.segments if segment.kind == PT_LOAD and segment.flags & PF_X)


def _repoint_x86_64(elf: Elf, changed: bytearray, targets: Mapping[int, int]) -> set[int]:
    """Change the code that takes the address of a string; the addresses of those that were found."""
    found = set()
    for segment in _code(elf):
        for match in LEA_RIP.finditer(elf.image, segment.offset, segment.offset + segment.file_size):
            place = match.start(1)
            following = segment.address + place - segment.offset + 4
            old = following + int(struct.unpack("<i", match[1])[0])
            if old in targets:
                struct.pack_into("<i", changed, place, targets[old] - following)
                found.add(old)
    return found


def _repoint_aarch64(elf: Elf, changed: bytearray, targets: Mapping[int, int]) -> set[int]:
    """As `_repoint_x86_64`: here an address is taken by two instructions, which need not be neighbours."""
    pages = {old & ~0xFFF for old in targets}
    found = set()
    for segment in _code(elf):
        words = memoryview(elf.image)[segment.offset : segment.offset + segment.file_size // 4 * 4].cast("I")
        for number, word in enumerate(words):
            if word & 0x9F000000 != ADRP:
                continue
            here = segment.address + number * 4
            page = (here & ~0xFFF) + _adrp_distance(word)
            if page not in pages:
                continue
            register = word & 31
            for near in range(number + 1, min(number + 1 + ADD_WINDOW, len(words))):
                add = words[near]
                if add & 0xFFC00000 == ADD and add >> 5 & 31 == register:
                    old = page + (add >> 10 & 0xFFF)
                    if old in targets:
                        _write_adrp_add(changed, segment, (number, near), here, targets[old])
                        found.add(old)
                    break
    return found


def _adrp_distance(word: int) -> int:
    pages = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
    return (pages - (1 << 21) if pages >> 20 else pages) << 12


def _write_adrp_add(changed: bytearray, segment: Segment, numbers: tuple[int, int], here: int, target: int) -> None:
    pages = ((target & ~0xFFF) - (here & ~0xFFF)) >> 12 & 0x1FFFFF
    for number, mask, bits in (
        (numbers[0], 0x9F00001F, (pages & 3) << 29 | (pages >> 2) << 5),
        (numbers[1], 0xFFC003FF, (target & 0xFFF) << 10),
    ):
        place = segment.offset + number * 4
        (word,) = struct.unpack_from("<I", changed, place)
        struct.pack_into("<I", changed, place, word & mask | bits)


def _repoint_relocations(elf: Elf, changed: bytearray, targets: Mapping[int, int]) -> set[int]:
    """Change the pointers to strings that lie in data, which the loader fills in."""
    values = dict(elf.dynamic)
    found: set[int] = set()
    if DT_RELA not in values:
        return found
    start = elf.offset_of(values[DT_RELA])
    for offset in range(start, start + values[DT_RELASZ], RELOCATION.size):
        place, info, addend = RELOCATION.unpack_from(elf.image, offset)
        if addend in targets and info == RELATIVE_RELOCATION[elf.machine]:
            RELOCATION.pack_into(changed, offset, place, info, targets[addend])
            found.add(addend)
    return found
