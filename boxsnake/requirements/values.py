"""What is required, as values: the parsers and the manifest produce them, the resolver consumes them."""

from __future__ import annotations

from dataclasses import field

from boxsnake.urls import redact
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True, repr=False)
class PipRequirement:
    """One requirement for the wheel half, by name, URL or local path.

    `text` may hold credentials and expanded environment variables: it is for the installer alone. Whatever is written
    or shown takes `shown`.
    """

    text: str
    """A normalised PEP 508 requirement ("flask>=3; os_name == 'posix'", "name @ https://…"). A local path, and a URL
    that does not tell a name, stands by itself as pip reads it: "./vendor/tool[fast] ; os_name == 'posix'"."""
    shown: str
    """The same with variables unexpanded and without credentials."""
    name: str | None
    """Normalised (PEP 503); None where only the URL's or folder's own metadata tells."""
    extras: tuple[str, ...] = ()
    """Normalised and sorted."""
    marker: str | None = None
    url: str | None = None
    """The URL of a direct reference, "git+https://…@ref#subdirectory=…" included; without hash and egg fragments."""
    path: str | None = None
    """Of a local project, wheel or sdist: relative to the manifest's folder (or absolute), with forward slashes."""
    hashes: tuple[str, ...] = ()
    """What the archive's bytes must hash to, any of them: "sha256:…", "sha384:…" or "sha512:…"."""
    source: str
    """Where it was asked for: "requirements.txt:3"."""

    def __repr__(self) -> str:
        return f"PipRequirement({self.shown!r}, source={self.source!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class CondaRequirement:
    """One requirement for the conda half: a MatchSpec, and where it was asked for ("environment.yml:7")."""

    spec: str
    source: str

    @property
    def shown(self) -> str:
        """The spec without credentials of a channel's URL."""
        return redact(self.spec)

    def __repr__(self) -> str:
        return f"CondaRequirement({self.shown!r}, source={self.source!r})"


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """What requirement files say about where distributions come from; the user's configuration fills in the rest.

    URLs may hold credentials and expanded environment variables, so they are kept out of `repr`; whatever is written
    or shown takes `shown`.
    """

    index_url: str | None = field(default=None, repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    find_links: tuple[str, ...] = field(default=(), repr=False)
    """URLs, or folders relative to the manifest's."""
    no_index: bool = False
    pre: bool = False
    """Pre-releases are taken as well."""
    no_binary: tuple[str, ...] = ()
    """Normalised names that are to be built from their sdist, or ":all:"."""
    only_binary: tuple[str, ...] = ()
    """Normalised names that must come as wheels, or ":all:"."""
    shown: tuple[str, ...] = ()
    """The options as lines, in order, with variables unexpanded and without credentials."""


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """Everything that is required: of the manifest and of the files that it names, in their order."""

    python: str | None = None
    """A PEP 440 specifier set ("==3.11.*", "<3.13,>=3.11") that every interpreter must meet."""
    channels: tuple[str, ...] = field(default=(), repr=False)
    """Conda channels, highest priority first, each once: names, URLs (perhaps with credentials) or folders relative to
    the manifest's. Empty: the user's configuration's."""
    conda: tuple[CondaRequirement, ...] = ()
    pip: tuple[PipRequirement, ...] = ()
    constraints: tuple[PipRequirement, ...] = ()
    """What limits versions of the wheel half without requiring anything; all have names."""
    index: IndexOptions = IndexOptions()
    environment: tuple[tuple[str, str], ...] = ()
    """`variables` of environment.yml files, sorted; the manifest's `app.environment` wins over them."""
    files: tuple[tuple[str, str], ...] = ()
    """(path relative to the manifest's folder, sha256 of its bytes) of every file that was read, sorted."""
