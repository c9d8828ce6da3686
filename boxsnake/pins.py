"""Pins: what a box for several targets holds, each distribution by its version and by the targets that it is for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from boxsnake.errors import PackError
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock import Wheel
    from boxsnake.plan import Part

_AXES = ("python_version", "sys_platform", "platform_machine")
"""Of a marker environment: what tells one target from another."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One version of one distribution: its wheels, sorted by file name, and the environments that it is for."""

    name: str
    version: str
    marker: str | None
    """PEP 508; None where it is for every target."""
    wheels: tuple[Wheel, ...]
    is_only: bool
    """Whether no target has another version of it."""

    @property
    def requirement(self) -> str:
        """As PEP 508 writes it."""
        pinned = f"{self.name}=={self.version}"
        return f"{pinned} ; {self.marker}" if self.marker else pinned


def pins(parts: Sequence[Part]) -> tuple[Pin, ...]:
    """The distributions of all targets of a box, sorted.

    Errors: PackError where two targets that markers cannot tell apart have different versions, and where two targets
    have different wheels of one file name.
    """
    holders: defaultdict[tuple[str, str], list[Part]] = defaultdict(list)
    for part in parts:
        for wheel in part.wheels:
            holders[wheel.name, wheel.version].append(part)
    versions = defaultdict(set)
    for name, version in holders:
        versions[name].add(version)
    _check_alike(parts)
    return tuple(
        Pin(
            name=name,
            version=version,
            marker=None if len(having) == len(parts) else _marker(having, parts),
            wheels=_wheels(name, version, having),
            is_only=len(versions[name]) == 1,
        )
        for (name, version), having in sorted(holders.items())
    )


def markers(parts: Sequence[Part]) -> tuple[str, ...]:
    """The environments of all targets, as PEP 508 markers, each once."""
    return tuple(dict.fromkeys(_environment(part, _AXES) for part in parts))


def unique_wheels(parts: Sequence[Part]) -> tuple[Wheel, ...]:
    """The wheels of all targets, each once, sorted by file name. Errors: as `pins`."""
    return tuple(sorted((wheel for pin in pins(parts) for wheel in pin.wheels), key=lambda wheel: wheel.file_name))


def _wheels(name: str, version: str, parts: Sequence[Part]) -> tuple[Wheel, ...]:
    found: dict[str, Wheel] = {}
    for part in parts:
        for wheel in part.wheels:
            if (wheel.name, wheel.version) != (name, version):
                continue
            if found.setdefault(wheel.file_name, wheel).sha256 != wheel.sha256:
                cause = f"has other bytes for the target {part.target.name} than for one before it"
                raise PackError(
                    wheel.file_name, cause, "Give such targets boxes of their own.", target=part.target.name
                )
    return tuple(found[file_name] for file_name in sorted(found))


def _check_alike(parts: Sequence[Part]) -> None:
    """Two targets that differ in nothing but their glibc must hold the same versions."""
    seen: dict[str, Part] = {}
    for part in parts:
        other = seen.setdefault(_environment(part, _AXES), part)
        ours, theirs = ({(wheel.name, wheel.version) for wheel in one.wheels} for one in (part, other))
        if ours != theirs:
            name = min(ours ^ theirs)[0]
            raise PackError(
                f"{other.target.name} and {part.target.name}",
                f"have different versions of {name}, and an installer cannot tell these targets apart by their Python, "
                "system or processor",
                "Require one version that fits both, or give them boxes of their own.",
                targets=[other.target.name, part.target.name],
            )


def _marker(having: Sequence[Part], parts: Sequence[Part]) -> str:
    axes = [axis for axis in _AXES if len({_values(part)[axis] for part in parts}) > 1]
    texts = list(dict.fromkeys(_environment(part, axes) for part in having))
    return texts[0] if len(texts) == 1 else " or ".join(f"({text})" if " and " in text else text for text in texts)


def _environment(part: Part, axes: Sequence[str]) -> str:
    values = _values(part)
    return " and ".join(f'{axis} == "{values[axis]}"' for axis in axes)


def _values(part: Part) -> dict[str, str]:
    minor = part.lock.python_minor
    return part.target.marker_environment(f"{minor}.0")
