"""Where tags lead that images are pushed under: known before anything is built, and without what pushes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from boxsnake.errors import UsageError
from boxsnake.reference import DEFAULT_TAG, Reference, parse
from boxsnake.registry import Registries

_EXAMPLE = "registry.example.org/team/name:1.0"


def where_to(
    registries: Registries, tags: Sequence[str], *, digests: bool = False, step: str = ""
) -> tuple[Reference, ...]:
    """The tags as places in registries; with digests where those make sense.

    Errors: UsageError for what is no tag, or names no registry; `step` says what to do about the latter.
    """
    found = []
    for tag in tags:
        try:
            reference = parse(tag)
        except ValueError as error:
            raise UsageError(tag, f"is no reference: {error}", f"Name one such as {_EXAMPLE}.") from None
        meant = registries.meant(reference)
        if meant is None:
            usual = f"Name one such as {_EXAMPLE}, or set `default-registry` in your settings."
            raise UsageError(tag, "names no registry to push it to", step or usual, tag=tag)
        if meant.digest and not digests:
            raise UsageError(tag, "has a digest, which what is pushed has by itself", "Name a tag alone.", tag=tag)
        found.append(replace(meant, tag=meant.tag or DEFAULT_TAG))
    return tuple(dict.fromkeys(found))
