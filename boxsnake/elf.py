"""Reading 64-bit little-endian ELF files: what programs and libraries need of others.

Follows the System V ABI (gABI, chapters 4 and 5) and the GNU extensions for symbol versions. The boot harness hands it
to the interpreters of boxes: the standard library alone, Python 3.9 or later.
"""

from __future__ import annotations

import re
import struct
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

MAGIC = b"\x7fELF\x02\x01"

ET_EXEC = 2
EM_X86_64, EM_AARCH64 = 62, 183
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
PF_X, PF_W, PF_R = 1, 2, 4
DT_NULL, DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ, DT_RPATH = 0, 1, 5, 6, 7, 8, 10, 15
DT_RUNPATH, DT_VERNEED, DT_VERNEEDNUM = 29, 0x6FFFFFFE, 0x6FFFFFFF

_RELATIVE_RELOCATIONS = "2.36"  # the first glibc whose loader knows them

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
DYNAMIC = struct.Struct("<qQ")
RELOCATION = struct.Struct("<QQq")
SYMBOL = struct.Struct("<IBBHQQ")


class ElfError(ValueError):
    """The file is not an ELF file of a kind that is known here."""


class Segment(NamedTuple):
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
        return SEGMENT.pack(*self)


class Elf:
    """One ELF image, read. Addresses are those of the file, before the loader moves it."""

    def __init__(self, image: bytes) -> None:
        self.image = image
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
        return tuple(
            Segment(*SEGMENT.unpack_from(self.image, start + number * SEGMENT.size)) for number in range(count)
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
    def interpreter(self) -> str | None:
        """The loader that starts it; None for what is no program, or needs none."""
        return next((self.text_at(segment.offset) for segment in self.segments if segment.kind == PT_INTERP), None)

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


def glibc_of(version: str) -> tuple[int, ...]:
    """The glibc that a symbol version is from: (2, 34) for "GLIBC_2.34"; empty where it is none of glibc's."""
    number = _RELATIVE_RELOCATIONS if version == "GLIBC_ABI_DT_RELR" else version.removeprefix("GLIBC_")
    if not version.startswith("GLIBC_") or not re.fullmatch(r"[0-9]+(\.[0-9]+)*", number):
        return ()
    return tuple(int(part) for part in number.split("."))


def glibc_floor(image: bytes) -> tuple[int, ...]:
    """The oldest glibc that has every symbol version which a program needs: (2, 34).

    Empty where it needs none, or is no ELF file that can be read: packages hold broken ones to test with.
    """
    try:
        versions = Elf(image).needed_versions
    except (ElfError, struct.error, ValueError):
        return ()
    return max((glibc_of(version) for version in versions), default=())
