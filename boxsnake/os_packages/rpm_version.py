"""Versions of Python projects as RPM versions, in the same order.

PEP 440 orders `1.0.dev1 < 1.0a1 < 1.0rc1 < 1.0 < 1.0+local < 1.0.post1 < 1.0.1`; RPM compares runs of digits and of
letters, sorts `~` before the end of a version, and ignores what separates the runs (rpm-version(7)). The mapping holds
that order for all versions, and two versions map to one RPM version only where PEP 440 says that they are the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from boxsnake.errors import PackError

_PARTS = 3
"""How many numbers a version has at least: to PEP 440, `1.0` and `1.0.0` are one version, to RPM they are two."""
_LONGEST = 120
"""The version becomes part of file and folder names, which may have 255 bytes."""
# RPM sees a border between a digit and a letter, PEP 440 sees none in a local version: there digits become the capital
# letters, which sort before the small ones as digits do.
_LOCAL = str.maketrans("0123456789", "ABCDEFGHIJ")


@dataclass(frozen=True, kw_only=True)
class RpmVersion:
    """An RPM's epoch (0: none is written) and version."""

    epoch: int
    version: str

    @property
    def folder(self) -> str:
        """The version as part of a path. No version holds a `_`, so an epoch cannot be taken for one."""
        return f"{self.epoch}_{self.version}" if self.epoch else self.version


def rpm_version(version: str) -> RpmVersion:
    """The RPM version of a PEP 440 version. Errors: PackError where it is none, or too long."""
    parsed = parsed_version(version, "RPM")
    text = release_text(parsed.release) + pre_text(parsed) + _post_and_dev(parsed) + _local(parsed.local)
    return RpmVersion(epoch=parsed.epoch, version=checked_length(text, version))


def order_key(version: str, release: str) -> str:
    """A text that sorts, byte by byte, as the RPM versions of PEP 440's versions and their releases do.

    It lets a shell compare versions where there is no RPM to ask. Errors: those of `rpm_version`.
    """
    mapped = rpm_version(version)
    return _number_key(str(mapped.epoch)) + _text_key(mapped.version) + _text_key(release)


def _text_key(text: str) -> str:
    """The parts that RPM compares, each after a digit for its kind: a tilde, the end, letters, a number."""
    keys = ("0" if part == "~" else _part_key(part) for part in re.findall(r"~|[A-Za-z]+|[0-9]+", text))
    return "".join(keys) + "1"


def _part_key(part: str) -> str:
    # What ends the letters sorts before every letter.
    return _number_key(part) if part.isdecimal() else f"2{part}."


def _number_key(digits: str) -> str:
    """A longer number is a larger one."""
    significant = digits.lstrip("0")
    return f"3{len(significant):03}{significant}"


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


def _post_and_dev(parsed: Version) -> str:
    post = f".post{parsed.post}" if parsed.post is not None else ""
    if parsed.dev is None:
        return post
    # A development version of the release itself comes before its alphas as well.
    before = "~" if parsed.pre or post else "~~"
    return f"{post}{before}dev{parsed.dev}"


def _local(local: str | None) -> str:
    """`+local.…`: the word sorts before "post", and keeps the local part's numbers from joining the release's."""
    if local is None:
        return ""
    segments = (segment if segment.isdecimal() else segment.translate(_LOCAL) for segment in local.split("."))
    return f"+local.{'.'.join(segments)}"
