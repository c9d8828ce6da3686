"""One pip requirement as text: a PEP 508 requirement, a URL or a local path, as a line of requirements.txt gives it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from boxsnake.requirements.values import PipRequirement
from boxsnake.urls import redact, without_credentials
from boxsnake.value import dataclass

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")  # the only form that pip expands
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_WEAK = frozenset({"md5", "sha1", "sha224"})
_SCHEMES = frozenset({"http", "https", "git+https", "git+http", "git+ssh", "git+file"})
_ARCHIVE = re.compile(r"\.(?:whl|zip|tar\.gz|tgz|tar\.bz2|tbz|tar\.xz|txz|tar)(?:$|[\[\s#;])", re.IGNORECASE)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|file:")
_NAMED = re.compile(r"\s*[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\]\s*)?@")
_EXTRAS = re.compile(r"(.+?)\s*\[([^\[\]]*)\]")


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """What stands for the archive in a requirement without an index: a URL or a path, and what its fragment says."""

    url: str | None = None
    path: str | None = None
    subdirectory: str | None = None
    name: str | None = None
    extras: frozenset[str] = frozenset()
    hashes: tuple[str, ...] = ()


def pip_requirement(
    line: str, *, source: str, folder: str = "", hashes: tuple[str, ...] = (), environ: Mapping[str, str] | None = None
) -> PipRequirement:
    """Decode one requirement without options; `folder` is what its relative paths are relative to.

    Obeys PEP 508 and what pip adds to it: URLs and paths without a name, "#egg=", "#subdirectory=" and digests in
    fragments, ${VARIABLES} taken from `environ`. Errors: ValueError, which holds no credentials.
    """
    expanded = expand(line, environ or {})
    if not line.isprintable() or not expanded.isprintable():
        raise ValueError("control characters are not allowed")
    requirement = _decoded(expanded, source, folder)
    return replace(
        requirement,
        hashes=tuple(dict.fromkeys((*(checked_hash(given) for given in hashes), *requirement.hashes))),
        shown=requirement.shown if expanded == line else _shown_unexpanded(line, source, folder),
    )


def expand(text: str, environ: Mapping[str, str]) -> str:
    """The text with each ${VARIABLE} replaced by its value. Errors: ValueError where one is not set."""

    def value(match: re.Match[str]) -> str:
        if not environ.get(match[1]):
            raise ValueError(f"the environment variable {match[1]} is not set")
        return environ[match[1]]

    return _VARIABLE.sub(value, text)


def checked_hash(text: str) -> str:
    """A digest as "sha256:…" in lower case. Errors: ValueError where it is weak or no digest at all."""
    algorithm, _, digest = text.lower().partition(":")
    if algorithm in _WEAK:
        raise ValueError(f"{algorithm} is too weak to prove anything; give the sha256")
    if algorithm not in _DIGEST_LENGTHS:
        raise ValueError("a hash is written as sha256:…, sha384:… or sha512:…")
    if not re.fullmatch(r"[0-9a-f]+", digest) or len(digest) != _DIGEST_LENGTHS[algorithm]:
        raise ValueError(f"a {algorithm} has {_DIGEST_LENGTHS[algorithm]} hexadecimal digits")
    return f"{algorithm}:{digest}"


def _shown_unexpanded(line: str, source: str, folder: str) -> str:
    try:
        return _decoded(line, source, folder).shown
    except ValueError:  # a variable stands for more than a part of a URL
        return redact(line)


def _decoded(text: str, source: str, folder: str) -> PipRequirement:
    if not _NAMED.match(text) and (_URL.match(text) or _looks_like_path(text)):
        reference_text, marker = _split_marker(text)
        return _direct(reference_text, None, frozenset(), marker, source, folder)
    requirement = _pep_508(text)
    marker = str(requirement.marker) if requirement.marker else None
    if requirement.url is not None:
        name = canonicalize_name(requirement.name)
        return _direct(requirement.url, name, frozenset(requirement.extras), marker, source, folder)
    extras = _normal_extras(requirement.extras)
    requirement.name, requirement.extras = canonicalize_name(requirement.name), set(extras)
    normal = str(requirement)
    return PipRequirement(text=normal, shown=normal, name=requirement.name, extras=extras, marker=marker, source=source)


def _looks_like_path(text: str) -> bool:
    first = re.split(r"[\s;\[]", text, maxsplit=1)[0]
    return text.startswith(".") or "/" in first or _ARCHIVE.search(text) is not None


def _split_marker(text: str) -> tuple[str, str | None]:
    # pip wants a blank before the semicolon of a URL, which may hold semicolons of its own.
    separator = r"\s;\s*|;\s+" if _URL.match(text) else r"\s*;\s*"
    reference, *rest = re.split(separator, text.strip(), maxsplit=1)
    if not rest:
        return reference, None
    try:
        return reference, str(Marker(rest[0]))
    except InvalidMarker as error:
        raise ValueError(_first_line(error)) from None


def _pep_508(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(_first_line(error)) from None


def _first_line(error: Exception) -> str:
    # The lines after the first repeat the text, credentials and all.
    first = str(error).partition("\n")[0]
    return redact(first[:1].lower() + first[1:])


def _direct(
    text: str, name: str | None, extras: frozenset[str], marker: str | None, source: str, folder: str
) -> PipRequirement:
    reference = _reference(text, folder)
    if name and reference.name and name != reference.name:
        raise ValueError(f"the name is {name}, but the archive is one of {reference.name}")
    if reference.path and reference.subdirectory:
        raise ValueError("#subdirectory= is for URLs; name the folder itself")
    name = name or reference.name
    normal_extras = _normal_extras(extras | reference.extras)

    def written(url: str | None) -> str:
        with_extras = f"[{','.join(normal_extras)}]" if normal_extras else ""
        where = f"{url or reference.path}"
        stem = f"{name}{with_extras} @ {where}" if name and url else f"{where}{with_extras}"
        return f"{stem} ; {marker}" if marker else stem

    url = reference.url
    if url and reference.subdirectory:
        url = f"{url}#subdirectory={reference.subdirectory}"
    return PipRequirement(
        text=written(url),
        shown=written(url and without_credentials(url)),
        name=name,
        extras=normal_extras,
        marker=marker,
        url=url,
        path=reference.path,
        hashes=reference.hashes,
        source=source,
    )


def _reference(text: str, folder: str) -> _Reference:
    extras: frozenset[str] = frozenset()
    if (with_extras := _EXTRAS.fullmatch(text)) and "#" not in text:
        text, extras = with_extras[1], _extras_of(with_extras[2])
    if not _URL.match(text):
        return replace(_path_reference(text, folder), extras=extras)
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("not a valid URL") from None
    fragment = _fragment(parts.fragment)
    bare = text.partition("#")[0]
    if parts.scheme.lower() == "file":
        reference = _path_reference(_file_path(parts.netloc, unquote(parts.path)), folder)
    elif parts.scheme.lower() not in _SCHEMES:
        raise ValueError(f"{parts.scheme}:// is not supported; https://, git+https:// and file:// are")
    elif not parts.netloc and parts.scheme.lower() != "git+file":
        raise ValueError("the URL names no host")
    else:
        archive = "" if parts.scheme.startswith("git+") else unquote(posixpath.basename(parts.path))
        reference = _Reference(url=bare, name=_name_of(archive))
    return replace(
        reference,
        name=reference.name or fragment.name,
        extras=extras | fragment.extras,
        subdirectory=fragment.subdirectory,
        hashes=fragment.hashes,
    )


def _file_path(netloc: str, path: str) -> str:
    if netloc not in {"", "localhost"}:
        raise ValueError("a file:// URL names no other host")
    return path


def _path_reference(path: str, folder: str) -> _Reference:
    if path.startswith("~") or not path:
        raise ValueError("a path is relative to the manifest, or absolute")
    path, _, fragment = path.partition("#")
    said = _fragment(fragment)
    normal = posixpath.normpath(posixpath.join(folder, path))
    if not normal.startswith((".", "/")):
        normal = f"./{normal}"
    return replace(said, path=normal, name=_name_of(posixpath.basename(normal)) or said.name)


def _fragment(fragment: str) -> _Reference:
    name, extras, subdirectory, hashes = None, frozenset[str](), None, []
    for part in filter(None, fragment.split("&")):
        key, _, value = part.partition("=")
        if key == "egg":
            egg = _pep_508(unquote(value))
            name, extras = canonicalize_name(egg.name), frozenset(egg.extras)
        elif key == "subdirectory":
            subdirectory = _inner_path(value)
        elif key in _WEAK or key in _DIGEST_LENGTHS:
            hashes.append(checked_hash(f"{key}:{value}"))
    return _Reference(name=name, extras=extras, subdirectory=subdirectory, hashes=tuple(hashes))


def _inner_path(path: str) -> str:
    parts = unquote(path).split("/")
    if ".." in parts or path.startswith("/"):
        raise ValueError("#subdirectory= must stay inside the project")
    return path


def _name_of(file_name: str) -> str | None:
    """The distribution that an archive's name tells; None where it tells none."""
    if file_name.lower().endswith(".whl"):
        try:
            return parse_wheel_filename(file_name)[0]
        except InvalidWheelFilename:
            raise ValueError(f"{file_name!r} is no wheel's file name") from None
    try:
        return parse_sdist_filename(file_name)[0]
    except InvalidSdistFilename:
        return None


def _extras_of(text: str) -> frozenset[str]:
    return frozenset(_pep_508(f"x[{text}]").extras)


def _normal_extras(extras: frozenset[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted(canonicalize_name(extra) for extra in extras))
