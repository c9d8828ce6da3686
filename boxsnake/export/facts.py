"""What is known of an application's image to whoever runs it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from boxsnake.boot_recipe import Check
from boxsnake.errors import Fault, ManifestError
from boxsnake.system import ConfigFile, Directory
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Companion:
    """What the application talks to: another image, and the command in it that exits with 0 when it is ready."""

    name: str
    image: str
    check: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    """What is started instead of the image's own command."""
    secrets: tuple[str, ...] = ()
    """Names of variables whose values stand nowhere."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """An application's image and how it is to be run. Texts are as the user gave them, never yet escaped."""

    name: str
    version: str
    image: str
    """A reference."""
    user: str
    """uid[:gid], or names of the image's."""
    architecture: str = ""
    """The only one that the image is for, as the OCI image specification names it; "" where there are several."""
    ports: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""
    secrets: tuple[str, ...] = ()
    """Names of variables whose values stand nowhere."""
    directories: tuple[tuple[Directory, str], ...] = ()
    """Where it writes, and how much room each needs ("1G")."""
    files: tuple[ConfigFile, ...] = ()
    health: Check | None = None
    """A request that it answers when it is well."""
    memory: str | None = None
    """The most that it may take: "512M", in powers of 1024."""
    cpu: float | None = None
    """How many processors it may take."""
    companions: tuple[Companion, ...] = ()

    @property
    def user_ids(self) -> tuple[int, int] | None:
        """The uid and gid; None for a user by name."""
        uid, _, gid = self.user.partition(":")
        return (int(uid), int(gid or 0)) if f"{uid}{gid or 0}".isdecimal() else None


def named(directories: tuple[tuple[Directory, str], ...]) -> Iterator[tuple[str, Directory, str]]:
    """The folders by names that are stable and fit a DNS label: "state", "cache", "state-2"."""
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
    for directory, size in directories:
        number = next(numbers[directory.kind])
        yield directory.kind if number == 1 else f"{directory.kind}-{number}", directory, size


def fault(key: str, message: str) -> ManifestError:
    """An error about one key of the manifest, which is right by itself and cannot be exported."""
    return ManifestError("manifest", (Fault(source="manifest", line=0, key=key, message=message),))
