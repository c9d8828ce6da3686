"""Images as the OCI Image Format Specification 1.1 and Docker's archive format describe them: documents, not files.

A layout of one image can be both. `index.json` (OCI) and `manifest.json` (what `docker save` writes) name the same
blobs, so that old engines read the one and new engines and registries' tools the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from boxsnake.layers.plan import LayerBlob
from boxsnake.value import dataclass

LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = f"{LAYER}+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

MANIFEST_TYPES = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
INDEX_TYPES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
CONFIG_TYPES = (CONFIG, "application/vnd.docker.container.image.v1+json")
LAYER_TYPES = (
    LAYER,
    LAYER_GZIP,
    f"{LAYER}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
"""What documents and layers of images are called, by OCI and by Docker (image manifest version 2, schema 2)."""

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of `oci-layout`."""


@dataclass(frozen=True, kw_only=True)
class Healthcheck:
    """How an engine asks a container whether it is well: Docker's extension of the image configuration.

    `test` is "CMD" and a command that exits with 0. The times are in seconds: between two tests, for one of them, and
    after the start, when failures do not count yet.
    """

    test: tuple[str, ...]
    interval: float
    timeout: float
    start_period: float
    retries: int

    def document(self) -> dict[str, Any]:
        """The object; its times are in nanoseconds."""
        return {
            "Test": list(self.test),
            "Interval": round(self.interval * 1e9),
            "Timeout": round(self.timeout * 1e9),
            "StartPeriod": round(self.start_period * 1e9),
            "Retries": self.retries,
        }


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What an image says about how it is run: the `config` object of the image configuration.

    Empty means that nothing is said. `ports` are TCP ones; `user` is "uid[:gid]" or a name.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    user: str = ""
    folder: str = ""
    ports: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    healthcheck: Healthcheck | None = None

    def document(self) -> dict[str, Any]:
        """The object, without what is empty."""
        said = {
            "Cmd": list(self.command),
            "Entrypoint": list(self.entrypoint),
            "Env": [f"{name}={value}" for name, value in self.environment],
            "ExposedPorts": {f"{port}/tcp": {} for port in self.ports},
            "Healthcheck": self.healthcheck.document() if self.healthcheck else {},
            "Labels": dict(self.labels),
            "User": self.user,
            "WorkingDir": self.folder,
        }
        return {key: value for key, value in said.items() if value}


@dataclass(frozen=True, kw_only=True)
class History:
    """One step of an image's history; `empty` where it made no layer."""

    created_by: str
    comment: str = ""
    empty: bool = False


@dataclass(frozen=True, kw_only=True)
class Document:
    """A JSON document as a blob: its bytes are canonical, and named by `digest` ("sha256:<hex>")."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the content."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """What points at it (OCI "Content Descriptors")."""
        return {"digest": self.digest, "mediaType": self.media_type, "size": len(self.content)}


class Described(Protocol):
    """A layer as far as a manifest tells of it."""

    @property
    def digest(self) -> str:
        """Of the blob."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def media_type(self) -> str:
        """How it is compressed."""
        ...


def canonical(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def created(epoch: int) -> str:
    """A time in seconds since 1970 as RFC 3339 writes it."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def config(
    layers: Sequence[LayerBlob],
    runtime: Runtime,
    *,
    platform: tuple[str, str],
    epoch: int,
    history: Sequence[History],
    author: str = "",
    variant: str = "",
) -> Document:
    """The image configuration. `platform` is (os, architecture); `history` has one step that is not empty per layer."""
    system, architecture = platform
    filled = sum(not step.empty for step in history)
    if filled != len(layers):
        raise ValueError(f"{filled} steps of history for {len(layers)} layers")
    document: dict[str, Any] = {
        "architecture": architecture,
        "config": runtime.document(),
        "created": created(epoch),
        "history": history_document(history, created(epoch)),
        "os": system,
        "rootfs": {"diff_ids": [layer.diff_id for layer in layers], "type": "layers"},
    }
    said = {"author": author, "variant": variant}
    document |= {key: value for key, value in said.items() if value}
    return Document(content=canonical(document), media_type=CONFIG)


def history_document(history: Sequence[History], when: str) -> list[dict[str, Any]]:
    """The `history` of a configuration whose steps were all made at one time (RFC 3339)."""
    return [_step(step, when) for step in history]


def _step(step: History, when: str) -> dict[str, Any]:
    said: dict[str, Any] = {"created": when, "created_by": step.created_by}
    if step.comment:
        said["comment"] = step.comment
    if step.empty:
        said["empty_layer"] = True
    return said


def manifest(config: Document, layers: Sequence[Described], annotations: Mapping[str, str]) -> Document:
    """The image manifest."""
    document: dict[str, Any] = {
        "config": config.descriptor,
        "layers": [{"digest": layer.digest, "mediaType": layer.media_type, "size": layer.size} for layer in layers],
        "mediaType": MANIFEST,
        "schemaVersion": 2,
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return Document(content=canonical(document), media_type=MANIFEST)


def index(manifest: Document, *, platform: tuple[str, str], tags: Sequence[str], variant: str = "") -> bytes:
    """`index.json` of a layout with one image, under each of its tags."""
    system, architecture = platform
    about = {"architecture": architecture, "os": system} | ({"variant": variant} if variant else {})
    return named_index(manifest.descriptor | {"platform": about}, tags)


def named_index(pointer: Mapping[str, Any], tags: Sequence[str]) -> bytes:
    """`index.json` of a layout that points at one manifest or index, under each of its tags.

    A tag is a reference such as "hello:1.0". The specification's own `ref.name` carries what follows the colon, as
    `docker save` has it, and `io.containerd.image.name` the whole reference: without that, `podman load` would take
    the version for a name.
    """
    pointers = []
    for tag in tags or ("",):
        named = dict(pointer)
        if tag:
            version = tag.rpartition(":")[2]
            named["annotations"] = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": version}
        pointers.append(named)
    return canonical({"manifests": pointers, "mediaType": INDEX, "schemaVersion": 2})


def platform_index(manifests: Sequence[tuple[Document, tuple[str, str], str]]) -> Document:
    """The index of one image's manifests, each with its (os, architecture) and variant, which is "" for none."""
    pointers = [
        manifest.descriptor
        | {"platform": {"architecture": architecture, "os": system} | ({"variant": variant} if variant else {})}
        for manifest, (system, architecture), variant in manifests
    ]
    return Document(
        content=canonical({"manifests": pointers, "mediaType": INDEX, "schemaVersion": 2}), media_type=INDEX
    )


def docker_manifest(config: Document, layers: Sequence[Described], tags: Sequence[str]) -> bytes:
    """`manifest.json` of a docker archive, which points at the same blobs."""
    return canonical(
        [
            {
                "Config": blob_path(config.digest),
                "Layers": [blob_path(layer.digest) for layer in layers],
                "RepoTags": list(tags),
            }
        ]
    )


def blob_path(digest: str) -> str:
    """Where a blob lies in a layout."""
    algorithm, _, name = digest.partition(":")
    return f"blobs/{algorithm}/{name}"
