"""The manifest: what an application is, what it requires, where it will run and which boxes it is put in.

The models below are the manifest's whole grammar: `boxsnake schema` is generated from them, and decoding is strict
(unknown keys, wrong types and impossible values are faults).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from boxsnake.target import DEFAULT_GLIBC, Interpreter, Platform


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Section(BaseModel):
    """A table of the manifest: frozen, strict, its keys written with hyphens."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=_kebab, populate_by_name=False)


class App(Section):
    """`[app]`: the application itself."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
    """Lower-case letters, digits, '.', '_' and '-': it becomes part of paths, package and image names."""
    version: str | None = None
    """PEP 440. Left out: taken from the source's own metadata."""
    source: str | None = None
    """A project folder, wheel, sdist or `git+https://…@ref#subdirectory=…`; left out: requirements alone."""
    extras: tuple[str, ...] = ()
    """The source's optional dependencies to take as well."""
    command: tuple[str, ...] = ()
    """What starts the application: one of its console scripts (or any program of the box) and its arguments."""
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    environment: dict[str, str] = {}
    summary: str | None = None
    description: str | None = None
    license: str | None = None
    homepage: str | None = None
    maintainer: str | None = None


class Requires(Section):
    """`[requires]`: everything that the application needs."""

    python: str | None = None
    """A version specifier ("3.11.*"); left out: the source's own `requires-python`."""
    channels: tuple[str, ...] = ()
    """Conda channels, highest priority first: names, URLs or folders. Left out: the user's configuration's."""
    conda: tuple[str, ...] = ()
    """MatchSpecs."""
    pip: tuple[str, ...] = ()
    """PEP 508 requirements."""
    files: tuple[str, ...] = ()
    """requirements.txt and environment.yml files, read as well."""
    sdists: tuple[str, ...] = ()
    """Distributions of an index that may be built from their sdist where no wheel fits."""
    rpm: tuple[str, ...] = ()
    """What RPM systems must bring."""
    deb: tuple[str, ...] = ()
    """What Debian systems must bring."""


class TargetTable(Section):
    """`[targets.<name>]`: one kind of machine that boxes are made for."""

    platform: Platform = "linux-64"
    python: str | None = None
    glibc: Annotated[str, Field(pattern=r"^2\.\d{1,2}$")] | None = None
    interpreter: Interpreter = "conda"

    @property
    def glibc_or_default(self) -> str | None:
        """The floor that holds: the one given, else the default of a Linux platform."""
        return self.glibc or (DEFAULT_GLIBC if self.platform.startswith("linux-") else None)


class Hooks(Section):
    """`[hooks]`: the user's scripts, as paths relative to the manifest."""

    pre_install: str | None = None
    post_install: str | None = None
    pre_remove: str | None = None
    post_remove: str | None = None


class Service(Section):
    """`[services.<name>]`: what the application talks to while it is developed."""

    image: str


class CheckTable(Section):
    """`[[checks]]`: something that a booted box must do."""

    name: str
    run: tuple[str, ...] | None = None
    """A command and its arguments, found in the box."""
    expect: str | None = None
    """Text that the command's output, or the page's body, must contain."""
    exit_code: int = 0
    http: str | None = None
    """A path that the started application must answer."""
    port: int | None = None
    """Left out: the first of `app.ports`."""
    status: int = 200
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds."""


class Manifest(Section):
    """A whole manifest."""

    app: App
    requires: Requires = Requires()
    targets: dict[str, TargetTable] = {}
    hooks: Hooks = Hooks()
    services: dict[str, Service] = {}
    checks: tuple[CheckTable, ...] = ()
    boxes: dict[str, Any] = {}
    """`[boxes.<format>]`: the format's own options model, decoded by it. Left out: every format, by its defaults."""
