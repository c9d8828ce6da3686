"""The check that a conda package passes before it is used: `.conda` (format 2) and `.tar.bz2` (format 1).

What real packages do and is let through, as no reader is misled by it:

- folders as members of their own, and names with `./` in front;
- symbolic links to files that another package brings, as long as they stay inside the prefix;
- names that differ in case alone, in packages for Linux (ncurses and the kernel's headers have them);
- odd permission bits, setgid on folders too: whoever unpacks sets plain ones;
- format 1 packages of before 2016 without `info/paths.json`: `info/files` says what is in them, without sums.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import asdict
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING, Any, BinaryIO

from packaging.utils import InvalidName, canonicalize_name

from boxsnake.disk import disk_faults
from boxsnake.errors import PolicyError
from boxsnake.ingest import CHECK_VERSION, check_entry_point, escaped, unsafe
from boxsnake.ingest.conda_scripts import ACTIVATION_SCRIPT, LINK_SCRIPT
from boxsnake.ingest.listing import Listing
from boxsnake.ingest.tar import TarMember, read_tar
from boxsnake.ingest.zip import file_type, reading, strict_zip
from boxsnake.value import dataclass

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from boxsnake.ingest.tar import Source
    from boxsnake.store import Store

_CHUNK = 1 << 20
# The largest window that zstd itself takes without being told to, in bytes: what level 22 needs.
_LARGEST_WINDOW = 1 << 27
_LARGEST_DOCUMENT = 96 << 20  # bytes of paths.json; one of 300 000 files takes about 60 MB
_LARGEST_TEXT = 4 << 20  # bytes of the other documents
# Each check may take a window and a paths.json: two at a time keep the memory of any command within bounds.
_AT_ONCE = threading.BoundedSemaphore(2)

_PART = re.compile(r"[A-Za-z0-9_.+!~-]{1,200}")
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,127}")
_BUILD = re.compile(r"[A-Za-z0-9_.+]{0,64}")
_SUBDIR = re.compile(r"noarch|[a-z0-9]+-[a-z0-9_]+")
_SITE_PACKAGES = re.compile(r"[A-Za-z0-9._+-]+(?:/[A-Za-z0-9._+-]+)*")
_DISTRIBUTION = re.compile(r"(?:.*/)?site-packages/[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_STARTUP = re.compile(r"(?:.*/)?site-packages/(?:(?:sitecustomize|usercustomize)\.py|[^/]+\.pth)")
_PATH_KINDS = {"hardlink": "file", "softlink": "link", "directory": "folder"}


@dataclass(frozen=True, kw_only=True)
class CondaFacts:
    """What is known of a conda package that passed the check; sizes in bytes."""

    name: str
    version: str
    build: str
    subdir: str
    index: Mapping[str, Any]
    """Its own info/index.json."""
    distributions: tuple[tuple[str, str], ...]
    """The Python distributions in it: normalised name, version."""
    link_scripts: tuple[str, ...]
    """Scripts that an installer may run when it links or unlinks the package."""
    activation_scripts: tuple[str, ...]
    startup_files: tuple[str, ...]
    """Files that an interpreter runs at every start: .pth files, sitecustomize."""
    entry_points: tuple[tuple[str, str], ...]
    files: int
    unpacked_size: int
    longest_placeholder: int
    """Length of the longest prefix placeholder in bytes: no prefix may be longer. 0 where there is none."""
    warnings: tuple[str, ...]


def conda_facts(store: Store, sha256: str) -> CondaFacts:
    """Look up what is known of a conda package in the store; it is checked now if it never was.

    Raises IntegrityError or PolicyError where it does not pass.
    """
    key = {"sha256": sha256, "kind": "conda", "check": CHECK_VERSION}
    known = store.selected("ingest", key)
    if known is not None:
        return _from_json(known)
    facts = check(store.path(f"sha256:{sha256}"))
    store.select("ingest", key, asdict(facts))
    return facts


def file_sizes(package: BinaryIO) -> Mapping[str, int]:
    """The bytes of a `.conda` package's files by their paths, as the package tells; it must have passed the check."""
    import tarfile
    import zipfile

    with zipfile.ZipFile(package) as outer:
        name = next(name for name in outer.namelist() if name.startswith("info-"))
        with outer.open(name) as packed, _zstd("", name, packed) as plain:
            info = io.BytesIO(b"".join(iter(lambda: plain.read(_CHUNK), b"")))
    with tarfile.open(fileobj=info) as archive:
        names = archive.getnames()
        content = archive.extractfile("info/paths.json") if "info/paths.json" in names else None
        rows = json.load(content)["paths"] if content else ()
    return {row["_path"]: row.get("size_in_bytes", 0) for row in rows}


def agree(facts: CondaFacts, file_name: str) -> None:
    """Refuse a package whose file name tells another name, version or build than the package itself."""
    stem = _stem(file_name)
    if stem != f"{facts.name}-{facts.version}-{facts.build}":
        raise unsafe(escaped(file_name), "info/index.json", f"says {facts.name} {facts.version} {facts.build}")


def check(
    path: Path,
    *,
    name: str | None = None,
    version: str | None = None,
    build: str | None = None,
    subdir: str | None = None,
) -> CondaFacts:
    """Check a package, and that it is the expected one as far as that is told.

    Raises IntegrityError, which names the member at fault; PolicyError for what no package may do here (setuid,
    records of other packages); ResourceError where the file cannot be read.
    """
    archive = escaped(path.name)
    with _AT_ONCE:
        facts = _checked(path, archive)
    if _stem(path.name):
        agree(facts, path.name)
    for what, expected in (("name", name), ("version", version), ("build", build), ("subdir", subdir)):
        found = getattr(facts, what)
        if expected is not None and found != expected:
            raise unsafe(archive, "info/index.json", f"has the {what} {escaped(found)}, expected {escaped(expected)}")
    return facts


def _checked(path: Path, archive: str) -> CondaFacts:
    with disk_faults(path), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(4)
        stream.seek(0)
        package = _Package(archive, size)
        if start.startswith(b"BZh"):
            package.take(_Bz2(stream, archive), inside_info=None)
        elif start == b"PK\x03\x04":
            _read_format_2(path, archive, package)
        else:
            raise unsafe(archive, None, "is neither a .conda nor a .tar.bz2 file")
    return package.facts()


def _stem(file_name: str) -> str | None:
    for suffix in (".conda", ".tar.bz2"):
        if file_name.endswith(suffix):
            return file_name.removesuffix(suffix)
    return None


def _from_json(values: Mapping[str, Any]) -> CondaFacts:
    facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key in ("distributions", "entry_points"):
        facts[key] = tuple((first, second) for first, second in facts[key])
    return CondaFacts(**facts)


# The two containers


def _read_format_2(path: Path, archive: str, package: _Package) -> None:
    """Read the two tars of a `.conda` file: a zip, not compressed, of two tars that are (conda's CEP for format 2)."""
    with strict_zip(path, archive) as (reader, members):
        stem = _check_members(archive, members)
        metadata = next(member for member in members if member.filename == "metadata.json")
        if metadata.file_size > _LARGEST_TEXT:
            raise unsafe(archive, "metadata.json", f"has more than {_LARGEST_TEXT} bytes")
        with reading(archive, metadata):
            document = _document(archive, "metadata.json", reader.read(metadata))
        if document.get("conda_pkg_format_version") != 2:
            raise unsafe(archive, "metadata.json", "is not of package format 2")
        if _stem(archive) not in (None, stem):
            raise unsafe(archive, f"pkg-{stem}.tar.zst", "has another name than the file")
        for part in ("info", "pkg"):
            member = reader.getinfo(f"{part}-{stem}.tar.zst")
            with (
                reading(archive, member),
                reader.open(member) as stream,
                _zstd(archive, member.filename, stream) as tar,
            ):
                package.take(tar, inside_info=part == "info")


def _check_members(archive: str, members: list[zipfile.ZipInfo]) -> str:
    """Check what a `.conda` file consists of; give the name that its two tars share."""
    names = [member.filename for member in members]
    infos = [name for name in names if re.fullmatch(r"info-.+\.tar\.zst", name)]
    if len(infos) != 1:
        raise unsafe(archive, None, f"must have one member info-….tar.zst, and has {len(infos)}")
    stem = infos[0].removeprefix("info-").removesuffix(".tar.zst")
    expected = {"metadata.json", f"info-{stem}.tar.zst", f"pkg-{stem}.tar.zst"}
    for name in names:
        if name not in expected:
            raise unsafe(archive, name, "does not belong in a .conda file")
    if len(names) != len(expected):
        missing = ", ".join(sorted(expected - set(names)))
        raise unsafe(archive, None, f"lacks {escaped(missing)}" if missing else "has a member twice")
    for member in members:
        if member.compress_type != 0 or file_type(member) not in (0, 0o100000):
            raise unsafe(archive, member.filename, "is compressed twice, or is no plain file")
    return stem


@contextmanager
def _zstd(archive: str, name: str, stream: Any) -> Iterator[Source]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    try:
        with decompressor.stream_reader(stream, read_size=_CHUNK, read_across_frames=True, closefd=False) as tar:
            yield tar
    except zstandard.ZstdError as error:
        raise unsafe(archive, name, f"cannot be decompressed ({escaped(str(error))})") from error


class _Bz2:
    """A bzip2 file of one stream or several (parallel compressors write several), and nothing behind them."""

    def __init__(self, stream: BinaryIO, archive: str) -> None:
        self._stream = stream
        self._archive = archive
        self._decompressor = bz2.BZ2Decompressor()

    def read(self, size: int, /) -> bytes:
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data or self._stream.read(_CHUNK)
                if not data:
                    return b""
                self._decompressor = bz2.BZ2Decompressor()
            elif self._decompressor.needs_input:
                data = self._stream.read(_CHUNK)
                if not data:
                    raise unsafe(self._archive, None, "is cut off")
            try:
                found = self._decompressor.decompress(data, size)
            except (OSError, EOFError) as error:
                raise unsafe(self._archive, None, f"cannot be decompressed ({error})") from error
            if found:
                return found


# What is in them


@dataclass(frozen=True, kw_only=True)
class _Content:
    """A file in the package."""

    size: int
    sha256: str


class _Package:
    """One package while it is checked."""

    def __init__(self, archive: str, packed_size: int) -> None:
        self._archive = archive
        self._listing = Listing(archive=archive, packed_size=packed_size, portable=False)
        self._contents: dict[str, _Content] = {}
        self._documents: dict[str, bytes] = {}
        self._odd_modes = 0

    def take(self, tar: Source, *, inside_info: bool | None) -> None:
        """Take in the members of a tar; of format 2 each of the two holds its own side of `info/`."""
        for member, pieces in read_tar(tar, self._archive, self._listing.judge_size):
            if not member.name:
                if member.kind != "folder":
                    raise unsafe(self._archive, None, "has a member without a name")
                continue  # the folder that everything is in
            path = self._take(member, pieces)
            if inside_info is not None and inside_info is not (path == "info" or path.startswith("info/")):
                raise unsafe(self._archive, path, "is in the wrong one of the package's two parts")

    def _take(self, member: TarMember, pieces: Iterator[bytes]) -> str:
        if member.kind == "hard link":
            return self._take_hard_link(member)
        path = self._listing.add(member.name, member.kind, member.size, member.target)
        self._check_mode(path, member)
        if member.kind == "file":
            self._contents[path] = self._hash(path, member, pieces)
        return path

    def _take_hard_link(self, member: TarMember) -> str:
        """Take a second name of a file that has come already, which reads like a copy of it."""
        original = self._contents.get(member.target.removeprefix("./"))
        if original is None:
            raise unsafe(
                self._archive, member.name, f"is a hard link to {escaped(member.target)}, no file that lies before it"
            )
        path = self._listing.add(member.name, "file", original.size)
        self._contents[path] = original
        return path

    def _check_mode(self, path: str, member: TarMember) -> None:
        if member.kind == "file" and member.mode & 0o6000:
            raise PolicyError(
                f"{self._archive}: {escaped(path)}",
                "would run with the rights of another user (setuid or setgid)",
                "Leave the package out; such a program has to come from the operating system.",
                archive=self._archive,
                member=escaped(path),
            )
        if member.kind != "link" and (member.mode & 0o7002 or not member.mode & 0o200):
            self._odd_modes += 1

    def _hash(self, path: str, member: TarMember, pieces: Iterator[bytes]) -> _Content:
        keep = self._keeps(path, member.size)
        kept: list[bytes] = []
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
            if keep:
                kept.append(piece)
        if keep:
            self._documents[path] = b"".join(kept)
        return _Content(size=member.size, sha256=digest.hexdigest())

    def _keeps(self, path: str, size: int) -> bool:
        if path not in _DOCUMENTS and not _DISTRIBUTION.fullmatch(path):
            return False
        if size > (_LARGEST_DOCUMENT if path in ("info/paths.json", "info/files") else _LARGEST_TEXT):
            raise unsafe(self._archive, path, "is too large for what it is")
        return True

    def facts(self) -> CondaFacts:
        """Judge the whole."""
        self._listing.finish()
        index = self._index()
        longest = self._check_paths()
        entry_points = self._entry_points(index["name"])
        for path in self._listing.kinds:
            if path == "conda-meta" or path.startswith("conda-meta/"):
                raise PolicyError(
                    f"{self._archive}: {escaped(path)}",
                    "lies where the records of installed packages are kept",
                    "Leave the package out: it would change what is known of other packages.",
                )
        if self._odd_modes:
            self._listing.warn(f"{self._odd_modes} members have permissions that are not kept")
        return CondaFacts(
            name=index["name"],
            version=index["version"],
            build=index["build"],
            subdir=index.get("subdir") or "",
            index=index,
            distributions=self._distributions(),
            link_scripts=self._matching(LINK_SCRIPT),
            activation_scripts=self._matching(ACTIVATION_SCRIPT),
            startup_files=self._matching(_STARTUP),
            entry_points=entry_points,
            files=len(self._contents) + len(self._listing.links),
            unpacked_size=self._listing.unpacked,
            longest_placeholder=longest,
            warnings=tuple(self._listing.warnings),
        )

    def _matching(self, pattern: re.Pattern[str]) -> tuple[str, ...]:
        return tuple(
            sorted(path for path, kind in self._listing.kinds.items() if kind != "folder" and pattern.fullmatch(path))
        )

    def _index(self) -> dict[str, Any]:
        where = "info/index.json"
        index = self._json(where)
        if index is None:
            raise unsafe(self._archive, where, "is missing")
        for key, pattern in _INDEX_FIELDS.items():
            value = index.get(key, "" if key == "subdir" else None)
            if not isinstance(value, str) or not (pattern.fullmatch(value) or (key == "subdir" and not value)):
                raise unsafe(self._archive, where, f"has no valid {key} ({escaped(str(value))})")
        for key in ("depends", "constrains"):
            value = index.get(key, [])
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise unsafe(self._archive, where, f"has {key} that is no list of texts")
        place = index.get("python_site_packages_path")
        if place is not None and not (
            isinstance(place, str) and _SITE_PACKAGES.fullmatch(place) and not {".", ".."} & set(place.split("/"))
        ):
            raise unsafe(self._archive, where, f"puts modules in {escaped(str(place))}")
        return index

    def _json(self, path: str) -> dict[str, Any] | None:
        data = self._documents.get(path)
        return None if data is None else _document(self._archive, path, data)

    # paths.json

    def _check_paths(self) -> int:
        """Compare the files with what the package says of them; give the length of the longest placeholder."""
        document = self._json("info/paths.json")
        if document is None:
            return self._check_old_paths()
        rows = document.get("paths")
        if document.get("paths_version") != 1 or not isinstance(rows, list):
            raise unsafe(self._archive, "info/paths.json", "is of an unknown version")
        listed: set[str] = set()
        longest = 0
        for row in rows:
            path = row.get("_path") if isinstance(row, dict) else None
            if not isinstance(path, str) or path in listed:
                raise unsafe(self._archive, "info/paths.json", f"has a bad or repeated row ({escaped(str(path))})")
            listed.add(path)
            self._check_row(path, row)
            longest = max(longest, self._placeholder(path, row.get("prefix_placeholder"), row.get("file_mode")))
        self._refuse_unlisted(listed)
        return longest

    def _check_row(self, path: str, row: Mapping[str, Any]) -> None:
        found = self._listing.kinds.get(path)
        if found is None or path.startswith("info/"):
            raise unsafe(self._archive, path, "is in info/paths.json, but not in the package")
        stated = _PATH_KINDS.get(row.get("path_type", ""))
        if found != stated:
            raise unsafe(
                self._archive, path, f"is a {found}; info/paths.json says {escaped(str(row.get('path_type')))}"
            )
        content = self._contents.get(path)
        if content is None:
            return  # of a link, some tools write the sum of what it leads to, others that of nothing
        if row.get("size_in_bytes", content.size) != content.size:
            raise unsafe(self._archive, path, f"has {content.size} bytes, which is not what info/paths.json says")
        if row.get("sha256") != content.sha256:
            raise unsafe(self._archive, path, "has another SHA-256 than info/paths.json says")

    def _placeholder(self, path: str, placeholder: object, mode: object) -> int:
        if placeholder is None:
            return 0
        if not isinstance(placeholder, str) or not placeholder.isprintable() or not 1 < len(placeholder) <= _LONGEST:
            raise unsafe(self._archive, path, "has a prefix placeholder that is none")
        if mode not in ("text", "binary"):
            raise unsafe(self._archive, path, f"has a prefix in a file of the unknown mode {escaped(str(mode))}")
        return len(placeholder.encode())

    def _check_old_paths(self) -> int:
        """Packages of before 2016 have plain lists instead: no sums, but still what is in them."""
        if "info/files" not in self._documents:
            raise unsafe(self._archive, "info/paths.json", "is missing")
        self._listing.warn("has no sums of its files (info/paths.json is missing)")
        listed = set(self._lines("info/files"))
        for path in listed:
            if path not in self._listing.kinds or path.startswith("info/"):
                raise unsafe(self._archive, path, "is in info/files, but not in the package")
        self._refuse_unlisted(listed)
        longest = 0
        for line in self._lines("info/has_prefix"):
            fields = line.split(" ")
            # One field: the path, with the placeholder that was the only one then. Three: placeholder, mode, path.
            placeholder, mode, path = fields if len(fields) == 3 else (_OLD_PLACEHOLDER, "text", line)
            longest = max(longest, self._placeholder(path.strip('"'), placeholder.strip('"'), mode))
        return longest

    def _lines(self, path: str) -> list[str]:
        try:
            return self._documents.get(path, b"").decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise unsafe(self._archive, path, "is not UTF-8") from error

    def _refuse_unlisted(self, listed: set[str]) -> None:
        for path, kind in self._listing.kinds.items():
            if kind != "folder" and not path.startswith("info/") and path not in listed:
                raise unsafe(self._archive, path, "is in the package, but its own list does not name it")

    def _entry_points(self, package: str) -> tuple[tuple[str, str], ...]:
        where = "info/link.json"
        link = self._json(where)
        noarch = link.get("noarch") if link else None
        if noarch is None:
            return ()
        points = noarch.get("entry_points", []) if isinstance(noarch, dict) else None
        if not isinstance(points, list) or not all(isinstance(point, str) for point in points):
            raise unsafe(self._archive, where, "has entry points that are no list of texts")
        found = []
        for point in points:
            name, _, value = point.partition("=")
            check_entry_point(f"{self._archive}: {where}", name.strip(), value.strip(), package)
            found.append((name.strip(), value.strip()))
        return tuple(sorted(found))

    def _distributions(self) -> tuple[tuple[str, str], ...]:
        """Read name and version of the Python distributions; those vendored inside others do not count."""
        found = set()
        for path, data in self._documents.items():
            if not _DISTRIBUTION.fullmatch(path):
                continue
            headers = BytesHeaderParser().parsebytes(data)
            try:
                name = canonicalize_name(str(headers["Name"] or ""), validate=True)
            except InvalidName as error:
                raise unsafe(self._archive, path, "has no valid name") from error
            version = str(headers["Version"] or "")
            if not _PART.fullmatch(version):
                raise unsafe(self._archive, path, "has no valid version")
            found.add((str(name), version))
        return tuple(sorted(found))


_OLD_PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"
_LONGEST = 1_024
_DOCUMENTS = frozenset({"info/index.json", "info/paths.json", "info/link.json", "info/files", "info/has_prefix"})
_INDEX_FIELDS = {"name": _NAME, "version": _PART, "build": _BUILD, "subdir": _SUBDIR}


def _document(archive: str, member: str, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise unsafe(archive, member, "is not JSON") from error
    if not isinstance(document, dict):
        raise unsafe(archive, member, "is not an object of JSON")
    return document
