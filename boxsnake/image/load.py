"""An image into a container engine: only the layers that the engine lacks travel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from boxsnake.disk import disk_faults
from boxsnake.engine import Engine, Image
from boxsnake.errors import BootError
from boxsnake.oci import LAYOUT_NAMES
from boxsnake.tar_stream import retold


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The image of an archive: its id (its configuration's digest), its diff ids, its layers' files, its names."""

    identity: str
    diff_ids: tuple[str, ...]
    files: tuple[str, ...]
    tags: tuple[str, ...]


def load(engine: Engine, artifact: Path) -> list[str]:
    """Put the artifact into a container engine: the names under which it is there now.

    An image that is there already is only given its names. Else the engine is sent only the layers that it lacks: those
    that it has, in the same order from the lowest on, are empty files in the stream. Whatever came of that is compared
    with the image's diff ids; where an engine does not take it, or took it for something else, it gets the whole.
    Errors: EngineError; BootError where the engine refuses the archive, or has another image of it.
    """
    wanted = _wanted(artifact)
    if _named(engine, wanted, ()):
        return list(wanted.tags)
    known = engine.leading_layers(wanted.diff_ids, likely=wanted.tags)
    if known and _loaded_thin(engine, artifact, wanted, known):
        return list(wanted.tags)
    names = engine.load(_docker_archive(artifact, set()))
    if not _named(engine, wanted, names):
        cause = "the engine took it, and has no image with its layers"
        raise BootError(str(artifact), cause, "See the engine's log; `docker load` with the same file may tell more.")
    return list(wanted.tags)


def _named(engine: Engine, wanted: _Wanted, names: Sequence[str]) -> bool:
    """Whether the engine has the image, by its id or one of these names. All its tags then lead to it.

    An engine with another way to name images (by the digest of their manifests) knows it by its names alone.
    """
    found = next((image for image in map(engine.image, (wanted.identity, *names)) if _is_it(image, wanted)), None)
    if found is None:
        return False
    for tag in wanted.tags:
        there = engine.image(tag)
        # The same layers with another configuration are another image.
        if there is None or there.id != found.id:
            engine.tag(found.id, tag)
    return True


def _wanted(artifact: Path) -> _Wanted:
    with disk_faults(artifact), tarfile.open(artifact, mode="r:") as archive:
        document = _document(archive, artifact)
        config = _read(archive, document["Config"])
    return _Wanted(
        identity=f"sha256:{hashlib.sha256(config).hexdigest()}",
        diff_ids=tuple(json.loads(config)["rootfs"]["diff_ids"]),
        files=tuple(document["Layers"]),
        tags=tuple(document["RepoTags"]),
    )


def _is_it(image: Image | None, wanted: _Wanted) -> TypeGuard[Image]:
    return image is not None and image.layers == wanted.diff_ids


def _loaded_thin(engine: Engine, artifact: Path, wanted: _Wanted, known: int) -> bool:
    """Whether the engine has made the image out of the layers beyond the first `known` ones and those that it has."""
    # One file may be two layers: what is sent once must be sent whole.
    empty = set(wanted.files[:known]) - set(wanted.files[known:])
    with contextlib.suppress(BootError):
        engine.load(_docker_archive(artifact, empty))
        return _named(engine, wanted, ())
    return False


def _docker_archive(artifact: Path, empty: set[str]) -> Iterator[bytes]:
    """The archive as a stream, with nothing in the members of these names.

    It is no image layout any more: podman would take that first, and a name's version for the name.
    """
    return retold(
        artifact,
        lambda member: (
            "" if member.name in LAYOUT_NAMES else member.name,
            0 if member.name in empty else member.size,
        ),
    )


def _document(archive: tarfile.TarFile, artifact: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(_read(archive, "manifest.json"))[0]
    except (KeyError, ValueError, IndexError, tarfile.TarError) as error:
        raise BootError(str(artifact), f"is no docker archive: {error!r}", "Build the artifact again.") from None
    return document


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read()
