"""Images as files: one in a tar that is an OCI image layout and a docker archive, several under an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from boxsnake import oci
from boxsnake.archive import Member, file_member, write_tar
from boxsnake.beside import beside
from boxsnake.disk import disk_faults, publish_file
from boxsnake.errors import UsageError
from boxsnake.image.layout import LaidOut
from boxsnake.store import Store


def write_layout(store: Store, image: LaidOut, tags: Sequence[str], out: Path, *, epoch: int) -> None:
    """Write an image whose layers are in the store to `out`, which does not exist yet."""
    members = [
        file_member("oci-layout", oci.LAYOUT_FILE),
        file_member("index.json", oci.index(image.manifest, platform=image.platform, tags=tags)),
        file_member("manifest.json", oci.docker_manifest(image.config, image.layers, tags)),
        *_blobs(store, [image]),
    ]
    with disk_faults(out), out.open("xb", buffering=0) as stream:
        write_tar(members, stream, epoch=epoch)


def write_index(store: Store, images: Sequence[LaidOut], tags: Sequence[str], out: Path, *, epoch: int) -> str:
    """Write an OCI image layout of one image for several platforms under its final name: the digest of its index.

    The layers are in the store. It is no docker archive, as those hold one platform. Errors: UsageError where two
    images are for one platform, or there is but one image.
    """
    ordered = sorted(images, key=lambda image: (image.platform, image.variant))
    check_platforms([(image.platform, image.variant) for image in ordered])
    top = oci.platform_index([(image.manifest, image.platform, image.variant) for image in ordered])
    members = [
        file_member("oci-layout", oci.LAYOUT_FILE),
        file_member("index.json", oci.named_index(top.descriptor, tags)),
        file_member(oci.blob_path(top.digest), top.content),
        *_blobs(store, ordered),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    with beside(out) as folder, disk_faults(out):
        with (folder / out.name).open("xb", buffering=0) as stream:
            write_tar(members, stream, epoch=epoch)
        publish_file(folder / out.name, out)
    return top.digest


def check_platforms(platforms: Sequence[tuple[tuple[str, str], str]]) -> None:
    """Whether images for these ((os, architecture), variant) can be under one index. Errors: UsageError."""
    if len(platforms) < 2 or len(set(platforms)) < len(platforms):
        told = ", ".join("/".join(filter(None, (*platform, variant))) for platform, variant in platforms)
        step = "Lock targets with different `platform`s, and choose one of each with --target."
        raise UsageError("--index", f"wants one image for each of several platforms, and there is: {told}", step)


def _blobs(store: Store, images: Sequence[LaidOut]) -> list[Member]:
    """What the manifests name, each once."""
    blobs: dict[str, Path | bytes] = {}
    for image in images:
        blobs |= {document.digest: document.content for document in (image.config, image.manifest)}
        blobs |= {layer.digest: store.path(layer.digest) for layer in image.layers}
    return [file_member(oci.blob_path(digest), source) for digest, source in blobs.items()]
