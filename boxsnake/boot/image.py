"""The artifact that is itself an image: into the engine to be booted, and out again, all names untouched."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from boxsnake.engine import Engine, passing_name
from boxsnake.image.docker_archive import read_archive
from boxsnake.image.load import put


@contextlib.contextmanager
def loaded(engine: Engine, archive: Path) -> Iterator[str]:
    """Have the archive's image in the engine for the block, under a name of its own: its id.

    The names that the archive gives stay whose they are, and several blocks may have one image at a time. It goes with
    its last name. Only layers that the engine lacks travel. Errors: BootError where the archive holds no image that the
    engine takes.
    """
    described = read_archive(archive)
    name = passing_name("booted")
    try:
        put(engine, dataclasses.replace(described, tags=(name,)), likely=described.tags)
        yield engine.existing(name).id
    finally:
        engine.remove_image(name)
