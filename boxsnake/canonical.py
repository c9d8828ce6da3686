"""JSON with one text for each value, to be hashed and compared."""

from __future__ import annotations

import json


def canonical_json(value: object) -> bytes:
    """Write the one JSON text of a value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
