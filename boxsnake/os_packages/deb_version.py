"""Versions of Python projects as Debian versions, in the same order.

PEP 440 orders `1.0.dev1 < 1.0a1 < 1.0rc1 < 1.0 < 1.0+local < 1.0.post1 < 1.0.1`. dpkg compares, by turns, what is no
digit and the numbers between (deb-version(7)): in the former `~` sorts before the end, the end before letters, letters
before all else, and all else by its code. The mapping holds PEP 440's order for all versions, and two versions map to
one Debian version only where PEP 440 says that they are the same.
"""

from __future__ import annotations

from packaging.version import Version

from boxsnake.os_packages.package_version import (
    PackageVersion,
    checked_length,
    parsed_version,
    pre_text,
    release_text,
)

# A local version's words are compared letter by letter, digits included: as capital letters, which sort before the
# small ones, the digits are no numbers to dpkg.
_LOCAL = str.maketrans("0123456789", "ABCDEFGHIJ")


def deb_version(version: str) -> PackageVersion:
    """The Debian version of a PEP 440 version, without a revision. Errors: PackError where it is none, or too long."""
    parsed = parsed_version(version, "Debian")
    text = release_text(parsed.release) + pre_text(parsed) + _post_and_dev(parsed) + _local(parsed.local)
    return PackageVersion(epoch=parsed.epoch, version=checked_length(text, version))


def _post_and_dev(parsed: Version) -> str:
    # "+" sorts before the "." of a further number, and "post" after "local".
    post = f"+post{parsed.post}" if parsed.post is not None else ""
    if parsed.dev is None:
        return post
    # A development version of the release itself comes before its alphas as well.
    before = "~" if parsed.pre or post else "~~"
    return f"{post}{before}dev{parsed.dev}"


def _local(local: str | None) -> str:
    """`+local…`: a number is written ".7", which sorts after every word; a word "abc0", so that its end sorts first."""
    if local is None:
        return ""
    segments = (f".{part}" if part.isdecimal() else f"{part.translate(_LOCAL)}0" for part in local.split("."))
    return f"+local{''.join(segments)}"
