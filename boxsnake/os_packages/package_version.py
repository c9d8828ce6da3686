"""Versions of Python projects as versions of packages: what RPM and dpkg have in common."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from boxsnake.errors import PackError
from boxsnake.value import dataclass

_PARTS = 3
"""How many numbers a version has at least: to PEP 440, `1.0` and `1.0.0` are one version, to packages they are two."""
_LONGEST = 120
"""The version becomes part of file and folder names, which may have 255 bytes."""


@dataclass(frozen=True, kw_only=True)
class PackageVersion:
    """A package's epoch (0: none is written) and version, without its release."""

    epoch: int
    version: str

    @property
    def folder(self) -> str:
        """The version as part of a path. No version holds a `_`, so an epoch cannot be taken for one."""
        return f"{self.epoch}_{self.version}" if self.epoch else self.version


def parsed_version(version: str, system: str) -> Version:
    """A PEP 440 version that is to become one of a package `system`. Errors: PackError where it is none."""
    try:
        return Version(version)
    except InvalidVersion:
        cause = f"is no version that PEP 440 knows, so its order in {system} is unknown"
        next_step = "Use a version such as 1.2.3, 1.2rc1 or 1.2.post1."
        raise PackError(f"version {version[:80]!r}", cause, next_step) from None


def checked_length(text: str, version: str) -> str:
    """The text that `version` became. Errors: PackError where it is too long."""
    if len(text) > _LONGEST:
        cause = f"makes a package's version of {len(text)} characters; at most {_LONGEST} fit into its files' names"
        raise PackError(f"version {version[:80]!r}", cause, "Shorten it.")
    return text


def release_text(numbers: tuple[int, ...]) -> str:
    """The numbers, with the zeros at their end cut or filled so that equal versions are written alike."""
    kept = len(numbers)
    while kept > _PARTS and numbers[kept - 1] == 0:
        kept -= 1
    padded = numbers[:kept] + (0,) * (_PARTS - kept)
    return ".".join(str(number) for number in padded)


def pre_text(parsed: Version) -> str:
    """The pre-release, after the `~` that both RPM and dpkg sort before the end of a version."""
    return f"~{parsed.pre[0]}{parsed.pre[1]}" if parsed.pre else ""
