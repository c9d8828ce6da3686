"""Values that vary what others of the same test show already: `make thorough` takes them, `make test` does not."""

from __future__ import annotations

from typing import Any

import pytest


def thorough(*values: Any) -> list[Any]:
    """These values for `pytest.mark.parametrize`, for thorough runs alone."""
    return [pytest.param(value, marks=pytest.mark.thorough) for value in values]
