"""Archives and folders looked into: what they are is told by what is in them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxsnake.inspection import packages
from boxsnake.inspection.ledger import Ledger
from boxsnake.inspection.members import of_folder, of_squashfs, of_tar, of_zip
from boxsnake.inspection.value import Inspection

Enter = Callable[[Path, Ledger], Inspection]

_NAME = re.compile(rb"^(?:NAME|app)='?([^'\n]*)'?$", re.MULTILINE)
_VERSION = re.compile(rb"^(?:VERSION|version)='?([^'\n]*)'?$", re.MULTILINE)
_MACHINE = re.compile(rb"^(?:MACHINE|machine)='?([^'\n]*)'?$", re.MULTILINE)
_HEAD = 1 << 16


def enter_archive(path: Path, ledger: Ledger) -> Inspection:
    """Enter a zip archive's files, or those of a tar that may be compressed."""
    if zipfile.is_zipfile(path) and not _is_tar(path):
        ledger.add(of_zip(path))
        return _told(path, ledger, "zip")
    with path.open("rb") as stream:
        ledger.add(of_tar(stream))
    return _told(path, ledger, "tarball")


def enter_folder(path: Path, ledger: Ledger) -> Inspection:
    """Enter what lies in a folder."""
    ledger.add(of_folder(path))
    return _told(path, ledger, "folder")


def enter_squashfs(begin: int) -> Enter:
    """How a userspace image is entered, whose squashfs begins there."""

    def enter(path: Path, ledger: Ledger) -> Inspection:
        with path.open("rb") as file:
            ledger.add(of_squashfs(file, begin))
        return _scripted(path, "appimage")

    return enter


def enter_tail(size: int) -> Enter:
    """How an installer is entered, whose last bytes are a tar."""

    def enter(path: Path, ledger: Ledger) -> Inspection:
        with path.open("rb") as stream:
            stream.seek(path.stat().st_size - size)
            ledger.add(of_tar(stream))
        return _scripted(path, "installer")

    return enter


def _scripted(path: Path, format: str) -> Inspection:  # noqa: A002 - the project's own word for it
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    name, version, machine = (
        match[1].decode("utf-8", "replace") if (match := pattern.search(head)) else ""
        for pattern in (_NAME, _VERSION, _MACHINE)
    )
    return Inspection(artifact=str(path), format=format, name=name, version=version, platform=machine)


def _is_tar(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(262)[257:] == b"ustar"


def _told(path: Path, ledger: Ledger, otherwise: str) -> Inspection:
    """What the archive is, by the first mark that it bears."""
    for mark, told in _MARKS:
        found = next((one for one in sorted(ledger.kept, key=lambda one: one.count("/")) if mark.search(one)), None)
        if found is not None:
            return told(path, ledger, found)
    wheels = {one.partition(".whl/")[0] for one in ledger.files if ".whl/" in one}
    own = [one for one in ledger.files if ".whl/" not in one]
    form = "wheelhouse" if wheels and len(own) < len(wheels) else otherwise
    return Inspection(artifact=str(path), format=form)


def _pex(path: Path, ledger: Ledger, mark: str) -> Inspection:
    facts = _object(ledger.kept[mark])
    starts = facts.get("entry_point") or facts.get("script") or ""
    ranges = [str(one) for one in facts.get("interpreter_constraints") or ()]
    name = _owner(ledger, str(starts)) or path.name.partition("-")[0].removesuffix(".pex")
    return Inspection(
        artifact=str(path),
        format="pex",
        name=name,
        version=packages.headers_of(ledger, name).get("Version", ""),
        python=" or ".join(ranges),
        starts=(str(starts),) if starts else (),
    )


def _owner(ledger: Ledger, entry_point: str) -> str:
    """The distribution with that console script, by its name or what it leads to."""
    found = (one.package for one in packages.entry_points(ledger) if entry_point in {one.name, one.value})
    return next(found, "")


def _house(path: Path, ledger: Ledger, mark: str) -> Inspection:
    facts = _object(ledger.kept[mark])
    name, version, python = (str(facts.get(key) or "") for key in ("name", "version", "python"))
    return Inspection(artifact=str(path), format="wheelhouse", name=name, version=version, python=python)


def _wheel(path: Path, ledger: Ledger, mark: str) -> Inspection:
    about = packages.headers_of(ledger, mark.partition("-")[0])
    tags = re.findall(r"^Tag: (.*)$", ledger.kept[mark].decode("utf-8", "replace"), re.MULTILINE)
    return Inspection(
        artifact=str(path),
        format="wheel",
        name=about.get("Name", ""),
        version=about.get("Version", ""),
        platform=", ".join(tag.strip() for tag in tags),
        python=about.get("Requires-Python", ""),
    )


def _conda(path: Path, ledger: Ledger, mark: str) -> Inspection:
    facts = _object(ledger.kept[mark])
    return Inspection(
        artifact=str(path),
        format="conda",
        name=str(facts.get("name") or ""),
        version=f"{facts.get('version', '')} {facts.get('build', '')}".strip(),
        platform=str(facts.get("subdir") or ""),
        requires=tuple(map(str, facts.get("depends") or ())),
    )


def _context(path: Path, ledger: Ledger, mark: str) -> Inspection:
    text = ledger.kept[mark].decode("utf-8", "replace")
    bases = re.findall(r"^FROM\s+(?:--\S+\s+)*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    label = dict(re.findall(r'org\.opencontainers\.image\.(title|version)"?="?([^"\s\\]+)', text))
    name, version = label.get("title", ""), label.get("version", "")
    base = bases[-1] if bases else ""
    return Inspection(artifact=str(path), format="dockerfile", name=name, version=version, base=base)


def _sdist(path: Path, ledger: Ledger, mark: str) -> Inspection:
    text = ledger.kept[mark].decode("utf-8", "replace")
    name, version, python = (
        match[1].strip() if (match := re.search(rf"^{key}: (.*)$", text, re.MULTILINE)) else ""
        for key in ("Name", "Version", "Requires-Python")
    )
    return Inspection(artifact=str(path), format="sdist", name=name, version=version, python=python)


def _environment(path: Path, ledger: Ledger, mark: str) -> Inspection:  # noqa: ARG001 - one of `_MARKS`
    return Inspection(artifact=str(path), format="environment")


_MARKS: tuple[tuple[re.Pattern[str], Callable[[Path, Ledger, str], Inspection]], ...] = (
    (re.compile(r"^([^/]+/)?PEX-INFO$"), _pex),
    (re.compile(r"^([^/]+/)?house\.json$"), _house),
    (re.compile(r"^[^/]+\.dist-info/WHEEL$"), _wheel),
    (re.compile(r"^info/index\.json$"), _conda),
    (re.compile(r"^([^/]+/)?Dockerfile$"), _context),
    (re.compile(r"^([^/]+/)?(conda-meta/[^/]+\.json|pyvenv\.cfg)$"), _environment),
    (re.compile(r"^[^/]+/PKG-INFO$"), _sdist),
)


def _object(data: bytes) -> dict[str, Any]:
    found = json.loads(data)
    return found if isinstance(found, dict) else {}
