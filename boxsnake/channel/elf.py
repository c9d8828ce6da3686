"""64-bit little-endian ELF files: what they need, and how they are made relocatable.

Follows the System V ABI (gABI, chapters 4 and 5) and the GNU extensions for symbol versions. Distributions' binaries
hold absolute paths and no RPATH. `relocatable` gives them one, and moves chosen C strings to a segment of their own,
where a longer text has room: a package's prefix placeholder, which the installer replaces.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"

ET_EXEC, ET_DYN = 2, 3
EM_X86_64, EM_AARCH64 = 62, 183
PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PF_X, PF_W, PF_R = 1, 2, 4
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ, DT_RPATH = 0, 1, 5, 6, 7, 8, 10, 15
DT_RUNPATH, DT_GNU_HASH, DT_VERNEED, DT_VERNEEDNUM = 29, 0x6FFFFEF5, 0x6FFFFFFE, 0x6FFFFFFF
RELATIVE_RELOCATION = {EM_X86_64: 8, EM_AARCH64: 1027}

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
DYNAMIC = struct.Struct("<qQ")
RELOCATION = struct.Struct("<QQq")
SYMBOL = struct.Struct("<IBBHQQ")
PAGE_SIZE = {EM_X86_64: 0x1000, EM_AARCH64: 0x10000}  # the largest that the architecture's kernels use

# lea disp32(%rip), %r64: the only way in which position-independent x86-64 code takes a string's address
LEA_RIP = re.compile(rb"(?=[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](.{4}))", re.DOTALL)


class ElfError(ValueError):
    """The file is not an ELF file of the kind that this module reads or changes."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One program header."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    align: int

    def packed(self) -> bytes:
        """The header's bytes."""
        return SEGMENT.pack(
            self.kind,
            self.flags,
            self.offset,
            self.address,
            self.physical,
            self.file_size,
            self.memory_size,
            self.align,
        )


@dataclass(frozen=True)
class Elf:
    """One ELF image, read. Addresses are those of the file, before the loader moves it."""

    image: bytes

    def __post_init__(self) -> None:
        if self.image[: len(MAGIC)] != MAGIC or len(self.image) < HEADER.size:
            raise ElfError("not a 64-bit little-endian ELF file")
        try:
            self.segments  # noqa: B018 - a truncated header table shows here, not at some later use
        except struct.error as error:
            raise ElfError(f"truncated ELF file: {error}") from error

    @cached_property
    def header(self) -> tuple[int, ...]:
        """e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, ..."""
        return HEADER.unpack_from(self.image)[1:]

    @property
    def kind(self) -> int:
        """Executable or shared object (e_type)."""
        return self.header[0]

    @property
    def machine(self) -> int:
        """The processor (e_machine)."""
        return self.header[1]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The program headers, in the order of the file."""
        start, count = self.header[4], self.header[9]
        names = ("kind", "flags", "offset", "address", "physical", "file_size", "memory_size", "align")
        return tuple(
            Segment(**dict(zip(names, SEGMENT.unpack_from(self.image, start + i * SEGMENT.size), strict=True)))
            for i in range(count)
        )

    @cached_property
    def dynamic(self) -> tuple[tuple[int, int], ...]:
        """The dynamic section's entries up to and without its end; none for a static program."""
        for segment in self.segments:
            if segment.kind == PT_DYNAMIC:
                entries = []
                for offset in range(segment.offset, segment.offset + segment.file_size, DYNAMIC.size):
                    tag, value = DYNAMIC.unpack_from(self.image, offset)
                    if tag == DT_NULL:
                        break
                    entries.append((tag, value))
                return tuple(entries)
        return ()

    def offset_of(self, address: int) -> int:
        """The place in the file of what lies at an address."""
        for segment in self.segments:
            if segment.kind == PT_LOAD and segment.address <= address < segment.address + segment.file_size:
                return address - segment.address + segment.offset
        raise ElfError(f"address {address:#x} is in no segment of the file")

    def address_of(self, offset: int) -> int | None:
        """The address at which a byte of the file is loaded, or None where it is not."""
        for segment in self.segments:
            if segment.kind == PT_LOAD and segment.offset <= offset < segment.offset + segment.file_size:
                return offset - segment.offset + segment.address
        return None

    def text_at(self, offset: int) -> str:
        """The C string at a place in the file."""
        return self.image[offset : self.image.index(b"\0", offset)].decode("utf-8", "surrogateescape")

    def _dynamic_value(self, tag: int) -> int | None:
        return next((value for t, value in self.dynamic if t == tag), None)

    @cached_property
    def _names_at(self) -> int:
        value = self._dynamic_value(DT_STRTAB)
        if value is None:
            raise ElfError("no dynamic string table")
        return self.offset_of(value)

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the shared libraries that it is linked against."""
        return tuple(self.text_at(self._names_at + value) for tag, value in self.dynamic if tag == DT_NEEDED)

    @property
    def search_path(self) -> str | None:
        """Its RPATH or RUNPATH."""
        values = [value for tag, value in self.dynamic if tag in {DT_RPATH, DT_RUNPATH}]
        return self.text_at(self._names_at + values[0]) if values else None

    @cached_property
    def needed_versions(self) -> frozenset[str]:
        """Symbol versions that it asks of its libraries, such as GLIBC_2.34 (GNU's DT_VERNEED)."""
        place, count = self._dynamic_value(DT_VERNEED), self._dynamic_value(DT_VERNEEDNUM)
        if place is None or count is None:
            return frozenset()
        names = set()
        library = self.offset_of(place)
        for _ in range(count):
            _, versions, _, first, following = struct.unpack_from("<HHIII", self.image, library)
            version = library + first
            for _ in range(versions):
                _, _, _, name, step = struct.unpack_from("<IHHII", self.image, version)
                names.add(self.text_at(self._names_at + name))
                version += step
            library += following
        return frozenset(names)

    def symbol(self, name: str) -> int | None:
        """The address of an exported symbol, or None."""
        table = self._dynamic_value(DT_SYMTAB)
        if table is None:
            return None
        # there is no count: GNU's linkers put the string table right behind the symbols
        for offset in range(self.offset_of(table), self._names_at - SYMBOL.size + 1, SYMBOL.size):
            at, _, _, section, value, _ = SYMBOL.unpack_from(self.image, offset)
            if section and self.text_at(self._names_at + at) == name:
                return int(value)
        return None


def read(path: Path) -> Elf | None:
    """The ELF file at a path; None where it is another kind of file, a link or a folder."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
        file.seek(0)
        return Elf(file.read())


def glibc_floor(image: bytes) -> tuple[int, ...]:
    """The oldest glibc that has every symbol version which a program needs: (2, 34).

    Empty where it needs none, or is no ELF file that can be read: packages hold broken ones to test with.
    """
    try:
        versions = Elf(image).needed_versions
    except (ElfError, struct.error, ValueError):
        return ()
    named = (name.removeprefix("GLIBC_") for name in versions if re.fullmatch(r"GLIBC_[0-9.]+", name))
    return max((tuple(int(part) for part in name.split(".")) for name in named), default=())


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
                replace(s, file_size=whole, memory_size=whole) if s is self.before else s for s in self.elf.segments
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
    count = _repoint_code(elf, changed, targets) + _repoint_relocations(elf, changed, targets)
    if not count:
        raise ElfError(f"nothing refers to a string with {part.decode(errors='replace')}")


def _strings_with(elf: Elf, part: bytes) -> Iterator[tuple[int, bytes]]:
    """Addresses and texts of the C strings that hold the part, once each."""
    seen = -1
    for match in re.finditer(re.escape(part), elf.image):
        start = elf.image.rfind(b"\0", 0, match.start()) + 1
        address = elf.address_of(start)
        if start != seen and address is not None:
            seen = start
            yield address, elf.image[start : elf.image.index(b"\0", start)]


def _repoint_code(elf: Elf, changed: bytearray, targets: Mapping[int, int]) -> int:
    if elf.machine != EM_X86_64:
        raise ElfError("strings are moved in x86-64 programs alone")
    count = 0
    for segment in elf.segments:
        if segment.kind != PT_LOAD or not segment.flags & PF_X:
            continue
        code = elf.image[segment.offset : segment.offset + segment.file_size]
        for match in LEA_RIP.finditer(code):
            place = match.start(1)
            following = segment.address + place + 4
            target = targets.get(following + int(struct.unpack("<i", match[1])[0]))
            if target is not None:
                struct.pack_into("<i", changed, segment.offset + place, target - following)
                count += 1
    return count


def _repoint_relocations(elf: Elf, changed: bytearray, targets: Mapping[int, int]) -> int:
    values = dict(elf.dynamic)
    if DT_RELA not in values:
        return 0
    count = 0
    start = elf.offset_of(values[DT_RELA])
    for offset in range(start, start + values[DT_RELASZ], RELOCATION.size):
        place, info, addend = RELOCATION.unpack_from(elf.image, offset)
        target = targets.get(addend)
        if target is not None and info == RELATIVE_RELOCATION[elf.machine]:
            RELOCATION.pack_into(changed, offset, place, info, target)
            count += 1
    return count
