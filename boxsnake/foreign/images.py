"""Images: docker archives, OCI layouts and archives of them, and images that the engine has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from boxsnake.boot_recipe import ARTIFACT_HOST, BootRecipe
from boxsnake.foreign.value import UNLOCKED, Foreign, Looked

_RECIPE = BootRecipe(
    host=ARTIFACT_HOST,
    takes="engine",
    copies=(),
    install=(),
    # It is looked for in the image, by what that starts.
    python=(),
    scripts=None,
    command=(),
    remove=(),
    writes=(),
    remains=(),
    expects=UNLOCKED,
    # Nobody has promised that it can do without.
    read_only=False,
)


def image(looked: Looked) -> Foreign:
    """One that lies in a file or a folder."""
    return Foreign(path=looked.path, kind="image", recipe=_RECIPE, architecture=looked.architecture)


def named_image(name: str, identity: str) -> Foreign:
    """One that the engine has, by its name and its id there."""
    return Foreign(path=Path(name), kind="image", recipe=replace(_RECIPE, image=identity))
