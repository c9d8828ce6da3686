"""Images of a registry as they are: all that a reference names, with their documents and not their layers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from boxsnake import oci
from boxsnake.errors import PackError
from boxsnake.image.layout import LaidOut, StoredImages, laid_out
from boxsnake.reference import Reference, is_digest
from boxsnake.registry import Registries
from boxsnake.registry.repository import LARGEST_MANIFEST, Repository
from boxsnake.store import Store


@contextmanager
def images_of(store: Store, registries: Registries, reference: Reference) -> Iterator[StoredImages]:
    """The images of a reference, one for each platform; their layers are fetched when somebody reads them.

    Errors: NetworkError, IntegrityError; PackError for what is no image.
    """
    with registries.connect(reference.registry) as registry:
        repository = Repository(registry, reference.repository)
        try:
            images = tuple(_images(store, repository, reference.version))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            step = "Name a container image."
            raise PackError(str(reference), f"it cannot be read as an image: {error!r}", step) from None
        sizes = {layer.digest: layer.size for image in images for layer in image.layers}

        def bring(digest: str) -> None:
            repository.fetch_blob(store, digest, sizes[digest], lambda _: None)

        yield StoredImages(name=str(reference), images=images, store=store, bring=bring)


def _images(store: Store, repository: Repository, version: str) -> Iterator[LaidOut]:
    found = repository.manifest(version)
    document = json.loads(found.content)
    if found.media_type not in oci.INDEX_TYPES:
        size = int(document["config"]["size"])
        yield laid_out(
            oci.Document(content=found.content, media_type=found.media_type),
            lambda digest: _small_blob(store, repository, digest, size),
        )
        return
    for pointer in document["manifests"]:
        if not is_digest(pointer["digest"]):
            raise ValueError(pointer["digest"])
        yield from _images(store, repository, pointer["digest"])


def _small_blob(store: Store, repository: Repository, digest: str, size: int) -> bytes:
    if store.intact(digest) is None:
        if not 0 <= size <= LARGEST_MANIFEST:
            raise ValueError(f"a configuration of {size} bytes")
        repository.fetch_blob(store, digest, size, lambda _: None)
    return store.path(digest).read_bytes()
