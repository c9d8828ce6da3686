"""A table of the manifest as a value. How one is read is for `boxsnake.manifest.grammar`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from boxsnake.value import dataclass

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of the manifest: frozen, its keys written with hyphens.

    A TOML array is a tuple here; the docstring below a field is its description in the schema. A value that is made in
    Python is taken as it is: what a manifest may say is checked when one is decoded.
    """

    more_schema: ClassVar[Mapping[str, Any]] = {}
    """What the JSON schema says of the table beside its keys."""

    @classmethod
    def decoded(cls, table: object) -> Self:
        """The value of a table as TOML gives it. Errors: pydantic.ValidationError, which is a ValueError."""
        from boxsnake.manifest.grammar import validated

        return validated(cls, table)

    def check_keys(self, given: frozenset[str]) -> None:
        """What the keys must be together; `given` are the names of the fields that were written. Errors: ValueError."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        from boxsnake.manifest.grammar import schema_of

        return schema_of(cls, handler)


def key_of(name: str) -> str:
    """A field's name as a key of the manifest."""
    return name.replace("_", "-")
