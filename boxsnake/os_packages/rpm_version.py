"""Versions of Python projects as RPM versions, in the same order.

PEP 440 orders `1.0.dev1 < 1.0a1 < 1.0rc1 < 1.0 < 1.0+local < 1.0.post1 < 1.0.1`; RPM compares runs of digits and of
letters, sorts `~` before the end of a version, and ignores what separates the runs (rpm-version(7)). The mapping holds
that order for all versions, and two versions map to one RPM version only where PEP 440 says that they are the same.
"""

from __future__ import annotations

import re

from packaging.version import Version

from boxsnake.os_packages.package_version import (
    PackageVersion,
    checked_length,
    parsed_version,
    pre_text,
    release_text,
)

# RPM sees a border between a digit and a letter, PEP 440 sees none in a local version: there digits become the capital
# letters, which sort before the small ones as digits do.
_LOCAL = str.maketrans("0123456789", "ABCDEFGHIJ")


def rpm_version(version: str) -> PackageVersion:
    """The RPM version of a PEP 440 version. Errors: PackError where it is none, or too long."""
    parsed = parsed_version(version, "RPM")
    text = release_text(parsed.release) + pre_text(parsed) + _post_and_dev(parsed) + _local(parsed.local)
    return PackageVersion(epoch=parsed.epoch, version=checked_length(text, version))


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
