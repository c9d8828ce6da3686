"""Repositories of RPMs, as createrepo_c writes them: packages, and `repodata/` with their metadata.

`repomd.xml` names every other file of metadata by its digest; its signature covers them all, and theirs the packages'.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from boxsnake import child
from boxsnake.disk import remove_tree
from boxsnake.errors import ResourceError
from boxsnake.os_packages import rpm_header
from boxsnake.publish import packages, refuse_other, replace_file, settle
from boxsnake.publish.signing import Signer, missing, sign_detached, sign_rpms

_INDEX = "repodata/repomd.xml"
_DEADLINE = 3600.0


class RpmRepository:
    """See `boxsnake.publish.Repository`."""

    suffix = ".rpm"
    mark = _INDEX

    def check_tools(self, signer: Signer | None) -> None:
        """See `boxsnake.publish.Repository`."""
        wanted = [("createrepo_c", "createrepo-c"), *([("rpmsign", "rpm")] if signer else [])]
        for program, package in wanted:
            if shutil.which(program) is None:
                raise missing(program, package)

    def time(self, folder: Path) -> int | None:
        """See `boxsnake.publish.Repository`."""
        found = re.search(r"<revision>(\d{1,12})</revision>", _repomd(folder))
        return int(found[1]) if found else None

    def count(self, folder: Path) -> int:
        """See `boxsnake.publish.Repository`."""
        return sum(1 for _ in packages(folder, self.suffix))

    def add(self, folder: Path, files: Sequence[Path], signer: Signer | None) -> list[str]:
        """See `boxsnake.publish.Repository`.

        A package that is there with another signature, or none, is the same package: it is signed again where there
        is a signer, and stays as it is where there is none.
        """
        there = {_identity(path): path for path in packages(folder, self.suffix)}
        names = {path.name for path in there.values()}
        added: list[str] = []
        with tempfile.TemporaryDirectory(prefix="boxsnake-publish-") as scratch:
            for path in files:
                digest, identity = rpm_header.digest(path), _identity(path)
                known = there.get(identity)
                if known is None and path.name in names:
                    raise refuse_other(_shown(identity), folder / path.name, path)
                if known is not None and rpm_header.digest(known) != digest:
                    raise refuse_other(_shown(identity), known, path)
                if known is not None and signer is None:
                    continue
                place = known or folder / path.name
                if _put(path, place, signer, Path(scratch)):
                    added.append(place.name)
                there[identity] = place
                names.add(place.name)
        return added

    def index(self, folder: Path, old: Path | None, time: int, signer: Signer | None) -> None:
        """See `boxsnake.publish.Repository`."""
        remove_tree(folder / "repodata")
        command = ["createrepo_c", "--quiet", "--no-database", "--general-compress-type", "gz"]
        command += ["--revision", str(time), "--set-timestamp-to-revision", "."]
        done = child.run(command, cwd=folder, env=os.environ, deadline=_DEADLINE)
        index = folder / _INDEX
        if done.code != 0 or not index.is_file():
            cause = f"createrepo_c {done.why(_DEADLINE)}\n{done.last_lines}"
            raise ResourceError(str(folder), cause, "Correct what it names.", status=done.code)
        if signer is not None:
            sign_detached(signer, index, index.with_name(f"{index.name}.asc"), time=time)
        settle(index.parent, time=time)
        if old is not None:
            _keep_generation(old, folder)


def _keep_generation(old: Path, new: Path) -> None:
    """Keep the metadata that the old repository names: it may have been read just before it was replaced."""
    for href in re.findall(r'<location href="(repodata/[A-Za-z0-9._-]+)"', _repomd(old)):
        place = new / href
        if not place.exists() and (old / href).is_file():
            os.link(old / href, place)


def _repomd(folder: Path) -> str:
    try:
        return (folder / _INDEX).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _identity(path: Path) -> tuple[object, ...]:
    """What RPM tells packages apart by: name, epoch, version, release, architecture."""
    header = rpm_header.read(path)
    tags = (rpm_header.NAME, rpm_header.EPOCH, rpm_header.VERSION, rpm_header.RELEASE, rpm_header.ARCHITECTURE)
    return tuple(header.get(tag, 0) for tag in tags)


def _shown(identity: tuple[object, ...]) -> str:
    name, epoch, version, release, architecture = identity
    return f"{name}-{f'{epoch}:' if epoch else ''}{version}-{release}.{architecture}"


def _put(source: Path, place: Path, signer: Signer | None, scratch: Path) -> bool:
    """Put a package in, signed where there is a signer; return whether that changed anything."""
    built = rpm_header.read(source).get(rpm_header.BUILD_TIME, 0)
    time = built if isinstance(built, int) else 0
    copy = scratch / source.name
    replace_file(copy, source, time=time)
    if signer is not None:
        sign_rpms(signer, [copy], scratch, time=time)
    if place.is_file() and place.read_bytes() == copy.read_bytes():
        return False
    replace_file(place, copy, time=time)
    copy.unlink()
    return True
