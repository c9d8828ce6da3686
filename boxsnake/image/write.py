"""Images as files: one in a folder or tar that is an OCI image layout and a docker archive, several under an index."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from boxsnake import oci
from boxsnake.archive import Member, file_member, write_tar
from boxsnake.beside import beside
from boxsnake.disk import disk_faults, publish_file, publish_tree, sync_all
from boxsnake.errors import BoxsnakeError, UsageError
from boxsnake.image.layout import LaidOut, Layout
from boxsnake.store import Store

ARCHIVE = ".tar"
"""What the name of an image in one file ends with; of any other, it is a folder's."""


def write_layout(store: Store, image: LaidOut, tags: Sequence[str], out: Path, *, epoch: int) -> None:
    """Write an image whose layers are in the store to `out`, which does not exist yet: a tar or a folder, by its name.

    A folder is durable then. Its blobs are the store's own files where they can be.
    """
    files = _files(store, image, tags)
    if out.suffix != ARCHIVE:
        _write_folder(files, out)
        return
    with disk_faults(out), out.open("xb", buffering=0) as stream:
        write_tar([file_member(name, source) for name, source in files.items()], stream, epoch=epoch)


def publish_layout(temporary: Path, final: Path) -> None:
    """Put what `write_layout` has written under its final name, atomically. Errors: ResourceError.

    A folder that was there is under the temporary name then.
    """
    if temporary.is_dir():
        publish_tree(temporary, final, is_durable=True, leaves_old=True)
    else:
        publish_file(temporary, final)


def layout_digest(store: Store, folder: Path) -> str | None:
    """The digest of an image in a folder, which is that of its index, as all else is named in there by digest.

    None where it is not as it was written: every file is looked at, and read if its times are not those of before.
    """
    try:
        layout = Layout(folder)
        (image,) = layout.images
        wanted = _names(image, layout.tags)
        blobs = [layer.digest for layer in image.layers]
        if layout.names != {*wanted, *map(oci.blob_path, blobs)}:
            return None
        if any((folder / name).read_bytes() != content for name, content in wanted.items()):
            return None
        if not all(_is_blob(store, folder / oci.blob_path(digest), digest) for digest in blobs):
            return None
    except (BoxsnakeError, OSError, ValueError):
        return None
    return digest_of_index(folder)


def digest_of_index(folder: Path) -> str:
    """That of an image layout which has just been written."""
    return f"sha256:{hashlib.sha256((folder / 'index.json').read_bytes()).hexdigest()}"


def _is_blob(store: Store, path: Path, digest: str) -> bool:
    """Whether a file has these bytes, by its times where it is the store's own or was hashed before."""
    is_own = store.has(digest) and store.is_file_of(digest, path)
    return (is_own and store.untouched(digest)) or store.digest_of_file(path) == digest


def _names(image: LaidOut, tags: Sequence[str]) -> dict[str, bytes]:
    """The documents of an image's layout and docker archive, by their names."""
    return {
        "oci-layout": oci.LAYOUT_FILE,
        "index.json": oci.index(image.manifest, platform=image.platform, tags=tags),
        "manifest.json": oci.docker_manifest(image.config, image.layers, tags),
        **{oci.blob_path(document.digest): document.content for document in (image.config, image.manifest)},
    }


def _files(store: Store, image: LaidOut, tags: Sequence[str]) -> dict[str, bytes | Path]:
    layers = {oci.blob_path(layer.digest): store.path(layer.digest) for layer in image.layers}
    return {**_names(image, tags), **layers}


def _write_folder(files: Mapping[str, bytes | Path], out: Path) -> None:
    fresh: list[Path] = []
    with disk_faults(out):
        for name, source in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                path.write_bytes(source)
                fresh.append(path)
            elif not _linked(source, path):
                shutil.copyfile(source, path)
                fresh.append(path)
        sync_all([*fresh, *(folder for folder in out.rglob("*") if folder.is_dir()), out])


def _linked(source: Path, path: Path) -> bool:
    """Whether a file could get another name: not on another file system, nor one of somebody else's."""
    try:
        path.hardlink_to(source)
    except OSError:
        return False
    return True


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
