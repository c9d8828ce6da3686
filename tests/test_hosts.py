"""Hosts: definitions read strictly, this machine's Debian sources and no others, systems built once."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from boxsnake import debian_sources, hosts
from boxsnake.engine import connect, sleeper
from boxsnake.errors import ManifestError, NetworkError, ResourceError
from boxsnake.store import Store

HOSTS = hosts.load_hosts([Path(__file__).parent.parent / "docker" / "hosts"])


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


def write(folder: Path, **definitions: str) -> list[Path]:
    for name, text in definitions.items():
        (folder / f"{name.replace('_', '-')}.toml").write_text(text)
    return [folder]


BASE = 'title = "t"\npackage-manager = "apt"\nlibc = "glibc 2.36"\n[mmdebstrap]\nsuite = "bookworm"\n'


def test_the_hosts_that_travel_along_are_well_formed() -> None:
    assert {"debian-12", "debian-12-python", "debian-12-rpm", "debian-13-rpm", "el9"} <= set(HOSTS)
    for name, host in HOSTS.items():
        assert (host.name, bool(host.title)) == (name, True)
        assert (host.image is None) != (host.bootstrap is None)


def test_a_host_extends_another(tmp_path: Path) -> None:
    (tmp_path / "s.sh").write_text("echo hello\n")
    extended = (
        'title = "t"\npackage-manager = "apt"\nlibc = "glibc 2.36"\n[mmdebstrap]\nextends = "base"\nsetup = ["s.sh"]\n'
    )
    # Read before the one that it extends.
    found = hosts.load_hosts(write(tmp_path, base=BASE, a=extended))
    bootstrap = found["a"].bootstrap
    assert bootstrap is not None
    assert (bootstrap.base, bootstrap.suite) == (found["base"], "bookworm")
    assert bootstrap.setup == (("s.sh", "echo hello\n"),)


def test_a_later_folder_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    write(first, base=BASE, other=BASE)
    write(second, base=BASE.replace("bookworm", "trixie"))
    found = hosts.load_hosts([first, second])
    assert [h.bootstrap.suite for h in found.values() if h.bootstrap] == ["trixie", "bookworm"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = 1", "title: must be a text"),
        ('colour = "red"', "colour: unknown key"),
        ('title = "t"', "package-manager: is missing"),
        ('title = "t"', "either `image` or a table"),
        (BASE.replace("[mm", 'image = "x"\n[mm'), "either `image` or a table"),
        (BASE + 'extends = "x"', "either `suite` or `extends`"),
        (BASE + 'include = "python3"', "mmdebstrap.include: must be an array of texts"),
        (BASE + 'setup = ["absent.sh"]', "there is no file absent.sh"),
        (BASE.replace("suite", "extends"), "there is no host 'bookworm'"),
        (BASE.replace('suite = "bookworm"', 'extends = "h"'), "extends itself"),
        ("title = ", "Invalid value"),
    ],
)
def test_a_fault_of_a_definition_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ManifestError) as raised:
        hosts.load_hosts(write(tmp_path, h=text))
    assert told in str(raised.value)


# The sources of Debian packages

RELEASE = 'ID=debian\nVERSION_CODENAME="bookworm"\n'
KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
LINES = f"""
# deb http://commented.invalid/debian bookworm main
deb-src http://mirror.invalid/debian bookworm main
deb [arch=amd64 signed-by={KEY}] http://mirror.invalid/debian bookworm main contrib # ours
deb [signed-by={KEY}] http://mirror.invalid/debian bookworm-updates main
deb [signed-by={KEY}] http://security.invalid/debian-security bookworm-security main
deb [signed-by=/etc/apt/keyrings/other.gpg] http://other.invalid bookworm main
deb http://third.invalid/apt stable main
"""
STANZAS = f"""
Types: deb deb-src
URIs: http://mirror.invalid/debian
# a comment inside
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: {KEY}

Enabled: no
Types: deb
URIs: http://off.invalid/debian
Suites: bookworm
Components: main
Signed-By: {KEY}

Types: deb
URIs: http://security.invalid/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEY}
"""


def sources(folder: Path, suite: str, *, release: str = RELEASE, **files: str) -> list[str]:
    (folder / "sources.list.d").mkdir()
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        place = folder / "sources.list" if stem == "sources" else folder / "sources.list.d" / f"{stem}.{suffix}"
        place.write_text(text)
    (folder / "os-release").write_text(release)
    return debian_sources.sources(suite, apt=folder, os_release=folder / "os-release")


EXPECTED = [
    f"deb [signed-by={KEY}] http://mirror.invalid/debian bookworm main",
    f"deb [signed-by={KEY}] http://mirror.invalid/debian bookworm-updates main",
    f"deb [signed-by={KEY}] http://security.invalid/debian-security bookworm-security main",
]


def test_sources_are_read_in_both_formats(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert sources(tmp_path / "1", "bookworm", sources_list=LINES) == EXPECTED
    assert sources(tmp_path / "2", "bookworm", debian_sources=STANZAS) == EXPECTED


def test_another_suite_comes_from_the_same_mirrors(tmp_path: Path) -> None:
    expected = [line.replace("bookworm", "trixie") for line in EXPECTED]
    assert sources(tmp_path, "trixie", sources_list=LINES) == expected


def test_archives_of_others_with_debians_suite_names_are_left_out(tmp_path: Path) -> None:
    unsigned = (
        "deb http://mirror.invalid/debian bookworm main\ndeb http://mirror.invalid/debian bookworm-updates main\n"
    )
    other = "deb http://other.invalid bookworm main\n"
    found = sources(tmp_path, "bookworm", sources_list=unsigned, other_list=other)
    assert [line.rpartition("] ")[2] for line in found] == [line.removeprefix("deb ") for line in unsigned.splitlines()]


@pytest.mark.parametrize("release", ["ID=fedora\n", "ID=ubuntu\nVERSION_CODENAME=noble\n", ""])
def test_a_machine_that_is_no_debian_has_no_sources(tmp_path: Path, release: str) -> None:
    assert sources(tmp_path, "bookworm", release=release, sources_list=LINES) == []


# Building


def test_without_mmdebstrap_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="apt-get install mmdebstrap"):
        hosts.rootfs(Store(tmp_path / "store"), HOSTS["debian-12"])


def needs_root_and_mmdebstrap() -> bool:
    return os.geteuid() == 0 and Path("/usr/bin/mmdebstrap").exists()


@pytest.mark.skipif(not needs_root_and_mmdebstrap(), reason="only root builds, with mmdebstrap")
def test_a_mirror_that_does_not_answer_is_the_networks_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = "deb [trusted=yes] http://user:CANARY@127.0.0.1:1/debian bookworm main"
    monkeypatch.setattr(debian_sources, "sources", lambda _: [dead])
    with pytest.raises(NetworkError) as raised:
        hosts.rootfs(Store(tmp_path / "store"), HOSTS["debian-12"])
    assert "127.0.0.1:1" in raised.value.cause
    assert "CANARY" not in f"{raised.value} {raised.value.data}"


@pytest.mark.engine
def test_a_built_system_says_nothing_of_where_it_was_built(store: Store) -> None:
    blob = hosts.rootfs(store, HOSTS["debian-12"])
    with tarfile.open(store.path(blob.digest)) as members:
        names = {member.name.removeprefix("./") for member in members if not member.isdir()}
    private = {"etc/apt/sources.list", "etc/hostname", "etc/resolv.conf", "etc/apt/apt.conf.d/99mmdebstrap"}
    assert not names & private
    assert not {name for name in names if name.startswith(("dev/", "var/lib/apt/lists/deb", "usr/share/man/"))}
    assert {"usr/bin/dash", "usr/share/doc/libc6/copyright"} <= names
    assert "usr/bin/python3" not in names


@pytest.mark.engine
def test_a_system_is_imported_once_with_its_own_digest(store: Store) -> None:
    engine = connect()
    identity = hosts.image_id(engine, store, HOSTS["debian-12-python"])
    image = engine.image(identity)
    assert image is not None
    assert image.layers == (hosts.rootfs(store, HOSTS["debian-12-python"]).digest,)
    assert hosts.image_id(engine, store, HOSTS["debian-12-python"]) == identity


@pytest.mark.engine
def test_the_rpm_host_knows_what_it_has(store: Store, tmp_path: Path) -> None:
    engine = connect()
    for name, requires in (("fits", "libc.so.6(GLIBC_2.28)(64bit), /usr/bin/env, glibc >= 2.28"), ("not", "libzebra")):
        write_rpm(tmp_path, name, requires)
    identity = hosts.image_id(engine, store, HOSTS["debian-12-rpm"])
    with engine.container(identity, sleep=sleeper(), capabilities=("CHOWN", "DAC_OVERRIDE", "FOWNER")) as container:
        container.copy(tmp_path, "/box")
        fits = container.execute(["rpm", "-i", "/box/fits.rpm"], seconds=60)
        lacks = container.execute(["rpm", "-i", "/box/not.rpm"], seconds=60)
        listed = container.execute(["rpm", "-qa"], seconds=60)
    assert fits.exit_code == 0, fits.errors
    assert (lacks.exit_code, b"libzebra is needed" in lacks.errors) == (1, True)
    assert set(listed.output.decode().split()) == {"host-base-1-1.noarch", "fits-1-1.noarch"}


@pytest.mark.engine
@pytest.mark.parametrize(("name", "loader"), [("busybox", "ld-linux-x86-64.so.2"), ("musl", "ld-musl-x86_64.so.1")])
def test_a_minimal_host_has_busybox_and_one_c_library(store: Store, name: str, loader: str) -> None:
    engine = connect()
    identity = hosts.image_id(engine, store, HOSTS[name])
    script = "ls /lib*/ld-* /lib/*/ld-*; for p in tar gzip awk sha256sum; do readlink -f $(which $p); done; which bash"
    with engine.container(identity, sleep=sleeper()) as container:
        done = container.execute(["sh", "-c", script], seconds=60)
    words = done.output.decode().split()
    assert {Path(word).name for word in words if "/ld-" in word} == {loader}
    assert [word for word in words if "/ld-" not in word] == ["/usr/bin/busybox"] * 4


def write_rpm(folder: Path, name: str, requires: str) -> None:
    spec = folder / f"{name}.spec"
    spec.write_text(
        f"Name: {name}\nVersion: 1\nRelease: 1\nSummary: s\nLicense: l\nBuildArch: noarch\nRequires: {requires}\n"
        "%description\nd\n%files\n"
    )
    subprocess.run(
        ["rpmbuild", "--quiet", "-bb", "--define", f"_topdir {folder}/{name}", str(spec)],
        check=True,
        capture_output=True,
    )
    (folder / f"{name}/RPMS/noarch/{name}-1-1.noarch.rpm").rename(folder / f"{name}.rpm")
