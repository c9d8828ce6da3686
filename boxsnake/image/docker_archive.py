"""Docker archives, what `docker load` takes: read where they lie, a tar or a folder, and told to an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from boxsnake import oci
from boxsnake.archive import TAR_END
from boxsnake.disk import file_chunks
from boxsnake.errors import BootError, PackError
from boxsnake.image.layout import Layout, Place, places
from boxsnake.processors import own_processor
from boxsnake.tar_stream import tar_file, tar_part
from boxsnake.value import dataclass

_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class DockerArchive:
    """An archive's one image: its id (its configuration's digest), its diff ids, its layers' files, its names."""

    path: Path
    id: str
    diff_ids: tuple[str, ...]
    files: tuple[str, ...]
    tags: tuple[str, ...]
    config: bytes
    places: Mapping[str, Place]

    def stream(self, tags: Sequence[str], empty: Collection[str] = ()) -> Iterator[bytes]:
        """The archive as a tar, its image under these names, with nothing in the layers' files called `empty`.

        It is no image layout, whatever it was: podman would take that first, and a name's version for the name. Errors:
        ResourceError where the disk does not give the bytes.
        """
        about = [{"Config": "config.json", "Layers": list(self.files), "RepoTags": list(tags)}]
        yield from tar_file(_MANIFEST, json.dumps(about).encode())
        yield from tar_file("config.json", self.config)
        for name in dict.fromkeys(self.files):
            place = self.places[name]
            size = 0 if name in empty else place.size
            yield from tar_part(name, size, file_chunks(place.path, place.offset, size))
        yield TAR_END


def read_archive(path: Path) -> DockerArchive:
    """The one image of a docker archive, without unpacking it; of a layout without one, as if it were one.

    Of several in a layout, the one for this machine's processor. Errors: BootError, ResourceError.
    """
    try:
        found = places(path)
        if _MANIFEST not in found and "index.json" in found:
            return _of_layout(Layout(path), found)
        document = json.loads(_content(found[_MANIFEST]))[0]
        config = _content(found[document["Config"]])
        archive = DockerArchive(
            path=path,
            id=f"sha256:{hashlib.sha256(config).hexdigest()}",
            diff_ids=tuple(json.loads(config)["rootfs"]["diff_ids"]),
            files=tuple(document["Layers"]),
            tags=tuple(document.get("RepoTags") or ()),
            config=config,
            places={name: found[name] for name in document["Layers"]},
        )
    except (PackError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BootError(str(path), f"is no image archive: {error!r}", "Build the artifact again.") from None
    return archive


def _of_layout(layout: Layout, found: Mapping[str, Place]) -> DockerArchive:
    image = next((one for one in layout.images if one.platform == ("linux", own_processor())), layout.images[0])
    files = tuple(oci.blob_path(layer.digest) for layer in image.layers)
    return DockerArchive(
        path=layout.path,
        id=image.config.digest,
        diff_ids=tuple(image.configuration["rootfs"]["diff_ids"]),
        files=files,
        tags=(),
        config=image.config.content,
        places={name: found[name] for name in files},
    )


def _content(place: Place) -> bytes:
    return b"".join(file_chunks(place.path, place.offset, place.size))
