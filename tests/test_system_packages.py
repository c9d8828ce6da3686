from __future__ import annotations

import dataclasses
import gzip
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from boxsnake import resources
from boxsnake.archive import file_member, write_tar
from boxsnake.bases import base_image
from boxsnake.bases.files import read_files
from boxsnake.credentials import Credentials
from boxsnake.errors import EngineError, NetworkError, PackError, ResourceError, UnsolvableError
from boxsnake.layers.plan import LayerBlob
from boxsnake.lock import Lock, SystemLock, TargetLock
from boxsnake.manifest import Manifest
from boxsnake.packagers.image import ImageOptions
from boxsnake.publish import PUBLIC_KEY, publish
from boxsnake.publish.deb_repository import DebRepository
from boxsnake.publish.signing import Signer
from boxsnake.registry import Registries
from boxsnake.resolve import Upgrade
from boxsnake.settings import Settings
from boxsnake.store import Store
from boxsnake.system_packages.fetched import fetched
from boxsnake.system_packages.install import packages_layer
from boxsnake.system_packages.question import SystemQuestion, system_questions
from boxsnake.system_packages.redhat import resolve_rpm
from boxsnake.system_packages.resolve import Surroundings, lock_system, resolve_system
from boxsnake.target import Target

from .debian_archive import deb, signing_key

EPOCH = 1577836800
AMD64 = ("linux", "amd64")
TARGET = Target(name="default")

INSTALLED = """\
Package: there
Status: install ok installed
Version: 2.0
Architecture: amd64
Maintainer: Example <a@example.org>
Description: is there already
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signing_key() as made:
        yield made


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, key: Signer) -> Path:
    folder = tmp_path_factory.mktemp("debs")
    lead = "mkdir -p /var/log/lead /var/cache/lead\ndate >/var/log/lead/log\ndate >/var/cache/lead/c\nid -u >/srv/made"
    files = [
        deb(folder, "lead", Depends="needed (>= 1.0), there", script=lead),
        deb(folder, "needed"),
        deb(folder, "needed", "1.1"),
        deb(folder, "extra", Recommends="needed"),
    ]
    return publish(DebRepository(), folder / "r", files, time=EPOCH, signer=key).folder.resolve()


def base_tar(path: Path, repository: Path, files: Mapping[str, bytes] | None = None, *, sources: bool = True) -> Path:
    """A system of which only the package database is there."""
    members = {
        "usr/lib/os-release": b'ID=tiny\nVERSION_CODENAME="stable"\n',
        "var/lib/dpkg/status": INSTALLED.encode(),
        "usr/share/keyrings/tiny.asc": (repository / PUBLIC_KEY).read_bytes(),
    }
    if sources:
        line = f"deb [arch=amd64 signed-by=/usr/share/keyrings/tiny.asc] file://{repository} stable main\n"
        members["etc/apt/sources.list"] = line.encode()
    with path.open("wb") as stream:
        write_tar([file_member(name, data) for name, data in (members | dict(files or {})).items()], stream, epoch=0)
    return path


def question(base: Path, *deb: str, rpm: tuple[str, ...] = ()) -> SystemQuestion:
    return SystemQuestion(target=TARGET, platform=AMD64, base=str(base), deb=deb, rpm=rpm)


def around(store: Store, settings: Settings | None = None) -> Surroundings:
    return Surroundings(store=store, settings=settings or Settings(), registries=Registries(), root=Path("/"))


def resolved(
    store: Store, asked: SystemQuestion, kept: SystemLock | None = None, settings: Settings | None = None
) -> SystemLock:
    found = resolve_system(asked, around(store, settings), kept=kept)
    assert found is not None
    return found


def versions(system: SystemLock) -> dict[str, str]:
    return {package.name: package.version for package in system.packages}


def test_what_a_base_lacks_is_locked_by_archive_path_and_digest(tmp_path: Path, store: Store, repository: Path) -> None:
    base = base_tar(tmp_path / "base.tar", repository)
    system = resolved(store, question(base, "lead (>= 1.0)", "absent | extra"))
    assert versions(system) == {"extra": "1.0", "lead": "1.0", "needed": "1.1"}
    assert (system.kind, system.suite, system.base) == ("deb", "stable", str(base))
    assert system.archives == (("tiny", f"file://{repository}"),)
    assert {package.archive for package in system.packages} == {"tiny"}
    files = fetched(store, system, mirrors={}, credentials=Credentials(), offline=False)
    for package in system.packages:
        assert files[package.sha256].read_bytes() == (repository / package.path).read_bytes()
        assert package.size == (repository / package.path).stat().st_size


def test_what_a_base_has_is_not_asked_for(tmp_path: Path, store: Store, repository: Path) -> None:
    base = base_tar(tmp_path / "base.tar", repository)
    assert resolved(store, question(base, "there (>= 2.0)")).packages == ()


def test_versions_that_were_locked_stay(tmp_path: Path, store: Store, repository: Path) -> None:
    base = base_tar(tmp_path / "base.tar", repository)
    newest = resolved(store, question(base, "needed"))
    older = dataclasses.replace(newest.packages[0], version="1.0")
    kept = dataclasses.replace(newest, packages=(older,))
    assert versions(resolved(store, question(base, "needed"), kept)) == {"needed": "1.0"}
    gone = dataclasses.replace(newest, packages=(dataclasses.replace(older, version="0.9"),))
    assert versions(resolved(store, question(base, "needed"), gone)) == {"needed": "1.1"}


def test_locking_again_asks_nobody_until_the_question_is_another(
    tmp_path: Path, store: Store, repository: Path
) -> None:
    base = base_tar(tmp_path / "base.tar", repository)
    asked = question(base, "needed", "extra")
    empty = TargetLock(target=TARGET, python="3.11.2", conda=(), wheels=())
    lock = Lock(inputs=(("requires.deb", ("extra", "needed")),), targets=(empty,))
    first = lock_system(lock, [asked], around(store), keep=None, upgrade=Upgrade())
    system = first.targets[0].system
    assert system is not None
    older = dataclasses.replace(system.packages[1], version="1.0", sha256="1" * 64)
    kept = dataclasses.replace(system, packages=(system.packages[0], older))
    keep = dataclasses.replace(first, targets=(dataclasses.replace(empty, system=kept),))

    def again(upgrade: Upgrade, lock: Lock = lock) -> dict[str, str]:
        found = lock_system(lock, [asked], around(store), keep=keep, upgrade=upgrade).targets[0].system
        return versions(found) if found else {}

    base.unlink()
    assert again(Upgrade()) == {"extra": "1.0", "needed": "1.0"}
    assert lock_system(lock, [], around(store), keep=keep, upgrade=Upgrade()) == lock
    base_tar(base, repository)
    assert again(Upgrade(names=frozenset({"needed"}))) == {"extra": "1.0", "needed": "1.1"}
    assert again(Upgrade(everything=True)) == {"extra": "1.0", "needed": "1.1"}
    other = dataclasses.replace(lock, inputs=(("requires.deb", ("extra", "needed", "there")),))
    assert again(Upgrade(), other) == {"extra": "1.0", "needed": "1.0"}


def test_a_requirement_without_a_solution_is_told_with_apts_words(
    tmp_path: Path, store: Store, repository: Path
) -> None:
    base = base_tar(tmp_path / "base.tar", repository)
    with pytest.raises(UnsolvableError, match=r"requires.deb on .*needed \(>= 9\)"):
        resolved(store, question(base, "needed (>= 9)"))
    with pytest.raises(PackError, match="is no requirement that dpkg knows"):
        resolved(store, question(base, "-o Dir=/"))


def test_an_archive_that_another_key_has_signed_is_refused(tmp_path: Path, store: Store, repository: Path) -> None:
    base = base_tar(tmp_path / "base.tar", repository, {"usr/share/keyrings/tiny.asc": b""})
    with pytest.raises(NetworkError, match="package lists of tiny"):
        resolved(store, question(base, "needed"))


def test_a_mirror_serves_a_base_without_sources_and_is_not_in_the_lock(
    tmp_path: Path, store: Store, repository: Path
) -> None:
    base = base_tar(tmp_path / "base.tar", repository, sources=False)
    with pytest.raises(ResourceError, match=r"(?s)packages of tiny stable.*\[mirrors\]"):
        resolved(store, question(base, "needed"))
    # Without sources there is nobody to name a key but the base's own folder of trusted ones.
    trusted = {"etc/apt/trusted.gpg.d/tiny.asc": (repository / PUBLIC_KEY).read_bytes()}
    base = base_tar(tmp_path / "trusting.tar", repository, trusted, sources=False)
    moved = tmp_path / "mirror"
    shutil.copytree(repository, moved)
    (moved / "dists" / "stable-updates").symlink_to("stable")
    system = resolved(store, question(base, "needed"), settings=Settings(mirrors={"tiny": f"file://{moved}"}))
    assert versions(system) == {"needed": "1.1"}
    assert system.archives == ()
    with pytest.raises(ResourceError, match="archive tiny"):
        fetched(store, system, mirrors={}, credentials=Credentials(), offline=False)
    mirrors = {"tiny": f"file://{repository}/"}
    assert fetched(store, system, mirrors=mirrors, credentials=Credentials(), offline=False)


def test_bases_with_another_package_manager_are_asked_in_its_words(
    tmp_path: Path, store: Store, repository: Path
) -> None:
    base = base_tar(tmp_path / "base.tar", repository)
    assert resolve_system(question(base, rpm=("needed",)), around(store)) is None


def test_only_images_ask() -> None:
    tables = {"app": {"name": "a"}, "requires": {"deb": ["needed"]}, "boxes": {"image": ImageOptions()}}
    manifest = Manifest.decoded(tables)
    (asked,) = system_questions(manifest, [TARGET])
    assert (asked.base, asked.deb, asked.platform) == ("debian:12-slim", ("needed",), AMD64)
    for other in (
        tables | {"requires": {}},
        tables | {"boxes": {}},
        tables | {"targets": {"default": {"boxes": ["rpm"]}}},
    ):
        assert system_questions(Manifest.decoded(other), [TARGET]) == ()


def test_files_of_a_base_are_those_of_its_uppermost_layer(tmp_path: Path, store: Store) -> None:
    def layer(**files: bytes) -> LayerBlob:
        out = io.BytesIO()
        write_tar([file_member(name, data) for name, data in files.items()], out, epoch=0)
        blob = store.put_bytes(gzip.compress(out.getvalue()))
        return LayerBlob(name="base", digest=blob.digest, size=blob.size, diff_id="", media_type="")

    lower = layer(**{"etc/a": b"1", "etc/b": b"1", "etc/c/d": b"1", "etc/e": b"1", "other": b"1"})
    upper = layer(**{"etc/a": b"2", "etc/.wh.b": b"", "etc/c/.wh..wh..opq": b"", "etc/c/f": b"2"})
    scratch = base_image(store, "scratch", bases={}, root=tmp_path, wanted=AMD64)
    base = dataclasses.replace(scratch, layers=(lower, upper))
    assert read_files(store, base, lambda path: path.startswith("etc/")) == {
        "etc/a": b"2",
        "etc/c/f": b"2",
        "etc/e": b"1",
    }


@pytest.fixture
def over_http(repository: Path) -> Iterator[str]:
    import functools
    import http.server
    import threading

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(repository))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_version_that_the_archive_has_dropped_is_named(
    tmp_path: Path, store: Store, repository: Path, over_http: str
) -> None:
    system = resolved(store, question(base_tar(tmp_path / "base.tar", repository), "needed"))
    package = dataclasses.replace(
        system.packages[0], sha256="0" * 64, path="pool/main/n/needed_0.9_amd64.deb", version="0.9"
    )
    gone = dataclasses.replace(system, packages=(package,))
    with pytest.raises(NetworkError, match=r"(?s)needed 0.9: .*boxsnake lock --upgrade needed") as caught:
        fetched(store, gone, mirrors={"tiny": over_http}, credentials=Credentials(), offline=False)
    assert caught.value.exit_code == 6


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing() -> None:
    folder = resources.folder("docker")
    scripts = [folder / f"{name}.sh" for name in ("install-debs", "install-rpms", "resolve-rpms")]
    done = subprocess.run(["shellcheck", "--shell", "sh", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# On a real Debian


def contents(store: Store, layer: LayerBlob) -> Mapping[str, bytes]:
    with tarfile.open(store.path(layer.digest)) as archive:
        return {m.name: stream.read() for m in archive if (stream := archive.extractfile(m)) is not None}


@pytest.mark.engine
def test_packages_are_installed_without_a_network_and_leave_nothing_but_themselves(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(Store.default_root())
    system = resolved(store, question(base_tar(tmp_path / "base.tar", repository), "extra", "needed"))
    base = base_image(store, "host:debian-12", bases={}, root=tmp_path, wanted=AMD64)

    def install(system: SystemLock) -> LayerBlob:
        def archives(_system: SystemLock) -> Mapping[str, Path]:
            return fetched(store, system, mirrors={}, credentials=Credentials(), offline=False)

        layer = packages_layer(store, base, system, archives, platform=AMD64, epoch=EPOCH)
        assert layer is not None
        return layer

    layer = install(system)
    files = contents(store, layer)
    assert files["srv/needed"] == b"needed 1.1\n"
    assert b"Package: extra\nStatus: install ok installed" in files["var/lib/dpkg/status"]
    assert not [name for name in files if name.startswith(("var/cache", "var/log", "var/lib/apt/lists", "tmp", "etc"))]
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    assert install(system) == layer
    without = dataclasses.replace(system, packages=system.packages[:1])
    with pytest.raises(EngineError, match="installing 1 package on"):
        install(without)
    monkeypatch.delenv("DOCKER_HOST")
    # It needs what this base, unlike the one that it was resolved for, has not got.
    unfit = resolved(store, question(base_tar(tmp_path / "other.tar", repository), "lead"))
    with pytest.raises(PackError, match=r"(?s)failed with exit status 100.*lock --upgrade"):
        install(unfit)


# On a system with rpm

SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: {name}
License: MIT
BuildArch: noarch
{more}
%description
{name}
%install
mkdir -p %{{buildroot}}/srv
echo {name} {version} >%{{buildroot}}/srv/{name}
%files
/srv/{name}
%post
mkdir -p /var/log/{name}
date >/var/log/{name}/log
"""


@pytest.fixture(scope="module")
def rpm_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a repository of RPMs in /srv/repo, and of the file that tells dnf of it."""
    folder = tmp_path_factory.mktemp("rpms")
    more = {"lead": "Requires: needed >= 1.0\nEpoch: 2", "needed": ""}
    for name, version in (("lead", "1.0"), ("needed", "1.0"), ("needed", "1.1")):
        spec = folder / f"{name}-{version}.spec"
        spec.write_text(SPEC.format(name=name, version=version, more=more[name]))
        command = ["rpmbuild", "--quiet", "-bb", "--define", f"_topdir {folder / 'top'}", str(spec)]
        subprocess.run(command, check=True, capture_output=True)
    repository = folder / "repo"
    (repository / "Packages").mkdir(parents=True)
    for path in (folder / "top" / "RPMS" / "noarch").iterdir():
        path.rename(repository / "Packages" / path.name)
    subprocess.run(["createrepo_c", "--quiet", repository], check=True, capture_output=True)
    files = [
        file_member(f"srv/repo/{path.relative_to(repository)}", path)
        for path in repository.rglob("*")
        if path.is_file()
    ]
    files.append(
        file_member("etc/yum.repos.d/tiny.repo", b"[tiny]\nname=tiny\nbaseurl=file:///srv/repo/\ngpgcheck=0\n")
    )
    with (folder / "layer.tar").open("wb") as stream:
        write_tar(files, stream, epoch=0)
    return folder / "layer.tar"


@pytest.mark.engine
def test_rpms_are_locked_and_installed_in_the_same_way(
    tmp_path: Path, rpm_layer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boxsnake.system_packages import resolve

    store = Store(Store.default_root())
    host = base_image(store, "host:debian-12-rpm", bases={}, root=tmp_path, wanted=AMD64)
    more = base_image(store, str(rpm_layer), bases={}, root=tmp_path, wanted=AMD64)
    base = dataclasses.replace(host, layers=(*host.layers, *more.layers))
    monkeypatch.setattr(resolve, "base_image", lambda *_given, **_named: base)
    asked = SystemQuestion(target=TARGET, platform=AMD64, base="tiny", deb=(), rpm=("lead >= 1.0",))
    system = resolve_system(asked, around(store))
    assert system is not None
    assert (system.kind, system.suite, system.archives) == ("rpm", "debian 12", (("tiny", "file:///srv/repo/"),))
    assert versions(system) == {"lead": "2:1.0-1", "needed": "1.1-1"}
    assert [package.path for package in system.packages] == [
        "Packages/lead-1.0-1.noarch.rpm",
        "Packages/needed-1.1-1.noarch.rpm",
    ]

    def archives(_system: SystemLock) -> Mapping[str, Path]:
        return fetched(store, system, mirrors={}, credentials=Credentials(), offline=True)

    layer = packages_layer(store, base, system, archives, platform=AMD64, epoch=EPOCH)
    assert layer is not None
    files = contents(store, layer)
    assert files["srv/needed"] == b"needed 1.1\n"
    assert sorted(name for name in files if not name.startswith("srv/")) == ["var/lib/rpm/rpmdb.sqlite"]
    older = dataclasses.replace(system.packages[1], version="1.0-1")
    kept = dataclasses.replace(system, packages=(system.packages[0], older))
    again = resolve_rpm(asked, base, {}, store=store, kept=kept.packages)
    assert versions(again) == {"lead": "2:1.0-1", "needed": "1.0-1"}
    with pytest.raises(UnsolvableError, match=r"(?s)requires.rpm on tiny.*nosuch"):
        resolve_rpm(dataclasses.replace(asked, rpm=("nosuch",)), base, {}, store=store)
    with pytest.raises(NetworkError, match="nobody may be asked"):
        resolve_rpm(asked, base, {}, store=store, offline=True)
