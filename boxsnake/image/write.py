"""One image as a file: an OCI image layout and a docker archive in one tar."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.disk import disk_faults
from boxsnake.image.layout import LaidOut
from boxsnake.store import Store


def write_layout(store: Store, image: LaidOut, tags: Sequence[str], out: Path, *, epoch: int) -> None:
    """Write an image whose layers are in the store to `out`, which does not exist yet."""
    blobs: dict[str, Path | bytes] = {document.digest: document.content for document in (image.config, image.manifest)}
    blobs |= {layer.digest: store.path(layer.digest) for layer in image.layers}
    members = [
        file_member("oci-layout", oci.LAYOUT_FILE),
        file_member("index.json", oci.index(image.manifest, platform=image.platform, tags=tags)),
        file_member("manifest.json", oci.docker_manifest(image.config, image.layers, tags)),
        *(file_member(oci.blob_path(digest), source) for digest, source in blobs.items()),
    ]
    with disk_faults(out), out.open("xb", buffering=0) as stream:
        write_tar(members, stream, epoch=epoch)
