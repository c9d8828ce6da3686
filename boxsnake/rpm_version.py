"""Versions of Python projects as RPM versions, in the same order.

PEP 440 orders `1.0.dev1 < 1.0a1 < 1.0rc1 < 1.0 < 1.0+local < 1.0.post1 < 1.0.1`; RPM compares runs of digits and of
letters, sorts `~` before the end of a version, and ignores what separates the runs (rpm-version(7)). The mapping holds
that order for all versions, and two versions map to one RPM version only where PEP 440 says that they are the same.
"""

from __future__ import annotations

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
    try:
        parsed = Version(version)
    except InvalidVersion:
        cause = "is no version that PEP 440 knows, so its order in RPM is unknown"
        raise PackError(
            f"version {version[:80]!r}", cause, "Use a version such as 1.2.3, 1.2rc1 or 1.2.post1."
        ) from None
    text = _release(parsed.release) + _pre(parsed) + _post_and_dev(parsed) + _local(parsed.local)
    if len(text) > _LONGEST:
        cause = f"makes an RPM version of {len(text)} characters; at most {_LONGEST} fit into the names of its files"
        raise PackError(f"version {version[:80]!r}", cause, "Shorten it.")
    return RpmVersion(epoch=parsed.epoch, version=text)


def _release(numbers: tuple[int, ...]) -> str:
    """The numbers, with the zeros at their end cut or filled so that equal versions are written alike."""
    kept = len(numbers)
    while kept > _PARTS and numbers[kept - 1] == 0:
        kept -= 1
    padded = numbers[:kept] + (0,) * (_PARTS - kept)
    return ".".join(str(number) for number in padded)


def _pre(parsed: Version) -> str:
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
