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
    before = engine.tags()
    names = engine.load(archive)
    try:
        identity = described.id if engine.image(described.id) else ""
        # An engine with another way to name images (the digest of the manifest) knows it by its tag.
        found = engine.image(names[0]) if not identity and names else None
        if not identity and found is None:
            step = "See the engine's log; `docker load` with the same file may tell more."
            raise BootError(str(archive), "the engine took it, but has no image of it", step)
        yield identity or (found.id if found else "")
    finally:
        _take_out(engine, {*described.tags, *names, described.id}, before)


def _take_out(engine: Engine, names: set[str], before: dict[str, str]) -> None:
    for name in sorted(names):
        if name in before:
            engine.tag(before[name], name)
        else:
            engine.remove_image(name)


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
