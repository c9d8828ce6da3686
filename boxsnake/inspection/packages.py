"""Packages, interpreter and entry points, read off what a ledger has kept."""

from __future__ import annotations

import configparser
import csv
import io
import json
import posixpath
import re
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from boxsnake.inspection.ledger import Ledger
from boxsnake.inspection.value import EntryPoint, Package, Part, Share
from boxsnake.names import normal
from boxsnake.os_packages import rpm_header

_DISTRIBUTION = re.compile(r"^(?P<root>.*/)?(?P<info>[^/]+\.dist-info)/METADATA$")
_EGG = re.compile(r"^(?P<root>.*/)?(?P<info>[^/]+\.egg-info)(/PKG-INFO)?$")
_CONDA = re.compile(r"^(?P<prefix>.*/)?conda-meta/[^/]+\.json$")
_LIBRARY = re.compile(r"^(?:(?P<prefix>.*)/)?lib/python(?P<minor>3\.[0-9]+)/(?:os\.py|site-packages/)")
_TAG = re.compile(r"^Tag: cp(3)([0-9]+)-(?!abi3)", re.MULTILINE)
_DPKG_FILES = re.compile(r"(^|/)var/lib/dpkg/info/(?P<name>[^/:]+)(:[^/]+)?\.list$")
_BYTECODE = re.compile(r"__pycache__/(?P<module>[^/.]+)\.[^/]+\.pyc$")
_VENDORED = re.compile(r"(^|/)_vendor/")


def packages(ledger: Ledger) -> tuple[Package, ...]:
    """Every package that says so of itself, sorted."""
    with_files = (package for package, _ in (*_of_conda(ledger), *_of_python(ledger)))
    found = {*with_files, *_of_dpkg(ledger), *_of_rpm(ledger)}
    return tuple(sorted(found, key=lambda one: (one.kind, one.name, one.version)))


def shares(ledger: Ledger, parts: tuple[Part, ...]) -> tuple[Share, ...]:
    """What every package has in every part, sorted; the box is one part by itself where it has no `parts`.

    Files that no package names are the nameless share of their part; byte-code goes with its source.
    """
    owners = dict(_owners(ledger))
    sums: Counter[tuple[int, str, str]] = Counter()
    for path, file in ledger.files.items():
        kind, name = owners.get(path) or owners.get(_source_of(path)) or ("", "")
        sums[ledger.part_of.get(path, 0), kind, name] += file.size
    titles = [part.name for part in parts] or [""]
    return tuple(
        Share(part=titles[at], kind=kind, name=name, size=size) for (at, kind, name), size in sorted(sums.items())
    )


def _owners(ledger: Ledger) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each path with the kind and name of its package; where it has two, the one that installed it comes last."""
    for path, data in ledger.kept.items():
        if match := _DPKG_FILES.search(path):
            for line in data.decode("utf-8", "replace").splitlines():
                # What a system with merged folders has below usr, older packages name without it.
                for start in ("", "usr/"):
                    yield start + line.lstrip("/"), ("deb", match["name"])
    for package, paths in (*_of_python(ledger), *_of_conda(ledger)):
        for path in paths:
            yield path, (package.kind, package.name)


def _source_of(path: str) -> str:
    """The path of the source that byte-code was compiled from (PEP 3147)."""
    match = _BYTECODE.search(path)
    return f"{path[: match.start()]}{match['module']}.py" if match else ""


def entry_points(ledger: Ledger) -> tuple[EntryPoint, ...]:
    """The console scripts of all distributions, sorted."""
    found = set()
    for path, data in ledger.kept.items():
        folder, _, file = path.rpartition("/")
        if file != "entry_points.txt" or _VENDORED.search(path):
            continue
        about = ledger.kept.get(f"{folder}/METADATA") or ledger.kept.get(f"{folder}/PKG-INFO") or b""
        name = _headers(about).get("Name", folder.rpartition("/")[2])
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # the library's own way to keep case
        try:
            parser.read_string(data.decode("utf-8", "replace"))
        except configparser.Error:
            continue
        if parser.has_section("console_scripts"):
            found |= {
                EntryPoint(name=key, value=value, package=name) for key, value in parser["console_scripts"].items()
            }
    return tuple(sorted(found))


def prefix(ledger: Ledger) -> str:
    """The folder of its environment, with no slash at its end; "" for the root, or where there is none."""
    for path in ledger.kept:
        if match := _CONDA.match(path):
            return (match["prefix"] or "").rstrip("/")
    found = (match for path in ledger.files if (match := _LIBRARY.match(path)))
    return next((match["prefix"] or "" for match in found), "")


def python(ledger: Ledger, found: tuple[Package, ...]) -> str:
    """The interpreter's version as exactly as the box tells, or the one that its wheels are for."""
    exact = next((one.version for one in found if (one.kind, one.name) == ("conda", "python")), "")
    if exact:
        return exact
    for path in ledger.files:
        if match := _LIBRARY.match(path):
            return match["minor"]
    for path, data in ledger.kept.items():
        if path.endswith(".dist-info/WHEEL") and (tag := _TAG.search(data.decode("utf-8", "replace"))):
            return f"{tag[1]}.{tag[2]}"
    return ""


def system_name(ledger: Ledger) -> str:
    """What the box's operating system calls itself."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        for line in ledger.kept.get(path, b"").decode("utf-8", "replace").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip("\"'")
    return ""


def headers_of(ledger: Ledger, name: str) -> Mapping[str, str]:
    """The metadata of the distribution of that name; empty where there is none."""
    for path, data in ledger.kept.items():
        if _DISTRIBUTION.match(path) and normal(_headers(data).get("Name", "")) == normal(name):
            return _headers(data)
    return {}


def _headers(data: bytes) -> Mapping[str, str]:
    return dict(HeaderParser().parsestr(data.decode("utf-8", "replace"), headersonly=True).items())


def _of_python(ledger: Ledger) -> Iterator[tuple[Package, Collection[str]]]:
    for path, data in ledger.kept.items():
        match = _DISTRIBUTION.match(path) or _EGG.match(path)
        if match is None or _VENDORED.search(path):
            continue
        about = _headers(data)
        if about.get("Name") and about.get("Version"):
            paths = _recorded(ledger, match["root"] or "", match["info"])
            size = None if paths is None else _size_of(ledger, paths)
            yield Package(kind="python", name=normal(about["Name"]), version=about["Version"], size=size), paths or ()


def _size_of(ledger: Ledger, paths: Collection[str]) -> int:
    return sum(file.size for path in paths if (file := ledger.files.get(path)))


def _recorded(ledger: Ledger, root: str, info: str) -> Collection[str] | None:
    """The files of a distribution. Its RECORD may lie beside the rest of its environment, where files are placed."""
    name = f"{info}/RECORD"
    own = f"{root}{name}"
    place = own if own in ledger.kept else next((path for path in ledger.kept if path.endswith(f"/{name}")), None)
    if place is None:
        return None
    rows = csv.reader(io.StringIO(ledger.kept[place].decode("utf-8", "replace")))
    return set(_found(ledger, [row[0] for row in rows if row], (root, place.removesuffix(name))))


def _found(ledger: Ledger, names: Iterable[str], roots: Iterable[str]) -> Iterator[str]:
    """The paths of those files that are in the first of the folders, or else in another."""
    for name in names:
        paths = (posixpath.normpath(root + name) for root in roots)
        if path := next((path for path in paths if path in ledger.files), None):
            yield path


def _of_conda(ledger: Ledger) -> Iterator[tuple[Package, Collection[str]]]:
    """What depends on its place, records among it, may lie beside the rest of the environment, under the same paths."""
    roots = sorted({match["prefix"] or "" for path in ledger.kept if (match := _CONDA.match(path))})
    for path, data in ledger.kept.items():
        match = _CONDA.match(path)
        facts = _json(data) if match else {}
        if match and facts.get("name") and facts.get("version"):
            above = match["prefix"] or ""
            paths = set(_found(ledger, facts.get("files") or (), (above, *roots)))
            size = _size_of(ledger, paths)
            yield Package(kind="conda", name=str(facts["name"]), version=str(facts["version"]), size=size), paths


def placed(ledger: Ledger) -> frozenset[str]:
    """The files that hold the path of their own environment, by conda's records and their interpreter lines' kind."""
    found: set[str] = set()
    for path, data in ledger.kept.items():
        if match := _CONDA.match(path):
            above = match["prefix"] or ""
            rows = (_json(data).get("paths_data") or {}).get("paths") or ()
            found |= {f"{above}{row['_path']}" for row in rows if row.get("prefix_placeholder") or row.get("file_mode")}
    start = f"{prefix(ledger)}/bin/".lstrip("/")
    return frozenset(found) | {path for path in ledger.files if path.startswith(start)}


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _of_dpkg(ledger: Ledger) -> Iterator[Package]:
    for path, data in ledger.kept.items():
        if "var/lib/dpkg/" not in path:
            continue
        for paragraph in data.decode("utf-8", "replace").split("\n\n"):
            facts = HeaderParser().parsestr(paragraph.strip() + "\n\n")
            removed = facts.get("Status", "install ok installed").split()[-1] != "installed"
            if facts["Package"] and facts["Version"] and not removed:
                size = int(facts["Installed-Size"]) * 1024 if (facts["Installed-Size"] or "").isdecimal() else None
                yield Package(kind="deb", name=facts["Package"], version=facts["Version"], size=size)


def _of_rpm(ledger: Ledger) -> Iterator[Package]:
    """Those of rpm's database in its present form; older ones are told of."""
    data = next((data for path, data in ledger.kept.items() if path.endswith("/rpmdb.sqlite")), None)
    if data is None:
        if any(path.endswith(("lib/rpm/Packages", "lib/rpm/Packages.db")) for path in ledger.files):
            ledger.notes.append("its RPM database is of an older kind, and was not read")
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rpmdb.sqlite"
        file.write_bytes(data)
        try:
            rows = sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True).execute("SELECT blob FROM Packages")
            for (blob,) in rows:
                tags = rpm_header.installed(blob)
                yield rpm_package(tags)
        except (sqlite3.Error, struct.error, ValueError, KeyError) as error:
            ledger.notes.append(f"its RPM database cannot be read: {error}")


def rpm_package(tags: Mapping[int, rpm_header.Value]) -> Package:
    """A package by its header. Errors: KeyError."""
    name, version, release = (str(tags[tag]) for tag in (rpm_header.NAME, rpm_header.VERSION, rpm_header.RELEASE))
    epoch = tags.get(rpm_header.EPOCH)
    size = tags.get(rpm_header.SIZE)
    return Package(
        kind="rpm",
        name=name,
        version=f"{epoch}:{version}-{release}" if isinstance(epoch, int) else f"{version}-{release}",
        size=size if isinstance(size, int) else None,
    )
