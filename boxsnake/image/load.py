"""An image into a container engine: only the layers that the engine lacks travel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from boxsnake.disk import disk_faults
from boxsnake.engine import Engine
from boxsnake.errors import BootError
from boxsnake.tar_stream import retold


def load(engine: Engine, artifact: Path) -> list[str]:
    """Put the artifact into a container engine: the names under which it is there now.

    The engine is sent only the layers that it lacks: those that it has, in the same order from the lowest on, are
    empty files in the stream. Where an engine does not take that, it gets the whole. Errors: EngineError, BootError.
    """
    with disk_faults(artifact), tarfile.open(artifact, mode="r:") as archive:
        document = _document(archive, artifact)
        config = _read(archive, document["Config"])
    identity = f"sha256:{hashlib.sha256(config).hexdigest()}"
    diff_ids = tuple(json.loads(config)["rootfs"]["diff_ids"])
    there = engine.leading_layers(diff_ids)
    if there and not _loaded_thin(engine, artifact, document["Layers"][:there], document["Layers"][there:], identity):
        there = 0
    if not there:
        engine.load(artifact)
    return list(document["RepoTags"])


def _loaded_thin(engine: Engine, artifact: Path, known: Sequence[str], lacking: Sequence[str], identity: str) -> bool:
    empty = set(known) - set(lacking)
    with contextlib.suppress(BootError):
        engine.load(_thinned(artifact, empty))
        image = engine.image(identity)
        return image is not None and len(image.layers) == len(known) + len(lacking)
    return False


def _thinned(artifact: Path, empty: set[str]) -> Iterator[bytes]:
    """The archive as a stream, with nothing in the members of these names."""
    return retold(artifact, lambda member: (member.name, 0 if member.name in empty else member.size))


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
