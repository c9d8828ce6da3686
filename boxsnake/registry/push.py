"""Images out of layouts into repositories: blobs first, then what names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import Any

from boxsnake import oci
from boxsnake.errors import BoxsnakeError, NetworkError, UsageError
from boxsnake.image.layout import Images, LaidOut
from boxsnake.image.own import BASE_NAME
from boxsnake.progress import Advance, track
from boxsnake.reference import Reference, parse
from boxsnake.registry import Registries
from boxsnake.registry.abreast import abreast
from boxsnake.registry.conversation import Registry
from boxsnake.registry.course import Course
from boxsnake.registry.repository import Repository
from boxsnake.registry.upload import Outcome, Parcel, Upload, begin_upload, cancel_upload
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

_AHEAD = 2
"""Blobs that are new after an edit: a layer and the configuration."""


def push(store: Store, registries: Registries, layouts: Sequence[Images], tags: Sequence[Reference]) -> list[Pushed]:
    """Push the images of the layouts under each tag: one as it is, those of several platforms under an index.

    What was pushed where is remembered in the store, as other repositories of the same registry can take blobs from
    there. Errors: UsageError where two images are for one platform, NetworkError, IntegrityError, ResourceError.
    """
    course = Course()
    course.give(layouts)
    course.allow()
    return push_along(store, registries, tags, course)


def push_along(store: Store, registries: Registries, tags: Sequence[Reference], course: Course) -> list[Pushed]:
    """Push images while they are made, as `push` does.

    Before they are there, a repository that has had earlier ones is asked for what new ones will need; their blobs go
    as soon as they are there. No tag is written without a word: where none comes, blobs that nothing names are the
    registry's to remove. Errors: those of `push`; CancelledError where the course ends.
    """
    done = []
    for tag in tags:
        with registries.connect(tag.registry) as registry:
            course.at_end(registry.end)
            done.append(_pushed(store, registry, tag, course))
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


def _pushed(store: Store, registry: Registry, tag: Reference, course: Course) -> Pushed:
    last = _last(store, registry, tag.repository)
    ahead = _asked_ahead(Repository(registry, tag.repository, writes=True), last) if not course.has_images else _Ahead()
    images = _images(course.images())
    top = _top([image for _, image in images])
    blobs = {parcel.digest: parcel for layout, image in images for parcel in _parcels(layout, image)}
    origins = {
        digest: source
        for layout, image in images
        for digest in (layer.digest for layer in image.layers)
        if (source := _origin(store, registry.name, digest, image)) not in {None, tag.repository}
    }
    sources = tuple(sorted({source for source in origins.values() if source}))
    repository = Repository(registry, tag.repository, writes=True, sources=sources)
    sending = _Sending(store, repository, blobs, origins, ahead, course)
    try:
        outcomes, digest = sending.run(images, top, tag, last)
    except NetworkError as error:
        if not last or registry.stop.is_set() or error.data.get("status") not in _LACKING:
            raise
        # It has the last manifest, and not all that it names.
        outcomes, digest = sending.run(images, top, tag, {})
    _abandon(repository, ahead.places)
    store.select("registry-image", _place(registry, tag.repository), {"digest": digest, "blobs": sorted(blobs)})
    return Pushed(
        reference=str(tag),
        digest=digest,
        platforms=tuple("/".join(filter(None, (*image.platform, image.variant))) for _, image in images),
        uploaded=outcomes.count("uploaded"),
        mounted=outcomes.count("mounted"),
        there=outcomes.count("there"),
        sent=sending.sent,
    )


@dataclass(frozen=True, kw_only=True)
class _Ahead:
    """What is known of a repository before the images are: nothing, where it was not asked.

    `has_last` is whether it has the last manifest, `places` are where blobs can be sent to.
    """

    has_last: bool | None = None
    places: list[str] = field(default_factory=list)


def _asked_ahead(repository: Repository, last: Mapping[str, Any]) -> _Ahead:
    if not last:
        return _Ahead()
    places: list[str] = []

    def open_place() -> bool:
        places.append(begin_upload(repository))
        return True

    has_last, *_ = abreast(
        repository.registry, [lambda: repository.has_manifest(last["digest"]), *[open_place] * _AHEAD]
    )
    return _Ahead(has_last=has_last, places=places)


def _abandon(repository: Repository, places: Sequence[str]) -> None:
    """Leave nothing open that was not needed. What a registry does not take back, it removes after a while itself."""
    with suppress(BoxsnakeError):
        abreast(repository.registry, [partial(cancel_upload, repository, place) for place in places])


def _place(registry: Registry, repository: str) -> dict[str, str]:
    return {"registry": registry.name, "repository": repository}


def _last(store: Store, registry: Registry, repository: str) -> Mapping[str, Any]:
    """What was pushed there last: its digest, and those of its blobs."""
    return store.selected("registry-image", _place(registry, repository)) or {}


class _Sending:
    """The blobs of images on their way into a repository, and what names them after these."""

    def __init__(
        self,
        store: Store,
        repository: Repository,
        blobs: Mapping[str, Parcel],
        origins: Mapping[str, str | None],
        ahead: _Ahead,
        course: Course,
    ) -> None:
        self._store = store
        self._repository = repository
        self._blobs = blobs
        self._origins = origins
        self._ahead = ahead
        self._course = course
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
        self._course.await_word()
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
            is_known = self._ahead.has_last is not None
            is_there.append(bool(self._ahead.has_last) if is_known else self._repository.has_manifest(last["digest"]))
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

        upload = Upload(
            self._repository,
            parcel,
            advanced,
            source=self._origins.get(parcel.digest),
            is_new=is_new,
            places=self._ahead.places,
        )
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
