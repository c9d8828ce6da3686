"""What a pipeline does, step by step, as commands of a POSIX shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from boxsnake.value import dataclass

CACHE = ".cache/boxsnake"
"""Where the store lies, below the folder that is checked out: what is kept from one run to the next."""

_PACKAGES = ("python3-venv", "git", "ca-certificates", "mmdebstrap", "rpm", "createrepo-c", "apt-utils", "gnupg")
_HOME = "/opt/boxsnake"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `name` is a word; `title` is for people."""

    name: str
    title: str
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What the pipeline is about. Paths are relative to the folder that is checked out."""

    application: str
    boxsnake: str
    """The requirement by which pip installs boxsnake, such as "boxsnake==1.0"."""
    image: str
    """What steps run in: of Debian's family."""
    branch: str
    """Boxes of this branch, and of tags, are published."""
    folder: str
    """That of the manifest; "." is the top."""
    formats: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """Those that are booted; empty where all of them can be."""
    repository: str = ""
    """The URL that is checked out, for servers that must be told."""

    @property
    def output(self) -> str:
        """Where the boxes are."""
        return "dist" if self.folder == "." else f"{self.folder}/dist"

    @property
    def lock(self) -> str:
        """The lock's path, whose content is the cache's key."""
        return "boxsnake.lock" if self.folder == "." else f"{self.folder}/boxsnake.lock"

    @property
    def setup(self) -> tuple[str, ...]:
        """What installs boxsnake where it is not there yet."""
        return (
            "apt-get update -q",
            f"apt-get install -y -q --no-install-recommends {' '.join(_PACKAGES)}",
            f"python3 -m venv {_HOME}",
            f"{_HOME}/bin/pip install --quiet --disable-pip-version-check {shlex.quote(self.boxsnake)}",
        )

    @property
    def check(self) -> Step:
        """Whether the lock fits the manifest."""
        return Step(name="lock", title="Check the lock", commands=self._within("lock --check"))

    @property
    def build(self) -> Step:
        """All boxes, with what is in them."""
        return Step(name="build", title="Build the boxes", commands=self._within("build", "sbom"))

    @property
    def boot(self) -> Step:
        """All boxes that can be booted on the server's processor."""
        targets = "".join(f" --target {shlex.quote(name)}" for name in self.targets)
        return Step(name="boot", title="Boot the boxes", commands=self._within(f"boot{targets}"))

    @property
    def publish(self) -> Step:
        """Images to the registry that their tags name, packages to the repositories that variables name."""
        return Step(name="publish", title="Publish the boxes", commands=self._within(*_published(self.formats)))

    def _within(self, *words: str) -> tuple[str, ...]:
        change = () if self.folder == "." else (f"cd {shlex.quote(self.folder)}",)
        return (*change, *(_command(word) for word in words))


def _command(words: str) -> str:
    """One of boxsnake's; behind a condition, where there is one."""
    condition, bar, rest = words.rpartition("|| ")
    return f"{condition}{bar}{_HOME}/bin/boxsnake {rest}"


def _published(formats: Sequence[str]) -> list[str]:
    found = ["publish image"] if "image" in formats else []
    for name in ("rpm", "deb"):
        if name in formats:
            variable = f"{name.upper()}_REPOSITORY"
            found.append(f'[ -z "${{{variable}:-}}" ] || publish {name}-repo "${variable}"')
    return found
