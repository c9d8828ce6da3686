"""The Engine API's stream of a program's two outputs, taken apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

ERRORS = 2
"""The kind of frames that hold what was written to standard error; all others were not."""


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of each whole frame of a stream that comes in pieces.

    A frame has one byte that tells its kind, three of padding, a 32-bit length (the highest byte first), and data.
    """
    rest = b""
    for chunk in chunks:
        rest += chunk
        while len(rest) >= 8 and len(rest) >= (end := 8 + int.from_bytes(rest[4:8], "big")):
            yield rest[0], rest[8:end]
            rest = rest[end:]
