"""What the programs and libraries of a box need of the system below it: shared libraries, and a glibc new enough.

Nobody's word is taken for it, neither that of a wheel's tag nor that of a package's metadata: the ELF files are read.
What was read is remembered by the package's digest. Which of two libraries of one name the loader would take is not
followed up: a library is there if any package of the box brings a file of its name.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxsnake import elf
from boxsnake.disk import disk_faults
from boxsnake.entries import Tree
from boxsnake.errors import PackError
from boxsnake.pattern import pattern
from boxsnake.store import Store
from boxsnake.target import Target
from boxsnake.value import dataclass

_FORMAT = 1
"""To be raised whenever the same package shall give other facts."""

_MACHINES = {"linux-64": elf.EM_X86_64, "linux-aarch64": elf.EM_AARCH64}
_LARGEST = 4 << 30  # bytes of one library

# The libraries of glibc itself. That of crypt(3) and the old one of NIS left it long ago.
_OF_GLIBC = pattern(
    r"(ld-linux[a-z0-9-]*|lib(c|m|mvec|pthread|dl|rt|util|anl|resolv|nss_[a-z]+|thread_db|BrokenLocale|c_malloc_debug))"
    r"\.so\.\d+"
)
_PYTHON = pattern(r"libpython3[0-9.t]*\.so[0-9.]*")
# Packages of RPM systems whose names do not follow from the library's.
_RPM_NAMES = {
    "libcrypt.so.1": {"libxcrypt-compat", "libxcrypt"},
    "libcrypt.so.2": {"libxcrypt"},
    "libexpat.so.1": {"expat"},
    "libgcc_s.so.1": {"libgcc"},
    "libGL.so.1": {"mesa-libGL", "libglvnd-glx"},
    "libglib-2.0.so.0": {"glib2"},
    "libstdc++.so.6": {"libstdc++"},
    "libz.so.1": {"zlib", "zlib-ng-compat"},
}


@dataclass(frozen=True, kw_only=True)
class Binary:
    """One ELF file: the libraries that it is linked against, and the newest symbol version of glibc's that it asks."""

    path: str
    needs: tuple[str, ...]
    version: str


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """The ELF files of one package, and the file names of the libraries that it brings."""

    owner: str
    brings: frozenset[str]
    files: tuple[Binary, ...]


def known(store: Store, owner: str, sha256: str, target: Target) -> Binaries | None:
    """What was read before of the package of that digest, bare hex; None where nothing was."""
    facts = store.selected("binaries", _key(sha256, target))
    if facts is None:
        return None
    files = tuple(Binary(path=path, version=version, needs=tuple(needs)) for path, version, needs in facts["files"])
    return Binaries(owner=owner, brings=frozenset(facts["brings"]), files=files)


def remember_tree(store: Store, tree: Tree, digests: Mapping[str, str], target: Target) -> None:
    """Read the ELF files of a staged tree, of each owner of `digests` that is not yet known. Errors: ResourceError."""
    lacking = {owner for owner, digest in digests.items() if known(store, owner, digest, target) is None}
    brings: dict[str, set[str]] = {owner: set() for owner in lacking}
    files: dict[str, list[Binary]] = {owner: [] for owner in lacking}
    for entry in tree.owned_by(lacking):
        name = entry.path.rpartition("/")[2]
        binary = None
        if entry.kind == "file" and (entry.mode & 0o111 or ".so" in name):
            with disk_faults(tree.root):
                binary = _read(tree.root / entry.path, entry.path, target)
        for owner in lacking.intersection(entry.owners):
            brings[owner] |= {name} if ".so" in name else set()
            files[owner] += [binary] if binary else []
    for owner in sorted(lacking):
        _remember(store, digests[owner], target, brings[owner], files[owner])


def remember_wheel(store: Store, path: Path, sha256: str, target: Target) -> None:
    """Read the ELF files of a wheel. Errors: ResourceError."""
    brings: set[str] = set()
    files: list[Binary] = []
    with disk_faults(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.rpartition("/")[2]
            if ".so" in name or _is_program(member):
                brings |= {name} if ".so" in name else set()
                if member.file_size <= _LARGEST and (found := _facts(archive.read(member), member.filename, target)):
                    files.append(found)
    _remember(store, sha256, target, brings, files)


def check_floor(packages: Iterable[Binaries], target: Target) -> None:
    """Errors: PackError where a file needs a newer glibc than the target has."""
    if target.glibc is None:
        return
    floor = _parts(target.glibc)
    above = [
        (_parts(_number(binary.version)), package, binary)
        for package in packages
        for binary in package.files
        if binary.version and _parts(_number(binary.version)) > floor
    ]
    if not above:
        return
    _, package, worst = max(above, key=lambda found: (found[0], found[2].path))
    others = f", and {len(above) - 1} more files need a newer one too" if len(above) > 1 else ""
    raise PackError(
        f"{worst.path} of {_name(package.owner)}",
        f"needs {worst.version}, and the target has glibc {target.glibc}{others}",
        f'Set `glibc = "{_number(worst.version)}"` in [targets.{target.name}], or take a build for an older glibc.',
        files={binary.path: binary.version for _, _, binary in above},
    )


def missing(
    packages: Sequence[Binaries], requirements: Sequence[str], *, brings_python: bool
) -> dict[str, tuple[str, ...]]:
    """The libraries that neither the box, nor glibc, nor what is required of the host bring: who needs each."""
    brought = frozenset().union(*(package.brings for package in packages))
    words = {word for requirement in requirements for word in re.split(r"[\s|,()]+", requirement)}
    found: dict[str, list[str]] = {}
    for package in packages:
        for binary in package.files:
            for library in binary.needs:
                if library not in brought and not _OF_GLIBC.fullmatch(library):
                    # Where it lies depends on whether it was read in a tree or in a wheel.
                    name = binary.path.rpartition("/")[2]
                    found.setdefault(library, []).append(f"{name} of {_name(package.owner)}")
    return {
        library: tuple(sorted(found[library]))
        for library in sorted(found)
        if not words & {library, *_packages(library)} and (brings_python or not _PYTHON.fullmatch(library))
    }


def deb_package(library: str) -> str:
    """What Debian's package of a library is probably called."""
    names = [*_packages(library)]
    return names[-2] if names else library


def _packages(library: str) -> Iterator[str]:
    """The names that packages which bring a library have, by Debian's rule and by custom."""
    yield from _RPM_NAMES.get(library, ())
    parts = re.fullmatch(r"(.+)\.so(?:\.(.+))?", library)
    if parts is None:
        return
    stem, version = parts[1], parts[2] or ""
    yield stem
    # Debian Policy, 8.1: the name and the version of the library's SONAME, with a hyphen between two digits alone.
    name = re.sub(r"-(?=\d)", "", stem)
    name = f"{name}{'-' if name[-1:].isdigit() and version else ''}{version}".lower().replace("_", "-")
    yield from (name, f"{name}t64")


def _read(path: Path, name: str, target: Target) -> Binary | None:
    with path.open("rb") as stream:
        head = stream.read(len(elf.MAGIC))
        return _facts(head + stream.read(), name, target) if head == elf.MAGIC else None


def _facts(image: bytes, name: str, target: Target) -> Binary | None:
    """What a file needs; None where it is for another machine, or cannot be read: packages bring such to test with."""
    try:
        program = elf.Elf(image)
        if program.machine != _MACHINES.get(target.platform):
            return None
        versions = [version for version in program.needed_versions if elf.glibc_of(version)]
        newest = max(versions, key=elf.glibc_of, default="")
        return Binary(path=name, needs=program.needed, version=newest)
    except (elf.ElfError, struct.error, ValueError):
        return None


def _is_program(member: zipfile.ZipInfo) -> bool:
    return bool(member.external_attr >> 16 & 0o111) and not member.is_dir()


def _remember(store: Store, sha256: str, target: Target, brings: set[str], files: Sequence[Binary]) -> None:
    rows = sorted([binary.path, binary.version, list(binary.needs)] for binary in files)
    store.select("binaries", _key(sha256, target), {"brings": sorted(brings), "files": rows})


def _key(sha256: str, target: Target) -> dict[str, Any]:
    return {"format": _FORMAT, "digest": sha256, "platform": target.platform}


def _name(owner: str) -> str:
    return owner.rpartition(":")[2]


def _number(version: str) -> str:
    return ".".join(str(part) for part in elf.glibc_of(version))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
