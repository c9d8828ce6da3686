from __future__ import annotations

import asyncio
import dataclasses
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.boot import boot
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot_recipe import ARTIFACT_HOST, Check
from boxsnake.engine import Engine, connect
from boxsnake.errors import EngineError, PackError
from boxsnake.image.layout import Layout
from boxsnake.image.load import load
from boxsnake.image.own import LABEL, read_label
from boxsnake.image.write import layout_digest
from boxsnake.lock import CondaPackage, TargetLock
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from boxsnake.system import ConfigFile, Directory, System
from boxsnake.target import Target

from .podman_service import podman_service
from .test_engine import Proxy
from .trees import EPOCH, Materials, Workshop

APPLICATION = Application(
    name="hello",
    version="1.0+local",
    command=("hello", "--port", "8000"),
    ports=(8000,),
    environment=(("MODE", "production"),),
    summary="Says hello",
    license="MIT",
    console_scripts=("hello",),
)


WITHOUT = "no glibc; the image needs 2.28"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    (tmp_path / "archives").mkdir()
    monkeypatch.setenv("BOXSNAKE_CACHE_DIR", str(tmp_path / "store"))
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("BOXSNAKE_CONFIG", str(tmp_path / "config.toml"))
    made = Workshop(tmp_path / "archives")
    made.python()
    made.conda("certificates", {"etc/conda/env_vars.d/ssl.json": '{"SSL_CERT_FILE": "/certificates"}'})
    made.wheel("hello", {"hello.py": "def main(): ...\n"}, version="1.0", own=True)
    out = io.BytesIO()
    write_tar([file_member("etc/os-release", b"NAME=tiny\n")], out, epoch=0)
    (tmp_path / "base.tar").write_bytes(out.getvalue())
    return made


def options(**given: Any) -> ImageOptions:
    return ImageOptions.decoded({"base": "./base.tar"} | given)


def plan_of(workshop: Workshop, given: ImageOptions | None = None, **changes: Any) -> Plan:
    application = dataclasses.replace(APPLICATION, wheel=workshop.application, **changes)
    root = workshop.folder.parent
    return Plan(application=application, lock=workshop.lock(), options=given or options(), root=root, epoch=EPOCH)


def pack(workshop: Workshop, plan: Plan, name: str = "out.tar") -> Path:
    out = workshop.folder / name
    materials = workshop.materials(Store(workshop.folder.parent / "store"), plan.lock)
    # No base here has one.
    assert [note.partition(" has ")[2] for note in PACKAGER.pack(plan, materials, out)] == [WITHOUT]
    return out


class Packed:
    """An artifact, read as an OCI layout."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as archive:
            self.files = {
                member.name: stream.read() for member in archive if (stream := archive.extractfile(member)) is not None
            }

    def blob(self, digest: str) -> bytes:
        content = self.files[f"blobs/sha256/{digest.removeprefix('sha256:')}"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
        return content

    @property
    def index(self) -> Any:
        return json.loads(self.files["index.json"])

    @property
    def manifest(self) -> Any:
        return json.loads(self.blob(self.index["manifests"][0]["digest"]))

    @property
    def config(self) -> Any:
        return json.loads(self.blob(self.manifest["config"]["digest"]))


def test_one_tar_is_a_layout_and_a_docker_archive_of_the_same_blobs(workshop: Workshop) -> None:
    packed = Packed(pack(workshop, plan_of(workshop)))
    assert json.loads(packed.files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (docker,) = json.loads(packed.files["manifest.json"])
    digests = [layer["digest"] for layer in packed.manifest["layers"]]
    assert docker["Layers"] == [f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in digests]
    assert docker["Config"] == f"blobs/sha256/{packed.manifest['config']['digest'].removeprefix('sha256:')}"
    for layer, diff_id in zip(packed.manifest["layers"], packed.config["rootfs"]["diff_ids"], strict=True):
        content = packed.blob(layer["digest"])
        assert len(content) == layer["size"]
        assert f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}" == diff_id
    named = {packed.index["manifests"][0]["digest"], packed.manifest["config"]["digest"], *digests}
    assert {name for name in packed.files if name.startswith("blobs/")} == {
        f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in named
    }


def test_a_folder_has_the_files_of_the_tar_and_takes_no_space(workshop: Workshop) -> None:
    plan = plan_of(workshop)
    archive, folder = Packed(pack(workshop, plan)), pack(workshop, plan, "out.image")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == archive.files
    store = Store(workshop.folder.parent / "store")
    layers = [layer.digest for layer in Layout(folder).images[0].layers]
    assert all(store.path(layer).samefile(files[oci.blob_path(layer)]) for layer in layers)
    digest = f"sha256:{hashlib.sha256(archive.files['index.json']).hexdigest()}"
    assert layout_digest(store, folder) == digest
    for layer in layers:  # as on another file system than the store's
        place = files[oci.blob_path(layer)]
        content = place.read_bytes()
        place.unlink()
        place.write_bytes(content)
    assert layout_digest(store, folder) == digest


@pytest.mark.parametrize("harm", ["layer", "own layer", "document", "absent", "more", "index"])
def test_a_folder_that_is_not_as_it_was_written_is_no_result(workshop: Workshop, harm: str) -> None:
    folder, store = pack(workshop, plan_of(workshop), "out.image"), Store(workshop.folder.parent / "store")
    layer = folder / oci.blob_path(Layout(folder).images[0].layers[-1].digest)
    content = layer.read_bytes()
    if harm == "own layer":
        layer.chmod(0o644)
        layer.write_bytes(content[:-1] + b"x")
    elif harm in {"layer", "absent"}:
        layer.unlink()
    if harm == "layer":
        layer.write_bytes(content[:-1] + b"x")
    if harm in {"document", "index"}:
        (folder / ("manifest.json" if harm == "document" else "index.json")).write_text("[]")
    if harm == "more":
        (folder / "blobs" / "more").write_text("")
    assert layout_digest(store, folder) is None


def test_the_application_is_the_last_layer_and_the_base_the_first(workshop: Workshop) -> None:
    packed = Packed(pack(workshop, plan_of(workshop)))
    made_by = [step["created_by"] for step in packed.config["history"]]
    assert made_by[0].startswith("boxsnake: sha256:")
    assert made_by[1:] == ["boxsnake: interpreter", "boxsnake: libraries", "boxsnake: application"]


def test_how_it_runs_is_in_the_configuration(workshop: Workshop) -> None:
    packed = Packed(pack(workshop, plan_of(workshop)))
    said = packed.config["config"]
    assert said["Entrypoint"] == ["/opt/env/bin/hello"]
    assert said["Cmd"] == ["--port", "8000"]
    assert said["Env"] == [
        "PATH=/opt/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SSL_CERT_FILE=/certificates",
        "MODE=production",
    ]
    assert (said["User"], said["WorkingDir"], said["ExposedPorts"]) == ("10001:10001", "/", {"8000/tcp": {}})
    own = read_label(said["Labels"].pop(LABEL))
    assert (own.layers, own.environment, own.glibc) == (3, ("SSL_CERT_FILE", "MODE"), "2.28")
    assert said["Labels"] == packed.manifest["annotations"]
    assert said["Labels"] == {
        "org.opencontainers.image.created": "2020-01-01T00:00:00Z",
        "org.opencontainers.image.description": "Says hello",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.title": "hello",
        "org.opencontainers.image.version": "1.0+local",
    }


def test_where_it_comes_from_is_told(workshop: Workshop) -> None:
    plan = plan_of(workshop, source_page="https://example.org/src", documentation="https://example.org/doc")
    commit = "0123456789" * 4
    labels = Packed(pack(workshop, dataclasses.replace(plan, revision=commit))).manifest["annotations"]
    assert {name.rpartition(".")[2]: value for name, value in labels.items()} == {
        "created": "2020-01-01T00:00:00Z",
        "description": "Says hello",
        "documentation": "https://example.org/doc",
        "licenses": "MIT",
        "revision": commit,
        "source": "https://example.org/src",
        "title": "hello",
        "version": "1.0+local",
    }


def test_options_say_otherwise(workshop: Workshop) -> None:
    given = options(
        entrypoint=("python", "-X", "dev"),
        command=("-m", "hello"),
        user="0",
        workdir="/srv",
        labels={"team": "a", "org.opencontainers.image.title": "Other"},
        environment={"MODE": "test", "PATH": "/only"},
        tags=("r.example:5000/team/hello:1", "hello:latest"),
        prefix="/srv/env",
        budget=2,
    )
    packed = Packed(pack(workshop, plan_of(workshop, given)))
    said = packed.config["config"]
    assert said["Entrypoint"] == ["/srv/env/bin/python", "-X", "dev"]
    assert said["Cmd"] == ["-m", "hello"]
    assert said["Env"] == ["PATH=/only", "SSL_CERT_FILE=/certificates", "MODE=test"]
    assert (said["User"], said["WorkingDir"]) == ("0", "/srv")
    assert (said["Labels"]["team"], said["Labels"]["org.opencontainers.image.title"]) == ("a", "Other")
    assert len(packed.config["rootfs"]["diff_ids"]) == 3
    assert json.loads(packed.files["manifest.json"])[0]["RepoTags"] == ["r.example:5000/team/hello:1", "hello:latest"]
    assert len(packed.index["manifests"]) == 2


@pytest.mark.parametrize(
    ("command", "given", "entrypoint", "arguments"),
    [
        ((), {}, None, ["/opt/env/bin/python"]),
        (("/bin/sh", "-c", "x"), {}, ["/bin/sh"], ["-c", "x"]),
        (("hello", "-v"), {"command": ("-q",)}, ["/opt/env/bin/hello"], ["-q"]),
        (("hello", "-v"), {"entrypoint": ("other",)}, ["/opt/env/bin/other"], None),
        (("hello", "-v"), {"entrypoint": (), "command": ("flask", "run")}, None, ["/opt/env/bin/flask", "run"]),
    ],
    ids=["no command", "absolute", "other arguments", "other program", "command alone"],
)
def test_the_program_is_an_absolute_path(
    workshop: Workshop,
    command: tuple[str, ...],
    given: dict[str, Any],
    entrypoint: list[str] | None,
    arguments: list[str] | None,
) -> None:
    plan = plan_of(workshop, options(**given), command=command)
    said = Packed(pack(workshop, plan)).config["config"]
    assert (said.get("Entrypoint"), said.get("Cmd")) == (entrypoint, arguments)


def test_a_tag_holds_what_a_version_may_and_a_tag_may_not(workshop: Workshop) -> None:
    packed = Packed(pack(workshop, plan_of(workshop)))
    assert json.loads(packed.files["manifest.json"])[0]["RepoTags"] == ["hello:1.0-local"]


def test_an_image_on_nothing_has_our_layers_alone(workshop: Workshop) -> None:
    packed = Packed(pack(workshop, plan_of(workshop, options(base="scratch"))))
    assert len(packed.manifest["layers"]) == 3


def test_system_packages_that_the_base_cannot_have_are_told(workshop: Workshop) -> None:
    plan = dataclasses.replace(plan_of(workshop, options(base="scratch")), requires_deb=("nginx", "libssl3"))
    store = Store(workshop.folder.parent / "store")
    notes = PACKAGER.pack(plan, workshop.materials(store, plan.lock), workshop.folder / "told.tar")
    assert notes[-1].startswith("requires.deb (nginx, libssl3) is not in the image")


def test_folders_and_configuration_are_a_layer_of_the_images_user(workshop: Workshop) -> None:
    system = System(
        user="hello",
        directories=(Directory(path="/var/lib/hello", kind="state", owner="hello", group="hello", mode=0o750),),
        files=(ConfigFile(path="/etc/hello.conf", source="x", content=b"a = 1\n", group="hello", mode=0o640),),
    )
    plan = dataclasses.replace(plan_of(workshop, options(user="10001:3000000")), system=system)
    packed = Packed(pack(workshop, plan))
    layer = gzip.decompress(packed.blob(packed.manifest["layers"][-2]["digest"]))
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        found = {member.name: (member.mode, member.uid, member.gid) for member in archive}
    assert found == {
        "etc": (0o755, 0, 0),
        "etc/hello.conf": (0o640, 0, 3000000),
        "var": (0o755, 0, 0),
        "var/lib": (0o755, 0, 0),
        "var/lib/hello": (0o750, 10001, 3000000),
    }
    assert len(packed.config["rootfs"]["diff_ids"]) == len(packed.manifest["layers"])
    named = dataclasses.replace(plan, options=options(user="www-data"))
    materials = workshop.materials(Store(workshop.folder.parent / "store"), plan.lock)
    *_, note = PACKAGER.pack(named, materials, workshop.folder / "named.tar")
    assert "a user by name (www-data)" in note


def test_an_edit_of_the_application_changes_the_last_layer_alone(workshop: Workshop) -> None:
    before = Packed(pack(workshop, plan_of(workshop), "before.tar")).manifest["layers"]
    workshop.wheel("hello", {"hello.py": "def main(): print()\n"}, version="1.0", own=True)
    after = Packed(pack(workshop, plan_of(workshop), "after.tar")).manifest["layers"]
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def test_a_damaged_layer_of_the_base_is_read_again(workshop: Workshop) -> None:
    plan = plan_of(workshop)
    first = pack(workshop, plan).read_bytes()
    store = Store(Store.default_root())
    base = workshop.materials(store, plan.lock).base(plan.options.base, ("linux", "amd64"))
    blob = store.path(base.layers[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    assert pack(workshop, plan, "again.tar").read_bytes() == first


def test_the_bases_digest_is_an_input_and_no_path_of_this_machine_an_output(workshop: Workshop) -> None:
    plan = plan_of(workshop)
    base = workshop.folder.parent / "base.tar"
    materials = workshop.materials(Store(workshop.folder.parent / "store"), plan.lock)
    assert PACKAGER.inputs(plan, materials)["base"] == f"sha256:{hashlib.sha256(base.read_bytes()).hexdigest()}"
    data = pack(workshop, plan).read_bytes()
    assert str(workshop.folder.parent).encode() not in data


@pytest.mark.parametrize(
    ("given", "changes", "message"),
    [
        ({"tags": ("Hello World:1",)}, {}, "is no reference with a tag"),
        ({"tags": ("hello",)}, {}, "is no reference with a tag"),
        ({}, {"name": "a..b"}, "is no reference with a tag"),
        ({"environment": {"A=B": "c"}}, {}, "is no name of an environment variable"),
        ({"environment": {"A": "b\0c"}}, {}, "^variable A: the control character"),
        ({"labels": {"a": "\x1b]0;x\x07"}}, {}, "^label a: the control character"),
        ({"labels": {"": "a"}}, {}, "^label .*has no name"),
        ({}, {"summary": "x\0y"}, "control character"),
        ({}, {"command": ("hello", "\0")}, "^command .*: the control character"),
    ],
)
def test_texts_that_an_image_cannot_hold_are_refused(
    workshop: Workshop, given: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PackError, match=message):
        PACKAGER.check(plan_of(workshop, options(**given), **changes))


def test_metadata_stays_text(workshop: Workshop) -> None:
    odd = '$(touch x) `id` %{lua:x} "quoted" \\ \n# syntax=evil'
    plan = plan_of(workshop, options(labels={"odd": odd}, environment={"ODD": odd}), summary=odd)
    PACKAGER.check(plan)
    said = Packed(pack(workshop, plan)).config["config"]
    assert said["Labels"]["odd"] == said["Labels"]["org.opencontainers.image.description"] == odd
    assert f"ODD={odd}" in said["Env"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(name="mac", platform="osx-arm64"), "there are no container images for osx-arm64"),
        (Target(name="host", interpreter="host"), "takes that of the host"),
    ],
)
def test_targets_that_have_no_images_are_refused(workshop: Workshop, target: Target, message: str) -> None:
    plan = plan_of(workshop)
    plan = dataclasses.replace(plan, lock=dataclasses.replace(plan.lock, target=target))
    with pytest.raises(PackError, match=message):
        PACKAGER.check(plan)


def test_it_boots_as_itself_read_only_and_unprivileged(workshop: Workshop) -> None:
    recipe = PACKAGER.boot(plan_of(workshop), Path("out.tar"))
    assert (recipe.host, recipe.read_only, recipe.user) == (ARTIFACT_HOST, True, "10001:10001")
    assert recipe.python == ("/opt/env/bin/python",)
    assert recipe.scripts == "/opt/env/bin"
    assert recipe.command == ("/opt/env/bin/hello", "--port", "8000")
    assert (recipe.install, recipe.remove, recipe.writes) == ((), (), ())
    assert recipe.expects.distributions == (("hello", "1.0"),)
    assert {name for name, _, _ in recipe.expects.conda} == {"python", "certificates"}


SCRIPT = """
import sys
from pathlib import Path
from tests.test_image import *

folder = Path(sys.argv[1])
folder.mkdir(parents=True)
patch = pytest.MonkeyPatch()
made = workshop.__wrapped__(folder, patch)
print(hashlib.sha256(pack(made, plan_of(made)).read_bytes()).hexdigest())
"""


def test_the_same_plan_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    def digest(folder: str, umask: int, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / folder)],
            env=os.environ | environment,
            umask=umask,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    plain = digest("a", 0o022, TZ="UTC", PYTHONHASHSEED="1", LC_ALL="C")
    odd = digest("much/longer/ünïcode folder", 0o077, TZ="Asia/Tokyo", PYTHONHASHSEED="77", LC_ALL="C.UTF-8")
    assert re.fullmatch(r"[0-9a-f]{64}\n", plain)
    assert odd == plain


# With a real Python, in a real engine


def interpreter(channel: Path) -> tuple[list[CondaPackage], dict[str, Path]]:
    """Python 3.11 and all that it needs, and an init, out of the channel."""
    import rattler

    async def solve() -> list[rattler.RepoDataRecord]:
        found = [package.into_generic() for package in rattler.VirtualPackage.detect()]
        return await rattler.solve(
            [channel.as_uri()], ["python 3.11.*", "tini"], platforms=["linux-64", "noarch"], virtual_packages=found
        )

    packages, archives = [], {}
    for record in asyncio.run(solve()):
        assert record.sha256 is not None
        assert record.size is not None
        package = CondaPackage(
            name=record.name.normalized,
            version=str(record.version),
            build=str(record.build),
            build_number=record.build_number,
            subdir=record.subdir,
            channel=channel.as_uri(),
            url=record.url,
            sha256=record.sha256.hex(),
            size=record.size,
            depends=tuple(record.depends),
        )
        packages.append(package)
        archives[package.file_name] = channel / package.subdir / package.file_name
    return packages, archives


def system_libraries(out: Path) -> None:
    """A base that holds this machine's C library and nothing else."""
    done = subprocess.run(["ldd", shutil.which("env") or "env"], capture_output=True, text=True, check=True)
    paths = {Path(path) for path in re.findall(r"(/\S+)", done.stdout)}
    folder = next(path.parent for path in paths if path.name == "libc.so.6")
    names = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libutil.so.1", "librt.so.1")
    paths |= {folder / name for name in names}
    with out.open("wb") as stream:
        write_tar((file_member(str(path)[1:], path, executable=True) for path in sorted(paths)), stream, epoch=0)


CHECKS = (Check(name="answers", http="/", port=8000),)


@pytest.fixture(scope="module")
def real(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, Path]]:
    """An image of a real Python and an application."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXSNAKE_CACHE_DIR", str(folder / "store"))
        patch.setenv("BOXSNAKE_CONFIG", str(folder / "config.toml"))
        (folder / "config.toml").write_text("")
        (folder / "archives").mkdir()
        made = Workshop(folder / "archives")
        made.packages, made.archives = interpreter(channel)
        code = "import sys\ndef main():\n    print('hello from', sys.prefix, *sys.argv[1:])\n"
        script = "[console_scripts]\nhello = hello:main\n"
        made.wheel("hello", {"hello.py": code}, entry_points=script, own=True)
        system_libraries(folder / "base.tar")
        version = next(package.version for package in made.packages if package.name == "python")
        lock: TargetLock = dataclasses.replace(made.lock(), python=version)
        tags = (f"boxsnake-test/{folder.name.lower()}:{os.getpid()}",)
        commands = (("whoami", ("python", "-c", "import os; print(os.getppid())")),)
        application = dataclasses.replace(APPLICATION, wheel=made.application, commands=commands)
        given = options(tags=tags, init=True)
        plan = Plan(application=application, lock=lock, options=given, root=folder, epoch=EPOCH, checks=CHECKS)
        out = folder / "out.tar"
        PACKAGER.pack(plan, Materials(made, Store(folder / "store"), lock), out)
        yield plan, out


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the local channel is for x86-64")
def test_an_engine_takes_it_and_runs_it(real: tuple[Plan, Path]) -> None:
    plan, artifact = real
    engine = connect()
    (tag,) = plan.options.tags
    try:
        assert load(engine, artifact) == [tag]
        whole = engine.image(tag)
        assert whole is not None
        assert whole.id == "sha256:" + Packed(artifact).manifest["config"]["digest"].removeprefix("sha256:")
        with engine.container(tag, sleep=("/opt/env/bin/python", "-c", "import time; time.sleep(99)")) as box:
            done = box.execute(("/opt/env/bin/hello", "world"), seconds=60)
            assert (done.exit_code, done.output) == (0, b"hello from /opt/env world\n")
            # As `docker run IMAGE whoami`, below the init.
            done = box.execute((*whole.entrypoint, "whoami"), seconds=60)
            assert (done.exit_code, done.output.strip().isdigit()) == (0, True), done.errors
            done = box.execute((*whole.entrypoint, "--flag"), seconds=60)
            assert (done.exit_code, done.output) == (0, b"hello from /opt/env --flag\n")
            said = Packed(artifact).config["config"]["Healthcheck"]["Test"]
            assert box.execute(tuple(said[1:]), seconds=60).exit_code == 1
            check = (
                "import ctypes, os, sqlite3, ssl, sys, zlib, lzma, bz2, hello, linecache\n"
                "for module in (hello, linecache):\n"
                "    assert open(module.__cached__, 'rb').read(8)[4:] == b'\\1\\0\\0\\0'\n"
                "print(sys.prefix, os.path.exists(ssl.get_default_verify_paths().openssl_cafile))\n"
            )
            done = box.execute(("/opt/env/bin/python", "-c", check), seconds=60)
            assert (done.exit_code, done.output, done.errors) == (0, b"/opt/env True\n", b"")
    finally:
        engine.remove_image(tag)


class Counting(Engine):
    """The engine, which notes how many bytes it is sent; it may think that it has more layers than it has."""

    sent: list[int]
    lies = False

    def load(self, archive: Any) -> tuple[str, ...]:
        chunks = [archive.read_bytes()] if isinstance(archive, Path) else list(archive)
        self.sent.append(sum(map(len, chunks)))
        return super().load(iter(chunks))

    def leading_layers(self, layers: Sequence[str], likely: Sequence[str] = ()) -> int:
        return len(layers) if self.lies else super().leading_layers(layers, likely)


@pytest.fixture
def counting(real: tuple[Plan, Path]) -> Iterator[Counting]:
    """An engine without the image."""
    engine = Counting(connect()._connection._address, os.environ)
    engine.sent = []
    yield engine
    for name in (real[0].options.tags[0], Packed(real[1]).manifest["config"]["digest"]):
        engine.remove_image(name)


def edited(real: tuple[Plan, Path], out: Path) -> Path:
    """The same image with another last layer."""
    data = gzip.compress(_one_file_tar(), mtime=0)
    packed = Packed(real[1])
    config, (docker,) = packed.config, json.loads(packed.files["manifest.json"])
    config["rootfs"]["diff_ids"][-1] = f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    text = json.dumps(config).encode()
    name = f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    kept = {layer: packed.files[layer] for layer in docker["Layers"][:-1]}
    docker |= {"Layers": [*docker["Layers"][:-1], name], "Config": "config.json"}
    files = kept | {name: data, "config.json": text, "manifest.json": json.dumps([docker]).encode()}
    with out.open("wb") as stream:
        write_tar((file_member(path, content) for path, content in files.items()), stream, epoch=0)
    return out


def _one_file_tar() -> bytes:
    out = io.BytesIO()
    write_tar([file_member("opt/env/edited", b"x")], out, epoch=0)
    return out.getvalue()


@pytest.mark.channel
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the local channel is for x86-64")
def test_podman_boots_it_and_has_nothing_left(real: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, artifact = real
    greets = Check(name="greets", run=("hello", "world"), expect="hello from /opt/env world")
    with podman_service(tmp_path) as podman:
        engine = Engine(podman.address, podman.environment)
        store = Store(tmp_path / "store")
        report = boot(InEngine(engine), store, artifact, PACKAGER.boot(plan, artifact), [greets], format="image")
        assert report.failure is None, report.failure
        assert "check: greets" in {step.name for step in report.steps}
        assert (engine.containers(), engine.tags()) == ((), {})


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the local channel is for x86-64")
def test_an_engine_is_sent_only_what_it_lacks(real: tuple[Plan, Path], counting: Counting, tmp_path: Path) -> None:
    plan, artifact = real
    (tag,) = plan.options.tags

    def layers() -> int:
        image = counting.image(tag)
        assert image is not None
        return len(image.layers)

    assert load(counting, artifact) == [tag]
    assert 0 <= artifact.stat().st_size - counting.sent[0] < 20_000, "all but what makes it an image layout"
    assert load(counting, artifact) == [tag]
    assert len(counting.sent) == 1, "it is there"
    changed = edited(real, tmp_path / "edited.tar")
    assert load(counting, changed) == [tag]
    assert counting.sent[1] < 20_000
    assert layers() == len(Packed(artifact).manifest["layers"])
    counting.remove_image(tag)


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the local channel is for x86-64")
def test_an_engine_that_lacks_a_layer_after_all_gets_the_whole(
    real: tuple[Plan, Path], counting: Counting, tmp_path: Path
) -> None:
    counting.lies = True
    changed = edited(real, tmp_path / "edited.tar")
    (tag,) = load(counting, changed)
    assert [sent < 20_000 for sent in counting.sent] == [True, False]
    image = counting.image(tag)
    assert image is not None
    assert len(image.layers) == len(Packed(real[1]).manifest["layers"])


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the local channel is for x86-64")
def test_two_loads_at_once_and_one_that_is_cut_off(real: tuple[Plan, Path], counting: Counting, tmp_path: Path) -> None:
    _, artifact = real
    proxy = Proxy(tmp_path / "s", b"/images/load")
    with pytest.raises(EngineError) as raised:
        load(connect({"DOCKER_HOST": f"unix://{tmp_path}/s"}), artifact)
    assert raised.value.exit_code == 11
    proxy.die()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: load(counting, artifact), range(2))
    assert first == second
    image = counting.image(first[0])
    assert image is not None
    assert list(image.layers) == Packed(artifact).config["rootfs"]["diff_ids"]
