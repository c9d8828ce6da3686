"""What is in a deb, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from boxsnake.errors import IntegrityError, PackError
from boxsnake.lock import TargetLock
from boxsnake.os_packages import deb_control
from boxsnake.packagers import packagers
from boxsnake.packagers.deb import PACKAGER, DebOptions
from boxsnake.target import Target
from tests.deb_trees import build, plan_for
from tests.rpm_trees import EPOCH, files_of, materials_for

HOSTILE = "%(touch /tmp/x) $HOME ${HOME} $$ $(id) `id` 'single' \"double\" \\n \\ %% # : é 🐍 \u00a0. {{.Name}} - ~"


def members(artifact: Path) -> dict[str, tarfile.TarInfo]:
    """The package's paths, as dpkg-deb unpacks them."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(artifact)], capture_output=True, check=True)
    listing = artifact.with_suffix(".tar")
    listing.write_bytes(done.stdout)
    with tarfile.open(listing) as archive:
        return {member.name.removeprefix("."): member for member in archive}


def field(artifact: Path, name: str) -> str:
    """A control field, as dpkg-deb reads it."""
    done = subprocess.run(["dpkg-deb", "--field", str(artifact), name], capture_output=True, text=True, check=True)
    return done.stdout.removesuffix("\n")


def test_it_is_found_as_a_format() -> None:
    assert packagers()["deb"] is PACKAGER


@pytest.mark.parametrize(
    ("version", "options", "name"),
    [
        ("1.0.0", {}, "app_1.0.0-1_amd64.deb"),
        ("1.0rc1", {"release": "3+deb12u1"}, "app_1.0.0~rc1-3+deb12u1_amd64.deb"),
        ("2!1.0", {}, "app_1.0.0-1_amd64.deb"),
    ],
)
def test_its_name_is_debians_own(version: str, options: dict[str, str], name: str) -> None:
    assert PACKAGER.file_name(plan_for(version, options=options)) == name


def test_every_path_of_the_tree_is_the_packages(tmp_path: Path) -> None:
    artifact = build(plan_for(), tmp_path)
    found = members(artifact)
    sums = {line.partition("  ")[2] for line in deb_control.read(artifact).files["md5sums"].splitlines()}
    for path, (_, content) in files_of("1.0.0").items():
        placed = f"/opt/app/1.0.0-1/{path}"
        if isinstance(content, str) and content.startswith("->"):
            assert found[placed].linkname == content[2:]
        else:
            assert found[placed].isreg()
            assert found[placed].mode == (0o755 if str(content).startswith("#!") else 0o644)
            assert placed[1:] in sums
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, EPOCH)}
    assert "/opt/app/current" not in found


def test_commands_lead_through_the_current_version(tmp_path: Path) -> None:
    found = members(build(plan_for(), tmp_path))
    assert found["/usr/bin/app"].linkname == "../../opt/app/current/bin/app"
    assert found["/usr/bin/app-admin"].linkname == "../../opt/app/current/bin/app-admin"
    assert found["/opt/app/bin/app-ctl"].linkname == "../install/ctl"


def test_commands_and_the_folder_can_be_chosen(tmp_path: Path) -> None:
    found = members(build(plan_for(options={"commands": ("app",), "prefix-root": "/srv/apps"}), tmp_path))
    assert found["/usr/bin/app"].linkname == "../../srv/apps/app/current/bin/app"
    assert "/usr/bin/app-admin" not in found


def test_texts_reach_the_control_file_letter_by_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/expanded")
    plan = plan_for(
        summary=HOSTILE,
        description=f"{HOSTILE}\n\nDepends: evil\n.\n\ttab: value\n   {HOSTILE}",
        license=HOSTILE,
        homepage=f"https://example.org/?{HOSTILE}",
        maintainer=HOSTILE,
    )
    artifact = build(plan, tmp_path)
    line = " ".join(HOSTILE.split())
    assert field(artifact, "Description") == f"{line}\n {HOSTILE}\n .\n Depends: evil\n .\n tab: value\n {HOSTILE}"
    assert field(artifact, "Maintainer") == HOSTILE
    assert field(artifact, "Homepage") == f"https://example.org/?{HOSTILE}"
    assert field(artifact, "Depends") == ""
    done = subprocess.run(["dpkg-deb", "-x", str(artifact), str(tmp_path / "x")], check=False)
    assert done.returncode == 0
    assert f"License: {HOSTILE}\n" in (tmp_path / "x/usr/share/doc/app/copyright").read_text()


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x07", "\u2028", "\u202e", "\x85", "\x0b", "\r", "\ud800"])
@pytest.mark.parametrize("name", ["summary", "description", "license", "homepage", "maintainer"])
def test_control_characters_are_refused(name: str, character: str) -> None:
    described: dict[str, Any] = {name: f"before{character}after"}
    with pytest.raises(PackError) as caught:
        PACKAGER.check(plan_for(**described))
    assert character not in str(caught.value)


@pytest.mark.parametrize("name", ["license", "homepage", "maintainer"])
def test_lines_are_lines(name: str) -> None:
    described: dict[str, Any] = {name: "one\nDepends: evil"}
    with pytest.raises(PackError, match="more than one line"):
        PACKAGER.check(plan_for(**described))


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    artifact = build(plan_for(summary="one\nDepends: evil\n  two"), tmp_path)
    own = "app 1.0.0 with its own Python and all that it requires."
    assert field(artifact, "Description") == f"one Depends: evil two\n {own}"
    assert field(artifact, "Maintainer") == "The maintainers of app <nobody@example.org>"
    assert (field(artifact, "Section"), field(artifact, "Priority")) == ("misc", "optional")


@pytest.mark.parametrize(
    ("requirement", "written"),
    [
        ("libcrypt1", "libcrypt1"),
        ("  libcrypt1  ", "libcrypt1"),
        ("libssl3 (>= 3.0.11-1~deb12u2)", "libssl3 (>= 3.0.11-1~deb12u2)"),
        ("a1 (<< 1:2)", "a1 (<< 1:2)"),
        ("nginx (>= 1.2)  |  apache2", "nginx (>= 1.2) | apache2"),
        ("python3:any", "python3:any"),
    ],
)
def test_requirements_reach_the_package(tmp_path: Path, requirement: str, written: str) -> None:
    artifact = build(plan_for(requires=(requirement,)), tmp_path)
    assert field(artifact, "Pre-Depends") == f"libc6 (>= 2.28), {written}"


@pytest.mark.parametrize(
    "requirement",
    ["", "a b", "aa (>= )", "aa >= 1", "$HOME", "aa, bb", "aa\nDepends: bb", "aa (= 1) bb", "(aa", "-rf", "aa;b", "AA"],
)
def test_what_is_no_requirement_is_refused(requirement: str) -> None:
    with pytest.raises(PackError, match="requirement"):
        PACKAGER.check(plan_for(requires=(requirement,)))


@pytest.mark.parametrize("command", ["../evil", "a/b", "-rf", "a b", "", "$(id)", "a\nb", ".hidden"])
def test_commands_are_plain_names(command: str) -> None:
    with pytest.raises(PackError, match="/usr/bin"):
        PACKAGER.check(plan_for(options={"commands": (command,)}))


def test_names_are_those_that_debian_allows(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="Debian packages"):
        PACKAGER.check(plan_for(name="a"))
    artifact = build(plan_for(name="my_app"), tmp_path)
    assert artifact.name.startswith("my-app_1.0.0-1_")
    assert field(artifact, "Package") == "my-app"


def test_it_needs_an_interpreter_of_its_own() -> None:
    lock = TargetLock(target=Target(name="host", interpreter="host"), python="3.11", conda=(), wheels=())
    with pytest.raises(PackError, match="its own interpreter"):
        PACKAGER.check(dataclasses.replace(plan_for(), lock=lock))


@pytest.mark.parametrize(
    "options",
    [
        {"prefix-root": "/opt/$HOME"},
        {"release": "1-2"},
        {"release": "1_2"},
        {"release": ""},
        {"compression": "zstd:fastest"},
        {"section": "a b"},
        {"keep": -1},
        {"paylod": "files"},
    ],
)
def test_options_are_strict(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        DebOptions.decoded(options)


def test_lintian_finds_nothing_in_what_is_not_the_applications_own(tmp_path: Path) -> None:
    """Its own files are odd here; those of a real one are looked at in thorough runs (tests/test_examples.py)."""
    explained = Path(__file__).parent.parent / "rpm" / "deb" / "lintian.txt"
    command = ["lintian", "--allow-root", "--no-cfg", "--suppress-tags-from-file", str(explained)]
    package = build(plan_for(summary="Application that is tried"), tmp_path)
    done = subprocess.run([*command, str(package)], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 2}, done.stderr
    found = [line for line in done.stdout.splitlines() if line[:2] in {"E:", "W:"}]
    assert any("[opt/app/1.0.0-1/" in line for line in found)
    assert [line for line in found if "[opt/app/1.0.0-1/" not in line] == []


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = build(plan_for(), tmp_path / "one").read_bytes()
    before = os.umask(0o077)
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
        time.tzset()
        other = build(plan_for(), tmp_path / "another folder, of another length").read_bytes()
    finally:
        os.umask(before)
        monkeypatch.undo()
        time.tzset()
    assert one == other
    assert str(tmp_path).encode() not in one


@pytest.mark.parametrize(("compression", "member"), [("zstd:19", "zst"), ("gzip:1", "gz"), ("xz", "xz")])
def test_compressions(tmp_path: Path, compression: str, member: str) -> None:
    artifact = build(plan_for(options={"compression": compression}), tmp_path)
    assert deb_control.read(artifact).members == ("debian-binary", "control.tar.gz", f"data.tar.{member}")
    assert "/usr/bin/app" in members(artifact)


def test_an_epoch_is_debians_own(tmp_path: Path) -> None:
    artifact = build(plan_for("2!1.0"), tmp_path)
    assert field(artifact, "Version") == "2:1.0.0-1"
    assert "/opt/app/2_1.0.0-1/bin/app" in members(artifact)


def test_a_control_file_that_is_not_what_was_meant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxsnake.os_packages.nfpm._literal", lambda text: text)
    with pytest.raises(PackError, match="nfpm wrote"):
        build(plan_for(description="costs $5"), tmp_path)


def test_inputs_change_with_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = PACKAGER.inputs(plan_for(), materials_for(plan_for(), tmp_path))
    (tmp_path / "preinst.sh").write_text("# another\n")
    monkeypatch.setattr("boxsnake.resources.folder", lambda _name: tmp_path)
    assert PACKAGER.inputs(plan_for(), materials_for(plan_for(), tmp_path))["scripts"] != before["scripts"]


@pytest.mark.parametrize("size", [0, 7, 30, 68, 100, 4000, -2])
def test_a_truncated_deb_is_none(tmp_path: Path, size: int) -> None:
    whole = build(plan_for(), tmp_path).read_bytes()
    part = tmp_path / "part.deb"
    part.write_bytes(whole[: size if size >= 0 else len(whole) + size])
    with pytest.raises(IntegrityError, match="no whole Debian package"):
        deb_control.read(part)


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_every_script_is_sound_shell(tmp_path: Path, script: str) -> None:
    text = deb_control.read(build(plan_for(), tmp_path)).files[script]
    assert subprocess.run(["sh", "-n"], input=text, text=True).returncode == 0


def test_how_it_is_booted() -> None:
    plan = plan_for(command=("app", "--port", "80"), environment=(("A", "b"),))
    recipe = PACKAGER.boot(plan, Path("/dist/app_1.0.0-1_amd64.deb"))
    assert recipe.host.startswith("debian-")
    assert recipe.command == ("/opt/app/current/bin/app", "--port", "80")
    assert recipe.install[0] == ("dpkg", "--install", "/tmp/app_1.0.0-1_amd64.deb")
    assert recipe.remove == (("dpkg", "--purge", "app"),)
    assert recipe.expects.conda == (("libx", "1.0", "0"), ("python", "1.0", "0"), ("zlib", "1.0", "0"))


def test_an_underscore_is_none_in_the_packages_name() -> None:
    plan = plan_for(name="my_app")
    recipe = PACKAGER.boot(plan, Path(PACKAGER.file_name(plan)))
    assert recipe.remove == (("dpkg", "--purge", "my-app"),)
    assert recipe.scripts == "/opt/my-app/current/bin"
    assert "/usr/share/doc/my-app" in recipe.writes
