"""Treemaps: areas in proportion to amounts, as near to squares as they get (Bruls, Huizing, van Wijk, 2000)."""

from __future__ import annotations

from collections.abc import Sequence

from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Area:
    """A rectangle, in percent of the whole map's width and height."""

    left: float
    top: float
    width: float
    height: float


def squarified(amounts: Sequence[float], *, ratio: float) -> list[Area]:
    """One area for each amount; they must be positive, and fall. `ratio` is the whole map's width to its height."""
    left, top, width, height = 0.0, 0.0, ratio, 1.0
    scale = ratio / sum(amounts) if amounts else 0.0
    rest = [amount * scale for amount in amounts]
    found: list[Area] = []
    while rest:
        side = min(width, height)
        count = 1
        while count < len(rest) and _worst(rest[: count + 1], side) <= _worst(rest[:count], side):
            count += 1
        row, rest = rest[:count], rest[count:]
        depth = sum(row) / side
        at = 0.0
        for amount in row:
            length = amount / depth
            spot = (left, top + at, depth, length) if width >= height else (left + at, top, length, depth)
            found.append(_in_percent(*spot, ratio=ratio))
            at += length
        if width >= height:
            left, width = left + depth, max(width - depth, _NOTHING)
        else:
            top, height = top + depth, max(height - depth, _NOTHING)
    return found


_NOTHING = 1e-9
"""What is left when rounding has used up all: never 0, which nothing can be divided by."""


def _worst(row: Sequence[float], side: float) -> float:
    """How far the least square of a row is from one, 1 being none."""
    total = sum(row)
    return max(side * side * row[0] / (total * total), total * total / (side * side * row[-1]))


def _in_percent(left: float, top: float, width: float, height: float, *, ratio: float) -> Area:
    return Area(
        left=100 * left / ratio,
        top=100 * top,
        width=100 * width / ratio,
        height=100 * height,
    )
