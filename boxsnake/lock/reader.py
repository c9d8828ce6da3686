"""Reading a decoded TOML table strictly: every value of the type that it must have, or a LockError which names it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from boxsnake.errors import LockError
from boxsnake.pattern import pattern

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOCK_AGAIN = "Take the lock from version control again, or run `boxsnake lock`."

SHA256 = pattern(r"[0-9a-f]{64}")
COMMIT = pattern(r"[0-9a-f]{40}([0-9a-f]{24})?")
NAME = pattern(r"[a-z0-9]([a-z0-9._-]*[a-z0-9_])?|_[a-z0-9._-]+")
# What a file in a folder of ours may be called: no separators, not hidden, no control characters.
WHEEL_NAME = pattern(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl")
CONDA_NAME = pattern(r"[A-Za-z0-9_][A-Za-z0-9._+!%~-]*\.(conda|tar\.bz2)")
LOCATION = pattern(r"(https?|file)://[^\s?]+|[^\s:?][^:?]*")
"""A URL that boxsnake can fetch from, without a query (where signatures and tokens are), or a relative path."""


class Table:
    """One table of a document, and where it is in it."""

    def __init__(self, values: dict[str, Any], source: str, where: str = "") -> None:
        self.values = values
        self.source = source
        self.where = where

    def fault(self, key: str, message: str) -> LockError:
        """The error for one key of this table."""
        place = f"{self.where}.{key}" if self.where else key
        return LockError(self.source, f"{place} {message}", LOCK_AGAIN, key=place)

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """A text that must be there; the whole of it matches `pattern`."""
        return self._needed(key, self.text_or_none(key, pattern))

    def text_or_none(self, key: str, pattern: re.Pattern[str] | None = None) -> str | None:
        """A text that may be absent."""
        value = self._typed(key, str, "a text")
        if value is not None and pattern is not None and not pattern.fullmatch(value):
            raise self.fault(key, f"is {value!r}, which cannot be")
        return value

    def choice(self, key: str, literal: Any) -> Any:
        """A text that must be there and is one of a Literal's."""
        value = self.text(key)
        if value not in get_args(literal):
            raise self.fault(key, f"is {value!r}, none of {', '.join(get_args(literal))}")
        return value

    def number(self, key: str) -> int:
        """A number, at least 0, that must be there."""
        return self._needed(key, self.number_or_none(key))

    def number_or_none(self, key: str) -> int | None:
        """A number, at least 0, that may be absent."""
        value = self._typed(key, int, "a number")
        if value is not None and (isinstance(value, bool) or value < 0):
            raise self.fault(key, "must be a number that is not negative")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of texts; absent means none."""
        values = self._typed(key, list, "an array") or []
        if not all(isinstance(value, str) for value in values):
            raise self.fault(key, "must be an array of texts")
        return tuple(values)

    def table(self, key: str) -> Table:
        """A table that must be there."""
        return self._needed(key, self.table_or_none(key))

    def table_or_none(self, key: str) -> Table | None:
        """A table that may be absent."""
        value = self._typed(key, dict, "a table")
        return None if value is None else Table(value, self.source, f"{self.where}.{key}" if self.where else key)

    def tables(self, key: str, label: Callable[[dict[str, Any]], str]) -> list[Table]:
        """An array of tables, each named by `label` in messages; absent means none."""
        values = self._typed(key, list, "an array of tables") or []
        if not all(isinstance(value, dict) for value in values):
            raise self.fault(key, "must be an array of tables")
        place = f"{self.where}.{key}" if self.where else key
        return [Table(value, self.source, f"{place}[{label(value)}]") for value in values]

    def _typed(self, key: str, kind: type[T], wanted: str) -> T | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.fault(key, f"must be {wanted}")
        return value

    def _needed(self, key: str, value: T | None) -> T:
        if value is None:
            raise self.fault(key, "is missing")
        return value


def by_name(values: dict[str, Any]) -> str:
    """The label of tables that have a name."""
    return str(values.get("name", "?"))
