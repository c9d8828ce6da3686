"""Which base a target's image is put on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boxsnake.manifest import Manifest
    from boxsnake.target import Target

MINIMAL = "minimal"
"""The base that boxsnake makes itself, out of packages that the lock holds."""

FORMATS = ("image", "dockerfile")
"""Those that are put on a base; the first that the manifest has decides."""


def base_for(given: str | None, target: Target) -> str:
    """The base that the manifest gives, or else the one that a target has."""
    return given or f"debian:{target.debian}-slim"


def given_bases(manifest: Manifest) -> tuple[str, ...]:
    """The bases that the manifest itself names, sorted."""
    named = {getattr(manifest.boxes[name], "base", None) for name in FORMATS if name in manifest.boxes}
    return tuple(sorted(filter(None, named)))


def base_of_target(manifest: Manifest, target: Target) -> str | None:
    """The base of a target's image; None where no image is made for it."""
    own = manifest.targets[target.name].boxes if target.name in manifest.targets else None
    chosen = [name for name in FORMATS if name in manifest.boxes and (own is None or name in own)]
    if not chosen or target.interpreter == "host":
        return None
    return base_for(manifest.boxes[chosen[0]].base, target)
