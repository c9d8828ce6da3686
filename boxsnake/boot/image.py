"""The artifact that is itself an image: into the engine to be booted, and out again, all names untouched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boxsnake.disk import disk_faults
from boxsnake.engine import Engine, passing_name
from boxsnake.errors import BootError
from boxsnake.oci import LAYOUT_NAMES
from boxsnake.tar_stream import retold, tar_file

_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class ArchivedImage:
    """What a docker archive says about its one image."""

    id: str
    tags: tuple[str, ...]


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
            engine.load(_renamed(archive, name))
        found = engine.image(name)
        if found is None:
            step = "See the engine's log; `docker load` with the same file may tell more."
            raise BootError(str(archive), "the engine took it, but has no image of it", step)
        yield found.id
    finally:
        engine.remove_image(name)


def _renamed(archive: Path, name: str) -> Iterator[bytes]:
    """The docker archive with this as its image's only name. Of an OCI layout's index, which has others, nothing."""
    with disk_faults(archive), tarfile.open(archive) as members:
        document = json.loads(_bytes_of(members, _MANIFEST))
    document[0]["RepoTags"] = [name]
    left_out = {_MANIFEST, *LAYOUT_NAMES}
    yield from tar_file(_MANIFEST, json.dumps(document).encode())
    yield from retold(archive, lambda member: ("" if member.name in left_out else member.name, member.size))


def read_archive(archive: Path) -> ArchivedImage:
    """The id and the tags of the one image of a docker archive, without unpacking it. Errors: BootError."""
    step = "Build the artifact again."
    with disk_faults(archive):
        try:
            with tarfile.open(archive) as members:
                document = json.loads(_bytes_of(members, _MANIFEST))
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
