"""The folders beside the package, in a checkout or inside the wheel: `rpm` and `deb` (scripts), `docker` (hosts)."""

from __future__ import annotations

from pathlib import Path

from boxsnake.errors import ResourceError


def folder(name: str) -> Path:
    """The folder `name` of boxsnake's own resources. Errors: ResourceError where the installation lacks it."""
    package = Path(__file__).parent
    for candidate in (package / "_resources" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise ResourceError(f"boxsnake's {name} folder", "this installation lacks it", "Install boxsnake again.", name=name)
