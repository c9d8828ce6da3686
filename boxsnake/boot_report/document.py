"""A report as JSON, written and read again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from boxsnake.boot_report.value import BootReport, Report, Step
from boxsnake.errors import IntegrityError, UsageError
from boxsnake.plain_text import legible, shortened

VERSION = 1
_VERSION = "report-version"


def as_told(report: Report) -> Report:
    """The report as it is again when it has been written and read: times to the millisecond, no text but UTF-8."""
    return cast("Report", _told(report))


def _told(value: Any) -> Any:
    if isinstance(value, str):
        # Paths may hold bytes that are no text, which UTF-8 has no way to write.
        return value if value.isascii() else legible(value)
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, tuple):
        return tuple(_told(one) for one in value)
    if isinstance(value, Mapping):
        return {key: _told(one) for key, one in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    return dataclasses.replace(value, **{field.name: _told(getattr(value, field.name)) for field in fields(value)})


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values, in which every text can be written as UTF-8."""
    told = as_told(report)
    return {
        _VERSION: VERSION,
        "application": told.application,
        "started": told.started,
        "boxsnake": told.boxsnake,
        "engine": told.engine,
        "verdict": told.verdict,
        "boxes": [_trial(trial) for trial in told.boxes],
        "artifacts": [dataclasses.asdict(artifact) for artifact in told.artifacts],
        "changes": dataclasses.asdict(told.changes) if told.changes else None,
    }


def _trial(trial: BootReport) -> dict[str, Any]:
    return {
        "artifact": trial.artifact,
        "format": trial.format,
        "host": trial.host,
        "scenario": trial.scenario,
        "verdict": trial.verdict,
        "seconds": round(trial.seconds, 3),
        "steps": [_step(step) for step in trial.steps],
    }


def _step(step: Step) -> dict[str, Any]:
    document = {"name": step.name, "outcome": step.outcome, "seconds": step.seconds, "detail": step.detail}
    # Most steps have neither.
    if step.log:
        document["log"] = step.log
    if step.figures:
        document["figures"] = dict(step.figures)
    return document


def from_json(content: bytes, source: str) -> Report:
    """The report that a document holds; what this version does not know of it is left out. `source` is its name.

    Errors: IntegrityError for what is damaged, UsageError for what is no report or a newer boxsnake's.
    """
    import pydantic

    again = "Run `boxsnake boot` again, or name another report."
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(source, f"is damaged or cut off: {shortened(str(error))}", again) from None
    version = document.get(_VERSION) if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UsageError(source, "is no report of `boxsnake boot`", "Name a boot.json that it has written.")
    if version > VERSION:
        cause = f"was written by a newer boxsnake: its {_VERSION} is {version}, and this one reads {VERSION}"
        raise UsageError(source, cause, "Read it with that version, or upgrade this one.")
    try:
        return pydantic.TypeAdapter(Report).validate_python(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(source, f"is no whole report: {place}: {first['msg']}", again) from None
