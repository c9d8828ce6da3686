"""Regular expressions that are compiled when they are first used.

A command imports some thirty modules that have such, of which it uses a few: compiling one takes a quarter of a
millisecond. Modules that are handed to other interpreters as text stay with `re.compile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["pattern"]

if TYPE_CHECKING:
    from re import compile as pattern
else:
    import re
    from typing import Any

    class pattern:  # noqa: N801 - it is called as a function, and is one where types are checked
        """What `re.compile` would make of the same, by its methods and attributes."""

        def __init__(self, text: str | bytes, flags: int = 0) -> None:
            self._arguments = text, flags

        def __getattr__(self, name: str) -> Any:
            found = getattr(re.compile(*self._arguments), name)  # the library itself keeps what it has compiled
            setattr(self, name, found)
            return found
