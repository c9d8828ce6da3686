"""The check of a wheel that nobody has checked yet: see `boxsnake.ingest.wheel`, which knows those that have passed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import stat
from typing import TYPE_CHECKING

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import parse_tag
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from boxsnake.entry_points import COMMAND_GROUPS, commands
from boxsnake.ingest import check_entry_point, check_script_name, escaped, unsafe
from boxsnake.ingest.listing import Listing
from boxsnake.ingest.wheel import WheelFacts
from boxsnake.ingest.zip import file_type, permissions, reading, strict_zip

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable
    from pathlib import Path

_CHUNK = 1 << 20
_LARGEST_TEXT = 32 << 20  # bytes; RECORD of a wheel of 100 000 files takes a third of this
_SCHEMES = frozenset({"purelib", "platlib", "headers", "scripts", "data"})
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_MODULE = re.compile(r"[^\W\d]\w*")
_EXTENSION = re.compile(r"(?P<module>[^\W\d]\w*)(?:\.[A-Za-z0-9_-]+)*\.(?:so|pyd)")
_STARTUP = re.compile(r"(?:sitecustomize|usercustomize)\.py|[^/]+\.pth")


def facts_of(path: Path, archive: str) -> WheelFacts:
    """Check a wheel that messages call `archive`; errors are those of `boxsnake.ingest.wheel.check`."""
    with strict_zip(path, archive) as (reader, members):
        return _Wheel(archive, path.stat().st_size, reader, members).check()


class _Wheel:
    """One wheel while it is checked."""

    def __init__(self, archive: str, packed_size: int, reader: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
        self._archive = archive
        self._reader = reader
        self._members = members
        self._listing = Listing(archive=archive, packed_size=packed_size)
        self._files: dict[str, zipfile.ZipInfo] = {}
        self._hashes: dict[str, str] = {}
        self._has_elf = False

    def check(self) -> WheelFacts:
        self._list()
        info = self._find_info()
        metadata = self._metadata(info)
        name, version = self._identity(info, metadata)
        tags = self._tags(info)
        commands = self._entry_points(info, name)
        scripts = self._data_files(info.removesuffix(".dist-info"), name)
        self._record(info)
        self._warn(metadata, tags)
        roots = self._importable(info)
        return WheelFacts(
            name=name,
            version=version,
            tags=tags,
            requires_dist=tuple(metadata.get("requires_dist", ())),
            requires_python=metadata.get("requires_python"),
            top_level=_top_level(roots),
            console_scripts=commands["console_scripts"],
            gui_scripts=commands["gui_scripts"],
            scripts=scripts,
            startup_files=tuple(sorted(path for path in roots if _STARTUP.fullmatch(path))),
            files=len(self._files),
            unpacked_size=self._listing.unpacked,
            has_elf=self._has_elf,
            warnings=tuple(self._listing.warnings),
        )

    def _list(self) -> None:
        loose = 0
        for member in self._members:
            name = member.orig_filename
            kind = file_type(member)
            is_folder = name.endswith("/")
            if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
                raise unsafe(self._archive, name, f"is a {_TYPES.get(kind, 'special file')}")
            if is_folder and member.file_size:
                raise unsafe(self._archive, name, "is a folder with bytes in it")
            path = self._listing.add(name, "folder" if is_folder else "file", member.file_size)
            if permissions(member) & 0o7002:
                loose += 1
            if not is_folder:
                self._files[path] = member
        self._listing.finish()
        if loose:
            self._listing.warn(f"{loose} members have permissions that are not kept (setuid, world-writable)")

    def _find_info(self) -> str:
        infos = sorted(
            {path.partition("/")[0] for path in self._files if ".dist-info/" in path.partition("/")[0] + "/"}
        )
        if len(infos) != 1:
            found = ", ".join(map(escaped, infos)) or "none"
            raise unsafe(self._archive, None, f"must have exactly one .dist-info folder (found {found})")
        for needed in ("METADATA", "WHEEL", "RECORD"):
            if f"{infos[0]}/{needed}" not in self._files:
                raise unsafe(self._archive, f"{infos[0]}/{needed}", "is missing")
        return infos[0]

    def _metadata(self, info: str) -> RawMetadata:
        path = f"{info}/METADATA"
        metadata, _ = parse_email(self._read(path))
        for requirement in metadata.get("requires_dist", ()):
            try:
                parsed = Requirement(requirement)
            except InvalidRequirement:
                # Old wheels have such lines; whoever solves must not guess what they mean.
                self._listing.warn(f"Requires-Dist {escaped(requirement)} is not PEP 508")
                continue
            if parsed.url:
                self._listing.warn(f"Requires-Dist {parsed.name} names a place of its own")
        try:
            SpecifierSet(metadata.get("requires_python", ""))
        except InvalidSpecifier:
            self._listing.warn(f"Requires-Python {escaped(metadata['requires_python'])} is not PEP 440")
        return metadata

    def _identity(self, info: str, metadata: RawMetadata) -> tuple[str, str]:
        path = f"{info}/METADATA"
        try:
            name = canonicalize_name(metadata.get("name", ""), validate=True)
            version = metadata.get("version", "")
            parsed = Version(version)
        except (InvalidName, InvalidVersion) as error:
            raise unsafe(self._archive, path, f"has no valid name and version ({escaped(str(error))})") from error
        folder_name, _, folder_version = info.removesuffix(".dist-info").partition("-")
        try:
            same = (canonicalize_name(folder_name), Version(folder_version.replace("_", "+"))) == (name, parsed)
        except InvalidVersion:
            same = False
        if not same:
            raise unsafe(self._archive, path, f"says {escaped(name)} {escaped(version)}, its folder {escaped(info)}")
        return name, version

    def _tags(self, info: str) -> tuple[str, ...]:
        path = f"{info}/WHEEL"
        lines = self._text(path).splitlines()
        fields = [
            (key.strip().lower(), value.strip()) for key, colon, value in (x.partition(":") for x in lines) if colon
        ]
        format_version = next((value for key, value in fields if key == "wheel-version"), "")
        if not re.fullmatch(r"1\.[0-9]{1,4}", format_version):
            raise unsafe(
                self._archive, path, f"is of wheel format {escaped(format_version) or 'unknown'}; 1.x is known"
            )
        if format_version != "1.0":
            self._listing.warn(f"WHEEL is of format {format_version}")
        try:
            tags = {str(tag) for key, value in fields if key == "tag" for tag in parse_tag(value)}
        except ValueError as error:
            raise unsafe(self._archive, path, "has a tag that is none") from error
        if not tags:
            raise unsafe(self._archive, path, "has no tags")
        return tuple(sorted(tags))

    def _entry_points(self, info: str, package: str) -> dict[str, tuple[tuple[str, str], ...]]:
        path = f"{info}/entry_points.txt"
        if path not in self._files:
            return dict.fromkeys(COMMAND_GROUPS, ())
        try:
            found = commands(self._text(path))
        except ValueError as error:
            raise unsafe(self._archive, path, f"cannot be read ({escaped(str(error))})") from error
        for name, value in (*found["console_scripts"], *found["gui_scripts"]):
            check_entry_point(f"{self._archive}: {path}", name, value, package)
        return found

    def _data_files(self, stem: str, name: str) -> tuple[str, ...]:
        """Check what is installed outside the place of modules; give the names of the commands among it."""
        scripts = []
        for path in self._files:
            top, _, rest = path.partition("/")
            if not top.endswith(".data"):
                continue
            scheme, _, inner = rest.partition("/")
            if canonicalize_name(top) != canonicalize_name(f"{stem}.data"):
                # Some installers take every such folder for the wheel's own, others leave it where it is.
                raise unsafe(self._archive, path, f"lies in a .data folder that is not {escaped(stem)}.data")
            if scheme not in _SCHEMES or not inner:
                raise unsafe(self._archive, path, "belongs to no scheme (purelib, platlib, headers, scripts, data)")
            if inner.startswith("conda-meta/") and scheme == "data":
                raise unsafe(self._archive, path, "would be taken for the record of a conda package")
            command = inner if scheme == "scripts" else inner.removeprefix("bin/")
            if scheme == "scripts" or (scheme == "data" and command != inner):
                if "/" in command and scheme == "scripts":
                    raise unsafe(self._archive, path, "is a script in a folder of its own")
                check_script_name(f"{self._archive}: {escaped(path)}", command, name)
                scripts.append(command)
        return tuple(sorted(scripts))

    def _record(self, info: str) -> None:
        record = f"{info}/RECORD"
        signatures = {f"{record}.jws", f"{record}.p7s"}
        unhashed = {record, *signatures}
        try:
            rows = list(csv.reader(io.StringIO(self._text(record), newline=""), strict=True))
        except csv.Error as error:
            raise unsafe(self._archive, record, f"is not a table ({error})") from error
        listed: set[str] = set()
        for row in filter(None, rows):
            path = self._record_path(record, row, listed)
            listed.add(path)
            self._compare(path, row, needs_hash=path not in unhashed and not path.endswith(".pyc"))
        missing = sorted(self._files.keys() - listed - unhashed)
        if missing:
            raise unsafe(self._archive, missing[0], "is not in RECORD", missing=len(missing))
        for path in (unhashed & self._files.keys()) - listed:
            self._hash(path, "sha256")

    def _record_path(self, record: str, row: list[str], listed: set[str]) -> str:
        if len(row) != len(("path", "hash", "size")):
            raise unsafe(self._archive, record, f"has a line that is not path, hash, size: {escaped(','.join(row))}")
        path = row[0]
        if path not in self._files:
            what = "a folder" if path.removesuffix("/") in self._listing.kinds else "what is not in the wheel"
            raise unsafe(self._archive, path, f"is in RECORD, but is {what}")
        if path in listed:
            raise unsafe(self._archive, path, "is in RECORD twice")
        return path

    def _compare(self, path: str, row: list[str], *, needs_hash: bool) -> None:
        member = self._files[path]
        _, stated, size = row
        if not stated:
            if needs_hash:
                raise unsafe(self._archive, path, "has no hash in RECORD")
            if path not in self._hashes:
                self._hash(path, "sha256")
            return
        algorithm, _, expected = stated.partition("=")
        if algorithm not in _HASHES:
            raise unsafe(self._archive, path, f"has a hash in RECORD that proves nothing ({escaped(algorithm)})")
        if size and size != str(member.file_size):
            raise unsafe(self._archive, path, f"has {member.file_size} bytes; RECORD says {escaped(size)}")
        if self._hash(path, algorithm) != expected.rstrip("="):
            raise unsafe(self._archive, path, "has another hash than RECORD says")

    def _hash(self, path: str, algorithm: str) -> str:
        """Read a member wholly, which checks its sum in the zip too, and hash it in RECORD's notation."""
        member = self._files[path]
        digest = hashlib.new(algorithm)
        with reading(self._archive, member), self._reader.open(member) as stream:
            chunk = stream.read(_CHUNK)
            self._has_elf = self._has_elf or chunk.startswith(b"\x7fELF")
            while chunk:
                digest.update(chunk)
                chunk = stream.read(_CHUNK)
        self._hashes[path] = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")
        return self._hashes[path]

    def _read(self, path: str) -> bytes:
        member = self._files[path]
        if member.file_size > _LARGEST_TEXT:
            raise unsafe(self._archive, path, f"has more than {_LARGEST_TEXT} bytes")
        with reading(self._archive, member):
            return self._reader.read(member)

    def _text(self, path: str) -> str:
        try:
            return self._read(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise unsafe(self._archive, path, "is not UTF-8") from error

    def _warn(self, metadata: RawMetadata, tags: Iterable[str]) -> None:
        if self._has_elf and all(tag.endswith("-any") for tag in tags):
            self._listing.warn("says that it runs anywhere, but holds machine code for one system")
        if metadata.get("metadata_version") is None:
            self._listing.warn("METADATA has no Metadata-Version")

    def _importable(self, info: str) -> list[str]:
        """List the paths as they lie in site-packages."""
        data = f"{info.removesuffix('.dist-info')}.data/"
        found = []
        for path in self._files:
            if path.startswith(data):
                scheme, _, inner = path.removeprefix(data).partition("/")
                if scheme in ("purelib", "platlib"):
                    found.append(inner)
            elif not path.startswith(f"{info}/"):
                found.append(path)
        return found


def _top_level(paths: Iterable[str]) -> tuple[str, ...]:
    """Find the names that can be imported from these paths of site-packages."""
    names = set()
    for path in paths:
        top, slash, _ = path.partition("/")
        leaf = path.rpartition("/")[2]
        extension = _EXTENSION.fullmatch(leaf)
        if not leaf.endswith(".py") and not extension:
            continue
        alone = extension["module"] if extension else leaf.removesuffix(".py")
        name = top if slash else alone
        if _MODULE.fullmatch(name):
            names.add(name)
    return tuple(sorted(names))


_TYPES = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "folder without a slash",
    stat.S_IFREG: "file with the name of a folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}
