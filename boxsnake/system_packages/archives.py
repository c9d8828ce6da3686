"""Archives of distributions: by which name a lock knows one, and where this machine has it.

A lock names an archive ("debian", "debian-security") and not a mirror. Where it is to be had, the user's settings say
(`[mirrors]`), else the base image's own sources, else the sources of this machine's apt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from boxsnake import debian_sources
from boxsnake.debian_sources import Source
from boxsnake.errors import ResourceError
from boxsnake.urls import without_credentials
from boxsnake.value import dataclass

_SECURITY = "-security"
_OF_THE_FAMILY = ("", "-updates", "-backports", "-proposed", "-proposed-updates", _SECURITY)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One line of sources: the archive's name, what is taken from it, and whose line it was."""

    name: str
    source: Source
    own: str = ""
    """The URL that the base has for it; empty where the base has none."""


def archives_of(
    distribution: str, suite: str, sources: Sequence[Source], mirrors: Mapping[str, str]
) -> tuple[Archive, ...]:
    """The archives of a release ("debian", "bookworm"); `sources` are the base's own, which may have none.

    Errors: ResourceError where nobody knows one.
    """
    found = [_archive(distribution, suite, source) for source in sources]
    if not found:
        found = [*_of_mirrors(distribution, suite, mirrors), *_of_machine(distribution, suite, mirrors)]
    if not found:
        step = f'Name a mirror in your settings, such as `{distribution} = "https://…/{distribution}"` in [mirrors].'
        cause = "the base names no sources, and neither do your settings or this machine's apt"
        raise ResourceError(f"packages of {distribution} {suite}", cause, step)
    return tuple(_mirrored(archive, mirrors) for archive in found)


def root_of(name: str, own: Mapping[str, str], mirrors: Mapping[str, str], suite: str) -> str:
    """Where the archive of this name is to be had from here. Errors: ResourceError where nobody knows."""
    machine = {archive.name: archive.source.uri for archive in _of_machine(name.removesuffix(_SECURITY), suite, {})}
    root = mirrors.get(name) or own.get(name) or machine.get(name)
    if not root:
        step = f'Name a mirror in your settings: `{name} = "https://…"` in [mirrors].'
        raise ResourceError(f"archive {name}", "nobody knows where it is to be had from here", step, archive=name)
    return root.rstrip("/")


def _archive(distribution: str, suite: str, source: Source) -> Archive:
    ending = source.suite.removeprefix(suite)
    own = without_credentials(source.uri)
    if source.suite.startswith(suite) and ending in _OF_THE_FAMILY:
        name = distribution + (_SECURITY if ending == _SECURITY else "")
    else:
        parts = urlsplit(own)
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{parts.hostname}{parts.path}").strip("-")
    return Archive(name=name, source=source, own=own)


def _of_mirrors(distribution: str, suite: str, mirrors: Mapping[str, str]) -> list[Archive]:
    main, security = mirrors.get(distribution), mirrors.get(f"{distribution}{_SECURITY}")
    suites = [(main, suite), (main, f"{suite}-updates"), (security, f"{suite}{_SECURITY}")]
    keyring = debian_sources.KEYRING
    key = str(keyring) if distribution == "debian" and keyring.is_file() else ""
    sources = [Source(uri=uri, suite=name, components=("main",), signed_by=key) for uri, name in suites if uri]
    return [replace(_archive(distribution, suite, source), own="") for source in sources]


def _of_machine(distribution: str, suite: str, mirrors: Mapping[str, str]) -> list[Archive]:
    """What this machine's apt has, of the archives that are not among the mirrors: of Debian alone."""
    if distribution != "debian":
        return []
    found = [replace(_archive(distribution, suite, source), own="") for source in debian_sources.family(suite)]
    return [archive for archive in found if archive.name not in mirrors]


def _mirrored(archive: Archive, mirrors: Mapping[str, str]) -> Archive:
    uri = mirrors.get(archive.name)
    return replace(archive, source=replace(archive.source, uri=uri)) if uri else archive
