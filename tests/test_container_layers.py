from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from boxsnake.archive import Member, file_member, write_tar
from boxsnake.bases import base_image
from boxsnake.container_layers.changed import changed_members
from boxsnake.container_layers.hooks import hook_job
from boxsnake.container_layers.run import Below, Job, made_layer
from boxsnake.engine import Change
from boxsnake.errors import EngineError, PackError
from boxsnake.hook_script import interpreter_of_hook
from boxsnake.layers.plan import LayerBlob
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Hook, Plan
from boxsnake.store import Store

from .trees import EPOCH, Program, Workshop

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# What has changed, as members


def exported(path: Path, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, 1_700_000_000
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def folder(name: str, mode: int = 0o755, **facts: object) -> tarfile.TarInfo:
    return entry(name, tarfile.DIRTYPE, mode, **facts)


def members(tmp_path: Path, export: Path, **changes: str) -> dict[str, Member]:
    """By name; `changes` are paths of each kind, separated by spaces."""
    scratch = tmp_path / uuid.uuid4().hex
    scratch.mkdir()
    listed = [Change(path=path, kind=kind) for kind, paths in changes.items() for path in paths.split()]
    return {member.name: member for member in changed_members(export, sorted(listed), scratch)}


def content(member: Member) -> bytes:
    assert member.source is not None
    return member.source if isinstance(member.source, bytes) else member.source.read_bytes()


def test_owners_modes_and_capabilities_are_kept_and_folders_above_are_as_they_were(tmp_path: Path) -> None:
    headers = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
    export = exported(
        tmp_path / "export.tar",
        folder("srv", 0o711, uid=7, gid=8),
        (entry("srv/tool", mode=0o4750, uid=10001, gid=3, pax_headers=headers), b"tool"),
        (entry("srv/other"), b"untouched"),
        entry("srv/link", tarfile.SYMTYPE, linkname="tool"),
    )
    found = members(tmp_path, export, changed="/srv", added="/srv/link /srv/tool")
    assert sorted(found) == ["srv", "srv/link", "srv/tool"]
    assert (found["srv"].mode, found["srv"].uid, found["srv"].gid) == (0o711, 7, 8)
    tool = found["srv/tool"]
    assert (tool.mode, tool.uid, tool.gid, content(tool)) == (0o4750, 10001, 3, b"tool")
    assert tool.attributes == (("security.capability", CAPABILITY),)
    assert found["srv/link"].link == "tool"
    out = io.BytesIO()
    write_tar(found.values(), out, epoch=EPOCH)
    out.seek(0)
    with tarfile.open(fileobj=out, encoding="utf-8", errors="surrogateescape") as archive:
        read = archive.getmember("srv/tool")
        assert read.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
        assert (read.mode, read.mtime) == (0o4750, EPOCH)


def test_removals_are_whiteouts_and_a_folder_made_anew_hides_what_was_in_it(tmp_path: Path) -> None:
    export = exported(
        tmp_path / "export.tar",
        folder("etc"),
        folder("etc/new"),
        (entry("etc/new/a"), b"a"),
        (entry("etc/was-a-folder"), b""),
    )
    found = members(
        tmp_path,
        export,
        removed="/etc/gone /etc/gone/below /etc/new /etc/was-a-folder/below",
        changed="/etc /etc/was-a-folder",
        added="/etc/new/a",
    )
    assert sorted(found) == ["etc", "etc/.wh.gone", "etc/new", "etc/new/.wh..wh..opq", "etc/new/a", "etc/was-a-folder"]
    assert content(found["etc/.wh.gone"]) == b""


def test_what_a_run_leaves_for_itself_is_left_out(tmp_path: Path) -> None:
    noise = "var/log/apt.log var/cache/x/y tmp/z root/.cache/pip/a run/pid"
    noise += " var/lib/dpkg/status-old etc/passwd- etc/.pwd.lock"
    by_time, by_hash = b"\xa7\r\r\n\0\0\0\0" + bytes(8), b"\xa7\r\r\n\1\0\0\0" + bytes(8)
    export = exported(
        tmp_path / "export.tar",
        folder("var/log/mine", uid=5),
        *((entry(name), b"noise") for name in noise.split()),
        (entry("opt/__pycache__/a.pyc"), by_time),
        (entry("opt/__pycache__/b.pyc"), by_hash),
        (entry("var/lib/dpkg/status"), b"Package: a\n"),
    )
    paths = " ".join(f"/{name}" for name in noise.split())
    kept = "/opt/__pycache__/b.pyc /var/lib/dpkg/status /var/log/mine"
    found = members(tmp_path, export, added=f"{paths} /opt/__pycache__/a.pyc {kept}")
    assert [f"/{name}" for name in found] == kept.split()


def test_a_hard_link_is_a_file_of_its_own(tmp_path: Path) -> None:
    export = exported(
        tmp_path / "export.tar", (entry("etc/a"), b"text"), entry("etc/b", tarfile.LNKTYPE, linkname="etc/a")
    )
    assert content(members(tmp_path, export, added="/etc/b")["etc/b"]) == b"text"


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_special_files_are_refused_by_name(tmp_path: Path, kind: bytes) -> None:
    export = exported(tmp_path / "export.tar", entry("srv/odd", kind))
    with pytest.raises(PackError, match="/srv/odd: is a device, a pipe or a socket"):
        members(tmp_path, export, added="/srv/odd")


# Hooks, in an engine


def shell_base(path: Path) -> Path:
    """A root file system of busybox alone."""
    busybox = shutil.which("busybox")
    assert busybox, "install busybox-static"
    names = ("sh", "sleep", "cat", "echo", "mkdir", "rm", "env", "chmod", "date", "id", "touch")
    files = [file_member("bin/busybox", Path(busybox), executable=True)]
    files += [Member(name=f"bin/{name}", link="busybox") for name in names]
    files += [file_member("etc/issue", b"hello\n"), file_member("etc/old/a", b"a"), Member(name="tmp", mode=0o1777)]
    with path.open("wb") as stream:
        write_tar(files, stream, epoch=0)
    return path


def below(store: Store, folder: Path) -> Below:
    base = base_image(store, str(shell_base(folder / "base.tar")), bases={}, root=folder, wanted=("linux", _machine()))
    return Below(layers=base.layers, platform=("linux", _machine()))


def _machine() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def hook(text: str, moment: str = "pre-install", name: str = "setup.sh") -> Hook:
    return Hook(moment=moment, file_name=name, content=text.encode())


def job(text: str) -> Job:
    application = Application(name="hello", version="1.0")
    return hook_job(hook(text), application, "/opt/env", (("PATH", "/bin"), ("MODE", "test")))


def layer_files(store: Store, layer: LayerBlob) -> Mapping[str, bytes]:
    data = gzip.decompress(store.path(layer.digest).read_bytes())
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.diff_id
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: stream.read() for m in archive if (stream := archive.extractfile(m)) is not None}


SETS_UP = """\
set -eu
[ "$(id -u)" = 0 ]
mkdir -p /srv/data /var/cache/x /tmp/y
chmod 700 /srv/data
env >/srv/data/environment
rm /etc/issue
echo later >/etc/old/b
date >/var/cache/x/now
echo said
"""


@pytest.mark.engine
def test_what_a_hook_does_is_a_layer_and_a_second_build_needs_no_engine(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    under = below(store, tmp_path)
    layer = made_layer(store, under, job(SETS_UP), epoch=EPOCH, twice=True)
    assert layer is not None
    assert layer.name == "pre-install hook"
    files = layer_files(store, layer)
    assert sorted(files) == ["etc/.wh.issue", "etc/old/b", "srv/data/environment"]
    told = dict(line.split("=", 1) for line in files["srv/data/environment"].decode().splitlines())
    wanted = {"ACTION": "install", "NAME": "hello", "VERSION": "1.0", "OLD_VERSION": "", "PREFIX": "/opt/env"}
    assert told.items() >= {f"BOXSNAKE_{key}": value for key, value in wanted.items()}.items()
    assert (told["MODE"], told["BOXSNAKE_ROOT"]) == ("test", "/opt/env")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    assert made_layer(store, under, job(SETS_UP), epoch=EPOCH) == layer
    with pytest.raises(EngineError, match=r"pre-install hook \(setup.sh\).*no engine for it"):
        made_layer(store, under, job("echo other\n"), epoch=EPOCH)


@pytest.mark.engine
def test_a_hook_that_changes_nothing_makes_no_layer(tmp_path: Path, store: Store) -> None:
    assert made_layer(store, below(store, tmp_path), job("echo >/tmp/x\n"), epoch=EPOCH) is None


@pytest.mark.engine
def test_hooks_that_fail_or_differ_name_what_and_why(tmp_path: Path, store: Store) -> None:
    under = below(store, tmp_path)
    with pytest.raises(PackError, match=r"setup.sh\): failed with exit status 7; it said last:\n  almost\n"):
        made_layer(store, under, job("echo almost\nexit 7\n"), epoch=EPOCH)
    with pytest.raises(PackError, match=r"gives other files each time that it is run: srv/id\n"):
        made_layer(
            store, under, job("mkdir /srv\ncat /proc/sys/kernel/random/uuid >/srv/id\n"), epoch=EPOCH, twice=True
        )
    with pytest.raises(PackError, match=r"failed with exit status 12[67]"):
        made_layer(store, under, job("#!/no/such\n"), epoch=EPOCH)


def test_a_hook_for_another_processor_is_refused(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        architecture = "s390x"

    monkeypatch.setattr("boxsnake.container_layers.run.connect", Foreign)
    with pytest.raises(EngineError, match="engine's containers are s390x"):
        made_layer(store, below(store, tmp_path), job("true\n"), epoch=EPOCH)


def test_python_before_there_is_one_is_refused() -> None:
    with pytest.raises(PackError, match="own interpreter is not there at that moment"):
        interpreter_of_hook(hook("print()\n", name="setup.py"))


@pytest.mark.engine
def test_an_image_holds_the_layers_of_its_hooks_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archives").mkdir()
    monkeypatch.setenv("BOXSNAKE_CACHE_DIR", str(tmp_path / "store"))
    (tmp_path / "config.toml").write_text("")
    monkeypatch.setenv("BOXSNAKE_CONFIG", str(tmp_path / "config.toml"))
    workshop = Workshop(tmp_path / "archives")
    # In the container, where there is no such Python, it does nothing but wait.
    stand_in = f'#!/bin/sh\n[ ! -x {sys.executable} ] || exec {sys.executable} "$@"\nexec sleep 600\n'
    workshop.python({f"bin/python{sys.version_info[0]}.{sys.version_info[1]}": Program(stand_in)})
    workshop.wheel("hello", {"hello.py": "x = 1\n"}, own=True)
    shell_base(tmp_path / "base.tar")
    hooks = (
        hook('echo changed >>"$BOXSNAKE_PREFIX/note"\necho below >/etc/seen\n', "post-install"),
        hook("[ ! -e /opt/env ]\nmkdir /opt /opt/env\necho made >/opt/env/note\n"),
        hook("exit 1\n", "pre-remove"),
    )
    plan = Plan(
        application=Application(name="hello", version="1.0", wheel=workshop.application),
        lock=workshop.lock(),
        options=ImageOptions.decoded({"base": "./base.tar", "prefix": "/opt/env"}),
        root=tmp_path,
        epoch=EPOCH,
        hooks=hooks,
    )
    PACKAGER.check(plan)
    store = Store(tmp_path / "store")
    # No archive is in the store yet.
    places = {"base": "there", "pre-install hook": "to make", "interpreter": "to fetch", "application": "to fetch"}
    places["post-install hook"] = "to make"
    assert {part.name: part.state for part in PACKAGER.forecast(plan, workshop.materials(store)).parts} == places
    PACKAGER.pack(plan, workshop.materials(store), tmp_path / "out.tar")
    foreseen = PACKAGER.forecast(plan, workshop.materials(store)).parts
    assert [(part.name, part.state) for part in foreseen] == [(name, "there") for name in places]
    first = (tmp_path / "out.tar").read_bytes()
    with tarfile.open(tmp_path / "out.tar") as archive:
        stream = archive.extractfile("manifest.json")
        assert stream is not None
        names = json.load(stream)[0]["Layers"]
        blobs = [archive.extractfile(name) for name in (names[1], names[-1])]
        contents = []
        for blob in blobs:
            assert blob is not None
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob.read()))) as layer:
                contents.append({m.name: s.read() for m in layer if (s := layer.extractfile(m)) is not None})
    assert contents == [{"opt/env/note": b"made\n"}, {"etc/seen": b"below\n", "opt/env/note": b"made\nchanged\n"}]
    fresh = dataclasses.replace(plan, options=dataclasses.replace(plan.options, verify_hooks=True))
    PACKAGER.pack(fresh, workshop.materials(store), tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == first
