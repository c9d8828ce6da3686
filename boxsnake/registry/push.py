"""Images out of layouts into repositories: blobs first, then what names them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from boxsnake import oci
from boxsnake.errors import NetworkError, UsageError
from boxsnake.image.layout import Images, LaidOut
from boxsnake.image.own import BASE_NAME
from boxsnake.progress import Advance, track
from boxsnake.reference import Reference, parse
from boxsnake.registry import Registries
from boxsnake.registry.abreast import abreast
from boxsnake.registry.conversation import Registry
from boxsnake.registry.repository import Repository
from boxsnake.registry.upload import Outcome, Parcel, Upload
from boxsnake.store import Store
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was pushed under one tag. `digest` is what the registry has it by; blobs are numbers, `sent` is in bytes."""

    reference: str
    digest: str
    platforms: tuple[str, ...]
    uploaded: int
    mounted: int
    there: int
    sent: int


_SMALL = 1 << 16
"""Bytes. To send so many takes no longer than to ask for them first."""

_LACKING = frozenset({400, 404})
"""What registries answer to a manifest of blobs that they have not got."""


def push(store: Store, registries: Registries, layouts: Sequence[Images], tags: Sequence[Reference]) -> list[Pushed]:
    """Push the images of the layouts under each tag: one as it is, those of several platforms under an index.

    What was pushed where is remembered in the store, as other repositories of the same registry can take blobs from
    there. Errors: UsageError where two images are for one platform, NetworkError, IntegrityError, ResourceError.
    """
    return _push(store, registries, layouts, tags, _Gate(is_open=True))


@contextmanager
def pushing(
    store: Store, registries: Registries, layouts: Sequence[Images], tags: Sequence[Reference]
) -> Iterator[Callable[[], list[Pushed]]]:
    """Send the blobs of images while the block runs, and what names them when it calls what it is given.

    That does what `push` does, and fails as that does. Where it is not called, no tag is written; blobs that nothing
    names are the registry's to remove.
    """
    gate = _Gate(is_open=False)
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(_push, store, registries, layouts, tags, gate)

        def finished() -> list[Pushed]:
            gate.open()
            return pushed.result()

        try:
            yield finished
        finally:
            gate.close()


class _AbandonedError(Exception):
    """What was sent shall not be named."""


class _Gate:
    """What names images waits here until it is known whether it shall."""

    def __init__(self, *, is_open: bool) -> None:
        self._changed = threading.Condition()
        self._is_open = is_open
        self._is_closed = False
        self._registry: Registry | None = None

    def meet(self, registry: Registry) -> None:
        """Have requests to a registry end when the gate is closed."""
        with self._changed:
            self._registry = registry
            if self._is_closed:
                registry.stop.set()

    def open(self) -> None:
        """Let all through."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody through who is not yet."""
        with self._changed:
            self._is_closed = True
            if self._registry is not None:
                self._registry.stop.set()
            self._changed.notify_all()

    def wait(self) -> None:
        """Go through. Raises _AbandonedError."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._is_closed)
            if self._is_closed:
                raise _AbandonedError


def _push(
    store: Store, registries: Registries, layouts: Sequence[Images], tags: Sequence[Reference], gate: _Gate
) -> list[Pushed]:
    images = _images(layouts)
    top = _top([image for _, image in images])
    done = []
    for tag in tags:
        with registries.connect(tag.registry) as registry:
            gate.meet(registry)
            done.append(_pushed(store, registry, images, top, tag, gate))
    return done


def _images(layouts: Sequence[Images]) -> list[tuple[Images, LaidOut]]:
    found = {image.manifest.digest: (layout, image) for layout in layouts for image in layout.images}
    platforms: dict[tuple[tuple[str, str], str], str] = {}
    for layout, image in found.values():
        key = (image.platform, image.variant)
        if key in platforms:
            cause = f"and {platforms[key]} both hold an image for {'/'.join(image.platform)}"
            raise UsageError(layout.name, cause, "Push them under tags of their own, one by one (--target).")
        platforms[key] = layout.name
    return [found[digest] for digest in sorted(found, key=lambda digest: (found[digest][1].platform, digest))]


def _top(images: Sequence[LaidOut]) -> oci.Document:
    """What the tag names."""
    if len(images) == 1:
        return images[0].manifest
    return oci.platform_index([(image.manifest, image.platform, image.variant) for image in images])


def _pushed(
    store: Store,
    registry: Registry,
    images: Sequence[tuple[Images, LaidOut]],
    top: oci.Document,
    tag: Reference,
    gate: _Gate,
) -> Pushed:
    blobs = {parcel.digest: parcel for layout, image in images for parcel in _parcels(layout, image)}
    origins = {
        digest: source
        for layout, image in images
        for digest in (layer.digest for layer in image.layers)
        if (source := _origin(store, registry.name, digest, image)) not in {None, tag.repository}
    }
    sources = tuple(sorted({source for source in origins.values() if source}))
    repository = Repository(registry, tag.repository, writes=True, sources=sources)
    sending = _Sending(store, repository, blobs, origins, gate)
    last = _last(store, repository)
    try:
        outcomes, digest = sending.run(images, top, tag, last)
    except NetworkError as error:
        if not last or error.data.get("status") not in _LACKING:
            raise
        # It has the last manifest, and not all that it names.
        outcomes, digest = sending.run(images, top, tag, {})
    store.select("registry-image", _place(repository), {"digest": digest, "blobs": sorted(blobs)})
    return Pushed(
        reference=str(tag),
        digest=digest,
        platforms=tuple("/".join(filter(None, (*image.platform, image.variant))) for _, image in images),
        uploaded=outcomes.count("uploaded"),
        mounted=outcomes.count("mounted"),
        there=outcomes.count("there"),
        sent=sending.sent,
    )


def _place(repository: Repository) -> dict[str, str]:
    return {"registry": repository.registry.name, "repository": repository.name}


def _last(store: Store, repository: Repository) -> Mapping[str, Any]:
    """What was pushed there last: its digest, and those of its blobs."""
    return store.selected("registry-image", _place(repository)) or {}


class _Sending:
    """The blobs of images on their way into a repository, and what names them after these."""

    def __init__(
        self,
        store: Store,
        repository: Repository,
        blobs: Mapping[str, Parcel],
        origins: Mapping[str, str | None],
        gate: _Gate,
    ) -> None:
        self._store = store
        self._repository = repository
        self._blobs = blobs
        self._origins = origins
        self._gate = gate
        self.sent = 0
        """Bytes."""

    def run(
        self, images: Sequence[tuple[Images, LaidOut]], top: oci.Document, tag: Reference, last: Mapping[str, Any]
    ) -> tuple[list[Outcome], str]:
        """Send what is not there: what came of each blob, and the digest under the tag.

        As long as the repository has the `last` image, what that has in common with this one need not be asked for; and
        what is small and not in that is new.
        """
        with track(f"pushing {tag}", sum(parcel.size for parcel in self._blobs.values())) as advance:
            outcomes = self._send(advance, last)
        self._gate.wait()
        for _, image in images:
            if image.manifest is not top:
                self._put(image.manifest.digest, image.manifest)
        return outcomes, self._put(tag.version, top)

    def _put(self, version: str, document: oci.Document) -> str:
        return self._repository.put_manifest(version, document.content, document.media_type)

    def _send(self, advance: Advance, last: Mapping[str, Any]) -> list[Outcome]:
        ordered = sorted(self._blobs.values(), key=lambda one: -one.size)
        likely = [parcel for parcel in ordered if parcel.digest in last.get("blobs", ())]
        others = [
            self._job(parcel, advance, is_new=bool(likely) and parcel.size <= _SMALL)
            for parcel in ordered
            if parcel not in likely
        ]
        if not likely:
            return abreast(self._repository.registry, others)
        is_there: list[bool] = []

        def look() -> Outcome:
            is_there.append(self._repository.has_manifest(last["digest"]))
            return "there"

        _, *outcomes = abreast(self._repository.registry, [look, *others])
        if not all(is_there):
            return outcomes + abreast(self._repository.registry, [self._job(parcel, advance) for parcel in likely])
        advance(sum(parcel.size for parcel in likely))
        there: list[Outcome] = ["there"] * len(likely)
        return outcomes + there

    def _job(self, parcel: Parcel, advance: Advance, *, is_new: bool = False) -> Callable[[], Outcome]:
        def advanced(amount: int) -> None:
            self.sent += amount
            advance(amount)

        upload = Upload(self._repository, parcel, advanced, source=self._origins.get(parcel.digest), is_new=is_new)
        return lambda: _remembered(self._store, self._repository, parcel, upload.run())


def _parcels(layout: Images, image: LaidOut) -> list[Parcel]:
    config = Parcel(layout=layout, digest=image.config.digest, size=len(image.config.content))
    layers = (Parcel(layout=layout, digest=layer.digest, size=layer.size) for layer in image.layers)
    return [config, *layers]


def _origin(store: Store, registry: str, digest: str, image: LaidOut) -> str | None:
    """Another repository of the registry that may have a blob: where it was last seen, else the base's."""
    known = store.selected("registry-blob", {"registry": registry, "digest": digest})
    if known is not None:
        return str(known["repository"])
    try:
        base = parse(image.annotations.get(BASE_NAME, ""))
    except ValueError:
        return None
    return base.repository if base.registry == registry else None


def _remembered(store: Store, repository: Repository, parcel: Parcel, outcome: Outcome) -> Outcome:
    if outcome != "there":
        key = {"registry": repository.registry.name, "digest": parcel.digest}
        store.select("registry-blob", key, {"repository": repository.name})
    return outcome
