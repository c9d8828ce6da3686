"""Which base a target's image is put on, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boxsnake.manifest import Manifest
    from boxsnake.target import Target

MINIMAL = "minimal"
"""The base that boxsnake makes itself, out of packages that the lock holds."""

SCRATCH = "scratch"
"""No base at all."""

HOST, ENGINE = "host:", "engine:"
"""What begins the names of the root file systems of boxsnake's hosts, and of the container engine's images."""

FORMATS = ("image", "dockerfile")
"""Those that are put on a base; the first that the manifest has decides."""


def is_local(name: str) -> bool:
    """Whether a name means something on this machine alone, or nothing at all, and no registry's image."""
    return name in {SCRATCH, MINIMAL} or name.startswith((HOST, ENGINE, "/", "./", "../"))


def base_for(given: str | None, target: Target) -> str:
    """The base that the manifest gives, or else the one that a target has."""
    return given or f"debian:{target.debian}-slim"


def given_bases(manifest: Manifest) -> tuple[str, ...]:
    """The bases that the manifest itself names, sorted."""
    named = {getattr(manifest.boxes[name], "base", None) for name in FORMATS if name in manifest.boxes}
    return tuple(sorted(filter(None, named)))


def named_bases(manifest: Manifest) -> tuple[str, ...]:
    """The references that the manifest itself names as bases: what a lock was asked for. Local ones are none."""
    return tuple(base for base in given_bases(manifest) if not is_local(base))


def base_of_target(manifest: Manifest, target: Target) -> str | None:
    """The base of a target's image; None where no image is made for it."""
    own = manifest.targets[target.name].boxes if target.name in manifest.targets else None
    chosen = [name for name in FORMATS if name in manifest.boxes and (own is None or name in own)]
    if not chosen or target.interpreter == "host":
        return None
    return base_for(manifest.boxes[chosen[0]].base, target)
