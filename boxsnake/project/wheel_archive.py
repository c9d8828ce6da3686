"""Wheels as archives: what their metadata says, and one canonical form for those that are built here.

Specifications: the binary distribution format (PEP 427), the core metadata, entry points, RECORD (PEP 376, PEP 627).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

from boxsnake.entry_points import commands
from boxsnake.errors import IntegrityError
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The first moment that a zip archive can name: no member tells when it was made.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_BROKEN = (zipfile.BadZipFile, KeyError, ValueError, UnicodeDecodeError, EOFError, OSError)


SOURCE_PAGE = ("source", "repository", "sourcecode", "github")
DOCUMENTATION = ("documentation", "docs")


@dataclass(frozen=True, kw_only=True)
class WheelMetadata:
    """What a wheel says of itself. `name` is normalised (PEP 503), `version` in its normal form (PEP 440)."""

    name: str
    version: str
    requires_dist: tuple[str, ...] = ()
    """Every requirement, those of the extras with their `extra == …` markers."""
    requires_python: str | None = None
    extras: tuple[str, ...] = ()
    console_scripts: tuple[str, ...] = ()
    summary: str = ""
    license: str = ""
    homepage: str = ""
    source_page: str = ""
    documentation: str = ""
    maintainer: str = ""


def read_metadata(wheel: Path, file_name: str | None = None) -> WheelMetadata:
    """The metadata of a wheel. Raises IntegrityError, which names `file_name`, where it cannot be read."""
    shown = file_name or wheel.name
    try:
        with zipfile.ZipFile(wheel) as archive:
            folder = _dist_info(archive.namelist())
            text = archive.read(f"{folder}/METADATA")
            entry_points = f"{folder}/entry_points.txt"
            scripts = archive.read(entry_points).decode() if entry_points in archive.namelist() else ""
        return _parse(text, scripts)
    except _BROKEN as error:
        raise _unreadable(shown, error) from error


def metadata_text(wheel: Path) -> bytes:
    """The METADATA of a wheel as it stands. Raises IntegrityError where it cannot be read."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"{_dist_info(archive.namelist())}/METADATA")
    except _BROKEN as error:
        raise _unreadable(wheel.name, error) from error


def _parse(text: bytes, entry_points: str) -> WheelMetadata:
    from packaging.metadata import parse_email
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    raw, _ = parse_email(text)
    return WheelMetadata(
        name=canonicalize_name(raw["name"]),
        version=str(Version(raw["version"])),
        requires_dist=tuple(raw.get("requires_dist", ())),
        requires_python=raw.get("requires_python"),
        extras=tuple(canonicalize_name(extra) for extra in raw.get("provides_extra", ())),
        console_scripts=tuple(name for name, _ in commands(entry_points)["console_scripts"]),
        summary=raw.get("summary", ""),
        license=raw.get("license_expression") or raw.get("license", "").partition("\n")[0],
        homepage=homepage(raw.get("project_urls", {})) or raw.get("home_page", ""),
        source_page=page(raw.get("project_urls", {}), *SOURCE_PAGE),
        documentation=page(raw.get("project_urls", {}), *DOCUMENTATION),
        maintainer=raw.get("maintainer_email") or raw.get("author_email") or raw.get("author", ""),
    )


def installed_members(wheel: Path, shown: str) -> dict[str, str]:
    """Where the files and programs of a wheel go in an environment: paths below `site-packages`, `bin`, and so on.

    Each with the name of the wheel's member that lies there, "" for a program that the installer writes. Raises
    IntegrityError, which names `shown`, where the wheel cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            folder = _dist_info(names)
            entry_points = f"{folder}/entry_points.txt"
            text = archive.read(entry_points).decode() if entry_points in names else ""
        data = f"{folder.removesuffix('.dist-info')}.data/"
        found = {
            _place(name.removeprefix(data)) if name.startswith(data) else f"site-packages/{name}": name
            for name in names
        }
        return found | {f"bin/{name}": "" for group in commands(text).values() for name, _ in group}
    except _BROKEN as error:
        raise _unreadable(shown, error) from error


def is_same_member(one: Path, other: Path, names: tuple[str, str]) -> bool:
    """Whether a member of one wheel has the content of one of another, and both are programs or neither is."""
    found = []
    for wheel, name in zip((one, other), names, strict=True):
        with zipfile.ZipFile(wheel) as archive:
            found.append((archive.read(name), bool(archive.getinfo(name).external_attr >> 16 & 0o111)))
    return found[0] == found[1]


def _place(name: str) -> str:
    """Where a file below a wheel's `.data` folder goes, by its scheme (PEP 427)."""
    scheme, _, rest = name.partition("/")
    folders = {"purelib": "site-packages/", "platlib": "site-packages/", "scripts": "bin/", "data": ""}
    return f"{folders.get(scheme, f'{scheme}/')}{rest}"


def homepage(urls: dict[str, str]) -> str:
    """The homepage among a project's URLs."""
    return page(urls, "homepage", *SOURCE_PAGE)


def page(urls: dict[str, str], *wanted: str) -> str:
    """The first of the wanted pages among a project's URLs, by their well-known labels (PyPA's specification)."""
    labels = {"".join(c for c in label.lower() if c.isalnum()): url for label, url in urls.items()}
    return next((labels[label] for label in wanted if label in labels), "")


def members_by_hash(wheel: Path) -> dict[str, list[str]]:
    """The members of a wheel in its canonical form by the SHA-256 of their bytes, in hex, as its RECORD has it."""
    found: dict[str, list[str]] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, told, _ in _record(archive, _dist_info(archive.namelist())).values():
                if told:
                    found.setdefault(_hex(told), []).append(name)
    except _BROKEN as error:
        raise _unreadable(wheel.name, error) from error
    return found


def is_portable(file_name: str) -> bool:
    """Whether the wheel runs on every platform and on every Python 3, by its tags."""
    tags = file_name.removesuffix(".whl").split("-")[-3:]
    return [wanted in tag.split(".") for wanted, tag in zip(("py3", "none", "any"), tags, strict=False)] == [True] * 3


def rewrite(wheel: Path, out: Path) -> None:
    """Write the canonical form of a wheel: the same files give the same bytes, whoever packed them and when.

    Members lie in the order of their names, the metadata last and RECORD at the very end, at the first moment of the
    zip calendar and with modes 0644 or 0755. They are stored and not deflated: another zlib packs the same bytes
    into others, and the digest of what is built here must hold on every machine. Raises IntegrityError.
    """
    _write(wheel, out, {}, has_record=False)


def exchange(wheel: Path, out: Path, exchanged: Mapping[str, bytes]) -> None:
    """Write a wheel that is in its canonical form once more, with other contents of some members. IntegrityError."""
    _write(wheel, out, exchanged, has_record=True)


def _write(wheel: Path, out: Path, exchanged: Mapping[str, bytes], *, has_record: bool) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            folder = _dist_info(archive.namelist())
            _write_members(archive, folder, out, exchanged, _record(archive, folder) if has_record else {})
    except _BROKEN as error:
        raise _unreadable(wheel.name, error) from error


def _record(archive: zipfile.ZipFile, folder: str) -> dict[str, tuple[str, str, str]]:
    """The lines of RECORD by the members that they tell of."""
    rows = csv.reader(io.StringIO(archive.read(f"{folder}/RECORD").decode()))
    return {name: (name, told, size) for name, told, size in rows}


def _write_members(
    archive: zipfile.ZipFile,
    folder: str,
    out: Path,
    exchanged: Mapping[str, bytes],
    known: Mapping[str, tuple[str, str, str]],
) -> None:
    record = f"{folder}/RECORD"
    # Signatures of the old RECORD say nothing about the new one.
    left_out = {record, f"{record}.jws", f"{record}.p7s"}
    members = [member for member in archive.infolist() if not member.is_dir() and member.filename not in left_out]
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is in it twice")
    rows = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for member in sorted(members, key=lambda member: (member.filename.startswith(f"{folder}/"), member.filename)):
            content = exchanged.get(member.filename)
            content = archive.read(member) if content is None else content
            executable = member.create_system == _UNIX and bool(member.external_attr >> 16 & 0o111)
            _add(target, member.filename, content, executable=executable)
            is_known = member.filename in known and member.filename not in exchanged
            rows.append(known[member.filename] if is_known else _record_row(member.filename, content))
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([*sorted(rows), (record, "", "")])
        _add(target, record, table.getvalue().encode())


def _add(target: zipfile.ZipFile, name: str, content: bytes, *, executable: bool = False) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = _UNIX
    info.external_attr = (0o100755 if executable else 0o100644) << 16
    target.writestr(info, content)


def _record_row(name: str, content: bytes) -> tuple[str, str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return name, f"sha256={digest}", str(len(content))


def _hex(told: str) -> str:
    """A hash of RECORD in hex."""
    encoded = told.removeprefix("sha256=")
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()


def _dist_info(names: list[str]) -> str:
    folders = {name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise ValueError(f"it has {len(folders)} .dist-info folders, not one")
    return folders.pop()


def _unreadable(shown: str, error: Exception) -> IntegrityError:
    return IntegrityError(
        shown, f"is not a wheel that can be read ({error})", "Build or download the wheel again.", file=shown
    )
