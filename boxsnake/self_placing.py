"""How boxes are booted that place or mount themselves: what is true of each, with its manifest at hand or without."""

from __future__ import annotations

from pathlib import Path

from boxsnake.boot_recipe import BootRecipe, Expected

_USER = "10001"
# Root has a home there, and the ordinary user none.
USERSPACE_CACHES = ("/root/.cache", f"/var/tmp/boxsnake-{_USER}")  # noqa: S108 - in a container of its own
"""Where userspace images leave what they have extracted, in a container."""


def installer_recipe(artifact: Path, name: str, place: str, *, host: str, expects: Expected) -> BootRecipe:
    """An installer of the application `name`, installed to the folder `place`."""
    file = f"/tmp/{artifact.name}"  # noqa: S108 - in a container of its own
    current, control = f"{place}/lib/{name}/current", f"{place}/bin/{name}-ctl"
    install = (("sh", file, "--yes", "--prefix", place), (control, "selfcheck"))
    return BootRecipe(
        host=host,
        copies=((str(artifact), file),),
        install=install,
        python=(f"{current}/bin/python",),
        scripts=f"{current}/bin",
        command=(),
        remove=((control, "uninstall"),),
        writes=(),
        remains=(place, file),
        expects=expects,
        again=install,
        replace=install,
    )


def userspace_recipe(artifact: Path, folder: str, *, host: str, expects: Expected) -> BootRecipe:
    """A userspace image in `folder`, started by an ordinary user."""
    file = f"{folder}/{artifact.name}"
    return BootRecipe(
        host=host,
        copies=((str(artifact), file),),
        install=((file, "--appimage-selfcheck"),),
        python=("env", "BOXSNAKE_RUN=python", file),
        scripts=None,
        command=(file,),
        remove=(("rm", "-rf", folder, *USERSPACE_CACHES),),
        writes=(),
        remains=(),
        expects=expects,
        user=f"{_USER}:{_USER}",
        isolated=True,
    )
