"""The artifact that is itself an image: into the engine to be booted, and out again, other images' names untouched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boxsnake.disk import disk_faults
from boxsnake.engine import Engine
from boxsnake.errors import BootError


@dataclass(frozen=True, kw_only=True)
class ArchivedImage:
    """What a docker archive says about its one image."""

    id: str
    tags: tuple[str, ...]


@contextlib.contextmanager
def loaded(engine: Engine, archive: Path) -> Iterator[str]:
    """Have the archive's image in the engine for the block: its id.

    An image that was there before stays; one that was not goes again, and the tags that it took go back to the images
    that they were taken from. Errors: BootError where the archive holds no image that the engine takes.
    """
    described = read_archive(archive)
    if engine.image(described.id) is not None:
        yield described.id
        return
    # Asked one by one: engines list a name with or without the registry that they take it to be of.
    before = {tag: image.id for tag in described.tags if (image := engine.image(tag)) is not None}
    names = engine.load(archive)
    try:
        # An engine with another way to name images (the digest of the manifest) knows it by its tag.
        found = engine.image(described.id) or next(filter(None, map(engine.image, names)), None)
        if found is None:
            step = "See the engine's log; `docker load` with the same file may tell more."
            raise BootError(str(archive), "the engine took it, but has no image of it", step)
        yield found.id
    finally:
        for tag in described.tags:
            if tag in before:
                engine.tag(before[tag], tag)
            else:
                engine.remove_image(tag)
        engine.remove_image(described.id)


def read_archive(archive: Path) -> ArchivedImage:
    """The id and the tags of the one image of a docker archive, without unpacking it. Errors: BootError."""
    step = "Build the artifact again."
    with disk_faults(archive):
        try:
            with tarfile.open(archive) as members:
                document = json.loads(_bytes_of(members, "manifest.json"))
                image = document[0]
                config = _bytes_of(members, image["Config"])
        except (tarfile.TarError, KeyError, IndexError, TypeError, ValueError, EOFError) as error:
            raise BootError(str(archive), f"is no docker archive: {error!r}", step) from None
    identity = f"sha256:{hashlib.sha256(config).hexdigest()}"
    return ArchivedImage(id=identity, tags=tuple(image.get("RepoTags") or ()))


def _bytes_of(members: tarfile.TarFile, name: str) -> bytes:
    stream = members.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read()
