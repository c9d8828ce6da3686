"""What every archive has to keep to before it enters the store: names, links, collisions and sizes.

An archive that breaks a rule is refused as a whole and by the name of the member; nothing is skipped or mended in
silence, so that whatever unpacks it later finds nothing to interpret.
"""

from __future__ import annotations

from boxsnake.entry_points import is_target
from boxsnake.errors import IntegrityError
from boxsnake.pattern import pattern

CHECK_VERSION = 1
"""Changes whenever a check does: facts that an older check recorded are not used any more."""

MOST_MEMBERS = 300_000
MOST_BYTES = 24 << 30
MOST_RATIO = 300
"""Unpacked bytes for each packed one."""
RATIO_OF_DENSEST = 40
"""What the densest packages in use (static libraries, generated headers) reach."""
RATIO_COUNTS_FROM = 64 << 20
"""Bytes: below that much a bomb does no harm, and a few runs of zeros reach any ratio."""

_SHOWN = 200

# A command of this name would take the place of what everything else in an environment starts with.
_RESERVED_COMMAND = pattern(r"(?:python|pythonw|pypy)[0-9.]*t?|sh|bash|dash|env|sudo")
_PIP_COMMAND = pattern(r"pip[0-9.]*")
_SCRIPT_NAME = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def escaped(name: str | bytes) -> str:
    """Write a name so that a message may hold it: one line, printable, not too long."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    shown = "".join(
        char
        if char.isprintable() and not "\ud800" <= char <= "\udfff"
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text[:_SHOWN]
    )
    return f"{shown}…" if len(text) > _SHOWN else shown


def unsafe(archive: str, member: str | bytes | None, cause: str, **data: object) -> IntegrityError:
    """Make the error that refuses an archive, for the member of that name or as a whole."""
    shown = None if member is None else escaped(member)
    thing = archive if shown is None else f"{archive}: {shown}"
    return IntegrityError(
        thing,
        cause,
        "It is not used. Use another version, and tell whoever publishes it.",
        archive=archive,
        member=shown,
        **data,
    )


def check_script_name(archive: str, name: str, package: str) -> None:
    """Refuse the name of a command which is no plain file name, or is one that everything else relies on.

    `package` is the normalised name of the distribution that brings it.
    """
    if not _SCRIPT_NAME.fullmatch(name):
        raise unsafe(archive, name, "is not a name for a command")
    if _RESERVED_COMMAND.fullmatch(name.lower()) or (_PIP_COMMAND.fullmatch(name.lower()) and package != "pip"):
        raise unsafe(archive, name, "is a command's name that no other package may take")


def check_entry_point(archive: str, name: str, value: str, package: str) -> None:
    """Refuse an entry point that is anything else than a command's name and `module:attribute`."""
    check_script_name(archive, name, package)
    if not is_target(value):
        raise unsafe(archive, name, f"is an entry point with the value {escaped(value)!r}, not module:attribute")
