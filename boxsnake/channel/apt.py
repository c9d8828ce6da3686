"""Debian's archive through apt's own programs, for recipes' sources: from the machine's own mirrors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from boxsnake import debian_sources
from boxsnake.apt import Apt, private_apt
from boxsnake.channel.fetched import Fetched, sha256_of
from boxsnake.channel.platforms import PLATFORMS
from boxsnake.errors import IntegrityError, NetworkError, ResourceError
from boxsnake.value import dataclass

Found = dict[str, tuple[Fetched, Path]]


def opened(suite: str, cache: Path, platform: str, *, with_sources: bool) -> Archive:
    """The archive of one suite, with fresh lists of its packages, and of its source packages if asked for.

    Errors: ResourceError where there is no apt or it knows no archive of Debian's, NetworkError.
    """
    lines = debian_sources.sources(suite)
    if not lines:
        cause = "apt is not configured for an archive of Debian's, and recipes take their sources from Debian"
        step = (
            "Build the channel on a Debian machine or in one's container, or leave out the recipes with Debian sources."
        )
        raise ResourceError("apt", cause, step)
    architecture = PLATFORMS[platform].debian
    lines += [f"deb-src{line.removeprefix('deb')}" for line in lines if with_sources]
    apt = private_apt((cache / f"{suite}-{architecture}").absolute(), lines, architecture)
    archive = Archive(folder=apt.folder)
    archive.get("update", "--error-on=any", thing=f"the package lists of Debian's {suite}")
    return archive


@dataclass(frozen=True, kw_only=True)
class Archive(Apt):
    """One suite of Debian's archive."""

    def binaries(self, names: Sequence[str], folder: Path) -> Found:
        """Fetch the newest of each binary package that can be had: an index may name one that is gone from a mirror."""
        versions: dict[str, list[dict[str, str]]] = defaultdict(list)
        for record in self.records("show", *names):
            versions[record["Package"]].append(record)
        found: Found = {}
        for name in names:
            if name not in versions:
                raise NetworkError(name, "Debian has no such package in this suite", "Correct the recipe's sources.")
        waiting = dict.fromkeys(names, 0)  # which of its versions is tried next
        while waiting:
            tried = {name: versions[name][number] for name, number in waiting.items()}
            specs = [f"{name}={record['Version']}" for name, record in tried.items()]
            last = any(number + 1 == len(versions[name]) for name, number in waiting.items())
            self.get("download", *specs, thing=" ".join(waiting), folder=folder, tolerant=not last)
            for name, record in tried.items():
                path = folder / f"{name}_{record['Version'].replace(':', '%3a')}_{record['Architecture']}.deb"
                if path.exists():
                    del waiting[name]
                    found[name] = _checked("debian", name, record["Version"], path, record["SHA256"]), path
                else:
                    waiting[name] += 1
        return found

    def pristine_archives(self, names: Sequence[str], folder: Path) -> Found:
        """Fetch upstream's archive (.orig) of source packages.

        apt-get may fail and have fetched it all the same: Debian's own changes beside it are not needed here.
        """
        found: Found = {}
        for name in names:
            self.get("source", "--download-only", "--only-source", name, thing=name, folder=folder, tolerant=True)
            for record in reversed([*self.records("showsrc", "--only-source", name)]):
                match = re.search(r"^ (\w{64}) \d+ (\S+\.orig\.tar\.\w+)$", record["Checksums-Sha256"], re.MULTILINE)
                if match and (folder / match[2]).exists():
                    path = folder / match[2]
                    found[name] = _checked("debian-source", name, record["Version"], path, match[1]), path
                    break
            else:
                raise NetworkError(name, "upstream's source archive could not be fetched", "Run it again later.")
        return found


def _checked(kind: str, name: str, version: str, path: Path, sha256: str) -> Fetched:
    if sha256_of(path) != sha256:
        raise IntegrityError(path.name, "is not the file that its index names", "Run it again.", sha256=sha256)
    return Fetched(kind=kind, name=name, version=version, file=path.name, sha256=sha256)
