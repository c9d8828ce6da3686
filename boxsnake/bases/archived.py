"""Images and root file systems out of files: what `docker save` writes, OCI image layouts, and bare tars."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from boxsnake import oci
from boxsnake.archive import GzipSink
from boxsnake.bases.value import Base
from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError, PackError
from boxsnake.ingest import MOST_BYTES, MOST_RATIO, RATIO_COUNTS_FROM
from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import History, Runtime
from boxsnake.progress import track
from boxsnake.store import Store

_CHUNK = 1 << 20
_END = 2 * tarfile.BLOCKSIZE
_LAYOUT_FILE = "oci-layout"
_DOCKER_MANIFEST = "manifest.json"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


# A file: a root file system, or a docker archive


def from_file(store: Store, path: Path, digest: str) -> Base:
    """A base out of a tar, compressed or not: a docker archive where it looks like one, else a root file system."""
    with _uncompressed(path) as stream:
        is_docker = _has_member(path, stream, _DOCKER_MANIFEST)
    if is_docker:
        return from_docker_archive(store, str(path), path, digest)
    return from_rootfs(store, str(path), path, digest)


def _has_member(path: Path, stream: BinaryIO, wanted: str) -> bool:
    """Whether the tar has a member of this name at its top."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as members:
            return any(member.name.removeprefix("./") == wanted for member in members)
    except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError) as error:
        raise _unreadable(str(path), error) from None


def from_rootfs(store: Store, name: str, path: Path, digest: str) -> Base:
    """A base out of the tar of a root file system."""
    with track(f"compressing {name}"), _uncompressed(path) as stream:
        layer = _compressed(store, _whole(_chunks(stream), name), "base")
    step = History(created_by=f"boxsnake: {digest}", comment="root file system")
    return Base(name=name, digest=digest, layers=(layer,), history=(step,))


def from_docker_archive(store: Store, name: str, path: Path, digest: str) -> Base:
    """An image out of what `docker save` writes, which may hold links from one layer's file to another's."""
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(store.scratch("base"))
        plain = _plain(path, scratch / "archive.tar")
        try:
            members = stack.enter_context(tarfile.open(plain, mode="r:"))
            images = json.loads(_member(members, _DOCKER_MANIFEST).read())
            if len(images) != 1:
                step = "Save one image alone into it."
                raise PackError(f"base image {name}", f"the archive holds {len(images)} images", step, base=name)
            config = json.loads(_member(members, images[0]["Config"]).read())
            sources = [(_member(members, layer), "") for layer in images[0]["Layers"]]
            return _image_base(store, name, digest, config, sources)
        except (tarfile.TarError, KeyError, TypeError, ValueError, EOFError) as error:
            raise _unreadable(name, error) from None


def _member(members: tarfile.TarFile, name: str) -> BinaryIO:
    # extractfile follows links within the archive, and no others.
    stream = members.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return cast("BinaryIO", stream)


def _plain(path: Path, spool: Path) -> Path:
    """The file itself, or what it is the compressed form of: its members are read out of their order."""
    with path.open("rb") as stream:
        if not _compression(stream):
            return path
    with _uncompressed(path) as stream, spool.open("wb") as out:
        for chunk in _chunks(stream):
            out.write(chunk)
    return spool


# A folder: an OCI image layout


def from_layout(store: Store, folder: Path, digest: str, platform: tuple[str, str]) -> Base:
    """A base out of an OCI image layout."""
    name = str(folder)
    try:
        json.loads((folder / _LAYOUT_FILE).read_bytes())["imageLayoutVersion"]
        pointer = _choose(folder, json.loads((folder / "index.json").read_bytes())["manifests"], platform, name)
        manifest = json.loads(_verified(folder, pointer["digest"]))
        config = json.loads(_verified(folder, manifest["config"]["digest"]))
        with contextlib.ExitStack() as stack:
            sources = [
                (stack.enter_context(_blob(folder, layer["digest"]).open("rb")), layer["digest"])
                for layer in manifest["layers"]
            ]
            base = _image_base(store, name, digest, config, sources)
        return replace(base, manifest=pointer["digest"])
    except (KeyError, IndexError, TypeError, ValueError, FileNotFoundError) as error:
        raise _unreadable(name, error) from None


def _choose(folder: Path, pointers: list[dict[str, Any]], platform: tuple[str, str], name: str) -> dict[str, Any]:
    """The manifest of the wanted platform, or the only one; an index may be within another."""
    found: list[dict[str, Any]] = []
    for pointer in pointers:
        if pointer.get("mediaType") in oci.INDEX_TYPES:
            found.append(_choose(folder, json.loads(_verified(folder, pointer["digest"]))["manifests"], platform, name))
        elif pointer.get("mediaType") in oci.MANIFEST_TYPES:
            found.append(pointer)
    fitting = [pointer for pointer in found if platform_in(pointer.get("platform") or {}) == platform]
    chosen = {pointer["digest"]: pointer for pointer in fitting or found}
    if len(chosen) != 1:
        step = "Give a layout with one image for the target's platform."
        cause = f"it holds {len(chosen)} images, and which one is meant is not said"
        raise PackError(f"base image {name}", cause, step, base=name)
    return next(iter(chosen.values()))


def platform_in(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """The (os, architecture) that a configuration or a descriptor's `platform` says."""
    if not document.get("os") or not document.get("architecture"):
        return None
    return str(document["os"]), str(document["architecture"])


def _blob(folder: Path, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"not a digest: {digest!r}")
    return folder / oci.blob_path(digest)


def _verified(folder: Path, digest: str) -> bytes:
    content = _blob(folder, digest).read_bytes()
    if oci.Document(content=content, media_type="").digest != digest:
        step = "Copy the layout again from where it came."
        raise IntegrityError(f"base image {folder}", f"blob {digest} has other bytes", step, digest=digest)
    return content


# Layers


def _image_base(
    store: Store, name: str, digest: str, config: Mapping[str, Any], sources: Iterable[tuple[BinaryIO, str]]
) -> Base:
    """A base from an image's configuration and its layers, lowest first, each with its digest where one is known."""
    layers = []
    for number, (stream, expected) in enumerate(sources, start=1):
        with track(f"taking layer {number} of {name}"):
            layers.append(_taken(store, stream, expected, f"base {number}"))
    return assembled(name, digest, config, layers)


def assembled(name: str, digest: str, config: Mapping[str, Any], layers: Sequence[LayerBlob]) -> Base:
    """A base from an image's configuration and its layers. Errors: IntegrityError where they are not its layers."""
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(layers):
        raise ValueError(f"layers: {len(layers)}, in its configuration: {len(diff_ids)}")
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        if layer.diff_id != diff_id:
            step = "Save or copy the image again from where it came."
            raise IntegrityError(f"base image {name}", f"layer {diff_id} has other bytes", step, digest=diff_id)
    return Base(
        name=name,
        digest=digest,
        layers=tuple(layers),
        history=_history(config, len(layers)),
        runtime=_runtime(config.get("config") or {}),
        platform=platform_in(config),
        variant=str(config.get("variant") or ""),
    )


def _taken(store: Store, stream: BinaryIO, expected: str, name: str) -> LayerBlob:
    """A layer into the store: gzip ones as they are, so that their digest stays; others compressed anew."""
    if _compression(stream) != "gzip":
        return _compressed(store, _chunks(_decompressor(stream)), name)
    with store.writer(expected or None, origin=name) as writer:
        for chunk in _chunks(stream):
            writer.write(chunk)
    return taken_blob(store, writer.blob.digest, name)


def taken_blob(store: Store, digest: str, name: str) -> LayerBlob:
    """A layer out of a blob that is in the store, as `_taken` does it. Errors: IntegrityError for a bomb."""
    path = store.path(digest)
    size = path.stat().st_size
    with path.open("rb") as stream:
        if _compression(stream) != "gzip":
            return _compressed(store, _within_limits(_chunks(_decompressor(stream)), size, name), name)
        diff_id = _digest_of(_within_limits(_chunks(gzip.GzipFile(fileobj=stream)), size, name))
    return LayerBlob(name=name, digest=digest, size=size, diff_id=diff_id, media_type=oci.LAYER_GZIP)


def _within_limits(chunks: Iterable[bytes], packed: int, name: str) -> Iterator[bytes]:
    """The chunks, as long as there are not more of them than any honest archive of this size unpacks to."""
    most = min(MOST_BYTES, max(packed * MOST_RATIO, RATIO_COUNTS_FROM))
    unpacked = 0
    for chunk in chunks:
        unpacked += len(chunk)
        if unpacked > most:
            step = "Do not use this image before you know what it is."
            raise IntegrityError(name, f"its {packed} bytes unpack to more than {most}", step)
        yield chunk


def _compressed(store: Store, chunks: Iterable[bytes], name: str) -> LayerBlob:
    with store.writer(origin=name) as writer, GzipSink(writer) as sink:
        for chunk in chunks:
            sink.write(chunk)
    blob = writer.blob
    return LayerBlob(name=name, digest=blob.digest, size=blob.size, diff_id=sink.diff_id, media_type=oci.LAYER_GZIP)


def _chunks(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _whole(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The chunks of a tar that ends as one must, with two empty blocks: readers take one that is cut off for whole."""
    tail = b""
    for chunk in chunks:
        tail = (tail + chunk)[-_END:]
        yield chunk
    if tail != bytes(_END):
        step = "Make or copy it again."
        raise PackError(f"base image {name}", "the tar ends in the middle", step, base=name)


def _digest_of(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


@contextlib.contextmanager
def _uncompressed(path: Path) -> Iterator[BinaryIO]:
    with disk_faults(f"base image {path}"), path.open("rb") as stream:
        yield _decompressor(stream)


def _compression(stream: BinaryIO) -> str:
    """What the stream, at its start, is compressed by; "" for not at all."""
    stream.seek(0)
    start = stream.read(6)
    stream.seek(0)
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")


def _decompressor(stream: BinaryIO) -> BinaryIO:
    """The stream itself, or what it is the compressed form of."""
    kind = _compression(stream)
    if kind == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if kind == "xz":
        return cast("BinaryIO", lzma.LZMAFile(stream))
    if kind == "zstd":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        return cast("BinaryIO", io.BufferedReader(reader, _CHUNK))
    return stream


# Configuration


def _history(config: Mapping[str, Any], layers: int) -> tuple[History, ...]:
    """The base's history; one step for each layer where it has none, or one that does not fit its layers."""
    steps = tuple(
        History(
            created_by=str(step.get("created_by") or ""),
            comment=str(step.get("comment") or ""),
            empty=bool(step.get("empty_layer")),
        )
        for step in config.get("history") or ()
    )
    if sum(not step.empty for step in steps) == layers:
        return steps
    return tuple(History(created_by="base image") for _ in range(layers))


def _runtime(config: Mapping[str, Any]) -> Runtime:
    variables = (str(variable).partition("=") for variable in config.get("Env") or ())
    ports = (str(port).partition("/") for port in config.get("ExposedPorts") or ())
    return Runtime(
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        environment=tuple((name, value) for name, _, value in variables),
        user=str(config.get("User") or ""),
        folder=str(config.get("WorkingDir") or ""),
        ports=tuple(sorted(int(number) for number, _, kind in ports if kind in {"", "tcp"} and number.isdecimal())),
        labels=tuple(sorted((str(name), str(value)) for name, value in (config.get("Labels") or {}).items())),
    )


def _unreadable(name: str, error: Exception) -> PackError:
    cause = f"it cannot be read as an image: {type(error).__name__}: {error}"
    step = "Give the tar of a root file system, what `docker save` writes, or an OCI image layout."
    return PackError(f"base image {name}", cause, step, base=name)
