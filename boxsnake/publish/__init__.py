"""Publishing: package files into a repository, a folder that dnf or apt installs from.

The new repository is built beside the old one and takes its name in one step (`boxsnake.disk.publish_tree`): whoever
looks finds the old repository or the new one. Indexes that the old one named by digest stay for one more generation,
for those who read its first file just before. Packages that are there stay; one is never replaced by other bytes under
the same name, version and release.

Same packages, same history, same bytes: the time of a repository is the epoch, or one second after that of the content
which it replaces. So it moves on with each change, as apt and web caches want it, and depends on no clock.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from boxsnake.disk import disk_faults, publish_tree, remove_tree
from boxsnake.errors import PolicyError, ResourceError, UsageError
from boxsnake.flock import held
from boxsnake.publish.signing import Signer, public_key
from boxsnake.value import dataclass

PUBLIC_KEY = "repository-key.asc"
"""The file of a signed repository with the key that its readers import."""

_WAIT = 600.0
"""Seconds to wait for another process that publishes into the same folder."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A repository after publishing. `added` are the file names that were not there before, or not with these bytes."""

    folder: Path
    added: tuple[str, ...]
    kept: int
    time: int
    changed: bool
    signed_by: str | None


class Repository(Protocol):
    """A kind of repository. It is written in a folder that nobody reads yet."""

    @property
    def suffix(self) -> str:
        """That of its packages' files."""
        ...

    @property
    def mark(self) -> str:
        """A path in each repository of this kind, and in no other folder."""
        ...

    def check_tools(self, signer: Signer | None) -> None:
        """Errors: ResourceError that names the Debian package of a program that is missing."""
        ...

    def time(self, folder: Path) -> int | None:
        """The time that the folder's indexes bear, in seconds since 1970; None where it has none."""
        ...

    def add(self, folder: Path, files: Sequence[Path], signer: Signer | None) -> list[str]:
        """Put package files in; return the names of those that changed something.

        Errors: IntegrityError for a file that is no whole package, PolicyError for one that is there otherwise.
        """
        ...

    def index(self, folder: Path, old: Path | None, time: int, signer: Signer | None) -> None:
        """Write all indexes and their signatures anew. `old` is the repository that readers may still be reading."""
        ...

    def count(self, folder: Path) -> int:
        """How many packages there are."""
        ...


def publish(kind: Repository, folder: Path, files: Sequence[Path], *, time: int, signer: Signer | None) -> Published:
    """Make the repository, or add to it. `time` is the earliest that it bears, in seconds since 1970.

    Errors: UsageError where the folder holds something else, and those of `Repository`.
    """
    kind.check_tools(signer)
    _check(kind, files)
    folder = folder.resolve()
    with disk_faults(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_name(f".{folder.name}.lock"), wait=_WAIT):
        staged = folder.with_name(f".{folder.name}.new")
        remove_tree(staged)
        try:
            return _publish(kind, folder, staged, files, time=time, signer=signer)
        finally:
            remove_tree(staged)


def package_files(given: Sequence[Path], suffix: str) -> tuple[Path, ...]:
    """The files themselves, and the packages in those that are folders of packages or the tar of such a folder.

    What several folders hold alike is taken once. Errors: UsageError for a folder without packages, PolicyError where
    two hold other bytes under one name.
    """
    found: dict[str, Path] = {}
    others: list[Path] = []
    for path in given:
        folder = path.with_suffix("") if path.suffix == ".tar" else path
        if not folder.is_dir():
            others.append(path)
            continue
        inside = sorted(folder.glob(f"*{suffix}"))
        if not inside:
            raise UsageError(str(path), f"holds no {suffix} file", f"Name {suffix} files, or a folder of them.")
        for package in inside:
            there = found.setdefault(package.name, package)
            if there != package and not filecmp.cmp(there, package, shallow=False):
                raise refuse_other(package.name, there, package)
    return (*others, *found.values())


def _check(kind: Repository, files: Sequence[Path]) -> None:
    if not files:
        raise UsageError("publish", "there is no package to publish", "Name package files, or build some first.")
    names: set[str] = set()
    for path in files:
        if path.suffix != kind.suffix:
            raise UsageError(str(path), f"is no {kind.suffix} file", f"Name {kind.suffix} files alone.")
        if not path.is_file():
            raise ResourceError(str(path), "there is no such file", "Build it first, or correct the name.")
        if path.name in names:
            raise UsageError(path.name, "two files have this name", "Publish one after the other.")
        names.add(path.name)


def _publish(
    kind: Repository, folder: Path, staged: Path, files: Sequence[Path], *, time: int, signer: Signer | None
) -> Published:
    old = folder if folder.is_dir() and any(folder.iterdir()) else None
    if old is not None and not (old / kind.mark).exists():
        cause = f"holds something else than a repository of {kind.suffix} packages"
        raise UsageError(str(folder), cause, "Name a new or empty folder, or one that this command has made.")
    if old is not None and signer is None and (old / PUBLIC_KEY).exists():
        cause = "is signed, and without a key its readers would refuse it"
        raise PolicyError(str(folder), cause, "Name the key: --sign KEY, or sign-key in the settings.")
    with disk_faults(staged):
        if old is not None:
            # Files are replaced, never written to, so that one that two repositories share stays as it is.
            shutil.copytree(old, staged, symlinks=True, copy_function=_link)
        else:
            staged.mkdir(mode=0o755)
    kept = kind.count(staged)
    added = kind.add(staged, files, signer)
    before = kind.time(staged) if old is not None else None
    if before is not None:
        time = max(time, before + 1) if added else before
    kind.index(staged, old, time, signer)
    if signer is not None:
        replace_file(staged / PUBLIC_KEY, public_key(signer), time=time)
    changed = old is None or not _holds(old, staged)
    if changed:
        publish_tree(staged, folder)
    return Published(
        folder=folder,
        added=tuple(added),
        kept=kept,
        time=time,
        changed=changed,
        signed_by=signer.fingerprint if signer else None,
    )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another user's file, or a file system without hard links
        shutil.copy2(source, target)


def _holds(old: Path, new: Path) -> bool:
    """Whether every file of the new generation is in the old one, which may hold indexes of an earlier one too."""
    for path in new.rglob("*"):
        there = old / path.relative_to(new)
        if path.is_symlink() or path.is_dir():
            continue
        if not there.is_file() or not (there.samefile(path) or filecmp.cmp(there, path, shallow=False)):
            return False
    return True


def replace_file(path: Path, content: bytes | Path, *, time: int) -> None:
    """Put a file into a repository that is being written: a new one, as what was there may be another's too."""
    with disk_faults(path):
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
        path.chmod(0o644)
        os.utime(path, (time, time))


def settle(folder: Path, *, time: int) -> None:
    """Give all files of a folder one time, and modes that any reader can do with, whatever this user's umask is."""
    with disk_faults(folder):
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (time, time))


def refuse_other(name: str, there: Path, given: Path) -> PolicyError:
    """The error of a package that is there already with other bytes."""
    cause = f"the repository has {there.name}, the same version and release with other bytes than {given}"
    step = "Raise the version or the release: whoever installed the one that is there would never get this one."
    return PolicyError(name, cause, step, there=there.name, given=str(given))


def packages(folder: Path, suffix: str) -> Iterator[Path]:
    """The package files of a repository."""
    return (path for path in sorted(folder.rglob(f"*{suffix}")) if path.is_file())
