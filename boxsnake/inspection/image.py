"""Images looked into where they lie: OCI layouts and docker archives, their layers one over the other."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from boxsnake.errors import IntegrityError
from boxsnake.image.layout import LaidOut, Layout
from boxsnake.inspection.ledger import Ledger
from boxsnake.inspection.members import Joined, of_tar
from boxsnake.inspection.value import Part
from boxsnake.processors import own_processor
from boxsnake.value import dataclass

_BASE = "org.opencontainers.image.base.name"
_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an image says of itself; `layers` are opened one by one, lowest first."""

    config: Mapping[str, Any]
    annotations: Mapping[str, str]
    tags: Sequence[str]
    layers: Sequence[tuple[Part, Callable[[], BinaryIO]]]
    notes: tuple[str, ...] = ()

    @property
    def _run(self) -> Mapping[str, Any]:
        found = self.config.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def starts(self) -> tuple[str, ...]:
        """Entry point and command."""
        return tuple(map(str, (*(self._run.get("Entrypoint") or ()), *(self._run.get("Cmd") or ()))))

    @property
    def platform(self) -> str:
        """Such as "linux/amd64"."""
        return f"{self.config.get('os', '')}/{self.config.get('architecture', '')}"

    @property
    def base(self) -> str:
        """What it was put on, where it says so."""
        return self._said(_BASE)

    @property
    def name(self) -> str:
        """Its title, or else what its first tag calls it."""
        tag = self.tags[0] if self.tags else ""
        return self._said(_TITLE) or tag.rpartition("/")[2].partition(":")[0]

    @property
    def version(self) -> str:
        """Of the application, or else its first tag's."""
        tag = self.tags[0].rpartition("/")[2] if self.tags else ""
        return self._said(_VERSION) or tag.partition(":")[2]

    def _said(self, key: str) -> str:
        labels = self._run.get("Labels") or {}
        return str(self.annotations.get(key) or labels.get(key) or "")


def read_image(path: Path) -> ImageFacts:
    """The image of a layout or archive; of several, this machine's.

    Errors: PackError, IntegrityError, ResourceError.
    """
    if path.is_dir() or _has(path, "index.json"):
        return _of_layout(Layout(path))
    return _of_archive(path)


def lay_out(image: ImageFacts, ledger: Ledger) -> None:
    """Enter an image's files, as a container would see them."""
    for _, opened in image.layers:
        ledger.lay_over(of_tar(opened()))


def _has(path: Path, name: str) -> bool:
    with tarfile.open(path, mode="r:") as archive:
        return any(member.name.removeprefix("./") == name for member in archive)


def _of_layout(layout: Layout) -> ImageFacts:
    images = layout.images
    chosen = next((one for one in images if one.platform == ("linux", own_processor())), images[0])
    others = [f"{'/'.join(one.platform)}" for one in images if one is not chosen]
    notes = (f"the layout has images for {', '.join(others)} as well",) if others else ()
    return ImageFacts(
        config=chosen.configuration,
        annotations=chosen.annotations,
        tags=layout.tags,
        layers=tuple(_layers(layout, chosen)),
        notes=notes,
    )


def _layers(layout: Layout, image: LaidOut) -> Iterator[tuple[Part, Callable[[], BinaryIO]]]:
    names = _names(image.configuration, len(image.layers))
    for name, layer in zip(names, image.layers, strict=True):

        def opened(digest: str = layer.digest) -> BinaryIO:
            return cast("BinaryIO", Joined(layout.chunks(digest)))

        yield Part(name=name or layer.digest, size=layer.size), opened


def _names(config: Mapping[str, Any], count: int) -> list[str]:
    """What the history says of each layer, where it says as much as there are layers."""
    rows = [row for row in config.get("history") or () if not row.get("empty_layer")]
    said = [str(row.get("created_by") or "").removeprefix("boxsnake: ") for row in rows]
    return said if len(said) == count else [""] * count


def _of_archive(path: Path) -> ImageFacts:
    """A docker archive without an OCI layout, as older engines save it."""
    with tarfile.open(path, mode="r:") as archive:
        places = {member.name.removeprefix("./"): member for member in archive}
        try:
            (image, *others) = json.loads(_bytes(archive, places["manifest.json"]))
            config = json.loads(_bytes(archive, places[image["Config"]]))
            layers = [places[name] for name in image["Layers"]]
        except (KeyError, ValueError, TypeError) as error:
            step = "Save it again; a compressed archive has to be uncompressed first."
            raise IntegrityError(str(path), f"is no whole image archive: {error!r}", step) from None
    names = _names(config, len(layers))
    return ImageFacts(
        config=config,
        annotations={},
        tags=tuple(image.get("RepoTags") or ()),
        layers=tuple(
            (Part(name=name or layer.name, size=layer.size), _opener(path, layer))
            for name, layer in zip(names, layers, strict=True)
        ),
        notes=(f"the archive has {len(others)} other images",) if others else (),
    )


def _opener(path: Path, layer: tarfile.TarInfo) -> Callable[[], BinaryIO]:
    from boxsnake.disk import file_chunks

    return lambda: cast("BinaryIO", Joined(file_chunks(path, layer.offset_data, layer.size)))


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    return content.read() if content else b""
