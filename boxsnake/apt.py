"""apt's own programs on private state.

They run with the machine's configuration (proxies, credentials) and with sources and a package database that are
given: nothing in /etc or /var is written, no hook of the machine's is run, and no lock of its own apt is taken.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from boxsnake import child
from boxsnake.disk import disk_faults
from boxsnake.errors import NetworkError, ResourceError
from boxsnake.value import dataclass

_DEADLINE = 1800.0  # seconds for one call of apt-get
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "{status}";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "{folder}/log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
"""
_TRUSTED = """\
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "{trusted}";
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What apt-get has said; `code` is its exit status."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True, kw_only=True)
class Apt:
    """apt with its state in a folder of ours."""

    folder: Path

    def get(self, *arguments: str, thing: str, folder: Path | None = None, tolerant: bool = False) -> None:
        """Run apt-get. Errors: NetworkError, unless `tolerant`."""
        command = ["apt-get", "-c", str(self.folder / "apt.conf"), "-qq", *arguments]
        done = child.run(command, cwd=folder or self.folder, env=_environment(), deadline=_DEADLINE)
        if done.code != 0 and not tolerant:
            cause = f"apt-get {done.why(_DEADLINE)}:\n{done.last_lines}"
            raise NetworkError(thing, cause, "Look at the machine's apt sources and network, then run it again.")

    def answer(self, *arguments: str) -> Answer:
        """Ask apt-get for something that it neither fetches nor does."""
        command = ["apt-get", "-c", str(self.folder / "apt.conf"), *arguments]
        done = _asked(command)
        return Answer(code=done.returncode, output=done.stdout, errors=done.stderr)

    def records(self, *arguments: str) -> Iterator[dict[str, str]]:
        """What apt-cache says of packages: the fields of each record."""
        done = _asked(["apt-cache", "-c", str(self.folder / "apt.conf"), *arguments])
        for stanza in done.stdout.strip().split("\n\n"):
            fields = dict(re.findall(r"^([\w-]+):[ ]?((?:.*(?:\n .*)*))", stanza, re.MULTILINE))
            if "Package" in fields:
                yield fields


def private_apt(
    folder: Path,
    lines: Sequence[str],
    architecture: str,
    *,
    status: Path = Path("/dev/null"),
    trusted: Path | None = None,
    preferences: str = "",
) -> Apt:
    """Set up apt in `folder`, which keeps its lists from one time to the next; nothing is fetched yet.

    `lines` are those of sources.list(5), `status` dpkg's database of what is installed, `trusted` a folder of keys
    where they are not the machine's own, `preferences` as in apt_preferences(5). Errors: ResourceError without apt.
    """
    if shutil.which("apt-get") is None:
        step = "Run this on a Debian machine or in a Debian container."
        raise ResourceError("apt", "apt-get, which knows Debian's archives, is not installed", step, tool="apt-get")
    with disk_faults(folder):
        for name in ("state/lists/partial", "cache/archives/partial", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "sources.list").write_text("".join(f"{_packages_alone(line)}\n" for line in lines))
        (folder / "preferences").write_text(preferences)
        configuration = _CONFIGURATION.format(folder=folder, architecture=architecture, status=status)
        configuration += _TRUSTED.format(trusted=trusted) if trusted else ""
        (folder / "apt.conf").write_text(configuration)
    return Apt(folder=folder)


def _packages_alone(line: str) -> str:
    """A line of sources.list(5) for one kind of index alone: others (Contents, DEP-11) are large and not wanted."""
    kind, rest = line.split(" ", 1)
    target = "Sources" if kind == "deb-src" else "Packages"
    return f"{kind} [target={target} {rest[1:]}" if rest.startswith("[") else f"{kind} [target={target}] {rest}"


def _asked(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # Not by boxsnake.child, which keeps but the end of a long answer.
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, errors="replace", check=False)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}
