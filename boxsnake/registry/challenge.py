"""What a registry asks for before it answers: the WWW-Authenticate header (RFC 9110, 11.6.1), as a value."""

from __future__ import annotations

import re

from boxsnake.pattern import pattern
from boxsnake.value import dataclass

_SCHEME = pattern(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$|(?=,))")
_PARAMETER = pattern(r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One way to say who one is: its scheme in small letters, and its parameters."""

    scheme: str
    parameters: dict[str, str]


def challenges(header: str) -> tuple[Challenge, ...]:
    """All of a header; what cannot be read ends it."""
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        found.append(Challenge(scheme=match[1].lower(), parameters=parameters))
    return tuple(found)
