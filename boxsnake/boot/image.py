"""The artifact that is itself an image: into the engine to be booted, and out again, all names untouched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from boxsnake.engine import Engine, passing_name
from boxsnake.errors import BootError
from boxsnake.image.docker_archive import read_archive


@contextlib.contextmanager
def loaded(engine: Engine, archive: Path) -> Iterator[str]:
    """Have the archive's image in the engine for the block, under a name of its own: its id.

    The names that the archive gives stay whose they are, and several blocks may have one image at a time. It goes with
    its last name. Errors: BootError where the archive holds no image that the engine takes.
    """
    described = read_archive(archive)
    name = passing_name("booted")
    try:
        if engine.image(described.id) is not None:
            engine.tag(described.id, name)
        else:
            engine.load(described.stream([name]))
        found = engine.image(name)
        if found is None:
            step = "See the engine's log; `docker load` with the same file may tell more."
            raise BootError(str(archive), "the engine took it, but has no image of it", step)
        yield found.id
    finally:
        engine.remove_image(name)
