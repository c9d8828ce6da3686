from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.bases import Base, archived, base_image
from boxsnake.errors import EngineError, IntegrityError, PackError, ResourceError
from boxsnake.oci import History
from boxsnake.registry import Registries
from boxsnake.store import Store

AMD64 = ("linux", "amd64")
RUNTIME = {
    "Cmd": ["bash"],
    "Entrypoint": ["/init"],
    "Env": ["PATH=/usr/bin", "A=b=c", "EMPTY="],
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Labels": {"b": "2", "a": "1"},
    "User": "www",
    "WorkingDir": "/srv",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def rootfs(**files: str) -> bytes:
    out = io.BytesIO()
    write_tar([file_member(f"etc/{name}", text.encode()) for name, text in files.items()], out, epoch=0)
    return out.getvalue()


LOWER, UPPER = rootfs(lower="1"), rootfs(upper="2")


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(*layers: bytes, architecture: str = "amd64", **said: Any) -> bytes:
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": RUNTIME,
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
    }
    return json.dumps(document | said).encode()


def docker_archive(path: Path, members: Mapping[str, bytes | tuple[str]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = tarfile.SYMTYPE, content[0]
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def saved(path: Path, *layers: bytes, **said: Any) -> Path:
    """As `docker save` of old engines writes it."""
    names = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": ["a:1"], "Layers": names}]
    members: dict[str, bytes | tuple[str]] = dict(zip(names, layers, strict=True))
    described = {"config.json": config(*layers, **said), "manifest.json": json.dumps(manifest).encode()}
    return docker_archive(path, members | described)


class Layout:
    """An OCI image layout in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_bytes(oci.LAYOUT_FILE)

    def add(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = sha256(content)
        (self.folder / oci.blob_path(digest)).write_bytes(content)
        return {"digest": digest, "mediaType": media_type, "size": len(content)}

    def image(self, *layers: tuple[bytes, bytes], architecture: str = "amd64") -> dict[str, Any]:
        """An image of layers given as (stored, plain)."""
        document = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": self.add(config(*(plain for _, plain in layers), architecture=architecture), oci.CONFIG),
            "layers": [self.add(kept, oci.LAYER_GZIP) for kept, _ in layers],
        }
        platform = {"os": "linux", "architecture": architecture}
        return self.add(json.dumps(document).encode(), oci.MANIFEST) | {"platform": platform}

    def index(self, *pointers: dict[str, Any]) -> Path:
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": pointers}))
        return self.folder


def base(store: Store, path: Path | str, **others: Any) -> Base:
    usual: dict[str, Any] = {"bases": {}, "root": Path("/nowhere"), "wanted": AMD64, "registries": Registries()}
    return base_image(store, str(path), **(usual | others))


def plain(store: Store, found: Base) -> list[bytes]:
    layers = []
    for layer in found.layers:
        data = gzip.decompress(store.path(layer.digest).read_bytes())
        assert sha256(data) == layer.diff_id
        assert store.path(layer.digest).stat().st_size == layer.size
        layers.append(data)
    return layers


def test_scratch_is_nothing(store: Store) -> None:
    found = base(store, "scratch")
    assert (found.layers, found.platform, found.is_reference) == ((), None, False)


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["plain", "gzip", "xz", "zstd"],
)
def test_the_tar_of_a_root_file_system_is_one_layer(
    store: Store, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "rootfs").write_bytes(compress(LOWER))
    found = base(store, tmp_path / "rootfs")
    assert plain(store, found) == [LOWER]
    assert len(found.history) == 1
    assert str(tmp_path) not in str([found.history, found.runtime])


def test_relative_paths_are_read_against_the_manifests_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(LOWER)
    assert plain(store, base(store, "./rootfs.tar", root=tmp_path)) == [LOWER]


def test_a_name_that_the_settings_map_is_what_they_map_it_to(store: Store, tmp_path: Path) -> None:
    (tmp_path / "rootfs.tar").write_bytes(LOWER)
    found = base(store, "debian:12-slim", bases={"debian:12-slim": str(tmp_path / "rootfs.tar")})
    assert plain(store, found) == [LOWER]
    assert (found.name, found.is_reference) == ("debian:12-slim", False)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_docker_saves_is_an_image(store: Store, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = saved(tmp_path / "saved.tar", LOWER, UPPER)
    path.write_bytes(compress(path.read_bytes()))
    found = base(store, path)
    assert plain(store, found) == [LOWER, UPPER]
    assert found.platform == AMD64
    runtime = found.runtime
    assert runtime.entrypoint == ("/init",)
    assert runtime.command == ("bash",)
    assert runtime.environment == (("PATH", "/usr/bin"), ("A", "b=c"), ("EMPTY", ""))
    assert (runtime.user, runtime.folder, runtime.ports) == ("www", "/srv", (80,))
    assert runtime.labels == (("a", "1"), ("b", "2"))


def test_a_layer_that_an_archive_holds_once_may_be_in_an_image_twice(store: Store, tmp_path: Path) -> None:
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["0/layer.tar", "1/layer.tar"]}]
    path = docker_archive(
        tmp_path / "saved.tar",
        {
            "0/layer.tar": LOWER,
            "1/layer.tar": ("../0/layer.tar",),
            "c.json": config(LOWER, LOWER),
            "manifest.json": json.dumps(manifest).encode(),
        },
    )
    assert plain(store, base(store, path)) == [LOWER, LOWER]


def test_history_is_kept_where_it_fits_the_layers(store: Store, tmp_path: Path) -> None:
    steps = [{"created_by": "ADD rootfs"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "RUN x"}]
    fitting = base(store, saved(tmp_path / "fitting.tar", LOWER, UPPER, history=steps))
    assert fitting.history == (
        History(created_by="ADD rootfs"),
        History(created_by="ENV", empty=True),
        History(created_by="RUN x"),
    )
    other = base(store, saved(tmp_path / "other.tar", LOWER, history=steps))
    assert other.history == (History(created_by="base image"),)


def test_gzip_layers_of_a_layout_keep_their_digest(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    kept = gzip.compress(LOWER[:700]) + gzip.compress(LOWER[700:])
    found = base(store, layout.index(layout.image((kept, LOWER), (UPPER, UPPER))))
    assert plain(store, found) == [LOWER, UPPER]
    assert found.layers[0].digest == sha256(kept)


def test_zstd_layers_are_compressed_anew_for_engines_that_do_not_know_it(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    found = base(store, layout.index(layout.image((zstandard.ZstdCompressor().compress(LOWER), LOWER))))
    assert plain(store, found) == [LOWER]
    assert found.layers[0].media_type == oci.LAYER_GZIP


def test_the_targets_platform_is_chosen_out_of_an_index(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    arm, amd = layout.image((UPPER, UPPER), architecture="arm64"), layout.image((LOWER, LOWER))
    inner = layout.add(json.dumps({"manifests": [arm, amd]}).encode(), oci.INDEX)
    path = layout.index(inner)
    assert plain(store, base(store, path)) == [LOWER]
    assert plain(store, base(store, path, wanted=("linux", "arm64"))) == [UPPER]


def test_a_base_for_another_platform_is_refused(store: Store, tmp_path: Path) -> None:
    path = saved(tmp_path / "saved.tar", LOWER, architecture="arm64")
    with pytest.raises(PackError, match="it is for linux/arm64, and the target needs linux/amd64"):
        base(store, path)


def test_a_layout_of_several_images_for_one_platform_is_refused(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    path = layout.index(layout.image((LOWER, LOWER)), layout.image((UPPER, UPPER)))
    with pytest.raises(PackError, match="holds 2 images"):
        base(store, path)


def test_a_layer_with_other_bytes_is_refused(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    kept = gzip.compress(LOWER)
    path = layout.index(layout.image((kept, LOWER)))
    (path / oci.blob_path(sha256(kept))).write_bytes(gzip.compress(UPPER))
    with pytest.raises(IntegrityError):
        base(store, path)


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    with pytest.raises(IntegrityError, match=f"layer {sha256(LOWER)} has other bytes"):
        base(store, layout.index(layout.image((gzip.compress(UPPER), LOWER))))


def test_a_configuration_with_other_bytes_is_refused(store: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    path = layout.index(layout.image((LOWER, LOWER)))
    (path / oci.blob_path(sha256(config(LOWER)))).write_bytes(config(LOWER, architecture="arm64"))
    with pytest.raises(IntegrityError, match="has other bytes"):
        base(store, path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no tar at all" * 100, LOWER[:700], gzip.compress(LOWER)[:-40], bz2.compress(LOWER)],
    ids=["empty", "text", "cut", "cut gzip", "bzip2"],
)
def test_what_is_no_image_is_refused_by_name(store: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.tar").write_bytes(content)
    with pytest.raises(PackError, match=r"broken\.tar: (it cannot be read as an image|the tar ends in the middle)"):
        base(store, tmp_path / "broken.tar")


def test_an_empty_folder_is_no_image(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(PackError, match=r"folder: the folder has no index\.json"):
        base(store, tmp_path / "folder")


def test_a_file_that_is_not_there_is_a_resource_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"absent\.tar: there is no such file"):
        base(store, tmp_path / "absent.tar")


def test_a_host_that_there_is_not_names_those_that_there_are(store: Store) -> None:
    with pytest.raises(PackError, match=r"there is no host of this name(.|\n)*debian-12"):
        base(store, "host:solaris")


def test_a_base_is_read_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "saved.tar", LOWER, UPPER, history=[{"created_by": "x"}, {"created_by": "y"}])
    first = base(store, path)
    monkeypatch.setattr(archived, "_image_base", None)
    moved = path.rename(tmp_path / "moved.tar")
    assert dataclasses.replace(base(store, moved), name=first.name) == first


def test_a_base_whose_layer_was_lost_is_read_again(store: Store, tmp_path: Path) -> None:
    path = saved(tmp_path / "saved.tar", LOWER, UPPER)
    first = base(store, path)
    store.quarantine(first.layers[1].digest)
    assert plain(store, base(store, path)) == [LOWER, UPPER]


def test_without_an_engine_a_reference_is_an_engine_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(EngineError):
        base(store, "debian:12-slim")


@pytest.fixture
def imported(tmp_path: Path) -> Iterator[str]:
    """A tiny image in the engine."""
    from boxsnake.engine import connect

    engine = connect()
    tag = f"boxsnake-test/{uuid.uuid4().hex}:1"
    (tmp_path / "tiny.tar").write_bytes(LOWER)
    engine.import_rootfs(tmp_path / "tiny.tar", tag)
    yield tag
    engine.remove_image(tag)


@pytest.mark.engine
def test_an_image_of_the_engine_is_taken_once(store: Store, imported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = base(store, imported)
    assert plain(store, found) == [LOWER]
    assert (found.name, found.is_reference, found.platform) == (imported, True, AMD64)
    monkeypatch.setattr(archived, "_image_base", None)
    assert base(store, imported) == found
