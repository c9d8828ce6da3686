"""OCI image layouts, read where they lie: an artifact's tar, which is not unpacked for it, or a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from boxsnake import oci
from boxsnake.disk import disk_faults, file_chunks
from boxsnake.errors import IntegrityError, PackError, ResourceError
from boxsnake.reference import is_digest
from boxsnake.store import Store
from boxsnake.value import dataclass

_LARGEST_DOCUMENT = 16 << 20
_NAME = "io.containerd.image.name"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer as a manifest names it."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, kw_only=True)
class LaidOut:
    """One image of a layout: its documents, and what its manifest says. `platform` is (os, architecture)."""

    manifest: oci.Document
    config: oci.Document
    platform: tuple[str, str]
    variant: str = ""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Lowest first."""
        return tuple(
            Layer(digest=layer["digest"], size=layer["size"], media_type=layer["mediaType"])
            for layer in json.loads(self.manifest.content)["layers"]
        )

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's."""
        return json.loads(self.manifest.content).get("annotations") or {}

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration, decoded."""
        document: dict[str, Any] = json.loads(self.config.content)
        return document


class Images(Protocol):
    """Images, and where the bytes of their layers are."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def images(self) -> Sequence[LaidOut]:
        """All of them."""
        ...

    def chunks(self, digest: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """A blob's bytes, or a part of them, unchecked."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoredImages:
    """Images whose blobs are in the store, or are brought there when they are asked for."""

    name: str
    images: tuple[LaidOut, ...]
    store: Store
    bring: Callable[[str], None]
    """Bring a blob into the store, by its digest."""

    def chunks(self, digest: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """See `Images`."""
        documents = {one.digest: one.content for image in self.images for one in (image.config, image.manifest)}
        if digest in documents:
            yield documents[digest][start : None if size is None else start + size]
            return
        if self.store.intact(digest) is None:
            self.bring(digest)
        yield from file_chunks(self.store.path(digest), start, size)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a file of a layout lies: in a file of its own, or in a tar."""

    path: Path
    offset: int
    size: int


class Layout:
    """An image layout. Errors: ResourceError where it cannot be read, PackError where it is none, IntegrityError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._places = places(path)

    @cached_property
    def images(self) -> tuple[LaidOut, ...]:
        """Its images, each once, in the order of the index."""
        found = {pointer["digest"]: pointer for pointer in self._pointers("index.json")}
        images = tuple(self._image(pointer) for pointer in found.values())
        if not images:
            raise self._no_layout("its index names no image")
        return images

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The references that it was made for."""
        if "manifest.json" in self._places:
            try:
                return tuple(
                    tag for image in json.loads(self._read("manifest.json")) for tag in image["RepoTags"] or ()
                )
            except (ValueError, KeyError, TypeError) as error:
                raise self._no_layout(repr(error)) from None
        named = (pointer.get("annotations", {}).get(_NAME) for pointer in self._pointers("index.json"))
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def names(self) -> Collection[str]:
        """Of all of its files."""
        return self._places.keys()

    def chunks(self, digest: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """A blob's bytes, or a part of them, as they lie there: who uses them checks the digest."""
        place = self._place(oci.blob_path(digest))
        yield from file_chunks(place.path, place.offset + start, place.size - start if size is None else size)

    def blob(self, digest: str) -> bytes:
        """A small blob, checked."""
        content = self._read(oci.blob_path(digest))
        if oci.Document(content=content, media_type="").digest != digest:
            step = "Build or copy it again."
            raise IntegrityError(str(self.path), f"its blob {digest} has other bytes", step, digest=digest)
        return content

    def _pointers(self, name: str) -> list[dict[str, Any]]:
        """The manifests of an index, and of those within it."""
        try:
            content = self._read(name) if name == "index.json" else self.blob(name)
            found: list[dict[str, Any]] = []
            for pointer in json.loads(content)["manifests"]:
                if pointer.get("mediaType") in oci.INDEX_TYPES:
                    found += self._pointers(_checked(pointer["digest"]))
                else:
                    found.append(pointer | {"digest": _checked(pointer["digest"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._no_layout(repr(error)) from None
        return found

    def _image(self, pointer: Mapping[str, Any]) -> LaidOut:
        try:
            manifest = oci.Document(content=self.blob(pointer["digest"]), media_type=str(pointer["mediaType"]))
            return laid_out(manifest, self.blob)
        except (ValueError, KeyError, TypeError) as error:
            raise self._no_layout(repr(error)) from None

    def _read(self, name: str) -> bytes:
        place = self._place(name)
        if place.size > _LARGEST_DOCUMENT:
            raise self._no_layout(f"{name} has {place.size} bytes")
        with disk_faults(place.path), place.path.open("rb") as stream:
            stream.seek(place.offset)
            return stream.read(place.size)

    def _place(self, name: str) -> Place:
        try:
            return self._places[name]
        except KeyError:
            raise self._no_layout(f"{name} is not in it") from None

    def _no_layout(self, why: str) -> PackError:
        step = "Name what `boxsnake build image` has made, or another image in the OCI image layout."
        return PackError(str(self.path), f"it cannot be read as an image layout: {why}", step, path=str(self.path))


def laid_out(manifest: oci.Document, blob: Callable[[str], bytes]) -> LaidOut:
    """The image of a manifest; `blob` gives its configuration. Errors: ValueError, KeyError, TypeError."""
    about = json.loads(manifest.content)["config"]
    config = oci.Document(content=blob(_checked(about["digest"])), media_type=str(about["mediaType"]))
    said = json.loads(config.content)
    image = LaidOut(
        manifest=manifest,
        config=config,
        platform=(str(said["os"]), str(said["architecture"])),
        variant=str(said.get("variant") or ""),
    )
    for layer in image.layers:
        _checked(layer.digest)
    return image


def _checked(digest: object) -> str:
    if not isinstance(digest, str) or not is_digest(digest):
        raise ValueError(f"{str(digest)[:80]!r} is no digest")
    return digest


def places(path: Path) -> dict[str, Place]:
    """The files of an uncompressed tar, or of a folder, by their names. Errors: ResourceError, PackError."""
    with disk_faults(path):
        if path.is_dir():
            files = (file for file in path.rglob("*") if file.is_file())
            return {
                file.relative_to(path).as_posix(): Place(path=file, offset=0, size=file.stat().st_size)
                for file in files
            }
        if not path.is_file():
            raise ResourceError(str(path), "there is no such file", "Build it first, or correct the name.")
        import tarfile

        try:
            with tarfile.open(path, mode="r:") as archive:
                return {
                    member.name.removeprefix("./"): Place(path=path, offset=member.offset_data, size=member.size)
                    for member in archive
                    if member.isfile()
                }
        except tarfile.TarError as error:
            step = "Name what `boxsnake build image` has made: an uncompressed tar, or a folder."
            raise PackError(str(path), f"it cannot be read as a tar: {error}", step, path=str(path)) from None
