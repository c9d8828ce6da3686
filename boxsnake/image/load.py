"""An image into a container engine: only the layers that the engine lacks travel."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from boxsnake.errors import BootError
from boxsnake.image.docker_archive import DockerArchive, read_archive

if TYPE_CHECKING:
    from boxsnake.engine import Engine, Image


def load(engine: Engine, artifact: Path) -> list[str]:
    """Put the artifact, a tar or a folder, into a container engine: the names under which it is there now.

    An image that is there already is only given its names. Else the engine is sent only the layers that it lacks: those
    that it has, in the same order from the lowest on, are empty files in the stream. Whatever came of that is compared
    with the image's diff ids; where an engine does not take it, or took it for something else, it gets the whole.
    Errors: EngineError; BootError where the engine refuses the archive, or has another image of it.
    """
    wanted = read_archive(artifact)
    put(engine, wanted, likely=wanted.tags)
    return list(wanted.tags)


def put(engine: Engine, wanted: DockerArchive, *, likely: Sequence[str]) -> None:
    """Do the same with an archive that was read. Images with the names `likely` are expected to share its layers."""
    if _named(engine, wanted, ()):
        return
    known = engine.leading_layers(wanted.diff_ids, likely=likely)
    if known and _loaded_thin(engine, wanted, known):
        return
    names = engine.load(wanted.stream(wanted.tags))
    if not _named(engine, wanted, names):
        cause = "the engine took it, and has no image with its layers"
        step = "See the engine's log; `docker load` with the same file may tell more."
        raise BootError(str(wanted.path), cause, step)


def _named(engine: Engine, wanted: DockerArchive, names: Sequence[str]) -> bool:
    """Whether the engine has the image, by its id or one of these names. All its tags then lead to it.

    An engine with another way to name images (by the digest of their manifests) knows it by its names alone.
    """
    found = next((image for image in map(engine.image, (wanted.id, *names)) if _is_it(image, wanted)), None)
    if found is None:
        return False
    for tag in wanted.tags:
        there = engine.image(tag)
        # The same layers with another configuration are another image.
        if there is None or there.id != found.id:
            engine.tag(found.id, tag)
    return True


def _is_it(image: Image | None, wanted: DockerArchive) -> TypeGuard[Image]:
    return image is not None and image.layers == wanted.diff_ids


def _loaded_thin(engine: Engine, wanted: DockerArchive, known: int) -> bool:
    """Whether the engine has made the image out of the layers beyond the first `known` ones and those that it has."""
    # One file may be two layers: what is sent once must be sent whole.
    empty = set(wanted.files[:known]) - set(wanted.files[known:])
    with contextlib.suppress(BootError):
        engine.load(wanted.stream(wanted.tags, empty))
        return _named(engine, wanted, ())
    return False
