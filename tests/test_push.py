from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.bases import base_image
from boxsnake.credentials import Credentials
from boxsnake.errors import IntegrityError, NetworkError, PackError, ResourceError, UsageError
from boxsnake.fetch.exchange import Patience, StoppedError
from boxsnake.image.layout import Layout
from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import History, Runtime
from boxsnake.reference import Reference, parse
from boxsnake.registry import Registries
from boxsnake.registry import upload as uploading
from boxsnake.registry.course import Course
from boxsnake.registry.destinations import where_to
from boxsnake.registry.logins import find_login
from boxsnake.registry.push import Pushed, push, push_along
from boxsnake.settings import RegistrySettings
from boxsnake.store import Store
from tests.registry_server import (
    IDENTITY,
    PASSWORD,
    USER,
    Proxy,
    Request,
    basic_auth,
    docker_registry,
    faulty_proxy,
    make_certificate,
    token_server,
)
from tests.small_world import World, small_world
from tests.test_bases import AMD64, rootfs, sha256

HASTY = Patience(connect=2.0, stall=5.0, attempts=3, pause=0.001, longest_wait=1.0)
BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry"), deletes=True) as address:
        yield address


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy(upstream: str) -> Iterator[Proxy]:
    with faulty_proxy(upstream) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def artifact(path: Path, *layers: bytes, architecture: str = "amd64", **annotations: str) -> Layout:
    """A tar that is an image layout, as `build image` writes it, of layers that are not compressed."""
    blobs = [
        LayerBlob(name="x", digest=sha256(one), size=len(one), diff_id=sha256(one), media_type=oci.LAYER)
        for one in layers
    ]
    platform = ("linux", architecture)
    history = [History(created_by="test") for _ in layers]
    runtime = Runtime(entrypoint=("/busybox",), command=("cat", "/etc/word"))
    config = oci.config(blobs, runtime, platform=platform, epoch=0, history=history)
    manifest = oci.manifest(config, blobs, annotations)
    contents = {one.digest: one.content for one in (config, manifest)} | {sha256(one): one for one in layers}
    members = [
        file_member("oci-layout", oci.LAYOUT_FILE),
        file_member("index.json", oci.index(manifest, platform=platform, tags=["registry.example.org/made/for:1"])),
        *(file_member(oci.blob_path(digest), content) for digest, content in contents.items()),
    ]
    with path.open("xb") as stream:
        write_tar(members, stream, epoch=0)
    return Layout(path)


def pushed(store: Store, address: str, name: str, *layouts: Layout, **given: Any) -> Pushed:
    registries = Registries(patience=HASTY, **given)
    (one,) = push(store, registries, layouts, where_to(registries, [f"{address}/{name}"]))
    return one


def read_back(upstream: str, name: str, folder: Path, *options: str) -> dict[str, Any]:
    """What somebody else's program finds under a name: its manifest. Its layers are unpacked by a third."""
    target = f"oci:{folder}/copy:1"
    command = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", *options, f"docker://{upstream}/{name}", target]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unpack = ["umoci", "unpack", "--rootless", "--image", f"{folder}/copy:1", f"{folder}/bundle"]
    done = subprocess.run(unpack, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    raw = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{upstream}/{name}"]
    document: dict[str, Any] = json.loads(subprocess.run(raw, capture_output=True, check=True).stdout)
    return document


def random_layer(size: int) -> bytes:
    return rootfs(big=os.urandom(size // 2).hex())


def test_what_is_pushed_is_read_back_by_others(store: Store, tmp_path: Path, upstream: str) -> None:
    layout = artifact(tmp_path / "a.tar", rootfs(word="hello"), rootfs(other="2"))
    done = pushed(store, upstream, "team/app:1.0", layout)
    assert (done.uploaded, done.mounted, done.there, done.platforms) == (3, 0, 0, ("linux/amd64",))
    manifest = read_back(upstream, "team/app:1.0", tmp_path)
    assert sha256(oci.canonical(manifest)) == done.digest == layout.images[0].manifest.digest
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "word").read_text() == "hello"
    again = pushed(store, upstream, "team/app:1.1", layout)
    assert (again.uploaded, again.mounted, again.there, again.sent) == (0, 0, 3, 0)
    assert again.digest == done.digest


@pytest.mark.parametrize("loss", ["", "blob", "everything"])
def test_after_an_edit_only_that_travels_and_what_was_lost(store: Store, tmp_path: Path, loss: str) -> None:
    heavy, first, second = random_layer(1000), rootfs(word="one"), rootfs(word="two")
    name = "team/edited"
    with docker_registry(tmp_path) as upstream, faulty_proxy(upstream) as proxy:
        pushed(store, proxy.address, f"{name}:1", artifact(tmp_path / "a.tar", heavy, first))
        own = tmp_path / "data" / "docker" / "registry" / "v2" / "repositories" / name
        if loss:
            shutil.rmtree(own / "_layers" / "sha256" / sha256(heavy).partition(":")[2] if loss == "blob" else own)
        proxy.requests.clear()
        edited = artifact(tmp_path / "b.tar", heavy, second)
        done = pushed(store, proxy.address, f"{name}:2", edited)
        asked = proxy.count("HEAD", f"blobs/{sha256(heavy)}")
        config = proxy.count("HEAD", f"blobs/{edited.images[0].config.digest}")
        assert config == (1 if loss == "blob" else 0)
        assert (asked, proxy.count("PUT", "manifests/")) == {"": (0, 1), "blob": (1, 2), "everything": (1, 1)}[loss]
        assert (done.uploaded + done.mounted, done.there) == {"": (2, 1), "blob": (1, 2), "everything": (3, 0)}[loss]
        assert read_back(upstream, f"{name}:2", tmp_path) == json.loads(edited.images[0].manifest.content)


def test_blobs_go_ahead_of_a_tag_that_is_written_when_all_is_well(store: Store, tmp_path: Path, proxy: Proxy) -> None:
    layout = artifact(tmp_path / "a.tar", rootfs(word="ahead"))
    registries = Registries(patience=HASTY)
    tags = where_to(registries, [f"{proxy.address}/ahead:1", f"{proxy.address}/ahead:2"])

    def is_on_its_way() -> bool:
        return proxy.count("PUT", "blobs/") > 0

    with pushing(store, registries, tags) as (course, _):
        course.give([layout])
        wait_until(is_on_its_way)
    assert (is_on_its_way(), proxy.count("PUT", "manifests/")) == (True, 0)
    with pushing(store, registries, tags) as (course, result):
        course.give([layout])
        course.allow()
        one, other = result.result()
    assert (one.there + one.uploaded, other.there, proxy.count("PUT", "manifests/")) == (2, 2, 2)
    proxy.fault = lambda request, _: (403, {}, b"") if request.method == "PUT" else None
    edited = artifact(tmp_path / "b.tar", rootfs(word="edited"))
    with pushing(store, registries, tags) as (course, result):
        course.give([edited])
        course.allow()
        with pytest.raises(NetworkError, match="may push to"):
            result.result()


@contextlib.contextmanager
def pushing(
    store: Store, registries: Registries, tags: Sequence[Reference]
) -> Iterator[tuple[Course, Future[list[Pushed]]]]:
    """A push that goes on beside the block."""
    course = Course()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(push_along, store, registries, tags, course)
        try:
            yield course, result
        finally:
            course.end()


@pytest.mark.parametrize("change", ["edited", "unchanged", "lost"])
def test_what_new_images_need_is_asked_for_before_they_are_there(
    store: Store, tmp_path: Path, proxy: Proxy, change: str
) -> None:
    heavy = random_layer(1000)
    registries = Registries(patience=HASTY)
    tags = where_to(registries, [f"{proxy.address}/expected-{change}:1"])
    layouts = {"unchanged": artifact(tmp_path / "a.tar", heavy, rootfs(word="one"))}
    push(store, registries, [layouts["unchanged"]], tags)
    layouts["edited"] = layouts["lost"] = artifact(tmp_path / "b.tar", heavy, rootfs(word="two"))
    proxy.requests.clear()

    def asked() -> tuple[int, int]:
        return proxy.count("HEAD", "manifests/"), proxy.count("POST", "blobs/uploads/")

    met: set[str] = set()

    def lose(request: Request, _: int) -> tuple[int, dict[str, str], bytes] | None:
        digest = request.path.partition("digest=")[2]
        if request.method != "PUT" or not digest or digest in met:
            return None
        met.add(digest)
        return 404, {}, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'

    with pushing(store, registries, tags) as (course, result):
        course.expect()
        wait_until(lambda: asked() == (1, 2))
        assert asked() == (1, 2)
        proxy.fault = lose if change == "lost" else None
        course.give([layouts[change]])
        course.allow()
        (done,) = result.result()
    assert (done.uploaded, done.there) == ((0, 3) if change == "unchanged" else (2, 1))
    assert asked() == (1, 4 if change == "lost" else 2)
    assert proxy.count("DELETE", "blobs/uploads/") == (2 if change == "unchanged" else 0)


def test_a_push_that_is_ended_does_not_wait_for_an_answer(store: Store, tmp_path: Path) -> None:
    registries = Registries(patience=Patience(connect=30.0, stall=600.0, attempts=2))
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(silent.accept)
        tags = where_to(registries, [f"127.0.0.1:{silent.getsockname()[1]}/ended:1"])
        with pushing(store, registries, tags) as (course, result):
            course.give([artifact(tmp_path / "a.tar", rootfs(word="one"))])
            connection, _ = accepted.result(30)
            connection.recv(1)
            course.end()
            with pytest.raises(StoppedError):
                result.result(30)
        connection.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    """As long as a slow machine may take."""
    end = time.monotonic() + 30
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.engine
def test_an_engine_runs_what_was_pushed(store: Store, tmp_path: Path, upstream: str) -> None:
    content = tmp_path / "layer.tar"
    with tarfile.open(content, "w") as archive:
        archive.add(BUSYBOX, "busybox")
        (tmp_path / "word").write_text("out of the registry")
        archive.add(tmp_path / "word", "etc/word")
    done = pushed(store, upstream, f"{uuid.uuid4().hex}:1", artifact(tmp_path / "a.tar", content.read_bytes()))
    docker = ["docker"]
    try:
        subprocess.run([*docker, "pull", "--quiet", done.reference], check=True, capture_output=True)
        run = subprocess.run([*docker, "run", "--rm", done.reference], capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (0, "out of the registry"), run.stderr
    finally:
        subprocess.run([*docker, "rmi", "--force", done.reference], check=False, capture_output=True)


def test_blobs_are_mounted_from_where_they_were_pushed_or_the_base_lies(
    store: Store, tmp_path: Path, proxy: Proxy
) -> None:
    lower, upper = random_layer(1 << 12), rootfs(upper="1")
    base = pushed(store, proxy.address, "bases/one:1", artifact(tmp_path / "base.tar", lower))
    second = pushed(store, proxy.address, "apps/one:1", artifact(tmp_path / "one.tar", lower, upper))
    assert (second.mounted, second.uploaded) == (1, 2)
    # On a machine that has pushed nothing yet, the image's annotation tells.
    about = {"org.opencontainers.image.base.name": f"{proxy.address}/bases/one:1"}
    other = artifact(tmp_path / "two.tar", lower, rootfs(upper="2"), **about)
    third = pushed(Store(tmp_path / "fresh"), proxy.address, "apps/two:1", other)
    assert (third.mounted, third.uploaded) == (1, 2)
    assert base.uploaded == 2
    # What is said to be there and is not is sent.
    store.select("registry-blob", {"registry": proxy.address, "digest": sha256(upper)}, {"repository": "no/where"})
    fourth = pushed(store, proxy.address, "apps/three:1", artifact(tmp_path / "three.tar", upper))
    assert (fourth.mounted, fourth.uploaded) == (0, 2)


def test_images_of_several_platforms_go_under_one_index(store: Store, tmp_path: Path, upstream: str) -> None:
    amd = artifact(tmp_path / "amd.tar", rootfs(word="amd64"))
    arm = artifact(tmp_path / "arm.tar", rootfs(word="arm64"), architecture="arm64")
    done = pushed(store, upstream, "both:1", arm, amd)
    assert done.platforms == ("linux/amd64", "linux/arm64")
    index = read_back(upstream, "both:1", tmp_path, "--override-arch=arm64")
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "arm64"]
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "word").read_text() == "arm64"
    found = base_image(store, f"{upstream}/both:1", bases={}, root=tmp_path, wanted=("linux", "arm64"))
    assert found.manifest == arm.images[0].manifest.digest
    with pytest.raises(UsageError, match="both hold an image for linux/amd64"):
        pushed(store, upstream, "both:2", amd, artifact(tmp_path / "other.tar", rootfs(word="x")))


def test_a_silent_registry_is_given_up_after_two_tries(store: Store, tmp_path: Path) -> None:
    registries = Registries(patience=Patience(stall=0.1, attempts=5, pause=0.001))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reference = f"127.0.0.1:{silent.getsockname()[1]}/any:1"
        with pytest.raises(NetworkError, match="no bytes for"):
            base_image(store, reference, bases={}, root=tmp_path, wanted=AMD64, registries=registries)
        silent.settimeout(0.1)
        callers = []
        with contextlib.suppress(TimeoutError):
            while True:
                callers.append(silent.accept()[0])
    for caller in callers:
        caller.close()
    assert len(callers) == 2


def test_a_repository_that_has_gone_is_told(store: Store, tmp_path: Path, proxy: Proxy) -> None:
    pushed(store, proxy.address, "gone:1", artifact(tmp_path / "a.tar", rootfs(word="before")))
    proxy.fault = lambda request, _: (404, {}, b"") if request.method in {"HEAD", "POST"} else None
    with pytest.raises(NetworkError, match="the registry has no"):
        pushed(store, proxy.address, "gone:1", artifact(tmp_path / "b.tar", rootfs(word="after")))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(uploading, "CHUNK", 40_000)
    return 40_000


@pytest.mark.parametrize("fault", ["cut", "cut after", "half"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_that_is_cut_goes_on(
    store: Store, tmp_path: Path, upstream: str, proxy: Proxy, small_chunks: int, fault: str, method: str
) -> None:
    layer = random_layer(100_000)
    cut: list[Request] = []

    def once(request: Request, _: int) -> str | None:
        is_big = request.method == method and "/blobs/" in request.path and proxy.count("PATCH") > 1
        if not is_big or cut:
            return None
        cut.append(request)
        return fault

    proxy.fault = once
    name = f"cut/{method.lower()}-{fault.replace(' ', '-')}:1"
    done = pushed(store, proxy.address, name, artifact(tmp_path / "a.tar", layer))
    assert cut
    assert done.uploaded == 2
    read_back(upstream, name, tmp_path)
    sent = [request for request in proxy.requests if request.method == "PATCH"]
    assert all(len(request.body) <= small_chunks for request in sent)
    if fault == "cut":  # nothing of it had come through: what came before is not sent again
        assert sum(len(request.body) for request in sent) == len(layer) + (len(cut[0].body) if method == "PATCH" else 0)
        assert done.sent == len(layer) + len(artifact(tmp_path / "b.tar", layer).images[0].config.content)


def test_a_registry_without_chunks_gets_blobs_in_one_piece(
    store: Store, tmp_path: Path, upstream: str, proxy: Proxy, small_chunks: int
) -> None:
    proxy.fault = lambda request, _: (405, {}, b"") if request.method == "PATCH" else None
    layer = random_layer(3 * small_chunks)
    done = pushed(store, proxy.address, "pieces:1", artifact(tmp_path / "a.tar", layer))
    assert (done.uploaded, proxy.count("PATCH")) == (2, 1)
    read_back(upstream, "pieces:1", tmp_path)


@pytest.mark.parametrize(
    ("status", "headers", "message", "step"),
    [
        (400, {}, "refuses the request", "Run it again"),
        (401, {}, "asks for a login", "docker login 127.0.0.1"),
        (403, {}, "may push to 127.0.0.1:.*/any", "Log in as somebody"),
        (404, {}, "has no 127.0.0.1:.*/any", "Make the repository"),
        (413, {}, "nothing of this size", "Ask who runs it"),
        (429, {"Retry-After": "900"}, "fewer requests", "come back in 900 s"),
        (500, {}, "answered 500", "Try again later, or ask who runs it"),
    ],
)
def test_a_registry_that_refuses(
    store: Store, tmp_path: Path, proxy: Proxy, status: int, headers: dict[str, str], message: str, step: str
) -> None:
    said = json.dumps({"errors": [{"code": "DENIED", "message": "not\x1b[31m you"}]}).encode()
    layout = artifact(tmp_path / "a.tar", random_layer(100))
    proxy.fault = lambda request, _: (status, headers, said) if request.method == "POST" else None
    with pytest.raises(NetworkError, match=message) as caught:
        pushed(store, proxy.address, "any:1", layout)
    assert step in caught.value.next_step
    assert "\x1b" not in str(caught.value)
    if status in {401, 403}:
        assert "DENIED not" in caught.value.cause
    proxy.fault = None
    assert pushed(store, proxy.address, "any:1", layout).uploaded == 2


def test_a_busy_registry_is_waited_for(store: Store, tmp_path: Path, proxy: Proxy) -> None:
    layout = artifact(tmp_path / "a.tar", random_layer(100))
    proxy.fault = lambda request, _: (429, {"Retry-After": "0"}, b"") if proxy.count(request.method) == 1 else None
    assert pushed(store, proxy.address, "busy:1", layout).uploaded == 2


def test_a_registry_that_lies_about_a_digest_is_told(store: Store, tmp_path: Path, proxy: Proxy) -> None:
    layout = artifact(tmp_path / "a.tar", random_layer(100))
    lie = (201, {"Docker-Content-Digest": sha256(b"other")}, b"")
    proxy.fault = lambda request, _: lie if "/manifests/" in request.path else None
    with pytest.raises(IntegrityError, match="another digest"):
        pushed(store, proxy.address, "lies:1", layout)
    proxy.fault = lambda request, _: lie if request.method == "PUT" else None
    with pytest.raises(IntegrityError, match="another digest"):
        pushed(store, proxy.address, "lies-of-blobs:1", layout)
    assert not any("lies-of-blobs/manifests" in request.path for request in proxy.requests if request.method == "PUT")


def test_what_answers_to_everything_is_no_registry(store: Store, tmp_path: Path, proxy: Proxy) -> None:
    page = b"<html>Please log in to this network</html>"
    length = {"Content-Length": str(len(page))}
    proxy.fault = lambda request, _: (200, length, b"" if request.method == "HEAD" else page)
    with pytest.raises(NetworkError, match="the registry answered 200"):
        pushed(store, proxy.address, "nothing:1", artifact(tmp_path / "a.tar", random_layer(100)))


def test_bytes_that_changed_on_the_way_are_told(store: Store, tmp_path: Path, proxy: Proxy) -> None:
    said = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "x"}]}).encode()
    proxy.fault = lambda request, _: (400, {}, said) if request.method == "PUT" else None
    with pytest.raises(IntegrityError, match="other bytes came than were sent"):
        pushed(store, proxy.address, "changed:1", artifact(tmp_path / "a.tar", random_layer(100)))


@pytest.mark.parametrize("chunk", [1 << 20, 1000])
def test_a_damaged_artifact_is_not_pushed(
    store: Store, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(uploading, "CHUNK", chunk)
    layer = random_layer(5000)
    layout = artifact(tmp_path / "a.tar", layer)
    content = layout.path.read_bytes()
    layout.path.write_bytes(content.replace(layer[600:700], bytes(100)))
    with pytest.raises(IntegrityError, match=r"a\.tar.*has other bytes"):
        pushed(store, proxy.address, "damaged:1", layout)
    assert not proxy.count("PUT", "/manifests/")


@pytest.mark.parametrize("content", [b"", b"no tar" * 200, None])
def test_what_is_no_layout_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.tar"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(PackError, match=r"broken\.tar.* cannot be read as"):
        _ = Layout(path).images
    with pytest.raises(ResourceError, match="no such file"):
        Layout(tmp_path / "absent.tar")


def test_a_folder_is_a_layout_too(store: Store, tmp_path: Path, upstream: str) -> None:
    layout = artifact(tmp_path / "a.tar", rootfs(word="x"))
    with tarfile.open(layout.path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    there = Layout(tmp_path / "unpacked")
    assert there.tags == layout.tags == ("registry.example.org/made/for:1",)
    assert pushed(store, upstream, "folder:1", there).digest == layout.images[0].manifest.digest


# Logins


def test_basic_logins(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = artifact(tmp_path / "a.tar", random_layer(100))
    with docker_registry(tmp_path, auth=basic_auth(tmp_path)) as address:
        with pytest.raises(NetworkError, match=r"asks for a login \(401\)"):
            pushed(store, address, "app:1", layout)
        config = tmp_path / ".docker" / "config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"auths": {address: {"username": USER, "password": "wrong"}}}))
        with pytest.raises(NetworkError, match=r"does not accept the login \(401\)") as caught:
            pushed(store, address, "app:1", layout)
        assert "wrong" not in str(caught.value)
        config.unlink()
        # Where no file knows it, the settings' credentials and netrc do.
        settings = Credentials.from_environment({f"http://{address}": f"{USER}:{PASSWORD}"}, env={})
        assert pushed(store, address, "app:1", layout, credentials=settings).uploaded == 2
        # A helper, as docker's config names it.
        program = tmp_path / "bin" / "docker-credential-tests"
        program.parent.mkdir()
        answer = json.dumps({"ServerURL": address, "Username": USER, "Secret": PASSWORD})
        program.write_text(f"#!/bin/sh\nread server\n[ \"$server\" = {address} ] && echo '{answer}'\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        config.write_text(json.dumps({"auths": {address: {}}, "credsStore": "tests"}))
        assert pushed(store, address, "app:2", layout).there == 2
        found = base_image(store, f"{address}/app:2", bases={}, root=tmp_path, wanted=("linux", "amd64"))
        assert found.manifest == layout.images[0].manifest.digest


def test_tokens(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = random_layer(100)
    layout = artifact(tmp_path / "a.tar", layer)
    with token_server(tmp_path) as tokens, docker_registry(tmp_path, auth=tokens.auth) as address:
        with pytest.raises(NetworkError, match=r"the registry asks for a login \(401\)"):
            pushed(store, address, "team/app:1", layout)
        auth = tmp_path / "auth.json"
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
        # podman's file may know a part of a registry alone.
        auth.write_text(json.dumps({"auths": {f"{address}/team": {"username": USER, "password": PASSWORD}}}))
        assert pushed(store, address, "team/app:1", layout).uploaded == 2
        assert tokens.asked[-1][1] == ["repository:team/app:pull,push"]
        mounted = pushed(store, address, "team/other:1", layout)
        assert mounted.mounted >= 1
        assert tokens.asked[-1][1] == ["repository:team/other:pull,push", "repository:team/app:pull"]
        # Without a login, what everybody may read.
        auth.write_text("{}")
        found = base_image(store, f"{address}/team/app:1", bases={}, root=tmp_path, wanted=("linux", "amd64"))
        assert found.manifest == layout.images[0].manifest.digest
        assert tokens.asked[-1] == ("", ["repository:team/app:pull"])
        auth.write_text(json.dumps({"auths": {address: {"identitytoken": IDENTITY}}}))
        assert pushed(store, address, "team/app:2", layout).there == 2
        auth.write_text(json.dumps({"auths": {address: {"username": USER, "password": "wrong"}}}))
        with pytest.raises(NetworkError, match="token server does not accept the login"):
            pushed(store, address, "team/app:3", layout)


def test_encrypted(store: Store, tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    layout = artifact(tmp_path / "a.tar", random_layer(100))
    with docker_registry(tmp_path, tls=tls) as address:
        with pytest.raises(NetworkError) as caught:
            pushed(store, address, "app:1", layout)
        assert "insecure = false" in caught.value.next_step
        with pytest.raises(NetworkError, match="certificate is not valid"):
            pushed(store, address, "app:1", layout, settings={address: RegistrySettings(insecure=False)})
        trusting = {address: RegistrySettings(ca=tls[1])}
        assert pushed(store, address, "app:1", layout, settings=trusting).uploaded == 2


def test_where_logins_are_looked_for(tmp_path: Path) -> None:
    def at(folder: str, name: str, **document: Any) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(json.dumps(document))

    def found(repository: str = "team/app", **more: str) -> Any:
        login = find_login("r.example", repository, {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **more})
        return login and login.login and (login.login.user, login.login.password)

    assert found() is None
    at(".docker", "config.json", auths={"https://r.example/v1/": {"auth": "YTpiOmM="}})
    assert found() == ("a", "b:c")
    at("elsewhere", "config.json", auths={"r.example": {"username": "d", "password": "e"}})
    assert found(DOCKER_CONFIG=str(tmp_path / "elsewhere")) == ("d", "e")
    at("run/containers", "auth.json", auths={"r.example/team": {"username": "f", "password": "g"}})
    assert found(XDG_RUNTIME_DIR=str(tmp_path / "run")) == ("f", "g")
    assert found("other", XDG_RUNTIME_DIR=str(tmp_path / "run")) == ("a", "b:c")
    at("podman", "auth.json", auths={"r.example/team/app": {"username": "h", "password": "i"}})
    assert found(REGISTRY_AUTH_FILE=str(tmp_path / "podman" / "auth.json")) == ("h", "i")
    at(".docker", "config.json", credHelpers={"r.example": "absent"})
    with pytest.raises(ResourceError, match="docker-credential-absent: the helper"):
        found()
    for content in ("{", '{"auths": {"r.example": {"auth": "s3cret"}}}'):
        (tmp_path / ".docker" / "config.json").write_text(content)
        with pytest.raises(ResourceError) as caught:
            found()
        assert "s3cret" not in str(caught.value)


def test_tags_have_to_name_a_registry() -> None:
    assert where_to(Registries(default="r.example"), ["a", "x.example/b:1", "a:latest"]) == (
        parse("r.example/a:latest"),
        parse("x.example/b:1"),
    )
    for tag, message in {
        "a:1": "names no registry",
        "A": "is no reference",
        f"r.example/a@sha256:{'0' * 64}": "has a digest",
    }.items():
        with pytest.raises(UsageError, match=message):
            where_to(Registries(), [tag])


# By the command line


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world")) as made:
        yield made


def test_an_image_is_built_and_pushed_by_the_command_line(world: World, upstream: str, tmp_path: Path) -> None:
    tags = [f"{upstream}/small/app:1.0", f"{upstream}/small/app:latest"]
    world.write(image=f"tags = {tags}")
    world.done("lock")
    document = json.loads(world.done("build", "image", "--push", "--json"))
    first, second = document["pushed"]
    assert [first["reference"], second["reference"]] == tags
    assert first["digest"] == second["digest"]
    assert (first["uploaded"] > 2, second["uploaded"], second["sent"]) == (True, 0, 0)
    assert sha256(oci.canonical(read_back(upstream, "small/app:latest", tmp_path))) == first["digest"]

    again = world.done("publish", "image")
    assert f"pushed {tags[0]}@{first['digest']}" in again
    (image,) = (world.app / "dist").glob("*.image")
    elsewhere = world.done("publish", "image", "--file", str(image), f"{upstream}/other:2", before=["env", "-C", "/"])
    assert "mounted" in elsewhere
    assert f"pushed {upstream}/other:2@{first['digest']}" in elsewhere

    world.write()
    refused = world.run("build", "image", "--push")
    assert (refused.returncode, "small:1.0: names no registry" in refused.stderr) == (2, True)
    for option in ("--push", "--load", "--index"):
        nothing = world.run("build", "rpm", option)
        assert (nothing.returncode, f"{option}: there is no image" in nothing.stderr) == (2, True)
    shutil.rmtree(world.app / "dist")
    single = world.run("build", "image", "--index")
    assert (single.returncode, "linux/amd64" in single.stderr, (world.app / "dist").exists()) == (2, True, False)
    absent = world.run("rebase", "absent.tar", "--base", "scratch")
    assert (absent.returncode, "no such file" in absent.stderr) == (2, True)
    assert world.run("publish", "image", "--file", "absent.tar", f"{upstream}/x:1").returncode == 8
