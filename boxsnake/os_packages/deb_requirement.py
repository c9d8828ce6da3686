"""What Debian packages may require of others, as the manifest writes it."""

from __future__ import annotations

import re

from boxsnake.errors import PackError

_RELATION = (
    r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?"
    r"(?:\s*\(\s*(?:<<|<=|=|>=|>>)\s*(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*\s*\))?"
)
_REQUIREMENT = re.compile(rf"{_RELATION}(?:\s*\|\s*{_RELATION})*")


def check_deb_requirement(requirement: str) -> None:
    """Errors: PackError for a text that dpkg would not know for a requirement."""
    if not _REQUIREMENT.fullmatch(requirement.strip()):
        cause = "is no requirement that dpkg knows"
        next_step = 'Write it as "name", "name (>= 1.2)" or "one | other" in requires.deb.'
        raise PackError(f"requirement {requirement[:200]!r}", cause, next_step, requirement=requirement[:200])
