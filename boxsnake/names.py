"""Names of distributions as they compare."""

from __future__ import annotations

import re

_RUN = re.compile(r"[-_.]+")


def normal(name: str) -> str:
    """A distribution's name, or a pattern of names, in its normal form (PEP 503)."""
    return _RUN.sub("-", name).lower()
