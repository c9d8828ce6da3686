"""The manifest's grammar: pydantic's models of its tables, made when a manifest is decoded and at no other time.

pydantic takes longer to import than all else that a build with nothing to do needs.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter, create_model, field_validator
from pydantic_core import CoreSchema, core_schema

from boxsnake.manifest.section import Section, key_of

S = TypeVar("S", bound=Section)

_models: dict[type[Section], type[Table]] = {}
_adapters: dict[type[Section], TypeAdapter[Any]] = {}


class Table(BaseModel):
    """A table before it is a value: strict, its keys those of its section."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=key_of,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )
    # In capitals, which no key is.
    SECTION: ClassVar[type[Section]] = Section

    @field_validator("*", mode="before")
    @classmethod
    def _arrays_as_tuples(cls, value: Any) -> Any:
        return _frozen(value)


def model_of(section: type[Section]) -> type[Table]:
    """The model of a section: its fields with their types, marks and defaults."""
    if section not in _models:
        hints = get_type_hints(section, include_extras=True)
        told: dict[str, Any] = {}
        for spec in fields(section):
            default: Any = ... if spec.default is MISSING else spec.default
            if spec.default_factory is not MISSING:
                default = Field(default_factory=spec.default_factory)
            told[spec.name] = (hints[spec.name], default)
        model = create_model(section.__name__, __base__=Table, __doc__=section.__doc__, __module__=__name__, **told)
        model.SECTION = section
        _models[section] = model
    return _models[section]


def schema_of(section: type[Section], handler: GetCoreSchemaHandler) -> CoreSchema:
    """What pydantic reads a section by: its model, and then the section's own check."""

    def value(table: Table) -> Section:
        made = section(**{spec.name: getattr(table, spec.name) for spec in fields(section)})
        made.check_keys(frozenset(table.model_fields_set))
        return made

    return core_schema.no_info_after_validator_function(value, handler.generate_schema(model_of(section)))


def validated(section: type[S], table: object) -> S:
    """The value of a table. Errors: ValidationError with all faults."""
    if section not in _adapters:
        _adapters[section] = TypeAdapter(section)
    value: S = _adapters[section].validate_python(table)
    return value


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
