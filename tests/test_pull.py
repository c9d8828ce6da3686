from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxsnake import oci
from boxsnake.bases import Base, base_image
from boxsnake.bases.pulled import image_digest
from boxsnake.errors import BoxsnakeError, IntegrityError, NetworkError, PackError, ResourceError
from boxsnake.fetch.exchange import Patience
from boxsnake.lock import BasePin
from boxsnake.reference import parse
from boxsnake.registry import Registries
from boxsnake.settings import RegistrySettings
from boxsnake.store import Store
from tests.registry_server import Proxy, Request, docker_registry, faulty_proxy
from tests.test_bases import AMD64, LOWER, RUNTIME, UPPER, Layout, config, plain, rootfs, sha256

HASTY = Patience(connect=2.0, stall=5.0, attempts=3, pause=0.001, longest_wait=1.0)
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARM64 = ("linux", "arm64")


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def registry(upstream: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    with faulty_proxy(upstream) as proxy:
        yield proxy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def copied(layout: Path, upstream: str, name: str, *options: str) -> str:
    """Put the layout's image into the registry, by somebody else's program."""
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *options, f"oci:{layout}"]
    done = subprocess.run([*command, f"docker://{upstream}/{name}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return name


def pull(store: Store, proxy: Proxy, name: str, wanted: tuple[str, str] = AMD64, **others: Any) -> Base:
    given: dict[str, Any] = {"registries": Registries(patience=HASTY), "bases": {}, "root": Path("/nowhere")} | others
    return base_image(store, f"{proxy.address}/{name}", wanted=wanted, **given)


def put(upstream: str, name: str, manifest: dict[str, Any] | bytes, media_type: str = oci.MANIFEST) -> None:
    """Put a manifest there as it is, whatever it says."""
    import httpx

    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    repository, _, tag = name.partition(":")
    url = f"http://{upstream}/v2/{repository}/manifests/{tag}"
    answer = httpx.put(url, content=content, headers={"Content-Type": media_type})
    assert answer.status_code == 201, answer.text


def put_blob(upstream: str, repository: str, content: bytes, media_type: str) -> dict[str, Any]:
    import httpx

    place = httpx.post(f"http://{upstream}/v2/{repository}/blobs/uploads/").headers["Location"]
    httpx.put(f"{place}&digest={sha256(content)}", content=content).raise_for_status()
    return {"digest": sha256(content), "size": len(content), "mediaType": media_type}


def image(upstream: str, repository: str, *layers: dict[str, Any], plain_layers: tuple[bytes, ...] = ()) -> Any:
    about = put_blob(upstream, repository, config(*plain_layers), oci.CONFIG)
    return {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": about, "layers": list(layers)}


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_an_image_is_pulled_as_it_is(store: Store, tmp_path: Path, upstream: str, registry: Proxy, form: str) -> None:
    layout = Layout(tmp_path / "layout")
    kept = gzip.compress(LOWER)
    path = layout.index(layout.image((kept, LOWER), (gzip.compress(UPPER), UPPER)))
    name = copied(path, upstream, f"team/{form}:1", f"--format={form}")
    found = pull(store, registry, name)
    assert plain(store, found) == [LOWER, UPPER]
    assert found.layers[0].digest == sha256(kept)
    assert (found.platform, found.name, found.is_reference) == (AMD64, f"{registry.address}/{name}", True)
    assert found.runtime.command == tuple(RUNTIME["Cmd"])
    assert found.manifest == found.digest
    inspected = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{upstream}/{name}"], capture_output=True
    )
    assert found.digest == sha256(inspected.stdout)


def test_what_the_store_has_is_not_fetched(store: Store, tmp_path: Path, upstream: str, registry: Proxy) -> None:
    layout, kept = Layout(tmp_path / "layout"), gzip.compress(LOWER)
    name = copied(layout.index(layout.image((kept, LOWER))), upstream, "once:1")
    first = pull(store, registry, name)
    fetched = registry.count("GET", "/blobs/")
    assert fetched == 2
    assert pull(store, registry, name) == first
    more = Layout(tmp_path / "more")
    copied(more.index(more.image((kept, LOWER), (gzip.compress(UPPER), UPPER))), upstream, name)
    assert plain(store, pull(store, registry, name)) == [LOWER, UPPER]
    assert registry.count("GET", "/blobs/") == fetched + 2
    assert [request.path for request in registry.requests].count(f"/v2/once/blobs/{first.layers[0].digest}") == 1


def test_a_pinned_base_is_held_and_asks_nobody_once_it_is_there(
    store: Store, tmp_path: Path, upstream: str, registry: Proxy
) -> None:
    layout, other = Layout(tmp_path / "layout"), Layout(tmp_path / "other")
    name = copied(layout.index(layout.image((gzip.compress(LOWER), LOWER))), upstream, "held:1")
    whole = f"{registry.address}/{name}"
    digest = image_digest(Registries(patience=HASTY), parse(whole), AMD64)
    copied(other.index(other.image((gzip.compress(UPPER), UPPER))), upstream, name)
    pin = BasePin(reference=whole, digest=digest)
    assert plain(store, pull(store, registry, name, pin=pin)) == [LOWER]
    assert plain(store, pull(store, registry, name)) == [UPPER]
    assert plain(store, pull(store, registry, name, pin=BasePin(reference="another:1", digest=digest))) == [UPPER]
    registry.requests.clear()
    assert plain(store, pull(store, registry, name, pin=pin)) == [LOWER]
    assert plain(store, pull(store, registry, name, offline=True)) == [UPPER]
    assert registry.requests == []
    with pytest.raises(ResourceError, match="not in the cache"):
        pull(store, registry, "other:1", offline=True)


def test_the_platform_is_chosen_out_of_an_index(store: Store, tmp_path: Path, upstream: str, registry: Proxy) -> None:
    layout = Layout(tmp_path / "layout")
    arm, amd = layout.image((UPPER, UPPER), architecture="arm64"), layout.image((LOWER, LOWER))
    unknown = {"os": "unknown", "architecture": "unknown"}
    document = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [arm, amd]}
    about = layout.add(json.dumps(document).encode(), oci.INDEX)
    name = copied(layout.index(about), upstream, "both:1", "--all", "--format=oci")
    assert plain(store, pull(store, registry, name)) == [LOWER]
    assert plain(store, pull(store, registry, name, ARM64)) == [UPPER]
    other = json.dumps(document | {"manifests": [arm, amd | {"platform": unknown}]}).encode()
    registry.fault = only_for("/manifests/", (200, {"Content-Type": oci.INDEX}, other))
    with pytest.raises(PackError, match=r"not there for linux/amd64, only for linux/arm64"):
        pull(store, registry, "both:2")


def test_an_image_of_another_platform_is_refused(store: Store, tmp_path: Path, upstream: str, registry: Proxy) -> None:
    layout = Layout(tmp_path / "layout")
    name = copied(layout.index(layout.image((UPPER, UPPER), architecture="arm64")), upstream, "arm:1")
    with pytest.raises(PackError, match="it is for linux/arm64, and the target needs linux/amd64"):
        pull(store, registry, name)


@pytest.mark.parametrize(
    ("kept", "media_type"),
    [
        (LOWER, oci.LAYER),
        (zstandard.ZstdCompressor().compress(LOWER), f"{oci.LAYER}+zstd"),
        (gzip.compress(LOWER), DOCKER_LAYER),
    ],
    ids=["plain", "zstd", "docker"],
)
def test_layers_of_every_kind(store: Store, upstream: str, registry: Proxy, kept: bytes, media_type: str) -> None:
    layer = put_blob(upstream, "kinds", kept, media_type)
    put(upstream, "kinds:1", image(upstream, "kinds", layer, plain_layers=(LOWER,)))
    found = pull(store, registry, "kinds:1")
    assert plain(store, found) == [LOWER]
    assert found.layers[0].media_type == oci.LAYER_GZIP


def test_a_layer_that_unpacks_without_end_is_refused(store: Store, upstream: str, registry: Proxy) -> None:
    layer = put_blob(upstream, "bomb", gzip.compress(bytes(80 << 20)), oci.LAYER_GZIP)
    put(upstream, "bomb:1", image(upstream, "bomb", layer, plain_layers=(LOWER,)))
    with pytest.raises(IntegrityError, match="unpack to more than"):
        pull(store, registry, "bomb:1")


def broken_images(upstream: str) -> dict[str, tuple[Any, str]]:
    """By what is wrong with them: a manifest, and what is said about it."""
    layer = put_blob(upstream, "broken", gzip.compress(LOWER), oci.LAYER_GZIP)
    fine = image(upstream, "broken", layer, plain_layers=(LOWER,))
    cut = put_blob(upstream, "broken", gzip.compress(LOWER)[:-9], oci.LAYER_GZIP)
    encrypted = layer | {"mediaType": f"{oci.LAYER_GZIP}+encrypted"}
    foreign = layer | {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    return {
        "encrypted": (fine | {"layers": [encrypted]}, "cannot be taken over"),
        "foreign": (fine | {"layers": [foreign]}, "must not be handed on"),
        "chart": (
            fine | {"config": fine["config"] | {"mediaType": "application/vnd.example.chart"}},
            "configuration is",
        ),
        "other layers": (image(upstream, "broken", layer, plain_layers=(UPPER,)), "has other bytes"),
        "too few": (
            image(upstream, "broken", layer, plain_layers=(LOWER, UPPER)),
            "together .layers: 1, in its configuration: 2",
        ),
        "no tar": (
            fine | {"layers": [cut]},
            "unpacked",
        ),
        "schema 1": ({"schemaVersion": 1}, "its manifest is"),
        "size": (fine | {"layers": [layer | {"size": -1}]}, "bytes"),
        "digest": (fine | {"layers": [layer | {"digest": "sha512:" + "0" * 128}]}, "is no digest"),
        "text": (b"[]", "no JSON object"),
    }


def test_what_is_no_image_is_refused_by_what_is_wrong(store: Store, upstream: str, registry: Proxy) -> None:
    for what, (manifest, message) in broken_images(upstream).items():
        content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        answer = (200, {"Content-Type": oci.MANIFEST}, content)
        if what == "schema 1":
            answer = (200, {"Content-Type": "application/vnd.docker.distribution.manifest.v1+json"}, content)
        registry.fault = only_for("/manifests/", answer)
        with pytest.raises((PackError, IntegrityError), match=message) as caught:
            pull(store, registry, "broken:1")
        assert "broken:1" in str(caught.value) or "sha256" in str(caught.value), what


def only_for(part: str, answer: tuple[int, dict[str, str], bytes]) -> Any:
    return lambda request, _: answer if request.method == "GET" and part in request.path else None


def answering(status: int, **headers: str) -> Any:
    return lambda _request, _number: (status, headers, b"")


@pytest.mark.parametrize(
    ("status", "kind", "message", "step"),
    [
        (401, NetworkError, "asks for a login", "docker login 127.0.0.1"),
        (403, NetworkError, "may pull from", "Log in as somebody"),
        (404, NetworkError, "no such image", "Correct the reference"),
        (429, NetworkError, "fewer requests", "Try again later"),
        (500, NetworkError, "answered 500", "Try again later"),
    ],
)
def test_a_registry_that_refuses(
    store: Store, registry: Proxy, status: int, kind: type[BoxsnakeError], message: str, step: str
) -> None:
    registry.fault = answering(status)
    with pytest.raises(kind, match=message) as caught:
        pull(store, registry, "any:1")
    assert step in caught.value.next_step
    assert len(registry.requests) == (3 if status in {429, 500} else 1)


def test_retry_after_is_obeyed_or_told(store: Store, tmp_path: Path, upstream: str, registry: Proxy) -> None:
    layout = Layout(tmp_path / "layout")
    name = copied(layout.index(layout.image((gzip.compress(LOWER), LOWER))), upstream, "busy:1")
    registry.fault = lambda _, number: (429, {"Retry-After": "0"}, b"") if number < 3 else None
    assert plain(store, pull(store, registry, name)) == [LOWER]
    registry.fault = answering(429, **{"Retry-After": "600"})
    with pytest.raises(NetworkError, match="fewer requests") as caught:
        pull(store, registry, name)
    assert "come back in 600 s" in caught.value.next_step


def test_a_pull_goes_on_where_it_was_cut(store: Store, tmp_path: Path, upstream: str, registry: Proxy) -> None:
    layout = Layout(tmp_path / "layout")
    big = rootfs(big=os.urandom(1 << 19).hex())
    name = copied(layout.index(layout.image((gzip.compress(big), big))), upstream, "cut:1")

    def half_once(request: Request, _: int) -> Any:
        if "/blobs/" in request.path and registry.count("GET", request.path) == 1:
            return "cut"
        return None

    registry.fault = half_once
    assert plain(store, pull(store, registry, name)) == [big]


def test_bytes_that_are_not_the_digests_are_refused(
    store: Store, tmp_path: Path, upstream: str, registry: Proxy
) -> None:
    layout = Layout(tmp_path / "layout")
    kept = gzip.compress(LOWER)
    name = copied(layout.index(layout.image((kept, LOWER))), upstream, "lies:1")

    registry.fault = only_for(sha256(kept), (200, {}, b"x" * len(kept)))
    with pytest.raises(IntegrityError, match="not those that were locked"):
        pull(store, registry, name)
    wrong = {"Docker-Content-Digest": sha256(b"x"), "Content-Type": oci.MANIFEST}
    registry.fault = only_for("/manifests/", (200, wrong, b"{}"))
    with pytest.raises(IntegrityError, match="another digest"):
        pull(store, registry, name)
    pin = BasePin(reference=f"{registry.address}/{name}", digest=sha256(b"other"))
    with pytest.raises(IntegrityError, match="sends other bytes"):
        pull(store, registry, name, pin=pin)
    registry.fault = None
    assert plain(store, pull(store, registry, name)) == [LOWER]


def test_a_mirror_is_asked_first_and_the_registry_where_it_fails(
    store: Store, tmp_path: Path, upstream: str, registry: Proxy
) -> None:
    layout = Layout(tmp_path / "layout")
    path = layout.index(layout.image((gzip.compress(LOWER), LOWER)))
    copied(path, upstream, "of-others/mirrored:1")
    copied(path, upstream, "real:1")
    mirror = RegistrySettings(mirror=f"{registry.address}/of-others")
    registries = Registries(patience=HASTY, settings={upstream: mirror})
    found = base_image(store, f"{upstream}/mirrored:1", bases={}, root=tmp_path, wanted=AMD64, registries=registries)
    assert plain(store, found) == [LOWER]
    assert registry.requests
    found = base_image(store, f"{upstream}/real:1", bases={}, root=tmp_path, wanted=AMD64, registries=registries)
    assert plain(store, found) == [LOWER]


def test_the_settings_say_which_registry_is_meant_where_none_is(
    store: Store, tmp_path: Path, upstream: str, registry: Proxy
) -> None:
    layout = Layout(tmp_path / "layout")
    copied(layout.index(layout.image((gzip.compress(LOWER), LOWER))), upstream, "team/thing:1")
    registries = Registries(patience=HASTY, default=registry.address)
    found = base_image(store, "team/thing:1", bases={}, root=tmp_path, wanted=AMD64, registries=registries)
    assert (plain(store, found), found.name) == ([LOWER], "team/thing:1")


def test_a_redirect_to_this_machine_is_followed_without_the_login(
    store: Store, tmp_path: Path, upstream: str, registry: Proxy
) -> None:
    layout = Layout(tmp_path / "layout")
    name = copied(layout.index(layout.image((gzip.compress(LOWER), LOWER))), upstream, "moved:1")

    def elsewhere(request: Request, _: int) -> Any:
        login = {"WWW-Authenticate": 'Basic realm="x"'}
        if "Authorization" not in request.headers:
            return 401, login, b""
        return 307, {"Location": f"http://{upstream}{request.path}"}, b""

    (tmp_path / ".docker").mkdir()
    auths = {registry.address: {"username": "user", "password": "secret"}}
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": auths}))
    registry.fault = elsewhere
    assert plain(store, pull(store, registry, name)) == [LOWER]


@pytest.mark.parametrize("realm", ["http://r.example/token", "ftp://127.0.0.1/token", "/token"])
def test_a_login_goes_to_no_unencrypted_server_elsewhere(store: Store, registry: Proxy, realm: str) -> None:
    registry.fault = answering(401, **{"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})
    with pytest.raises(IntegrityError, match="for logins, which is not encrypted"):
        pull(store, registry, "any:1")


def test_an_unencrypted_registry_elsewhere_is_only_asked_where_the_settings_say_so() -> None:
    def address(name: str, **given: Any) -> str:
        registries = Registries(settings={name: RegistrySettings(**given)})
        with registries.connect(name) as registry:
            return registry.address

    assert address("r.example:5000") == "https://r.example:5000"
    assert address("r.example:5000", insecure=True) == "http://r.example:5000"
    assert address("localhost:5000") == "http://localhost:5000"
    assert address("127.0.0.1:5000") == address("127.0.0.1:5000") == "http://127.0.0.1:5000"
    assert address("[::1]:5000") == "http://[::1]:5000"
    assert address("localhost:5000", insecure=False) == "https://localhost:5000"
    assert address("169.254.0.1") == "https://169.254.0.1"
    with pytest.raises(ResourceError, match="cannot be read"):
        address("localhost:5000", ca=Path("/nonexistent"))


@pytest.mark.parametrize("name", ["Not An Image", "engine:", "engine:../info"])
def test_a_base_that_is_no_reference_is_named(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(PackError, match="is no reference"):
        base_image(store, name, bases={}, root=tmp_path, wanted=AMD64)
