"""Repositories: made, added to, signed; and read by dnf and apt which insist on signatures."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxsnake.cli import boxsnake
from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.engine.container import Container
from boxsnake.errors import BoxsnakeError, IntegrityError, PolicyError, ResourceError, UsageError
from boxsnake.hosts import image_id, load_hosts
from boxsnake.os_packages import nfpm, rpm_header
from boxsnake.publish import PUBLIC_KEY, Published, Repository, package_files, publish
from boxsnake.publish.deb_repository import DebRepository, check_suite
from boxsnake.publish.rpm_repository import RpmRepository
from boxsnake.publish.signing import Signer, sign_detached, signer
from boxsnake.store import Store
from tests.signing_key import gpg_home, new_key

EPOCH = 1577836800
PASSPHRASE = "correct horse"  # noqa: S105 - of a key that lives as long as the test


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """gpg's folder with three keys."""
    with gpg_home() as folder:
        new_key(folder, "release", "--passphrase", "")
        new_key(folder, "release-two", "--passphrase", "")
        new_key(folder, "locked", "--pinentry-mode", "loopback", "--passphrase", PASSPHRASE)
        yield folder


@pytest.fixture(scope="module")
def key(home: Path) -> Signer:
    return signer("release@example.org", home=home)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of two versions, and one that has the first's name, version and release but other bytes."""
    folder = tmp_path_factory.mktemp("built")
    for kind, architecture in ARCHITECTURES.items():
        for version in ("1.0", "2.0"):
            make(kind, folder, version, architecture)
        make(kind, folder / "other", "1.0", architecture, summary="Something else")
    return folder


def make(kind: str, folder: Path, version: str, architecture: str, *, summary: str = "An application") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / f"app-{version}"
    script.write_text(f"#!/bin/sh\necho app {version}\n")
    package = nfpm.Package(
        name="app",
        version=version,
        release="1",
        architecture=architecture,
        summary=summary,
        description=summary,
        license="MIT",
        maintainer="Example <app@example.org>",
        compression="zstd:3",
        time=EPOCH,
    )
    out = folder / NAMES[kind].format(version, architecture)
    content = nfpm.Content(path="/usr/bin/app", kind="file", mode=0o755, source=script)
    with tempfile.TemporaryDirectory() as scratch:
        nfpm.write(package, [content], "deb" if kind == "deb" else "rpm", out, Path(scratch))
    return out


KINDS: dict[str, Repository] = {"rpm": RpmRepository(), "deb": DebRepository()}
ARCHITECTURES = {"rpm": "x86_64", "deb": "amd64"}
NAMES = {"rpm": "app-{}-1.{}.rpm", "deb": "app_{}-1_{}.deb"}
both = pytest.mark.parametrize("kind", sorted(KINDS))


def put(kind: str, folder: Path, *files: Path, key: Signer | None = None, time: int = EPOCH) -> Published:
    return publish(KINDS[kind], folder, files, time=time, signer=key)


def of(kind: str, built: Path, version: str) -> Path:
    return built / NAMES[kind].format(version, ARCHITECTURES[kind])


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@both
def test_same_packages_same_bytes(kind: str, built: Path, key: Signer, tmp_path: Path) -> None:
    one = put(kind, tmp_path / "one", of(kind, built, "1.0"), of(kind, built, "2.0"), key=key)
    other = put(kind, tmp_path / "other", of(kind, built, "2.0"), of(kind, built, "1.0"), key=key)
    assert digests(one.folder) == digests(other.folder)
    assert len(digests(one.folder)) >= 7
    times = {path.stat().st_mtime for path in (one.folder / PUBLIC_KEY, *one.folder.rglob("*Release*"))}
    assert times == {EPOCH}


@both
def test_publishing_again_changes_nothing(kind: str, built: Path, key: Signer, tmp_path: Path) -> None:
    put(kind, tmp_path / "r", of(kind, built, "1.0"), key=key)
    put(kind, tmp_path / "r", of(kind, built, "2.0"), key=key)
    before, inode = digests(tmp_path / "r"), (tmp_path / "r").stat().st_ino
    again = put(kind, tmp_path / "r", of(kind, built, "1.0"), of(kind, built, "2.0"), key=key)
    assert not again.changed
    assert again.added == ()
    assert (digests(tmp_path / "r"), (tmp_path / "r").stat().st_ino) == (before, inode)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@both
def test_what_is_there_stays_and_time_moves_on(kind: str, built: Path, tmp_path: Path) -> None:
    first = put(kind, tmp_path / "r", of(kind, built, "1.0"))
    (tmp_path / "r" / "notes.txt").write_text("kept")
    indexes = {name for name in digests(tmp_path / "r") if "by-hash/SHA256" in name or "-primary" in name}
    second = put(kind, tmp_path / "r", of(kind, built, "2.0"))
    found = digests(tmp_path / "r")
    assert (tmp_path / "r" / "notes.txt").read_text() == "kept"
    assert {Path(name).name for name in found} >= {of(kind, built, version).name for version in ("1.0", "2.0")}
    # For a reader that has just read the first file of the old repository.
    assert found.keys() >= indexes
    assert (first.time, second.time, first.kept, second.kept) == (EPOCH, EPOCH + 1, 0, 1)
    later = put(kind, tmp_path / "later", of(kind, built, "1.0"), time=EPOCH + 500)
    assert later.time == EPOCH + 500


@both
def test_other_bytes_of_the_same_version_are_refused(kind: str, built: Path, tmp_path: Path) -> None:
    put(kind, tmp_path / "r", of(kind, built, "1.0"))
    before = digests(tmp_path / "r")
    other = of(kind, built / "other", "1.0")
    renamed = tmp_path / f"renamed.{kind}"
    shutil.copy(other, renamed)
    for path in (other, renamed):
        with pytest.raises(PolicyError, match="same version and release with other bytes"):
            put(kind, tmp_path / "r", path)
    taken = tmp_path / of(kind, built, "1.0").name
    shutil.copy(of(kind, built, "2.0"), taken)
    with pytest.raises(PolicyError):
        put(kind, tmp_path / "r", taken)
    assert digests(tmp_path / "r") == before


@both
@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_damaged_packages_are_refused(kind: str, built: Path, tmp_path: Path, damage: str) -> None:
    whole = of(kind, built, "1.0")
    data = bytearray(whole.read_bytes())
    if damage == "flipped":
        data[-20] ^= 0xFF
    path = tmp_path / whole.name
    path.write_bytes({"cut": bytes(data[:-30]), "flipped": bytes(data), "foreign": b"no package"}[damage])
    with pytest.raises(IntegrityError):
        put(kind, tmp_path / "r", path)
    assert not (tmp_path / "r").exists()


def test_boxes_of_several_packages_are_taken_as_what_is_in_them(built: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.rpms", tmp_path / "other.rpms"
    for folder in (one, other):
        shutil.copytree(built, folder, ignore=shutil.ignore_patterns("other", "*.deb", "app-?.0"))
    (other / "app-2.0-1.x86_64.rpm").unlink()
    archive = tmp_path / "one.rpms.tar"
    archive.touch()
    files = package_files([archive, other, tmp_path / "alone.rpm"], ".rpm")
    assert sorted(path.name for path in files) == ["alone.rpm", "app-1.0-1.x86_64.rpm", "app-2.0-1.x86_64.rpm"]
    shutil.copy(built / "other" / "app-1.0-1.x86_64.rpm", other)
    with pytest.raises(PolicyError, match="other bytes"):
        package_files([one, other], ".rpm")
    with pytest.raises(UsageError, match=r"no \.deb file"):
        package_files([one], ".deb")


def test_a_folder_that_is_no_repository_is_left_alone(built: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        put("rpm", tmp_path / "home", of("rpm", built, "1.0"))
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter"]


@pytest.mark.parametrize("name", ["app.rpm", "app.txt"])
def test_files_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BoxsnakeError, match=r"there is no such file|is no \.rpm file"):
        put("rpm", tmp_path / "r", tmp_path / name)
    with pytest.raises(UsageError, match="no package to publish"):
        put("rpm", tmp_path / "r")


@both
def test_a_crash_leaves_the_old_repository(
    kind: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(kind, tmp_path / "r", of(kind, built, "1.0"))
    before = digests(tmp_path / "r")
    # What a killed run leaves is taken away by the next one.
    (tmp_path / ".r.new").mkdir()
    (tmp_path / ".r.new" / "half").write_text("")

    def full(*_: object) -> None:
        raise ResourceError("disk", "no space left", "")

    with monkeypatch.context() as patched:
        patched.setattr(f"boxsnake.publish.{kind}_repository._keep_generation", full)
        with pytest.raises(ResourceError):
            put(kind, tmp_path / "r", of(kind, built, "2.0"))
    assert digests(tmp_path / "r") == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@both
def test_a_link_to_a_repository_stays_one(kind: str, built: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("r")
    for version in ("1.0", "2.0"):
        assert put(kind, tmp_path / "link", of(kind, built, version)).folder == tmp_path / "r"
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "r").rglob(f"*.{kind}")} == {
        of(kind, built, version).name for version in ("1.0", "2.0")
    }


@both
def test_processes_that_publish_at_once_wait_for_each_other(kind: str, built: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "boxsnake", "publish", f"{kind}-repo", str(tmp_path / "r")]
    running = [subprocess.Popen([*command, str(of(kind, built, version))]) for version in ("1.0", "2.0")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert put(kind, tmp_path / "r", of(kind, built, "1.0"), of(kind, built, "2.0")).changed is False
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@both
def test_a_signed_repository_does_not_become_unsigned(kind: str, built: Path, key: Signer, tmp_path: Path) -> None:
    put(kind, tmp_path / "r", of(kind, built, "1.0"), key=key)
    with pytest.raises(PolicyError, match="is signed"):
        put(kind, tmp_path / "r", of(kind, built, "2.0"))


def test_signing_changes_no_package_but_for_its_signature(built: Path, key: Signer, tmp_path: Path) -> None:
    plain = of("rpm", built, "1.0")
    put("rpm", tmp_path / "r", plain)
    signed = put("rpm", tmp_path / "r", plain, key=key)
    assert signed.added == (plain.name,)
    there = tmp_path / "r" / plain.name
    assert there.read_bytes() != plain.read_bytes()
    assert rpm_header.digest(there) == rpm_header.digest(plain)
    assert rpm_header.read(there) == rpm_header.read(plain)


def test_a_new_key_signs_metadata_and_what_is_named(built: Path, home: Path, key: Signer, tmp_path: Path) -> None:
    one, two = (of("rpm", built, version) for version in ("1.0", "2.0"))
    put("rpm", tmp_path / "r", one, two, key=key)
    before = digests(tmp_path / "r")
    again = put("rpm", tmp_path / "r", two, key=signer("release-two@example.org", home=home))
    after = digests(tmp_path / "r")
    assert again.added == (two.name,)
    assert after[one.name] == before[one.name]
    assert after[two.name] != before[two.name]
    assert after["repodata/repomd.xml.asc"] != before["repodata/repomd.xml.asc"]


@pytest.mark.parametrize("tool", ["createrepo_c", "rpmsign", "apt-ftparchive", "gpg"])
def test_a_missing_tool_is_named_with_its_package(
    tool: str, key: Signer, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"createrepo_c": "createrepo-c", "rpmsign": "rpm", "apt-ftparchive": "apt-utils", "gpg": "gnupg"}[tool]
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else found(name))
    kind = "deb" if tool == "apt-ftparchive" else "rpm"
    with pytest.raises(ResourceError, match=f"{tool}: is not installed\nInstall it: apt-get install {package}$"):
        put(kind, tmp_path / "r", of(kind, built, "1.0"), key=key)
    assert not (tmp_path / "r").exists()


def test_keys_are_chosen_strictly(home: Path) -> None:
    with pytest.raises(ResourceError, match="no such secret key"):
        signer("nobody@example.org", home=home)
    with pytest.raises(UsageError, match="fits 2 secret keys"):
        signer("release", home=home)
    with pytest.raises(ResourceError, match="no such secret key"):
        signer("--help", home=home)


def test_an_expired_key_is_refused() -> None:
    with gpg_home() as folder:
        new_key(folder, "old", "--passphrase", "", "--faked-system-time", "20200101T000000")
        with pytest.raises(PolicyError, match="expired"):
            signer("old", home=folder)


def test_a_passphrase_comes_from_a_file(home: Path, built: Path, tmp_path: Path) -> None:
    secret = tmp_path / "it's a passphrase"
    secret.write_text("wrong")
    locked = signer("locked@example.org", home=home, passphrase_file=secret)
    with pytest.raises(ResourceError, match="could not be signed") as caught:
        put("rpm", tmp_path / "r", of("rpm", built, "1.0"), key=locked)
    assert PASSPHRASE not in str(caught.value)
    secret.write_text(PASSPHRASE)
    put("rpm", tmp_path / "r", of("rpm", built, "1.0"), key=locked)
    put("deb", tmp_path / "d", of("deb", built, "1.0"), key=locked)


@pytest.mark.parametrize("suite", ["", "Stable", "../up", "a b", "-o", "x" * 65])
def test_suites_are_plain_words(suite: str) -> None:
    with pytest.raises(UsageError, match="no name of a suite"):
        check_suite(suite)


def test_suites_lie_side_by_side(built: Path, tmp_path: Path) -> None:
    for suite, version in (("stable", "1.0"), ("testing", "2.0")):
        files = [of("deb", built, version), make("deb", tmp_path, version, "arm64")]
        publish(DebRepository(suite=suite), tmp_path / "r", files, time=EPOCH, signer=None)
    index = (tmp_path / "r/dists/stable/main/binary-arm64/Packages").read_text()
    assert "Version: 1.0-1\n" in index
    assert "2.0" not in index
    assert "amd64" not in index
    assert "Architectures: amd64 arm64\n" in (tmp_path / "r/dists/testing/Release").read_text()


def test_the_command_says_what_it_did(built: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text(f'sign-key = "release@example.org"\ngpg-home = "{home}"\n')
    monkeypatch.setenv("BOXSNAKE_CONFIG", str(settings))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    command = ["publish", "rpm-repo", str(tmp_path / "r"), str(of("rpm", built, "1.0"))]
    said = CliRunner().invoke(boxsnake, command, catch_exceptions=False).output
    assert "added      app-1.0-1.x86_64.rpm\nsigned by  " in said
    said = CliRunner().invoke(boxsnake, [*command, "--json"], catch_exceptions=False).output
    facts = json.loads(said)
    assert (facts["added"], facts["changed"], facts["kept"]) == ([], False, 1)
    assert facts["folder"] == str(tmp_path / "r")


class Host:
    """A clean host."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def sh(self, script: str) -> tuple[int | None, str]:
        done = self.container.execute(["sh", "-c", script], seconds=120)
        return done.exit_code, (done.output + done.errors).decode()


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    engine = connect()
    image = image_id(engine, Store(Store.default_root()), load_hosts()[request.param])
    with engine.container(image, sleep=sleeper(), capabilities=INSTALLING) as container:
        yield Host(container)


REPO_FILE = """\
[{name}]
name={name}
baseurl=file:///repo/{name}
enabled=1
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///repo/good/repository-key.asc
"""
DNF = "dnf --assumeyes --releasever=1 --setopt=reposdir=/repo/files --disablerepo='*' --enablerepo={} {} app"


@pytest.mark.engine
@pytest.mark.parametrize("host", ["debian-12-rpm"], indirect=True)
def test_dnf_takes_signed_packages_and_refuses_others(host: Host, built: Path, key: Signer, tmp_path: Path) -> None:
    repositories = tmp_path / "repo"
    one, two = (of("rpm", built, version) for version in ("1.0", "2.0"))
    put("rpm", repositories / "good", one, key=key)
    put("rpm", repositories / "unsigned", one)
    # The metadata is signed, the package is not.
    put("rpm", repositories / "half", one)
    index = repositories / "half/repodata/repomd.xml"
    sign_detached(key, index, index.with_name("repomd.xml.asc"), time=EPOCH)
    put("rpm", repositories / "damaged", one, key=key)
    damaged = repositories / "damaged" / one.name
    damaged.write_bytes(damaged.read_bytes()[:-20] + bytes(20))
    put("rpm", repositories / "altered", one, key=key)
    index = repositories / "altered/repodata/repomd.xml"
    index.write_text(index.read_text().replace("</repomd>", "<!-- altered --></repomd>"))
    (repositories / "files").mkdir()
    for name in ("good", "unsigned", "half", "damaged", "altered"):
        (repositories / "files" / f"{name}.repo").write_text(REPO_FILE.format(name=name))
    host.container.copy(repositories, "/repo")
    for name, told in (
        ("unsigned", "repomd.xml.asc"),
        ("half", "is not signed"),
        ("damaged", "checksum"),
        ("altered", "signature"),
    ):
        code, said = host.sh(DNF.format(name, "install"))
        assert code == 1, (name, said)
        assert told in said, (name, said)
        assert host.sh("rpm -q app")[0] == 1
    code, said = host.sh(DNF.format("good", "install"))
    assert code == 0, said
    assert host.sh("app") == (0, "app 1.0\n")
    put("rpm", repositories / "good", two, key=key)
    # As a new folder: the engine copies into the old one.
    host.sh("rm -r /repo/good")
    host.container.copy(repositories / "good", "/repo/good")
    code, said = host.sh(DNF.format("good", "--refresh upgrade"))
    assert code == 0, said
    assert host.sh("app") == (0, "app 2.0\n")
    assert "signatures OK" in host.sh(f"rpm --checksig /repo/good/{two.name}")[1]


SOURCE = "deb [signed-by=/repo/good/repository-key.asc] file:/repo/{} stable main"
APT = "echo '{}' >/etc/apt/sources.list && apt-get -q update && apt-get -q -y install app"


@pytest.mark.engine
@pytest.mark.parametrize("host", ["debian-12"], indirect=True)
def test_apt_takes_signed_packages_and_refuses_others(host: Host, built: Path, key: Signer, tmp_path: Path) -> None:
    repositories = tmp_path / "repo"
    one, two = (of("deb", built, version) for version in ("1.0", "2.0"))
    put("deb", repositories / "good", one, key=key)
    put("deb", repositories / "unsigned", one)
    put("deb", repositories / "damaged", one, key=key)
    damaged = next((repositories / "damaged").rglob("*.deb"))
    damaged.write_bytes(damaged.read_bytes()[:-20] + bytes(20))
    put("deb", repositories / "altered", one, key=key)
    for name in ("InRelease", "Release"):
        path = repositories / "altered/dists/stable" / name
        path.write_text(path.read_text().replace("Codename: stable", "Codename: altered"))
    host.container.copy(repositories, "/repo")
    for name, told in (("unsigned", "is not signed"), ("damaged", "Hash Sum mismatch"), ("altered", "not signed")):
        code, said = host.sh(APT.format(SOURCE.format(name)))
        assert code == 100, (name, said)
        assert told in said, (name, said)
        assert host.sh("test -e /usr/bin/app")[0] == 1
    code, said = host.sh(APT.format(SOURCE.format("good")))
    assert code == 0, said
    assert host.sh("app") == (0, "app 1.0\n")
    put("deb", repositories / "good", two, key=key)
    host.sh("rm -r /repo/good")
    host.container.copy(repositories / "good", "/repo/good")
    code, said = host.sh("apt-get -q update && apt-get -q -y upgrade")
    assert code == 0, said
    assert host.sh("app") == (0, "app 2.0\n")


def test_readers_find_a_whole_repository_at_any_time(built: Path, tmp_path: Path) -> None:
    """The name never leads to nothing: it is looked at all the while."""
    put("rpm", tmp_path / "r", of("rpm", built, "1.0"))
    watch = "while :; do [ -s r/repodata/repomd.xml ] || { echo gone; break; }; [ ! -e stop ] || break; done"
    with subprocess.Popen(["sh", "-c", watch], cwd=tmp_path, stdout=subprocess.PIPE) as watcher:
        put("rpm", tmp_path / "r", of("rpm", built, "2.0"))
        (tmp_path / "stop").touch()
        assert watcher.communicate()[0] == b""


def test_what_linters_are_not_to_say_is_explained() -> None:
    root = Path(__file__).parent.parent
    document = (root / "docs" / "publish.md").read_text(encoding="utf-8")
    tags = {line for line in (root / "rpm/deb/lintian.txt").read_text().splitlines() if re.match("[a-z]", line)}
    filters = tomllib.loads((root / "rpm/rpmlint.toml").read_text())["Filters"]
    words = [re.findall(r"[a-z]+(?:-[a-z]+)+", re.split(r"[/\[\\]", text)[0]) for text in filters]
    assert all(words)
    for tag in tags.union(*words):
        assert tag in document, tag
