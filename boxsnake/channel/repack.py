"""`repack`: the command that recipes' scripts run to make a package's content out of what was fetched for them.

It is run inside a rattler-build script, and reads the variables that such scripts have: PREFIX, where the content goes,
and RECIPE_DIR; `sources/` below that holds what the recipe declared.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from boxsnake import elf
from boxsnake.channel import debian_python
from boxsnake.channel.relocate import relocatable

SOURCES = "sources"
DEBIAN, DEBIAN_SOURCE, WHEELS = "debian", "debian-source", "wheels"
COPYRIGHT = "copyright"


def take(patterns: list[str], prefix: Path, sources: Path, work: Path) -> None:
    """Copy files of the unpacked Debian packages whose path in the prefix matches a pattern (`lib/libz.so*`).

    Programs and libraries get an RPATH to the prefix' lib. The packages' copyright notes are joined to the file
    `copyright` of the work folder, for the recipe's `license_file`.
    """
    unused = set(patterns)
    for package in sorted((sources / DEBIAN).iterdir()):
        for source, path in _prefix_paths(package):
            matching = {pattern for pattern in patterns if fnmatchcase(str(path), pattern)}
            if matching:
                unused -= matching
                _place(source, prefix, path)
    notes = {note.read_bytes(): None for note in sorted((sources / DEBIAN).glob("*/usr/share/doc/*/copyright"))}
    (work / COPYRIGHT).write_bytes(b"\n".join(notes))
    if unused:
        raise SystemExit(f"no file of the packages matches {', '.join(sorted(unused))}")


def _prefix_paths(package: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Files and links of an unpacked package, with their places in a prefix: usr/lib/<triplet>/x.so is lib/x.so."""
    for source in sorted(package.rglob("*")):
        if source.is_dir() and not source.is_symlink():
            continue
        parts = source.relative_to(package).parts
        parts = parts[1:] if parts[0] == "usr" else parts
        if len(parts) > 2 and parts[0] in {"lib", "include"} and parts[1].endswith("-linux-gnu"):
            parts = (parts[0], *parts[2:])
        yield source, PurePosixPath(*parts)


def _place(source: Path, prefix: Path, path: PurePosixPath) -> None:
    target = prefix / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(source.readlink())
        return
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)
    program = elf.read(target)
    if program is not None and program.dynamic:
        origin = "/".join(["$ORIGIN", os.path.relpath(prefix / "lib", target.parent)]).removesuffix("/.")
        target.write_bytes(relocatable(program.image, search_path=origin))


def strings(file: str, changes: list[str], prefix: Path) -> None:
    """Let a program's absolute paths lead into the prefix: each change is `OLD=NEW`, NEW relative to the prefix."""
    path = prefix / file
    texts = {}
    for change in changes:
        old, _, new = change.partition("=")
        texts[old.encode()] = f"{prefix}/{new}".encode()
    path.write_bytes(relocatable(path.read_bytes(), strings=texts))


def python(version: str, libraries: list[str], prefix: Path, sources: Path) -> None:
    """Turn an unpacked Debian CPython back into upstream's layout; see `boxsnake.channel.debian_python`."""
    (source,) = (sources / DEBIAN_SOURCE).iterdir()
    debian_python.mend(prefix, version, source, frozenset(libraries))


ENTRY_POINT = """\
#!{python}
import sys

from {module} import {start}

if __name__ == "__main__":
    sys.exit({call}())
"""


def wheel(version: str, prefix: Path, sources: Path, *, scripts: bool) -> None:
    """Unpack the fetched wheels into the site-packages of a Python version, as conda packages hold them.

    INSTALLER says `conda`; RECORD lists what was put there. `scripts` writes the wheels' console scripts, for packages
    of one Python; a `noarch: python` recipe declares them instead, and the installer writes them.
    """
    for path in sorted((sources / WHEELS).glob("*.whl")):
        _unpack_wheel(path, prefix, version, scripts=scripts)


def _unpack_wheel(path: Path, prefix: Path, version: str, *, scripts: bool) -> None:
    site = prefix / "lib" / f"python{version}" / "site-packages"
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        info = next(name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info"))
        data = info.removesuffix(".dist-info") + ".data"
        record = []
        for name in names:
            if name == f"{info}/RECORD" or name.endswith(".pyc"):  # made where the package goes
                continue
            place = _wheel_place(name, data, prefix, site)
            content = archive.read(name)
            _write(place, content, executable=bool(archive.getinfo(name).external_attr >> 16 & 0o111))
            record.append(_record_row(place, content, site))
        if scripts and f"{info}/entry_points.txt" in names:
            python = f"{prefix}/bin/python{version}"
            for name, content in _console_scripts(archive.read(f"{info}/entry_points.txt").decode(), python):
                _write(prefix / "bin" / name, content, executable=True)
                # no digest: the installer changes the prefix in it
                record.append((_record_row(prefix / "bin" / name, content, site)[0], "", ""))
        _write(site / info / "INSTALLER", b"conda\n")
        record.append(_record_row(site / info / "INSTALLER", b"conda\n", site))
    rows = io.StringIO()
    csv.writer(rows, lineterminator="\n").writerows([*sorted(record), (f"{info}/RECORD", "", "")])
    _write(site / info / "RECORD", rows.getvalue().encode())


def _console_scripts(entry_points: str, python: str) -> Iterator[tuple[str, bytes]]:
    """Names and texts of the console scripts (the entry points specification)."""
    section = ""
    for line in entry_points.splitlines():
        if line.startswith("["):
            section = line.strip("[] \t")
        name, _, value = line.partition("=")
        module, _, call = value.partition("[")[0].strip().partition(":")
        if section == "console_scripts" and call:
            text = ENTRY_POINT.format(python=python, module=module, start=call.partition(".")[0], call=call)
            yield name.strip(), text.encode()


def _wheel_place(name: str, data: str, prefix: Path, site: Path) -> Path:
    """Where a wheel's member goes (the binary distribution format's "spread" step)."""
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/"):
        raise SystemExit(f"{name}: leads out of the wheel")
    if parts[0] != data:
        return site.joinpath(*parts)
    bases = {"purelib": site, "platlib": site, "scripts": prefix / "bin", "data": prefix, "headers": prefix / "include"}
    return bases[parts[1]].joinpath(*parts[2:])


def _write(path: Path, content: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if executable else 0o644)


def _record_row(path: Path, content: bytes, site: Path) -> tuple[str, str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return PurePosixPath(os.path.relpath(path, site)).as_posix(), f"sha256={digest}", str(len(content))


def main(arguments: list[str]) -> None:
    """Run one `repack` command of a recipe's script."""
    parser = argparse.ArgumentParser(prog="repack", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    adding = commands.add_parser("take", help="copy files of Debian packages")
    adding.add_argument("patterns", nargs="+")
    adding = commands.add_parser("strings", help="let a program's paths lead into the prefix")
    adding.add_argument("file")
    adding.add_argument("changes", nargs="+", metavar="OLD=NEW")
    adding = commands.add_parser("python", help="mend Debian's CPython")
    adding.add_argument("version")
    adding.add_argument("libraries", nargs="+")
    adding = commands.add_parser("wheel", help="unpack wheels")
    adding.add_argument("version")
    adding.add_argument("--scripts", action="store_true", help="write its console scripts")
    given = parser.parse_args(arguments)
    prefix = Path(os.environ["PREFIX"])
    sources = Path(os.environ["RECIPE_DIR"]) / SOURCES
    verbs: dict[str, Callable[[], None]] = {
        "take": lambda: take(given.patterns, prefix, sources, Path.cwd()),
        "strings": lambda: strings(given.file, given.changes, prefix),
        "python": lambda: python(given.version, given.libraries, prefix, sources),
        "wheel": lambda: wheel(given.version, prefix, sources, scripts=given.scripts),
    }
    verbs[given.command]()
