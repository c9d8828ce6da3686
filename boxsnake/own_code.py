"""boxsnake's own code, as an input of what it makes: what another version has made is made again."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boxsnake.store import Store


@cache
def digest_of_code(store: Store) -> str:
    """The digest of all of boxsnake's modules and scripts."""
    return store.digest_of_files(Path(__file__).parent, (".py", ".sh"))
