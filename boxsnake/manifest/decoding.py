"""Decoding a manifest: TOML in, the models with every fault named at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from boxsnake.errors import Fault, ManifestError
from boxsnake.manifest.faults import Places, nearest, validation_faults
from boxsnake.manifest.models import (
    App,
    BootTable,
    CheckTable,
    DirectoryTable,
    FileTable,
    Manifest,
    SharedBox,
    SystemTable,
    TargetTable,
)
from boxsnake.manifest.section import Section
from boxsnake.plain_text import escaped
from boxsnake.target import DEFAULT_TARGET
from boxsnake.toml_lines import key_lines

_LARGEST = 1 << 20  # characters; a manifest of a thousand requirements has a hundredth of it

M = TypeVar("M", bound=Section)


def decode(text: str, source: str, *, box_options: Mapping[str, type[Section]]) -> Manifest:
    """Decode a manifest, or the `[tool.boxsnake]` of a pyproject.toml where `source` is such a file's path.

    `box_options` are the models of `[boxes.<format>]` by format; in the result `boxes` holds their instances, and
    `targets` at least "default". Errors: ManifestError with all faults, each with its key and line.
    """
    document, places = document_of(text, source)
    faults: list[Fault] = []
    boxes = _boxes(document, box_options, places, faults)
    manifest = validated(Manifest, {**document, "boxes": boxes}, places, faults)
    faults.extend(places.fault(*found) for found in _contradictions(document))
    faults.extend(places.fault(*found) for found in _foreign_boxes(document, box_options))
    faults.extend(places.fault(*found) for found in _foreign_targets(document, boxes))
    if faults or manifest is None:
        raise ManifestError(source, tuple(faults))
    return replace(manifest, targets=manifest.targets or {DEFAULT_TARGET: TargetTable()})


def document_of(text: str, source: str) -> tuple[dict[str, Any], Places]:
    """The manifest's table as plain values, and where its keys stand."""
    if len(text) > _LARGEST:
        raise _broken(source, 0, f"has {len(text)} characters; a manifest has at most {_LARGEST}")
    try:
        document = tomllib.loads(text)
        lines = key_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise _broken(source, _line_of_error(str(error), text), f"not valid TOML: {error}") from None
    except ValueError as error:  # a number of thousands of digits
        raise _broken(source, 0, f"not valid TOML: {error}") from None
    except RecursionError:
        raise _broken(source, 0, "not valid TOML: nested too deeply") from None
    if source.replace("\\", "/").rpartition("/")[2] != "pyproject.toml":
        return document, Places(source=source, lines=lines)
    tool = document.get("tool")
    table = tool.get("boxsnake") if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise _broken(source, 0, "has no table [tool.boxsnake]")
    table, elsewhere = _with_project(table, document.get("project"))
    return table, Places(source=source, lines=lines, prefix=("tool", "boxsnake"), elsewhere=elsewhere)


def _with_project(table: dict[str, Any], project: Any) -> tuple[dict[str, Any], dict[Any, Any]]:
    """The table with what `[project]` says of the application filled in, and where each of that stands."""
    app = table.get("app", {})
    if not isinstance(app, dict) or not isinstance(project, dict):
        return table, {}
    filled = {key: project[key] for key in ("name", "version") if key in project and key not in app}
    if isinstance(filled.get("name"), str):
        filled["name"] = filled["name"].lower()
    elsewhere = {("app", key): ("project", key) for key in filled}
    return {**table, "app": {"source": ".", **app, **filled}}, elsewhere


def _broken(source: str, line: int, message: str) -> ManifestError:
    return ManifestError(source, (Fault(source=source, line=line, key="", message=escaped(message)),))


def _line_of_error(message: str, text: str) -> int:
    match = re.search(r"\(at line (\d+)", message)
    return int(match[1]) if match else text.rstrip("\n").count("\n") + 1


def validated(section: type[M], data: Any, places: Places, faults: list[Fault], path: tuple[str, ...] = ()) -> M | None:
    """The data as such a table, or None and `faults` that say why not."""
    from pydantic import ValidationError

    try:
        return section.decoded(data)
    except ValidationError as error:
        faults.extend(validation_faults(error, section, data, path, places))
        return None


def _boxes(
    document: Mapping[str, Any], box_options: Mapping[str, type[Section]], places: Places, faults: list[Fault]
) -> Any:
    """The options of every format that is asked for; what is no table is left for the whole's validation."""
    tables = document.get("boxes", {name: {} for name in box_options})
    if not isinstance(tables, dict):
        return tables
    boxes: dict[str, Section] = {}
    for name, table in tables.items():
        if name not in box_options:
            faults.append(places.fault(("boxes", name), f"unknown format; {nearest(name, box_options)}"))
        elif (options := validated(box_options[name], table, places, faults, ("boxes", name))) is not None:
            boxes[name] = options
    return boxes


def _foreign_boxes(
    document: Mapping[str, Any], box_options: Mapping[str, type[Section]]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The formats of targets that are none of `[boxes]`."""
    tables, targets = document.get("boxes", box_options), document.get("targets")
    if not isinstance(tables, Mapping) or not isinstance(targets, dict):
        return
    for name, table in targets.items():
        target = _salvaged(TargetTable, table)
        for number, box in enumerate((target and target.boxes) or ()):
            if box not in tables:
                yield ("targets", name, "boxes", number), f"there is no [boxes.{box}]; {nearest(box, tables)}"


def _foreign_targets(document: Mapping[str, Any], boxes: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The targets of boxes that there are not, or that take no such box."""
    targets = document.get("targets", {DEFAULT_TARGET: {}})
    if not isinstance(targets, dict) or not isinstance(boxes, dict):
        return
    for name, options in boxes.items():
        for number, target in enumerate(options.targets if isinstance(options, SharedBox) else ()):
            table = _salvaged(TargetTable, targets.get(target, {}))
            place = ("boxes", name, "targets", number)
            if target not in targets:
                yield place, f"there is no [targets.{target}]; {nearest(target, targets)}"
            elif table and table.boxes is not None and name not in table.boxes:
                yield place, f"the `boxes` of [targets.{target}] leave {name} out"


def _contradictions(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What does not fit together across tables, judged by those that are right by themselves."""
    app = _salvaged(App, document.get("app"))
    tables = document.get("checks")
    checks = [_salvaged(CheckTable, table) for table in tables] if isinstance(tables, list) else []
    if app and app.version is None and app.source is None:
        yield ("app", "version"), "is needed where there is no source to take it from"
    if app and app.extras and app.source is None:
        yield ("app", "extras"), "are the extras of a source, and there is none"
    for number, name in enumerate((app and app.secrets) or ()):
        if app and name in app.environment:
            yield ("app", "secrets", number), "has its value in app.environment, where secrets must not be"
    names: set[str] = set()
    for number, check in enumerate(checks):
        if check and check.name in names:
            yield ("checks", number, "name"), f"there is another check called {check.name!r}"
        names |= {check.name} if check else set()
        if check and check.http and app and not (check.port or app.ports):
            yield ("checks", number, "http"), "needs a port: its own, or one in app.ports"
        if check and check.is_asked and app and not app.command:
            kind = next(kind for kind in ("http", "tcp", "log") if getattr(check, kind) is not None)
            yield ("checks", number, kind), "needs app.command, which starts what is asked"
    yield from _idle_budgets(document, [check for check in checks if check])
    system = _salvaged(SystemTable, document.get("system", {}))
    if system:
        yield from _contradictions_of_system(system, app)


def _idle_budgets(document: Mapping[str, Any], checks: list[CheckTable]) -> Iterator[tuple[tuple[str, ...], str]]:
    boot = _salvaged(BootTable, document.get("boot", {}))
    if boot and not any(check.is_asked for check in checks):
        for key, budget in (("start-seconds", boot.start_seconds), ("memory", boot.memory)):
            if budget is not None:
                yield ("boot", key), "needs a check with `http`, `tcp` or `log`, which the application is started for"


def _contradictions_of_system(system: SystemTable, app: App | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    known = {"root", system.user or "root"}
    paths: set[str] = set()
    tables: dict[str, tuple[DirectoryTable | FileTable, ...]]
    tables = {"directories": system.directories, "files": system.files}
    for key, members in tables.items():
        for number, table in enumerate(members):
            path = table.path if isinstance(table, FileTable) else table.path_of(app.name if app else "")
            if path in paths:
                yield ("system", key, number), f"there is another with this path ({path})"
            paths.add(path)
            if foreign := set((table.owner or "root").split(":")) - known:
                yield ("system", key, number, "owner"), _nobody(foreign)
    for name, unit in system.units.items():
        if unit.user and unit.user not in known:
            yield ("system", "units", name, "user"), _nobody({unit.user})
        if app and not (unit.command or app.command):
            yield ("system", "units", name, "command"), "is needed where there is no app.command"
    if system.logrotate and not any(table.kind == "log" for table in system.directories):
        yield ("system", "logrotate"), 'needs a folder of the kind "log" in system.directories'


def _nobody(names: set[str]) -> str:
    return f"must be root or system.user: nothing makes {' or '.join(sorted(names))}"


def _salvaged(section: type[M], data: Any) -> M | None:
    try:
        return section.decoded(data)
    except ValueError:
        return None
