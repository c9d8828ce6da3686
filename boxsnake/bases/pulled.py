"""Images out of registries, without an engine: manifests and layers by digest into the store.

OCI images and those of Docker's image manifest version 2, schema 2. A layer that the store has is not fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from boxsnake import oci
from boxsnake.bases.archived import assembled, platform_in, taken_blob
from boxsnake.bases.value import Base
from boxsnake.errors import IntegrityError, NetworkError, PackError
from boxsnake.progress import track
from boxsnake.reference import Reference, is_digest
from boxsnake.registry import Registries
from boxsnake.registry.abreast import abreast
from boxsnake.registry.repository import LARGEST_MANIFEST, Manifest, Repository
from boxsnake.store import Store

_MOST_LAYERS = 500
_LARGEST_LAYER = 16 << 30
"""Bytes."""
# What stands where an architecture has several: the ones that every machine of it runs.
_USUAL_VARIANTS = ("", "v8")


def image_digest(registries: Registries, reference: Reference, platform: tuple[str, str]) -> str:
    """The digest of the manifest that a reference has now for a platform.

    Errors: NetworkError, IntegrityError; PackError where it has none for the platform.
    """
    for place in registries.places(reference):
        try:
            with registries.connect(place.registry) as registry:
                return _manifest(Repository(registry, place.repository), reference, platform).digest
        except NetworkError:
            if place == reference:
                raise
    raise AssertionError("a registry is the last of its places")


def pull(store: Store, registries: Registries, reference: Reference, platform: tuple[str, str]) -> Base:
    """The image of a reference as a base, its layers in the store.

    Errors: those of `image_digest`; PackError where it is no image, or has layers of an unknown kind.
    """
    for place in registries.places(reference):
        try:
            with registries.connect(place.registry) as registry:
                repository = Repository(registry, place.repository)
                return _pulled(store, repository, reference, _manifest(repository, reference, platform))
        except NetworkError:
            if place == reference:
                raise
    raise AssertionError("a registry is the last of its places")


def _manifest(repository: Repository, reference: Reference, platform: tuple[str, str]) -> Manifest:
    """The manifest of the platform's image."""
    found = repository.manifest(reference.version)
    document = _document(found.content, str(reference))
    if found.media_type in oci.INDEX_TYPES or "manifests" in document:
        pointer = _choose(document.get("manifests"), platform, str(reference))
        return repository.manifest(pointer)
    if found.media_type not in oci.MANIFEST_TYPES and document.get("mediaType") not in oci.MANIFEST_TYPES:
        raise _no_image(str(reference), f"its manifest is {found.media_type or 'of no kind'!r}")
    return found


def _choose(pointers: object, platform: tuple[str, str], name: str) -> str:
    """The digest of the one manifest for a platform."""
    if not isinstance(pointers, list) or not all(isinstance(pointer, dict) for pointer in pointers):
        raise _no_image(name, "its index has no manifests")
    about = [(pointer, pointer.get("platform") or {}) for pointer in pointers]
    fitting = [(pointer, told) for pointer, told in about if platform_in(told) == platform]
    usual = [found for found in fitting if found[1].get("variant", "") in _USUAL_VARIANTS] or fitting
    if not usual:
        there = sorted({"/".join(found) for _, told in about if (found := platform_in(told)) and found[0] != "unknown"})
        cause = f"it is not there for {'/'.join(platform)}, only for {', '.join(there) or 'none that is told'}"
        raise PackError(f"base image {name}", cause, "Name a base of the target's platform.", platforms=there)
    return _checked(usual[0][0].get("digest"), name)


def _pulled(store: Store, repository: Repository, reference: Reference, manifest: Manifest) -> Base:
    name = str(reference)
    document = _document(manifest.content, name)
    pointer, layers = document.get("config"), document.get("layers")
    if not isinstance(pointer, dict) or pointer.get("mediaType") not in oci.CONFIG_TYPES:
        kind = pointer.get("mediaType") if isinstance(pointer, dict) else None
        raise _no_image(name, f"its configuration is {kind or 'of no kind'!r}")
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS:
        raise _no_image(name, f"it has no layers, or more than {_MOST_LAYERS}")
    wanted = [_layer(layer, name) for layer in layers]
    digest, size = _checked(pointer.get("digest"), name), _size(pointer, LARGEST_MANIFEST, name)
    _fetch(store, repository, [(digest, size), *wanted], name)
    config = _document(store.path(digest).read_bytes(), name)
    with track(f"reading {name}", len(wanted)) as advance:
        taken = []
        for number, (layer, _) in enumerate(wanted, start=1):
            taken.append(_taken(store, layer, number, name))
            advance(1)
    try:
        return replace(assembled(name, manifest.digest, config, taken), manifest=manifest.digest)
    except (KeyError, TypeError, ValueError) as error:
        raise _no_image(name, f"its configuration and its layers do not fit together ({error})") from None


def _taken(store: Store, digest: str, number: int, name: str) -> Any:
    try:
        return taken_blob(store, digest, f"base {number}")
    except (OSError, EOFError, ValueError) as error:
        raise _no_image(name, f"layer {digest} cannot be unpacked ({type(error).__name__})") from None


def _fetch(store: Store, repository: Repository, blobs: Sequence[tuple[str, int]], name: str) -> None:
    missing = {digest: size for digest, size in blobs if store.intact(digest) is None}
    if not missing:
        return
    with track(f"pulling {name}", sum(missing.values())) as advance:

        def work(digest: str, size: int) -> Callable[[], None]:
            return lambda: repository.fetch_blob(store, digest, size, advance)

        abreast(repository.registry, [work(digest, size) for digest, size in missing.items()])


def _layer(layer: object, name: str) -> tuple[str, int]:
    if not isinstance(layer, dict):
        raise _no_image(name, "one of its layers is none")
    kind = layer.get("mediaType")
    if kind not in oci.LAYER_TYPES:
        cause = f"one of its layers is {kind!r}, which cannot be taken over"
        if layer.get("urls") or "foreign" in str(kind) or "nondistributable" in str(kind):
            cause = f"one of its layers ({kind}) is not in the registry and must not be handed on"
        step = "Name another base, or give this one as the tar of its root file system."
        raise PackError(f"base image {name}", cause, step, media_type=kind)
    return _checked(layer.get("digest"), name), _size(layer, _LARGEST_LAYER, name)


def _size(descriptor: Mapping[str, Any], most: int, name: str) -> int:
    size = descriptor.get("size")
    if not isinstance(size, int) or not 0 <= size <= most:
        raise IntegrityError(f"base image {name}", f"it has a blob of {size!r} bytes", "Name another base.")
    return size


def _checked(digest: object, name: str) -> str:
    if not isinstance(digest, str) or not is_digest(digest):
        raise _no_image(name, f"{str(digest)[:80]!r} is no digest that is known here")
    return digest


def _document(content: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _no_image(name, "what describes it is no JSON object")
    return document


def _no_image(name: str, cause: str) -> PackError:
    step = "Name a container image: OCI, or Docker's image manifest version 2, schema 2."
    return PackError(f"base image {name}", f"it cannot be used as an image: {cause}", step, base=name)
