"""The manifest: what an application is, what it requires, where it will run and which boxes it is put in.

The models below are the manifest's whole grammar: `boxsnake schema` is generated from them, and decoding is strict
(unknown keys, wrong types and impossible values are faults).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from boxsnake.errors import Fault, ManifestError
from boxsnake.manifest_faults import Places, nearest, validation_faults
from boxsnake.manifest_text import (
    Channel,
    CondaText,
    DistributionName,
    ExtraName,
    GlibcVersion,
    HttpPath,
    ImageName,
    Line,
    Name,
    Paragraphs,
    PipText,
    PythonVersions,
    RelativePath,
    ScriptArgument,
    Source,
    Variable,
    VersionText,
    Word,
)
from boxsnake.plain_text import escaped
from boxsnake.target import DEFAULT_GLIBC, Interpreter, Platform, Target
from boxsnake.toml_lines import key_lines

_LARGEST = 1 << 20  # characters; a manifest of a thousand requirements has a hundredth of it


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value


class Section(BaseModel):
    """A table of the manifest: frozen, strict, its keys written with hyphens.

    A TOML array is a tuple here; the docstring below a field is its description in the schema.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=_kebab,
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _arrays_as_tuples(cls, value: Any) -> Any:
        return _frozen(value)


class App(Section):
    """`[app]`: the application itself."""

    name: Name
    """What the application is called in paths, package and image names: at most 64 lower-case letters, digits, '.', '_'
    and '-'. In pyproject.toml, left out: `project.name`."""
    version: VersionText | None = None
    """PEP 440. Left out: taken from the source's own metadata."""
    source: Source | None = None
    """A project folder, wheel, sdist or `git+https://…@ref#subdirectory=…`; left out: requirements alone (in
    pyproject.toml: that project)."""
    extras: tuple[ExtraName, ...] = ()
    """The source's optional dependencies to take as well."""
    command: tuple[Line, ...] = ()
    """What starts the application: one of its console scripts (or any program of the box) and its arguments."""
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """TCP ports that the started application listens on."""
    environment: dict[Variable, Line] = {}
    """Environment variables that the started application gets."""
    summary: Line | None = None
    """One line about the application. Left out: the source's own."""
    description: Paragraphs | None = None
    """Some more lines about it."""
    license: Line | None = None
    """An SPDX licence expression, such as "Apache-2.0"."""
    homepage: Line | None = None
    """The URL of a page about the application."""
    maintainer: Line | None = None
    """Who makes the boxes, as "Name <address>"."""

    @model_validator(mode="after")
    def _check(self) -> App:
        if self.command and not self.command[0].strip():
            raise ValueError("`command` begins with a program")
        if len(set(self.ports)) < len(self.ports):
            raise ValueError("`ports` names a port twice")
        return self


class Requires(Section):
    """`[requires]`: everything that the application needs."""

    python: PythonVersions | None = None
    """A version specifier ("3.11.*", ">=3.11,<3.14"); left out: the source's own `requires-python`."""
    channels: tuple[Channel, ...] = ()
    """Conda channels, highest priority first: names, URLs or folders. Left out: the user's configuration's."""
    conda: tuple[CondaText, ...] = ()
    """Conda requirements, as MatchSpecs ("openssl >=3")."""
    pip: tuple[PipText, ...] = ()
    """Python requirements as PEP 508 writes them ("flask >=3"), or URLs or relative paths of projects and archives."""
    files: tuple[RelativePath, ...] = ()
    """requirements.txt and environment.yml files, relative to the manifest; read as well, not instead."""
    sdists: tuple[DistributionName, ...] = ()
    """Distributions of an index that may be built from their sdist where no wheel fits."""
    rpm: tuple[Word, ...] = ()
    """What RPM systems must bring."""
    deb: tuple[Word, ...] = ()
    """What Debian systems must bring."""


class TargetTable(Section):
    """`[targets.<name>]`: one kind of machine that boxes are made for."""

    platform: Platform = "linux-64"
    """The operating system and CPU, as conda names them."""
    python: PythonVersions | None = None
    """A version specifier for Python on this target. Left out: `requires.python`."""
    glibc: GlibcVersion | None = None
    """The lowest glibc that the boxes will meet, on Linux. Left out: 2.28."""
    interpreter: Interpreter = "conda"
    """Where Python comes from: "conda" locks it along, "host" takes the machine's own and has no conda half."""

    @property
    def glibc_or_default(self) -> str | None:
        """The floor that holds: the one given, else the default of a Linux platform."""
        return self.glibc or (DEFAULT_GLIBC if self.platform.startswith("linux-") else None)

    @model_validator(mode="after")
    def _check(self) -> TargetTable:
        if self.glibc and not self.platform.startswith("linux-"):
            raise ValueError(f"`glibc` is for Linux; {self.platform} has none")
        return self


class Hooks(Section):
    """`[hooks]`: the user's scripts, as paths relative to the manifest."""

    pre_install: RelativePath | None = None
    """Run before the box's files are there."""
    post_install: RelativePath | None = None
    """Run when the box is installed."""
    pre_remove: RelativePath | None = None
    """Run while the box is still whole, before it is removed."""
    post_remove: RelativePath | None = None
    """Run when the box is gone."""


class Service(Section):
    """`[services.<name>]`: what the application talks to while it is developed."""

    image: ImageName
    """The container image that it is started from."""


class CheckTable(Section):
    """`[[checks]]`: something that a booted box must do."""

    name: Word
    """What the report calls it; no two checks share one."""
    run: tuple[ScriptArgument, ...] | None = None
    """A command and its arguments, found in the box."""
    expect: ScriptArgument | None = None
    """Text that the command's output, or the page's body, must contain."""
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    """What the command must exit with."""
    http: HttpPath | None = None
    """A path that the started application must answer ("/health")."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port that is asked. Left out: the first of `app.ports`."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """The HTTP status of the answer."""
    timeout: Annotated[float, Field(gt=0, le=86400)] = 30.0
    """Seconds for the check as a whole."""

    @model_validator(mode="after")
    def _check(self) -> CheckTable:
        if (self.run is None) == (self.http is None):
            raise ValueError("a check has either `run` or `http`")
        if self.run is not None and (not self.run or not self.run[0].strip()):
            raise ValueError("`run` begins with a program")
        foreign = {"port", "status"} if self.http is None else {"exit_code"}
        for field in sorted(foreign & self.model_fields_set):
            raise ValueError(f"`{_kebab(field)}` is for checks with `{'http' if self.http is None else 'run'}`")
        return self


class Manifest(Section):
    """A whole manifest."""

    app: App
    """The application itself."""
    requires: Requires = Requires()
    """Everything that the application needs."""
    targets: dict[Name, TargetTable] = {}
    """The kinds of machines that boxes are made for, by any names. Left out: "default", which is linux-64."""
    hooks: Hooks = Hooks()
    """The user's scripts for the moments of a box's life."""
    services: dict[Name, Service] = {}
    """What the application talks to while it is developed, by names of your choice."""
    checks: tuple[CheckTable, ...] = ()
    """What every booted box must do, besides starting."""
    boxes: dict[str, Any] = {}
    """The formats to make, each with its own options. Left out: every format, by its defaults."""

    def target(self, name: str) -> Target:
        """The target of that name as a value. Errors: KeyError."""
        table = self.targets[name]
        return Target(
            name=name,
            platform=table.platform,
            python=table.python,
            glibc=table.glibc_or_default,
            interpreter=table.interpreter,
        )


def decode(text: str, source: str, *, box_options: Mapping[str, type[Section]]) -> Manifest:
    """Decode a manifest, or the `[tool.boxsnake]` of a pyproject.toml where `source` ends in that name.

    `box_options` are the models of `[boxes.<format>]` by format; in the result `boxes` holds their instances, and
    `targets` at least "default". Errors: ManifestError with all faults, each with its key and line.
    """
    document, places = _document(text, source)
    faults: list[Fault] = []
    boxes = _boxes(document, box_options, places, faults)
    manifest = _validated(Manifest, {**document, "boxes": boxes}, places, faults)
    faults.extend(places.fault(*found) for found in _contradictions(document))
    if faults or manifest is None:
        raise ManifestError(source, tuple(faults))
    return manifest.model_copy(update={"targets": manifest.targets or {"default": TargetTable()}})


def _document(text: str, source: str) -> tuple[dict[str, Any], Places]:
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
    if not source.endswith("pyproject.toml"):
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


M = TypeVar("M", bound=Section)


def _validated(model: type[M], data: Any, places: Places, faults: list[Fault], path: tuple[str, ...] = ()) -> M | None:
    try:
        return _validate(model, data)
    except ValidationError as error:
        faults.extend(validation_faults(error, model, data, path, places))
        return None


def _validate(model: type[M], data: Any) -> M:
    # In a file keys are written one way; by_name is for callers in Python.
    return model.model_validate(data, by_alias=True, by_name=False)


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
        elif (options := _validated(box_options[name], table, places, faults, ("boxes", name))) is not None:
            boxes[name] = options
    return boxes


def _contradictions(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What does not fit together across tables, judged by those that are right by themselves."""
    app = _salvaged(App, document.get("app"))
    tables = document.get("checks")
    checks = [_salvaged(CheckTable, table) for table in tables] if isinstance(tables, list) else []
    if app and app.version is None and app.source is None:
        yield ("app", "version"), "is needed where there is no source to take it from"
    if app and app.extras and app.source is None:
        yield ("app", "extras"), "are the extras of a source, and there is none"
    names: set[str] = set()
    for number, check in enumerate(checks):
        if check and check.name in names:
            yield ("checks", number, "name"), f"there is another check called {check.name!r}"
        names |= {check.name} if check else set()
        if check and check.http and app and not (check.port or app.ports):
            yield ("checks", number, "http"), "needs a port: its own, or one in app.ports"
        if check and check.http and app and not app.command:
            yield ("checks", number, "http"), "needs app.command, which starts what is asked"


def _salvaged(model: type[M], data: Any) -> M | None:
    try:
        return _validate(model, data)
    except ValidationError:
        return None
