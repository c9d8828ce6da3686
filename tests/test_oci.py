from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from boxsnake import oci
from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import Document, History, Runtime

LAYERS = tuple(
    LayerBlob(name=name, digest=f"sha256:{n * 64}", size=10, diff_id=f"sha256:{m * 64}", media_type=oci.LAYER_GZIP)
    for name, n, m in (("base", "a", "b"), ("application", "c", "d"))
)
STEPS = (History(created_by="base"), History(created_by="env", empty=True), History(created_by="app", comment="why"))
RUNTIME = Runtime(
    entrypoint=("/opt/env/bin/hello",),
    command=("--port", "8000"),
    environment=(("PATH", "/opt/env/bin:/bin"), ("EMPTY", "")),
    user="10001:10001",
    folder="/",
    ports=(8000, 9000),
    labels=(("org.opencontainers.image.title", 'a "quoted"\nline'),),
)


def config(runtime: Runtime = RUNTIME) -> Document:
    return oci.config(LAYERS, runtime, platform=("linux", "arm64"), epoch=1577836800, history=STEPS, variant="v8")


def read(content: bytes) -> Any:
    return json.loads(content)


def test_the_configuration_says_what_the_specification_asks_for() -> None:
    assert read(config().content) == {
        "architecture": "arm64",
        "config": {
            "Cmd": ["--port", "8000"],
            "Entrypoint": ["/opt/env/bin/hello"],
            "Env": ["PATH=/opt/env/bin:/bin", "EMPTY="],
            "ExposedPorts": {"8000/tcp": {}, "9000/tcp": {}},
            "Labels": {"org.opencontainers.image.title": 'a "quoted"\nline'},
            "User": "10001:10001",
            "WorkingDir": "/",
        },
        "created": "2020-01-01T00:00:00Z",
        "history": [
            {"created": "2020-01-01T00:00:00Z", "created_by": "base"},
            {"created": "2020-01-01T00:00:00Z", "created_by": "env", "empty_layer": True},
            {"created": "2020-01-01T00:00:00Z", "created_by": "app", "comment": "why"},
        ],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{'b' * 64}", f"sha256:{'d' * 64}"], "type": "layers"},
        "variant": "v8",
    }


def test_nothing_is_said_of_what_is_not_given() -> None:
    assert read(config(Runtime()).content)["config"] == {}


def test_history_that_does_not_fit_the_layers_is_a_bug() -> None:
    with pytest.raises(ValueError, match="1 steps of history for 2 layers"):
        oci.config(LAYERS, RUNTIME, platform=("linux", "amd64"), epoch=0, history=STEPS[:1])


def test_documents_are_canonical_and_named_by_their_bytes() -> None:
    document = config()
    assert document.content == oci.canonical(read(document.content))
    assert b": " not in document.content.replace(b'"a \\"quoted', b"")
    assert document.digest == f"sha256:{hashlib.sha256(document.content).hexdigest()}"
    assert document.descriptor == {
        "digest": document.digest,
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "size": len(document.content),
    }


def test_the_manifest_points_at_configuration_and_layers() -> None:
    document = oci.manifest(config(), LAYERS, {"org.opencontainers.image.version": "1"})
    assert read(document.content) == {
        "annotations": {"org.opencontainers.image.version": "1"},
        "config": config().descriptor,
        "layers": [
            {"digest": f"sha256:{n * 64}", "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 10}
            for n in "ac"
        ],
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "schemaVersion": 2,
    }


def test_the_index_names_the_image_by_each_tag() -> None:
    manifest = oci.manifest(config(), LAYERS, {})
    document = read(oci.index(manifest, platform=("linux", "amd64"), tags=["hello:1.0", "r.example:5000/a/b:2"]))
    assert [pointer["annotations"] for pointer in document["manifests"]] == [
        {"io.containerd.image.name": "hello:1.0", "org.opencontainers.image.ref.name": "1.0"},
        {"io.containerd.image.name": "r.example:5000/a/b:2", "org.opencontainers.image.ref.name": "2"},
    ]
    assert {pointer["digest"] for pointer in document["manifests"]} == {manifest.digest}
    assert document["manifests"][0]["platform"] == {"architecture": "amd64", "os": "linux"}


def test_the_docker_manifest_names_the_same_blobs() -> None:
    assert read(oci.docker_manifest(config(), LAYERS, ["hello:1.0"])) == [
        {
            "Config": f"blobs/sha256/{config().digest[7:]}",
            "Layers": [f"blobs/sha256/{'a' * 64}", f"blobs/sha256/{'c' * 64}"],
            "RepoTags": ["hello:1.0"],
        }
    ]
