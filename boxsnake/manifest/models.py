"""The manifest's tables as models: its whole grammar, from which decoding, schema and reference are made."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from boxsnake.manifest.text import (
    Channel,
    Command,
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
    Port,
    Ports,
    PythonVersions,
    RelativePath,
    ScriptArgument,
    ScriptCommand,
    Source,
    Variable,
    VersionText,
    Word,
)
from boxsnake.target import DEFAULT_GLIBC, Interpreter, Platform, Target


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
    command: Command = ()
    """What starts the application: one of its console scripts (or any program of the box) and its arguments."""
    ports: Ports = ()
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
    """`[[checks]]`: something that a booted box must do: run a command, or answer a request."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["run"]}, {"required": ["http"]}]})

    name: Word
    """What the report calls it; no two checks share one."""
    run: ScriptCommand | None = None
    """A command and its arguments, found in the box."""
    expect: ScriptArgument | None = None
    """Text that the command's output, or the page's body, must contain."""
    exit_code: Annotated[int, Field(ge=0, le=255)] = 0
    """What the command must exit with."""
    http: HttpPath | None = None
    """A path that the started application must answer ("/health")."""
    port: Port | None = None
    """The port that is asked. Left out: the first of `app.ports`."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """The HTTP status of the answer."""
    timeout: Annotated[float, Field(gt=0, le=86400)] = 30.0
    """Seconds for the check as a whole."""

    @model_validator(mode="after")
    def _check(self) -> CheckTable:
        if (self.run is None) == (self.http is None):
            raise ValueError("a check has either `run` or `http`")
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
