from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from boxsnake.archive import GzipSink, Member, file_member, write_tar
from boxsnake.bases import Base
from boxsnake.boot import boot
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot_recipe import Check
from boxsnake.dockerfile import dockerfile
from boxsnake.engine import Engine, connect
from boxsnake.errors import PackError
from boxsnake.image.contents import contents
from boxsnake.image.load import load
from boxsnake.image.own import LABEL
from boxsnake.layers.plan import LayerBlob
from boxsnake.lock import BasePin
from boxsnake.oci import LAYER_GZIP, Runtime
from boxsnake.packagers.dockerfile import PACKAGER
from boxsnake.packagers.image import PACKAGER as IMAGE
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from boxsnake.system import ConfigFile, Directory, System

from .trees import EPOCH, Workshop

APPLICATION = Application(
    name="hello",
    version="1.0",
    command=("hello", "a b", '"$PATH" \\', "line\nbreak"),
    ports=(8000,),
    environment=(("MODE", 'it\'s "quoted" $HOME \\ #'),),
    summary='Says "hello" to $USER',
    console_scripts=("hello",),
)
SYSTEM = System(
    user="hello",
    directories=(Directory(path="/var/lib/hello", kind="state", owner="hello", group="hello", mode=0o750),),
    files=(ConfigFile(path="/etc/hello.conf", source="hello.conf", content=b"x=1\n", group="hello", mode=0o640),),
)


# The text


def written(**given: Any) -> list[str]:
    values: dict[str, Any] = {"base": "debian:12-slim", "inherited": Runtime(), "archives": (), "runtime": Runtime()}
    return dockerfile(**values | {"about": ()} | given).splitlines()


def test_only_what_the_base_does_not_say_is_said() -> None:
    base = Runtime(environment=(("PATH", "/bin"), ("A", "1")), labels=(("l", "1"),), command=("sh",))
    ours = Runtime(environment=(("PATH", "/opt/bin:/bin"), ("A", "1")), labels=(("l", "1"), ("m", "2")))
    assert written(inherited=base, runtime=ours) == [
        "ARG BASE=debian:12-slim",
        "FROM ${BASE}",
        'ENV PATH="/opt/bin:/bin"',
        'LABEL "m"="2"',
        "CMD []",
    ]


@pytest.mark.parametrize(
    "runtime",
    [
        Runtime(environment=(("A", "1\n2"),)),
        Runtime(labels=(("a", "1\n2"),)),
        Runtime(labels=(("a=b", "1"),)),
        Runtime(folder="/a\nb"),
    ],
)
def test_what_a_dockerfile_cannot_say_is_refused(runtime: Runtime) -> None:
    with pytest.raises(PackError, match=r"line break|'='"):
        written(runtime=runtime)


# The context


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
    rootfs = [
        file_member("etc/os-release", b"NAME=tiny\n"),
        Member(name="bin", link="usr/bin", mode=0o777),
        Member(name="var/lib"),
    ]
    (tmp_path / "base.tar").write_bytes(tar(rootfs))
    return made


def tar(members: list[Member], epoch: int = 1_600_000_000) -> bytes:
    out = io.BytesIO()
    write_tar(members, out, epoch=epoch)
    return out.getvalue()


def plan_of(workshop: Workshop, *, format: Any = PACKAGER, system: System = SYSTEM, **options: Any) -> Plan:  # noqa: A002
    return Plan(
        application=dataclasses.replace(APPLICATION, wheel=workshop.application),
        lock=workshop.lock(),
        options=format.options.decoded({"base": "./base.tar"} | options),
        root=workshop.folder.parent,
        epoch=EPOCH,
        system=system,
        checks=(Check(name="answers", http="/health?a=$b", port=8000, expect='"ok"', timeout=7.5),),
    )


def pack(workshop: Workshop, plan: Plan, name: str = "out.tar", *, format: Any = PACKAGER) -> Path:  # noqa: A002
    out = workshop.folder / name
    out.unlink(missing_ok=True)
    format.pack(plan, workshop.materials(Store(workshop.folder.parent / "store"), plan.lock), out)
    return out


def unfolded(artifact: Path, folder: Path) -> Path:
    """As a user has it who unpacks the artifact: the context's folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xf", artifact, "-C", folder], check=True)
    (context,) = folder.iterdir()
    return context


def test_the_layers_are_those_of_the_image_in_their_order(workshop: Workshop, tmp_path: Path) -> None:
    context = unfolded(pack(workshop, plan_of(workshop)), tmp_path / "context")
    with tarfile.open(pack(workshop, plan_of(workshop, format=IMAGE), "image.tar", format=IMAGE)) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        layers = [Path(name).name for name in json.load(manifest)[0]["Layers"]]
    text = (context / "Dockerfile").read_text()
    added = [line.split()[1] for line in text.splitlines() if line.startswith("ADD ")]
    assert [hashlib.sha256((context / name).read_bytes()).hexdigest() for name in added] == layers
    assert sorted(added) == sorted(str(path.relative_to(context)) for path in (context / "layers").iterdir())
    assert "syntax=" not in text
    assert "RUN" not in text


def test_a_code_edit_renames_the_application_layer_alone(workshop: Workshop, tmp_path: Path) -> None:
    before = unfolded(pack(workshop, plan_of(workshop)), tmp_path / "before")
    workshop.wheel("hello", {"hello.py": "def main(): 1\n"}, version="1.0", own=True)
    after = unfolded(pack(workshop, plan_of(workshop)), tmp_path / "after")
    names = [{path.name for path in (context / "layers").iterdir()} for context in (before, after)]
    assert {name.partition(".")[0] for name in names[0] ^ names[1]} == {"application"}


def test_a_reference_is_built_from_and_not_carried(workshop: Workshop, tmp_path: Path) -> None:
    from boxsnake.bases import base_image

    plan = plan_of(workshop, base="registry.example/base:1")
    materials = workshop.materials(Store(tmp_path / "store"), plan.lock)
    given = base_image(materials.store, "./base.tar", bases={}, root=tmp_path, wanted=("linux", "amd64"))
    materials.base = lambda name, platform: given  # type: ignore[method-assign]  # noqa: ARG005
    PACKAGER.pack(plan, materials, workshop.folder / "out.tar")
    context = unfolded(workshop.folder / "out.tar", tmp_path / "context")
    assert (context / "Dockerfile").read_text().splitlines()[2:4] == [
        "ARG BASE=registry.example/base:1",
        "FROM ${BASE}",
    ]
    assert not list((context / "layers").glob("base*"))


@pytest.mark.parametrize(
    ("pinned", "found", "expected"),
    [("a", "b", "a"), ("", "b", "b"), ("", "", "")],
    ids=["the lock's", "the one it was found at", "none"],
)
def test_the_base_is_held_at_the_digest_that_is_known(
    workshop: Workshop, tmp_path: Path, pinned: str, found: str, expected: str
) -> None:
    name = "registry.example/base:1"
    plan = plan_of(workshop, base=name)
    pin = BasePin(reference=name, digest=f"sha256:{pinned * 64}") if pinned else None
    plan = dataclasses.replace(plan, lock=dataclasses.replace(plan.lock, base=pin))
    materials = workshop.materials(Store(tmp_path / "store"), plan.lock)
    base = Base(name=name, digest="x", manifest=f"sha256:{found * 64}" if found else "", is_reference=True)
    materials.base = lambda name, platform: base  # type: ignore[method-assign]  # noqa: ARG005
    PACKAGER.pack(plan, materials, workshop.folder / "out.tar")
    text = (unfolded(workshop.folder / "out.tar", tmp_path / "context") / "Dockerfile").read_text()
    assert text.splitlines()[2] == f"ARG BASE={name}" + (f"@sha256:{expected * 64}" if expected else "")


def test_a_base_whose_layers_remove_files_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    layers = [tar([file_member("etc/a", b"a")]), tar([file_member("etc/.wh.a", b"")])]
    ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}
    names = ["1.tar", "2.tar"]
    members = [file_member(name, layer) for name, layer in zip(names, layers, strict=True)]
    members.append(file_member("config.json", json.dumps(config).encode()))
    manifest = json.dumps([{"Config": "config.json", "Layers": names, "RepoTags": []}]).encode()
    (tmp_path / "saved.tar").write_bytes(tar([*members, file_member("manifest.json", manifest)]))
    with pytest.raises(PackError, match="removes files"):
        pack(workshop, plan_of(workshop, base="./saved.tar"))


def test_a_hook_that_removes_files_is_refused(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    from boxsnake.packagers import dockerfile as module

    store = Store(workshop.folder.parent / "store")
    with store.writer(origin="a hook") as writer, GzipSink(writer) as sink:
        sink.write(
            tar([file_member("bin/large", hashlib.shake_256(b"").digest(3 << 20)), file_member("etc/.wh.a", b"")])
        )
    blob = LayerBlob(
        name="post-install hook", digest=writer.blob.digest, size=writer.blob.size, diff_id="", media_type=LAYER_GZIP
    )
    found = contents(plan_of(workshop), workshop.materials(store))
    monkeypatch.setattr(module, "contents", lambda *_: dataclasses.replace(found, layers=(*found.layers, blob)))
    with pytest.raises(PackError, match=r"post-install hook.*removes files"):
        pack(workshop, plan_of(workshop))


@pytest.mark.parametrize("base", ["debian:12\nRUN evil", "debian 12", "Debian:12", "debian@sha256:1", "$BASE"])
def test_a_base_that_is_no_reference_is_refused(workshop: Workshop, base: str) -> None:
    with pytest.raises(PackError, match="base image"):
        PACKAGER.check(plan_of(workshop, base=base))


# The build


def built(context: Path, *, buildkit: bool = True, arguments: tuple[str, ...] = ()) -> str:
    # Debian's client: others that come earlier in PATH may lack the part that speaks to BuildKit.
    command = ["/usr/bin/docker", "build", "--quiet", "--network=none", *arguments, str(context)]
    environment = os.environ | {"DOCKER_BUILDKIT": str(int(buildkit))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def saved(engine: Engine, reference: str, folder: Path) -> Iterator[tarfile.TarFile]:
    path = folder / f"{uuid.uuid4().hex}.tar"
    engine.save(reference, path)
    with tarfile.open(path) as archive:
        yield archive


def merged(engine: Engine, reference: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An image's paths, each with all that a layer says of it, and how it is run."""
    with saved(engine, reference, folder) as archive:
        (document,) = json.loads(content(archive, "manifest.json"))
        found: dict[str, Any] = {}
        for layer in document["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(content(archive, layer))) as members:
                for member in members:
                    data = content(members, member.name) if member.isreg() else b""
                    facts = (
                        member.type,
                        oct(member.mode & 0o7777),
                        member.uid,
                        member.gid,
                        member.mtime,
                        member.linkname,
                        data,
                    )
                    found[member.name.strip("/")] = facts
        config = json.loads(content(archive, document["Config"]))["config"]
    shown = ("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "StopSignal", "User", "WorkingDir")
    return found, {key: config[key] for key in shown if config.get(key)}


def content(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream is not None
    return stream.read()


@pytest.fixture
def engine() -> Engine:
    return connect()


@pytest.mark.engine
@pytest.mark.parametrize("buildkit", [True, False], ids=["BuildKit", "classic"])
def test_what_is_built_is_the_image(workshop: Workshop, tmp_path: Path, engine: Engine, buildkit: bool) -> None:
    tag = f"boxsnake-test/{uuid.uuid4().hex}:1"
    image = plan_of(workshop, format=IMAGE, tags=[tag], labels={'a "b" $c': "\\ 'd' \t#"}, workdir="/var/lib/hello")
    context = plan_of(workshop, tags=[tag], labels={'a "b" $c': "\\ 'd' \t#"}, workdir="/var/lib/hello")
    load(engine, pack(workshop, image, "image.tar", format=IMAGE))
    identity = ""
    try:
        identity = built(unfolded(pack(workshop, context), tmp_path / "context"), buildkit=buildkit)
        ours, ours_config = merged(engine, tag, tmp_path)
        theirs, theirs_config = merged(engine, identity, tmp_path)
        assert theirs == ours
        del ours_config["Labels"][LABEL]  # by which boxsnake alone puts its layers on another base
        assert theirs_config == ours_config
        assert ours_config["Healthcheck"]["StartPeriod"] == 7_500_000_000
        assert ours["var/lib/hello"][1:4] == ("0o750", 10001, 10001)
    finally:
        engine.remove_image(tag)
        engine.remove_image(identity)


@pytest.mark.engine
def test_a_change_of_the_same_length_is_seen_by_buildkit(workshop: Workshop, tmp_path: Path, engine: Engine) -> None:
    for number in ("1", "2"):
        plan = plan_of(workshop, labels={"number": number})
        identity = built(unfolded(pack(workshop, plan), tmp_path / "context"))
        try:
            assert merged(engine, identity, tmp_path)[1]["Labels"]["number"] == number
        finally:
            engine.remove_image(identity)


@pytest.mark.engine
def test_a_context_that_cannot_be_built_does_not_boot(workshop: Workshop, tmp_path: Path, engine: Engine) -> None:
    plan = plan_of(workshop)
    artifact = tmp_path / "broken.tar"
    artifact.write_bytes(tar([file_member("hello.context/Dockerfile", b"FROM scratch\nADD nowhere.tar.gz /\n")]))
    report = boot(InEngine(engine), Store(tmp_path / "store"), artifact, PACKAGER.boot(plan, artifact), ())
    assert report.failure is not None
    assert report.failure.name == "start"
    assert "nowhere.tar.gz" in report.failure.detail
    assert not [tag for tag in engine.tags() if tag.startswith("boxsnake-boot/")]
