"""Repositories of debs, as apt reads them: packages in `pool/`, and the indexes of each suite in `dists/`.

`Release` names every index by its digest; `InRelease` is the same with its signature in it, `Release.gpg` the signature
alone. Indexes lie under their digests as well (Acquire-By-Hash), so that a reader gets the one that its Release names.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

from boxsnake import child
from boxsnake.disk import remove_tree
from boxsnake.errors import IntegrityError, ResourceError, UsageError
from boxsnake.publish import packages, refuse_other, replace_file, settle
from boxsnake.publish.signing import Signer, missing, sign_clear, sign_detached
from boxsnake.value import dataclass

_COMPONENT = "main"
_DEADLINE = 3600.0


@dataclass(frozen=True, kw_only=True)
class DebRepository:
    """See `boxsnake.publish.Repository`. `suite` is the word that stands in a sources list after the address."""

    suite: str = "stable"
    suffix = ".deb"
    mark = "dists"

    def check_tools(self, signer: Signer | None) -> None:  # noqa: ARG002 - part of the contract
        """See `boxsnake.publish.Repository`."""
        for program, package in (("apt-ftparchive", "apt-utils"), ("dpkg-deb", "dpkg")):
            if shutil.which(program) is None:
                raise missing(program, package)

    def time(self, folder: Path) -> int | None:
        """See `boxsnake.publish.Repository`."""
        try:
            text = (self._indexes(folder) / "Release").read_text(encoding="utf-8")
            found = re.search(r"^Date: (.+)$", text, re.MULTILINE)
            return int(parsedate_to_datetime(found[1]).timestamp()) if found else None
        except (OSError, ValueError):
            return None

    def count(self, folder: Path) -> int:
        """See `boxsnake.publish.Repository`."""
        return sum(1 for _ in packages(self._pool(folder), self.suffix))

    def add(self, folder: Path, files: Sequence[Path], signer: Signer | None) -> list[str]:  # noqa: ARG002
        """See `boxsnake.publish.Repository`. A deb bears no signature of its own: the suite's covers it."""
        pool = self._pool(folder)
        pool.mkdir(parents=True, exist_ok=True)
        there = {_identity(path): path for path in packages(pool, self.suffix)}
        names = {path.name: path for path in there.values()}
        added: list[str] = []
        for path in files:
            identity = _identity(path)
            known = there.get(identity, names.get(path.name))
            if known is None:
                _check_whole(path)
                there[identity] = names[path.name] = place = pool / path.name
                # The time is no part of any index.
                replace_file(place, path, time=int(path.stat().st_mtime))
                added.append(path.name)
            elif known.read_bytes() != path.read_bytes():
                raise refuse_other(" ".join(identity), known, path)
        return added

    def index(self, folder: Path, old: Path | None, time: int, signer: Signer | None) -> None:
        """See `boxsnake.publish.Repository`."""
        indexes = self._indexes(folder)
        remove_tree(indexes)
        architectures = {_identity(path)[2] for path in packages(self._pool(folder), self.suffix)}
        for architecture in sorted(architectures - {"all"} or {"all"}):
            place = indexes / _COMPONENT / f"binary-{architecture}"
            place.mkdir(parents=True)
            pool = self._pool(folder).relative_to(folder)
            text = _ftparchive(folder, "--arch", architecture, "packages", str(pool))
            for name, content in _compressed(_sorted(text)).items():
                replace_file(place / name, content, time=time)
        self._release(folder, sorted(architectures), time)
        if signer is not None:
            release = indexes / "Release"
            sign_detached(signer, release, indexes / "Release.gpg", time=time)
            sign_clear(signer, release, indexes / "InRelease", time=time)
        settle(indexes, time=time)
        if old is not None:
            _keep_generation(self._indexes(old), indexes)

    def _release(self, folder: Path, architectures: Sequence[str], time: int) -> None:
        fields = {
            "Suite": self.suite,
            "Codename": self.suite,
            "Components": _COMPONENT,
            "Architectures": " ".join(architectures),
            "Date": format_datetime(datetime.fromtimestamp(time, UTC)),
            "Acquire-By-Hash": "yes",
        }
        described = [f"Release::{key}={value}" for key, value in fields.items()]
        indexes = self._indexes(folder)
        text = _ftparchive(folder, "release", str(indexes.relative_to(folder)), options=(*described, "DoByHash=yes"))
        replace_file(indexes / "Release", text, time=time)

    def _pool(self, folder: Path) -> Path:
        return folder / "pool" / self.suite / _COMPONENT

    def _indexes(self, folder: Path) -> Path:
        return folder / "dists" / self.suite


def check_suite(suite: str) -> str:
    """The suite itself. Errors: UsageError where it is no word that a sources list and a path can hold."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,63}", suite):
        raise UsageError(f"suite {suite[:80]!r}", "is no name of a suite", "Name one such as stable or bookworm.")
    return suite


def _identity(path: Path) -> tuple[str, str, str]:
    """Name, version and architecture, which is what apt tells packages apart by.

    Errors: IntegrityError where the file is no whole package.
    """
    form = "--showformat=${Package}\\n${Version}\\n${Architecture}\\n"
    done = child.run(
        ["dpkg-deb", form, "--show", str(path.absolute())], cwd=Path("/"), env=os.environ, deadline=_DEADLINE
    )
    fields = done.output.splitlines()[-3:]
    if done.code != 0 or len(fields) != 3 or not all(fields):
        raise IntegrityError(str(path), f"is no deb\n{done.last_lines}", "Build it again.")
    return fields[0], fields[1], fields[2]


def _check_whole(path: Path) -> None:
    """Read all of the package once: what apt-ftparchive reads of it is its description alone."""
    done = child.run(
        ["dpkg-deb", "--contents", str(path.absolute())], cwd=Path("/"), env=os.environ, deadline=_DEADLINE
    )
    if done.code != 0:
        raise IntegrityError(str(path), f"is damaged\n{done.last_lines}", "Build it again.")


def _ftparchive(folder: Path, *arguments: str, options: Sequence[str] = ()) -> bytes:
    options = ("MD5=no", "SHA1=no", *options)
    command = ["apt-ftparchive", *(f"--option=APT::FTPArchive::{option}" for option in options), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=_DEADLINE)
    errors = done.stderr.decode("utf-8", "replace")
    # It ends with 0 for a package that it cannot read, and leaves it out.
    if done.returncode or re.search(r"^[EW]: ", errors, re.MULTILINE):
        cause = f"apt-ftparchive failed: {' '.join(errors.split())[:500]}"
        raise ResourceError(str(folder), cause, "Correct what it names.", status=done.returncode)
    return done.stdout


def _sorted(packages_index: bytes) -> bytes:
    """The index with its stanzas in the order of their text: apt-ftparchive's is that of the folder."""
    stanzas = sorted(stanza.strip(b"\n") for stanza in packages_index.split(b"\n\n"))
    return b"".join(stanza + b"\n\n" for stanza in stanzas if stanza)


def _compressed(text: bytes) -> Mapping[str, bytes]:
    return {
        "Packages": text,
        "Packages.gz": gzip.compress(text, mtime=0),
        "Packages.xz": lzma.compress(text),
    }


def _keep_generation(old: Path, new: Path) -> None:
    """Keep the indexes that the old Release names, under their digests: it may have been read just before."""
    for path in _named(old):
        place = new / path.relative_to(old)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)


def _named(indexes: Path) -> Iterator[Path]:
    try:
        text = (indexes / "Release").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for digest, name in re.findall(r"^ ([0-9a-f]{64}) +\d+ ([A-Za-z0-9./_-]+)$", text, re.MULTILINE):
        path = (indexes / name).parent / "by-hash" / "SHA256" / digest
        if ".." not in Path(name).parts and path.is_file():
            yield path
