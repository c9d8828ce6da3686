"""References to images: [registry/]path[/path][:tag][@digest], by the grammar of engines and registries.

Whether the first part is a registry is told by its form alone, as engines do it: it has a dot or a port, or it is
"localhost". Where none is named, which one is meant is for an engine or the user's settings to say.
"""

from __future__ import annotations

import re
from dataclasses import replace

from boxsnake.pattern import pattern
from boxsnake.value import dataclass

# distribution's "reference" package; a registry's name in brackets is an IPv6 address.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
_REGISTRY = pattern(rf"{_HOST}(?::[0-9]{{1,5}})?", re.ASCII)
_REPOSITORY = pattern(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = pattern(r"sha256:[0-9a-f]{64}", re.ASCII)
_LONGEST_REPOSITORY = 255

DEFAULT_TAG = "latest"
"""What a reference without tag and digest means."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A reference in its parts; a part that is not there is ""."""

    registry: str
    """Its host, with a port where it has one."""
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        registry = f"{self.registry}/" if self.registry else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"{registry}{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def version(self) -> str:
        """What names one image in the repository: the digest, else the tag, else that which is meant by none."""
        return self.digest or self.tag or DEFAULT_TAG

    def at(self, registry: str) -> Reference:
        """The same reference, in this registry where it names none."""
        return self if self.registry else replace(self, registry=registry)

    def pinned(self, digest: str) -> Reference:
        """The same reference, held at this digest."""
        return replace(self, digest=digest)


def parse(text: str) -> Reference:
    """The parts of a reference. Errors: ValueError, whose text says what is wrong."""
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no digest (sha256:… of 64 hexadecimal digits)")
    registry, path = _registry_of(name)
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no tag: letters, digits and _.- alone, up to 128")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST_REPOSITORY:
        raise ValueError(f"{repository!r} is no repository's name: small letters, digits and ._-/ alone")
    return Reference(registry=registry, repository=repository, tag=tag, digest=digest)


def is_registry(text: str) -> bool:
    """Whether this is a registry's name: a host, with a port or without."""
    return bool(_REGISTRY.fullmatch(text))


def is_digest(text: str) -> bool:
    """Whether this names bytes: "sha256:" and 64 hexadecimal digits."""
    return bool(_DIGEST.fullmatch(text))


def _registry_of(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return "", name
    if not is_registry(first):
        raise ValueError(f"{first!r} is no registry's host")
    return first, rest
