from __future__ import annotations

import dataclasses
import platform
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from boxsnake import debian_sources
from boxsnake.bases import Base
from boxsnake.binaries import deb_package
from boxsnake.container_layers.hooks import hook_job
from boxsnake.container_layers.run import Below, made_layer
from boxsnake.credentials import Credentials
from boxsnake.errors import IntegrityError, PackError
from boxsnake.image.base_name import MINIMAL
from boxsnake.layers.plan import group
from boxsnake.lock import SystemLock
from boxsnake.pack import _check_minimal
from boxsnake.plan import Application, Hook
from boxsnake.publish import PUBLIC_KEY, publish
from boxsnake.publish.deb_repository import DebRepository
from boxsnake.registry import Registries
from boxsnake.settings import Settings
from boxsnake.store import Store
from boxsnake.system_packages.deb_archive import read_deb
from boxsnake.system_packages.fetched import fetched
from boxsnake.system_packages.minimal_base import libraries_of, minimal_base
from boxsnake.system_packages.question import SystemQuestion
from boxsnake.system_packages.resolve import Surroundings, resolve_system
from boxsnake.target import Platform, Target

from .debian_archive import deb, signing_key
from .test_image import interpreter
from .trees import Workshop

EPOCH = 1577836800
LIBRARIES = "lib/x86_64-linux-gnu"
BASE: dict[str, dict[str, bytes | str]] = {
    "libc6": {
        f"{LIBRARIES}/libc.so.6": b"libc",
        f"{LIBRARIES}/ld-linux-x86-64.so.2": b"loader",
        "lib64/ld-linux-x86-64.so.2": f"/{LIBRARIES}/ld-linux-x86-64.so.2",
        "usr/lib/x86_64-linux-gnu/gconv/EBCDIC.so": b"tables",
        "usr/share/doc/libc6/changelog.gz": b"history",
        "usr/share/doc/libc6/copyright": b"licence",
        "usr/share/man/man7/libc.7.gz": b"manual",
    },
    "libgcc-s1": {f"{LIBRARIES}/libgcc_s.so.1": b"gcc"},
    "base-files": {
        "lib32": "usr/lib32",
        "sbin": "usr/sbin",
        "usr/lib/os-release": b"ID=debian\n",
        "etc/os-release": "../usr/lib/os-release",
    },
    "ca-certificates": {
        "usr/share/ca-certificates/mozilla/b.crt": b"two",
        "usr/share/ca-certificates/mozilla/a.crt": b"one\n",
        "usr/sbin/update-ca-certificates": b"#!/bin/sh\n",
    },
    "netbase": {"etc/services": b"http 80/tcp\n", "bin/x": b""},
    "tzdata": {"usr/share/zoneinfo/UTC": b"TZif"},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An archive for two processors, with the two suites that Debian's has, and the key that signs it."""
    folder = tmp_path_factory.mktemp("mirror").resolve()
    scripts = {"libc6": "exit 1", "ca-certificates": "exit 1", "tzdata": "exit 1"}
    depends = {"libc6": "libgcc-s1", "ca-certificates": "openssl, debconf", "tzdata": "debconf | debconf-2.0"}
    files = []
    for architecture in ("amd64", "arm64"):
        own = folder / architecture
        own.mkdir()
        for name, content in BASE.items():
            fields = {"Architecture": architecture} | ({"Depends": depends[name]} if name in depends else {})
            files.append(deb(own, name, files=content, script=scripts.get(name, ""), **fields))
    more = {"Depends": "libc6, debconf (>= 0.5)"}
    files.append(deb(folder, "libextra2", files={"usr/lib/libextra.so.2": b"extra"}, script="exit 1", **more))
    with signing_key() as key:
        made = publish(DebRepository(suite="bookworm"), folder / "r", files, time=EPOCH, signer=key).folder.resolve()
        (made / "dists" / "bookworm-updates").symlink_to("bookworm")
        yield made


@pytest.fixture
def _key_of_the_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_sources, "KEYRING", mirror / PUBLIC_KEY)
    monkeypatch.setattr(debian_sources, "family", lambda _suite: [])


of_the_mirror = pytest.mark.usefixtures("_key_of_the_mirror")


def locked(store: Store, mirror: Path, *deb: str, platform: Platform = "linux-64") -> SystemLock:
    target = Target(name="default", platform=platform, glibc="2.36")
    assert target.oci_platform
    asked = SystemQuestion(target=target, platform=target.oci_platform, base=MINIMAL, deb=deb, rpm=())
    settings = Settings(mirrors={"debian": f"file://{mirror}"})
    around = Surroundings(store=store, settings=settings, registries=Registries(), root=Path("/"))
    found = resolve_system(asked, around)
    assert found is not None
    return found


def made(store: Store, mirror: Path, system: SystemLock, architecture: str = "amd64") -> Base:
    def archives(system: SystemLock) -> Mapping[str, Path]:
        mirrors = {"debian": f"file://{mirror}"}
        return fetched(store, system, mirrors=mirrors, credentials=Credentials(), offline=False)

    return minimal_base(store, MINIMAL, system, archives, platform=("linux", architecture), epoch=EPOCH)


def members(store: Store, base: Base) -> dict[str, tarfile.TarInfo]:
    (layer,) = base.layers
    with tarfile.open(store.path(layer.digest)) as archive:
        return {member.name: member for member in archive}


def text(store: Store, base: Base, name: str) -> bytes:
    with tarfile.open(store.path(base.layers[0].digest)) as archive:
        stream = archive.extractfile(name)
        assert stream is not None
        return stream.read()


@of_the_mirror
def test_its_packages_are_locked_without_what_only_their_scripts_need(store: Store, mirror: Path) -> None:
    system = locked(store, mirror, "libextra2 (>= 1.0)")
    assert [package.name for package in system.packages] == sorted([*BASE, "libextra2"])
    assert (system.base, system.suite, system.archives) == (MINIMAL, "bookworm", ())
    assert {package.archive for package in system.packages} == {"debian"}


@of_the_mirror
@pytest.mark.parametrize(("platform", "architecture"), [("linux-64", "amd64"), ("linux-aarch64", "arm64")])
def test_it_is_a_system_without_programs_for_any_platform(
    store: Store, mirror: Path, platform: Platform, architecture: str
) -> None:
    system = locked(store, mirror, platform=platform)
    assert {package.architecture for package in system.packages} == {architecture}
    base = made(store, mirror, system, architecture)
    assert base.platform == ("linux", architecture)
    found = members(store, base)
    assert {name for name in found if name.startswith(("usr/bin/", "usr/sbin/"))} == {"usr/bin/x"}
    assert found["lib"].linkname == "usr/lib"
    assert found["lib64"].linkname == "usr/lib64"
    assert found["usr/lib64/ld-linux-x86-64.so.2"].linkname == f"/{LIBRARIES}/ld-linux-x86-64.so.2"
    assert f"usr/{LIBRARIES}/libc.so.6" in found
    assert (found["tmp"].mode, found["root"].mode, found["etc/passwd"].mode) == (0o1777, 0o700, 0o644)
    assert not [name for name in found if "gconv" in name or "/man" in name or "changelog" in name]
    assert "usr/share/doc/libc6/copyright" in found
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, EPOCH)}
    assert text(store, base, "etc/ssl/certs/ca-certificates.crt") == b"one\ntwo\n"
    assert b":10001:10001:" in text(store, base, "etc/passwd")
    assert b"hosts: files dns" in text(store, base, "etc/nsswitch.conf")
    status = text(store, base, "var/lib/dpkg/status.d/libc6")
    assert b"Package: libc6\nStatus: install ok installed\nVersion: 1.0\n" in status
    assert base.layers[0].notes == ()


@of_the_mirror
def test_it_is_made_once_and_alike_everywhere(store: Store, mirror: Path, tmp_path: Path) -> None:
    system = locked(store, mirror)
    first = made(store, mirror, system)
    nowhere = tmp_path / "nowhere"
    assert made(store, nowhere, system) == first
    assert made(Store(tmp_path / "other"), mirror, system) == first


@of_the_mirror
def test_scripts_that_are_not_run_are_told(store: Store, mirror: Path) -> None:
    base = made(store, mirror, locked(store, mirror, "libextra2"))
    assert base.layers[0].notes == ("the base runs no scripts of packages; libextra2 has one",)
    assert "usr/lib/libextra.so.2" in members(store, base)


@of_the_mirror
def test_a_library_that_it_has_not_got_is_an_error_that_names_a_package(store: Store, mirror: Path) -> None:
    class Materials:
        def __init__(self) -> None:
            self.store = store

    system = locked(store, mirror)
    made(store, mirror, system)
    assert "libc.so.6" in libraries_of(store, system, epoch=EPOCH)
    lacking = {"libgcc_s.so.1": ("a.so of b",), "libextra.so.2": ("c.so of d",)}
    with pytest.raises(PackError, match=r'(?s)libextra.so.2: is needed by c.so of d.*perhaps "libextra2"'):
        _check_minimal(system, lacking, Materials(), EPOCH)  # type: ignore[arg-type]  # of them only the store is used
    with_it = locked(store, mirror, "libextra2")
    made(store, mirror, with_it)
    _check_minimal(with_it, lacking, Materials(), EPOCH)  # type: ignore[arg-type]
    libraries = ("libpng16.so.16", "libSM.so.6", "libabc")
    assert [deb_package(name) for name in libraries] == ["libpng16-16", "libsm6", "libabc"]


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    whole = deb(tmp_path, "whole").read_bytes()
    for number, data in enumerate((b"no archive", whole[:-100], whole[:8], whole.replace(b"data.tar", b"date.tar"))):
        path = tmp_path / f"{number}.deb"
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=f"{number}.deb: is no Debian package that can be read"):
            read_deb(path)


@of_the_mirror
def test_two_packages_with_one_path_are_told(store: Store, tmp_path: Path, mirror: Path) -> None:
    system = locked(store, mirror)
    one, other = (deb(tmp_path, name, files={"etc/same": name.encode()}) for name in ("one", "other"))
    packages = tuple(
        dataclasses.replace(system.packages[0], name=path.name, sha256=str(number) * 64)
        for number, path in enumerate((one, other))
    )
    both = dataclasses.replace(system, packages=packages)
    archives = {"0" * 64: one, "1" * 64: other}
    with pytest.raises(PackError, match="/etc/same: comes in other and in another"):
        minimal_base(store, MINIMAL, both, lambda _: archives, platform=("linux", "amd64"), epoch=EPOCH)


# Of Debian's own packages


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the local channel is for x86-64")
def test_python_runs_on_a_real_one_and_so_do_hooks_in_python(channel: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    target = Target(name="default", glibc="2.36")
    asked = SystemQuestion(target=target, platform=("linux", "amd64"), base=MINIMAL, deb=(), rpm=())
    system = resolve_system(
        asked, Surroundings(store=store, settings=Settings(), registries=Registries(), root=tmp_path)
    )
    assert system is not None
    base = minimal_base(
        store,
        MINIMAL,
        system,
        lambda system: fetched(store, system, mirrors={}, credentials=Credentials(), offline=False),
        platform=("linux", "amd64"),
        epoch=EPOCH,
    )
    (tmp_path / "archives").mkdir()
    workshop = Workshop(tmp_path / "archives")
    workshop.packages, workshop.archives = interpreter(channel)
    version = next(package.version for package in workshop.packages if package.name == "python")
    lock = dataclasses.replace(workshop.lock(), python=version)
    materials = workshop.materials(store, lock)
    layers = materials.layers("/opt/env", group(lock, application=False))
    code = (
        "import grp, os, pwd, socket, sqlite3, ssl, time\n"
        "assert (pwd.getpwuid(10001).pw_name, grp.getgrgid(0).gr_name) == ('app', 'root')\n"
        "bundle = '/etc/ssl/certs/ca-certificates.crt'\n"
        "assert len(ssl.create_default_context(cafile=bundle).get_ca_certs()) > 100\n"
        "os.environ['TZ'] = 'Asia/Tokyo'\n"
        "time.tzset()\n"
        "assert (time.tzname[0], socket.getservbyname('https')) == ('JST', 443)\n"
        "assert not os.path.exists('/bin/sh')\n"
        "open('/etc/seen', 'w').write('by Python')\n"
    )
    hook = Hook(moment="post-install", file_name="check.py", content=code.encode())
    job = hook_job(hook, Application(name="hello", version="1.0"), "/opt/env", ())
    made = made_layer(store, Below(layers=(*base.layers, *layers), platform=("linux", "amd64")), job, epoch=EPOCH)
    assert made is not None
    with tarfile.open(store.path(made.digest)) as archive:
        assert [member.name for member in archive if member.isreg()] == ["etc/seen"]
