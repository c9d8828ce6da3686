"""A box that is no image, installed on its clean host, which then is an image to be started like any other."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from boxsnake.boot_recipe import BootRecipe
from boxsnake.engine import INSTALLING, Engine, sleeper
from boxsnake.errors import BootError, ResourceError
from boxsnake.hosts import image_id, load_hosts
from boxsnake.stack.value import Unit
from boxsnake.store import Store

_SECONDS = 900.0
_SHOWN_LINES = 12
_USER = "10001:10001"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ROOT = {"HOME": "/root", "PATH": _PATH}


@contextlib.contextmanager
def installed(engine: Engine, store: Store, recipe: BootRecipe, *, offline: bool) -> Iterator[str]:
    """Have the image of a host with the box on it in the engine for the block: its id.

    Errors: BootError where it does not install, and those of making the host.
    """
    hosts = load_hosts()
    if recipe.host not in hosts:
        step = "Define it in the folder that `hosts` in your settings names."
        raise ResourceError(f"host {recipe.host}", "there is no such host", step)
    host = image_id(engine, store, hosts[recipe.host], offline=offline)
    with contextlib.ExitStack() as until:
        with engine.container(host, sleep=sleeper(), environment=_ROOT, capabilities=INSTALLING) as container:
            for source, target in recipe.copies:
                container.copy(Path(source), target)
            for command in recipe.install:
                ended = container.execute(command, seconds=_SECONDS, user="0:0", environment=_ROOT)
                if ended.exit_code != 0:
                    words = (ended.output + ended.errors).decode("utf-8", "replace").strip().splitlines()
                    shown = "".join(f"\n  {line}" for line in words[-_SHOWN_LINES:])
                    cause = f"`{shlex.join(command)}` exited with {ended.exit_code}{shown}"
                    raise BootError(f"host {recipe.host}", cause, "`boxsnake boot` tells more of it.")
            identity = until.enter_context(engine.image_of(container.id))
        yield identity


def as_installed(unit: Unit, recipe: BootRecipe) -> Unit:
    """The application as it is started where it was installed: by an ordinary user, on a root that root may write."""
    own = dict(recipe.environment)
    path = f"{recipe.scripts}:{_PATH}" if recipe.scripts else _PATH
    environment = {"PATH": path, "HOME": "/tmp"} | own | dict(unit.environment)  # noqa: S108 - in the container
    return replace(
        unit,
        entrypoint=recipe.command,
        command=(),
        user=recipe.user or _USER,
        environment=tuple(sorted(environment.items())),
        read_only=False,
        volumes=(),
    )
