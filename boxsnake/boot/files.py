"""What the boot harness reads off the files of a box: rights, interpreter lines, libraries, words of the build.

Like probe.py it is handed over as text, together with boxsnake's reader of ELF files, and run by the box's own
interpreter: the standard library alone, Python 3.9 or later. It judges nothing: the facts are one value of JSON.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from boxsnake import elf

_TOLD = 8
"""Files that are named of each kind; all are counted."""
_LONGEST = 240  # characters of a file's name
_LARGEST = 512 << 20  # bytes of a file that is read
_LOADER_SECONDS = 20.0
# Where systems have their interpreters and libraries: nothing of a build is below them.
_SYSTEM = ("/bin/", "/sbin/", "/usr/", "/lib/", "/lib64/")
_DEFAULT_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
# Whoever can write there puts a library of theirs into the box's processes.
_OPEN_FOLDERS = ("/tmp/", "/var/tmp/", "/dev/shm/")  # noqa: S108 - looked for, not used
_NAME = re.compile(rb"[A-Za-z0-9_.-]")
_ABSENT = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)
_TOO_OLD = re.compile(r"version [`'](\S+)' not found")

Facts = dict[str, Any]


class Findings:
    """Files by the fault that they have: the first of each kind by name, and how many there are."""

    def __init__(self) -> None:
        self.named: dict[str, list[str]] = {}
        self.counted: dict[str, int] = {}

    def add(self, kind: str, name: str) -> None:
        """One more file with the fault."""
        self.counted[kind] = self.counted.get(kind, 0) + 1
        if self.counted[kind] <= _TOLD:
            self.named.setdefault(kind, []).append(name[:_LONGEST])


def look(job: Facts) -> Facts:
    """Read every file of the box.

    `roots` are its paths beside the interpreter's own, `stock` those of files that are not used where they lie, of
    which the rights alone matter. `traces` are words of the build.
    """
    findings = Findings()
    libraries = _Libraries(job.get("environment", {}))
    names: set[str] = set()
    traces = [trace.encode() for trace in job["traces"]]
    count = 0
    stock = tuple(f"{os.path.realpath(path)}/" for path in job["stock"])
    for path, status in _files(_roots(job["roots"]), stock):
        names.add(os.path.basename(path))  # noqa: PTH119 - tens of thousands of texts
        if stat.S_ISLNK(status.st_mode):
            # The name by which a library is asked for is mostly a link.
            continue
        _look_at_rights(path, status, findings)
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST and not path.startswith(stock):
            count += 1
            with contextlib.suppress(OSError), open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - as above
                _look_into(path, status, stream.read(), traces, libraries, findings)
    missing = libraries.judged(names, findings)
    return {"files": count, "missing": missing, "faults": findings.named, "counts": findings.counted}


def _roots(given: list[str]) -> list[str]:
    """The folders and files of the box, each once: what it installed, and its interpreter's prefix if it has one."""
    own = os.path.isdir(os.path.join(sys.prefix, "conda-meta")) or sys.prefix != sys.base_prefix  # noqa: PTH112, PTH118
    found = sorted({os.path.realpath(path) for path in [*given, *([sys.prefix] if own else [])]})
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def _files(roots: list[str], stock: tuple[str, ...]) -> Iterator[tuple[str, os.stat_result]]:
    """Every folder, file and link below, no link followed, hard links once. What may not be read is passed over.

    A file of the stock may be linked to where it is used, and must be seen there.
    """
    seen: set[tuple[int, int]] = set()
    waiting = list(reversed(roots))
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                yield path, status
                waiting += [f"{path}/{name}" for name in sorted(os.listdir(path), reverse=True)]  # noqa: PTH208 - quick
            elif stat.S_ISLNK(status.st_mode) or path.startswith(stock):
                yield path, status
            elif (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield path, status


def _look_at_rights(path: str, status: os.stat_result, findings: Findings) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
        findings.add("setuid", path)
    if mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        findings.add("writable", path)


def _look_into(
    path: str, status: os.stat_result, data: bytes, traces: list[bytes], libraries: _Libraries, findings: Findings
) -> None:
    if data.startswith(elf.MAGIC):
        with contextlib.suppress(elf.ElfError, struct.error, ValueError):
            libraries.add(path, elf.Elf(data), findings)
    elif data.startswith(b"#!") and status.st_mode & 0o111:
        words = data[2:512].partition(b"\n")[0].decode("utf-8", "replace").split()
        interpreter = words[0] if words else ""
        if interpreter.startswith("/") and not interpreter.startswith(_SYSTEM) and not os.path.exists(interpreter):  # noqa: PTH110
            findings.add("interpreter", f"{path} (#!{interpreter})")
    # conda's own records tell what was replaced in a file.
    for trace in traces if "/conda-meta/" not in path else []:
        if _names(data, trace):
            findings.add("trace", f"{path} ({trace.decode('utf-8', 'replace')})")
            break


def _names(data: bytes, trace: bytes) -> bool:
    """Whether a path is named, and not only another whose name begins alike."""
    at = data.find(trace)
    while at >= 0:
        after = data[at + len(trace) : at + len(trace) + 1]
        if trace.endswith(b"_") or not _NAME.match(after):
            return True
        at = data.find(trace, at + 1)
    return False


class _Libraries:
    """Whether programs and libraries find what they are linked against.

    What lies where the loader looks first is there. The loader itself judges the rest: it alone knows all its ways.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._program = _elf_of(sys.executable)
        self._loader = _loader_of(self._program)
        self._cache = _cached_names()
        self._glibc = _host_glibc()
        self._known: dict[tuple[str, str], bool] = {}
        self._doubtful: list[tuple[str, bool]] = []
        folders = _folders(self._program, sys.executable) if self._program else ()
        self._common = (*folders, *environment.get("LD_LIBRARY_PATH", "").split(":"), *_DEFAULT_FOLDERS)

    def add(self, path: str, image: elf.Elf, findings: Findings) -> None:
        if self._program is None or image.machine != self._program.machine:
            return
        for folder in (image.search_path or "").split(":") if image.dynamic else ():
            if folder.startswith(_OPEN_FOLDERS):
                findings.add("search path", f"{path} ({folder})")
        if not image.dynamic:
            return
        folders = (*_folders(image, path), *self._common)
        floor = max((elf.glibc_of(version) for version in image.needed_versions), default=())
        if floor > self._glibc or not all(self._is_there(name, folders) for name in image.needed):
            self._doubtful.append((path, image.interpreter is not None))

    def _is_there(self, name: str, folders: tuple[str, ...]) -> bool:
        if name.encode() in self._cache:
            return True
        for folder in folders:
            if (folder, name) not in self._known:
                self._known[folder, name] = os.path.exists(f"{folder}/{name}")  # noqa: PTH110 - quick
            if folder and self._known[folder, name]:
                return True
        return False

    def judged(self, brought: set[str], findings: Findings) -> list[list[str]]:
        """The (library, file that lacks it) pairs, each library once.

        A library that the box brings elsewhere may have been loaded by others before: only a program has no others.
        """
        missing: dict[str, str] = {}
        for path, is_program in self._doubtful if self._loader else []:
            said = self._asked(path)
            newer = _TOO_OLD.search(said)
            if newer:
                findings.add("version", f"{path} ({newer[1]}{self._told(newer[1])})")
            for name in _ABSENT.findall(said):
                if is_program or name not in brought:
                    missing.setdefault(name, path)
        return [[name, missing[name]] for name in sorted(missing)][:_TOLD]

    def _told(self, version: str) -> str:
        """What the host has, where it is the C library that is too old."""
        return f", and the host has {'.'.join(map(str, self._glibc))}" if version.startswith("GLIBC_") else ""

    def _asked(self, path: str) -> str:
        """What the loader says of a file's libraries, as for ldd(1); nothing of the file is run."""
        try:
            done = subprocess.run(
                [self._loader, path],
                env={**self._environment, "LD_TRACE_LOADED_OBJECTS": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LOADER_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return (done.stdout + done.stderr).decode("utf-8", "replace")


def _elf_of(path: str) -> elf.Elf | None:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - nothing is gained by a Path here
            return elf.Elf(stream.read())
    except (OSError, elf.ElfError):
        return None


def _loader_of(program: elf.Elf | None) -> str:
    found = program.interpreter if program else None
    return found if found and os.path.exists(found) else ""  # noqa: PTH110 - as above


def _folders(image: elf.Elf, path: str) -> tuple[str, ...]:
    """Where a file itself says that its libraries are."""
    origin = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - quick
    words = (image.search_path or "") if image.dynamic else ""
    return tuple(word.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for word in words.split(":") if word)


def _cached_names() -> frozenset[bytes]:
    """The names in the loader's cache, among other strings."""
    try:
        with open("/etc/ld.so.cache", "rb") as stream:  # noqa: PTH123 - as above
            # Since glibc 2.33 a name is the end of a path, and stands nowhere by itself.
            return frozenset(text.rpartition(b"/")[2] for text in stream.read().split(b"\0"))
    except OSError:
        return frozenset()


def _host_glibc() -> tuple[int, ...]:
    """The host's glibc; beyond all numbers where it has another C library, whose loader judges by itself."""
    try:
        words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (AttributeError, OSError, ValueError):
        words = []
    return elf.glibc_of(f"GLIBC_{words[1]}") if len(words) > 1 else (9999,)
