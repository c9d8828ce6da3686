"""Extras: which requirements of a project hold when some of its extras are chosen (PEP 508, core metadata)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']*)["']|["']([^"']*)["']\s*==\s*extra""")
# Markers that hold always and never, on every Python: they stand for `extra == …` once the extras are known.
_ALWAYS = 'python_version >= "0"'
_NEVER = 'python_version < "0"'


def requirements_with(requires_dist: Sequence[str], name: str, extras: frozenset[str]) -> tuple[str, ...]:
    """The requirements that hold when these extras (normalised names) are chosen, without their `extra` markers.

    An extra that is made of other extras of the same project (`all = ["project[fast,web]"]`) is taken apart.
    """
    found: dict[str, None] = {}
    todo: list[tuple[frozenset[str], str | None]] = [(extras, None)]
    done: set[tuple[frozenset[str], str | None]] = set()
    while todo:
        chosen, condition = todo.pop(0)
        if (chosen, condition) in done:
            continue
        done.add((chosen, condition))
        for requirement in _chosen(requires_dist, chosen):
            if canonicalize_name(requirement.name) == name and requirement.extras:
                more = frozenset(canonicalize_name(extra) for extra in requirement.extras)
                todo.append((more, _both(str(requirement.marker or ""), condition or "") or None))
            else:
                found.setdefault(with_marker(requirement, condition or ""))
    return tuple(found)


def _chosen(requires_dist: Sequence[str], extras: frozenset[str]) -> Iterator[Requirement]:
    for line in requires_dist:
        requirement = Requirement(line)
        marker = _without_extras(str(requirement.marker or ""), extras)
        if marker != _NEVER:
            requirement.marker = None
            yield Requirement(with_marker(requirement, marker))


def _without_extras(marker: str, extras: frozenset[str]) -> str:
    """A marker in which the extras have been decided; empty where it always holds, `_NEVER` where it never does."""

    def decided(match: re.Match[str]) -> str:
        return _ALWAYS if canonicalize_name(match[1] or match[2] or "") in extras else _NEVER

    marker = _EXTRA.sub(decided, marker)
    # Requirements of an extra end in `and extra == …`: the usual cases become short again.
    marker = marker.removesuffix(f" and {_ALWAYS}").removeprefix(f"{_ALWAYS} and ")
    top = _without_groups(marker)
    if " or " not in top and _NEVER in top.split(" and "):
        return _NEVER
    return "" if marker == _ALWAYS else marker


def _without_groups(marker: str) -> str:
    """A marker with everything in parentheses left out."""
    shorter = re.sub(r"\([^()]*\)", "", marker)
    return marker if shorter == marker else _without_groups(shorter)


def with_marker(requirement: Requirement, marker: str) -> str:
    """The text of a requirement that also needs this marker to hold; an empty one always does."""
    both = _both(str(requirement.marker or ""), marker)
    bare = Requirement(str(requirement))
    bare.marker = None
    if not both:
        return str(bare)
    # A URL ends at a blank, not at a semicolon.
    return f"{bare} ; {both}" if bare.url else f"{bare}; {both}"


def _both(one: str, other: str) -> str:
    if not one or not other:
        return one or other
    return " and ".join(f"({marker})" if " or " in marker else marker for marker in (one, other))
