"""Images into an engine, Docker or podman: the tag leads to what was built, and what the engine has does not travel."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.engine import Engine, connect
from boxsnake.image.layout import Layout, laid_out
from boxsnake.image.load import load
from boxsnake.image.write import write_layout
from boxsnake.layers.plan import LayerBlob
from boxsnake.store import Store
from tests.podman_service import Podman, podman_service

TAG = "boxsnake-test/load:1"
SEED = os.urandom(8)
"""In the layers, so that no engine has them from an earlier run."""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman_service(tmp_path_factory.mktemp("podman")) as found:
        yield found


@pytest.fixture(params=["docker", "podman"])
def address(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        return connect().address
    podman: Podman = request.getfixturevalue("podman")
    return podman.address


class Counting(Engine):
    """The engine, which notes how many bytes it is sent."""

    sent: tuple[int, ...] = ()

    def load(self, archive: object) -> tuple[str, ...]:
        assert not isinstance(archive, Path)
        chunks = list(archive)  # type: ignore[call-overload] # an iterable of bytes
        self.sent += (sum(map(len, chunks)),)
        return super().load(iter(chunks))


@pytest.fixture
def engine(address: str) -> Iterator[Counting]:
    made = Counting(address, os.environ)
    yield made
    made.remove_image(TAG)


def image(store: Store, out: Path, *contents: bytes, words: str = "") -> Path:
    """An artifact with a layer for each content, which starts with `words`."""
    layers = [layer(store, f"file-{number}", SEED + content) for number, content in enumerate(contents)]
    runtime = oci.Runtime(command=("/file-0", words))
    history = [oci.History(created_by="a test") for _ in layers]
    config = oci.config(layers, runtime, platform=("linux", "amd64"), epoch=0, history=history)
    made = laid_out(oci.manifest(config, layers, {}), lambda _: config.content)
    write_layout(store, made, [TAG], out, epoch=0)
    return out


def layer(store: Store, name: str, content: bytes) -> LayerBlob:
    raw = io.BytesIO()
    write_tar([file_member(name, content)], raw, epoch=0)
    blob = store.put_bytes(gzip.compress(raw.getvalue(), mtime=0))
    diff_id = f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"
    return LayerBlob(name=name, digest=blob.digest, diff_id=diff_id, size=blob.size, media_type=oci.LAYER_GZIP)


@pytest.mark.engine
def test_the_tag_leads_to_what_was_built_last(engine: Counting, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    heavy = os.urandom(1 << 20)
    first = image(store, tmp_path / "first.tar", heavy, b"one")
    edited = image(store, tmp_path / "edited.tar", heavy, b"two")
    otherwise = image(store, tmp_path / "otherwise.tar", heavy, b"two", words="otherwise")
    seen = []
    for artifact in (first, edited, otherwise, edited, otherwise, first):
        assert load(engine, artifact) == [TAG]
        loaded = engine.image(TAG)
        assert loaded is not None
        assert loaded.id.removeprefix("sha256:") == Layout(artifact).images[0].config.digest.removeprefix("sha256:")
        seen.append(loaded.command[1])
    assert seen == ["", "", "otherwise", "", "otherwise", ""]
    assert [sent > 1 << 20 for sent in engine.sent[:3]] == [True, False, False]
    last = engine.image(TAG)
    names = [tag for tag, identity in engine.tags().items() if last is not None and identity == last.id]
    assert [tag for tag in names if not tag.endswith(TAG)] == [], "no name that nobody asked for"


@pytest.mark.engine
def test_podman_names_what_it_is_given_as_a_file(tmp_path: Path, podman: Podman) -> None:
    artifact = image(Store(tmp_path / "store"), tmp_path / "a.tar", b"by hand")
    subprocess.run([podman.program, "load", "--input", artifact], env=podman.environment, check=True)
    engine = Engine(podman.address, podman.environment)
    assert engine.image(TAG) is not None
    engine.remove_image(TAG)
