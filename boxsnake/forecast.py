"""Forecasts: what a box would be made of, told before it is made. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from boxsnake.value import dataclass

PartState = Literal["there", "to make", "to fetch"]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A package as it is fetched: its owner in a tree, what it is called, its bytes (None: nobody told).

    `code` are the bytes of the Python sources in it, unpacked; None where nobody has looked. `is_there` tells whether
    the store has it.
    """

    kind: Literal["conda", "wheel", "application"]
    owner: str
    title: str
    size: int | None
    is_there: bool
    code: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many bytes a box has, about, for each byte of its packages' archives, and for each of sources in them.

    An environment holds the byte-code of all sources, and archives mostly have none. Conda's are packed tighter than
    wheels.
    """

    conda: float
    wheels: float
    code: float

    def of(self, archives: Sequence[Archive]) -> int | None:
        """The bytes that these make in a box; None where the size of one is not known."""
        total = 0.0
        for archive in archives:
            if archive.size is None:
                return None
            code = archive.size * _USUAL_CODE if archive.code is None else archive.code
            total += archive.size * (self.conda if archive.kind == "conda" else self.wheels) + code * self.code
        return round(total)


_USUAL_CODE = 0.8
"""Bytes of sources for each byte of an archive that nobody has looked into."""

# Fitted to boxes of seven applications; docs/formats.md tells how well.
AS_THEY_ARE = Ratio(conda=1.0, wheels=1.0, code=0.0)
"""Archives that are carried as they are."""
GZIP = Ratio(conda=1.18, wheels=0.98, code=0.585)
"""Trees compressed by gzip at its quickest levels, as layers are."""
SMALL_GZIP = Ratio(conda=1.09, wheels=0.91, code=0.479)
"""Trees compressed by gzip at its middle levels."""
ZSTD = Ratio(conda=1.18, wheels=0.95, code=0.373)
"""Trees compressed by zstd at its quick levels, as packages are."""
XZ = Ratio(conda=0.95, wheels=0.85, code=0.27)
PLAIN = Ratio(conda=2.7, wheels=2.0, code=2.2)
"""Trees that are not compressed."""


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


def part_of(name: str, archives: Sequence[Archive], ratio: Ratio) -> Part:
    """A piece that these packages make, whose size is reckoned."""
    contents = tuple(archive.title for archive in archives)
    state: PartState = "to make" if all(archive.is_there for archive in archives) else "to fetch"
    return Part(name=name, contents=contents, size=ratio.of(archives), state=state, is_predicted=True)


def packed(archives: Sequence[Archive], ratio: Ratio, *, own: int = 0, notes: Sequence[str] = ()) -> Forecast:
    """The forecast of a box of whole packages, compressed together; `own` are the bytes of what else is in it."""
    kinds = {"conda": "conda packages", "wheel": "wheels", "application": "application"}
    parts = [
        part_of(name, found, ratio)
        for kind, name in kinds.items()
        if (found := [archive for archive in archives if archive.kind == kind])
    ]
    if own:
        parts.append(Part(name="the format's own", contents=(), size=own, state="to make", is_predicted=True))
    return Forecast(parts=tuple(parts), notes=tuple(notes))
