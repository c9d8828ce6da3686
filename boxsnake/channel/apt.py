"""Debian's archive through apt's own programs, for recipes' sources.

They run with the machine's configuration (mirrors, proxies, keys, credentials) on private state: nothing in /etc or
/var is written, no hook of the machine's is run, and no lock of its own apt is taken.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from boxsnake import child, debian_sources
from boxsnake.channel.fetched import Fetched, sha256_of
from boxsnake.channel.platforms import PLATFORMS
from boxsnake.errors import IntegrityError, NetworkError, ResourceError

DEADLINE = 1800.0  # seconds for one call of apt-get
CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "{folder}/log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
"""

Found = dict[str, tuple[Fetched, Path]]


def opened(suite: str, cache: Path, platform: str, *, with_sources: bool) -> Archive:
    """The archive of one suite, with fresh lists of its packages, and of its source packages if asked for.

    Errors: ResourceError where there is no apt or it knows no archive of Debian's, NetworkError.
    """
    if shutil.which("apt-get") is None:
        raise _no_apt("apt-get is not installed")
    lines = debian_sources.sources(suite)
    if not lines:
        raise _no_apt("apt is not configured for an archive of Debian's")
    architecture = PLATFORMS[platform].debian
    folder = (cache / f"{suite}-{architecture}").absolute()
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lists = [_with_target(line, "Packages") for line in lines]
    lists += [_with_target(f"deb-src{line.removeprefix('deb')}", "Sources") for line in lines if with_sources]
    (folder / "sources.list").write_text("".join(f"{line}\n" for line in lists))
    (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder, architecture=architecture))
    archive = Archive(folder=folder)
    archive.get("update", "--error-on=any", thing=f"the package lists of Debian's {suite}")
    return archive


def _with_target(line: str, target: str) -> str:
    """A line of sources.list(5) for one kind of index alone: others (Contents, DEP-11) are large and not wanted."""
    kind, rest = line.split(" ", 1)
    return f"{kind} [target={target} {rest[1:]}" if rest.startswith("[") else f"{kind} [target={target}] {rest}"


def _no_apt(cause: str) -> ResourceError:
    return ResourceError(
        "apt",
        f"{cause}, and recipes take their sources from Debian",
        "Build the channel on a Debian machine or in a Debian container, or leave out the recipes with Debian sources.",
    )


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One suite of Debian's archive."""

    folder: Path

    def get(self, *arguments: str, thing: str, folder: Path | None = None, tolerant: bool = False) -> None:
        """Run apt-get. Errors: NetworkError, unless `tolerant`."""
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        command = ["apt-get", "-c", str(self.folder / "apt.conf"), "-qq", *arguments]
        done = child.run(command, cwd=folder or self.folder, env=environment, deadline=DEADLINE)
        if done.code != 0 and not tolerant:
            cause = f"apt-get {done.why(DEADLINE)}:\n{done.last_lines}"
            raise NetworkError(thing, cause, "Look at the machine's apt sources and network, then run it again.")

    def records(self, *arguments: str) -> Iterator[dict[str, str]]:
        """What apt-cache says of packages: the fields of each record."""
        command = ["apt-cache", "-c", str(self.folder / "apt.conf"), *arguments]
        # Not by boxsnake.child, which keeps but the end of a long answer.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for stanza in done.stdout.strip().split("\n\n"):
            fields = dict(re.findall(r"^([\w-]+):[ ]?((?:.*(?:\n .*)*))", stanza, re.MULTILINE))
            if "Package" in fields:
                yield fields

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
