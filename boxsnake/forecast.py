"""Forecasts: what a box would be made of, told before it is made. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ARCHIVED = 1.8
"""How many bytes a layer has for each byte of its packages' archives, about: those of conda are packed tighter, and
byte-code comes on top. Layers of the examples have 1.1 to 2.2 times the size."""

PartState = Literal["there", "to make", "to fetch"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a box, such as a layer.

    `contents` are for people ("numpy 1.26.4"). `size` is in bytes as it travels, None where nothing is known of it;
    where `is_predicted`, it is reckoned from the sizes of archives. What is "there" need not be made again.
    """

    name: str
    contents: tuple[str, ...]
    size: int | None
    state: PartState
    is_predicted: bool = False


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A box before it is made; `notes` are for the user."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The sum of what is known of, in bytes."""
        return sum(part.size or 0 for part in self.parts)

    @property
    def is_predicted(self) -> bool:
        """Whether the sum is only about right."""
        return any(part.is_predicted or part.size is None for part in self.parts)


def predicted(archives: int) -> int:
    """The size of a layer of packages whose archives have so many bytes, about."""
    return round(archives * ARCHIVED)
