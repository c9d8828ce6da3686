"""The installer, run as a user would run it: by each shell, wherever it may, into folders of a test's own."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from boxsnake.packagers.installer import PACKAGER
from boxsnake.plan import Hook

from .rpm_trees import PLACEHOLDER, build, plan_for

SHELLS = (("dash",), ("bash",), ("busybox", "sh"))
MOMENTS = ("pre-install", "post-install", "pre-remove", "post-remove")
# Each hook writes down what it is told, and fails or kills its whole process group where the test has asked for it.
HOOK = """\
echo "{moment} $BOXSNAKE_ACTION $BOXSNAKE_VERSION over ${{BOXSNAKE_OLD_VERSION:-none}}" >>"$HOME/hooks"
[ ! -e "$HOME/fail-{moment}" ] || {{ echo "the reason"; exit 9; }}
[ ! -e "$HOME/kill-{moment}" ] || kill -9 0
"""
NOBODY = 65534


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def installers(folder: Path) -> Mapping[str, Path]:
    """Three versions."""
    hooks = tuple(
        Hook(moment=moment, file_name=f"{moment}.sh", content=HOOK.format(moment=moment).encode()) for moment in MOMENTS
    )
    return {version: made(folder / "made", version, hooks) for version in ("1.0", "2.0", "3.0")}


def made(folder: Path, version: str, hooks: tuple[Hook, ...] = ()) -> Path:
    plan = dataclasses.replace(plan_for(version, hooks=hooks), options=PACKAGER.options())
    return build(plan, folder, PACKAGER)


@dataclasses.dataclass
class Machine:
    """A home with a space in its path, and a prefix in it."""

    home: Path
    installers: Mapping[str, Path]
    shell: tuple[str, ...] = ("dash",)
    programs: str = f"{os.defpath}:/usr/sbin:/sbin"

    @property
    def prefix(self) -> Path:
        return self.home / "my apps"

    @property
    def root(self) -> Path:
        return self.prefix / "lib" / "app"

    def run(self, file: Path | str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
        search = os.pathsep.join(filter(None, (path, self.programs)))
        environment = {"HOME": str(self.home), "PATH": search, "LC_ALL": "C.UTF-8"}
        command = [*self.shell, str(file), *arguments]
        return subprocess.run(
            command, env=environment, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120, start_new_session=True,
        )  # fmt: skip

    def install(self, version: str, **options: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.installers[version], "--yes", "--prefix", str(self.prefix), **options)

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.prefix / "bin" / "app-ctl", *arguments)

    def says(self) -> str:
        return subprocess.run([self.prefix / "bin" / "app"], capture_output=True, text=True, check=True).stdout

    def works(self, version: str) -> None:
        """The version is the one in use, knows where it lies, and is whole."""
        assert self.says() == f"app {version}\n"
        prefix = (self.root / "current").resolve()
        assert (prefix / "etc" / "where.conf").read_text() == f"{prefix}/share\n"
        checked = self.ctl("selfcheck")
        assert (checked.returncode, checked.stdout) == (0, f"app {prefix.name} is whole and works\n")

    def is_clean(self) -> None:
        """Nothing of it is left."""
        assert [path for path in self.prefix.rglob("*") if path.name not in ("lib", "bin")] == []

    def hooks(self) -> list[str]:
        text = (self.home / "hooks").read_text()
        (self.home / "hooks").unlink()
        return text.splitlines()


@pytest.fixture
def machine(tmp_path: Path, installers: Mapping[str, Path]) -> Machine:
    home = tmp_path / "a user"
    home.mkdir()
    return Machine(home, installers)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
def test_a_whole_life_under_each_shell(machine: Machine, shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    machine.shell = shell
    for version in ("1.0", "2.0", "3.0"):
        done = machine.install(version)
        assert (done.returncode, done.stderr) == (0, "")
        machine.works(version)
    assert machine.hooks()[-2:] == ["pre-install upgrade 3.0 over 2.0", "post-install upgrade 3.0 over 2.0"]
    versions = machine.ctl("versions").stdout.splitlines()
    assert [line.partition("-")[0] for line in versions] == ["2.0.0", "3.0.0"]
    assert "instead of 3.0.0-" in machine.ctl("rollback").stdout
    machine.works("2.0")
    assert machine.install("1.0").returncode == 0
    machine.works("1.0")
    assert machine.hooks()[-1] == "post-install downgrade 1.0 over 2.0"
    kept = machine.root / "current" / "notes.txt"
    kept.write_text("the user's own")
    done = machine.ctl("uninstall")
    assert (done.returncode, done.stdout) == (
        0,
        f"app is removed; what was not installed with it stays in {machine.root}\n",
    )
    assert [path.name for path in machine.root.rglob("*") if path.is_file()] == ["notes.txt"]
    assert machine.hooks() == ["pre-remove remove 1.0 over 1.0", "post-remove remove 1.0 over 1.0"]


@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox")
def test_busybox_is_enough(machine: Machine, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    subprocess.run(["busybox", "--install", "-s", str(programs)], check=True)
    (programs / "flock").unlink(missing_ok=True)
    machine.shell, machine.programs = (str(programs / "sh"),), str(programs)
    for version in ("1.0", "2.0", "2.0"):
        done = machine.install(version)
        assert (done.returncode, done.stderr) == (0, "")
        machine.works(version)
    lock = machine.root / ".lock"
    lock.mkdir()
    (lock / "process").write_text(f"{os.getpid()}\n")
    assert "another installation or removal" in machine.install("3.0").stderr
    (lock / "process").write_text("999999999\n")  # one that is gone
    assert machine.install("3.0").returncode == 0
    assert machine.ctl("rollback").returncode == 0
    machine.works("2.0")
    assert machine.ctl("uninstall").stdout == "app is removed\n"
    machine.is_clean()


def test_once_more_is_nothing_and_repairs_what_is_not_whole(machine: Machine) -> None:
    machine.install("1.0")
    machine.hooks()
    done = machine.install("1.0")
    assert done.stdout == f"app 1.0 is installed in {machine.prefix} already, and whole\n"
    assert not (machine.home / "hooks").exists()
    current = machine.root / "current"
    (current / "etc" / "where.conf").write_text("other")
    (current / "lib" / "libx.so.1").unlink()
    (current / "bin" / "python3").unlink()
    (machine.prefix / "bin" / "app").unlink()
    assert machine.ctl("selfcheck").returncode == 1
    assert machine.install("1.0").returncode == 0
    machine.works("1.0")


def mangled(content: bytes) -> dict[str, tuple[bytes, str]]:
    head = content.index(b"exit 0\n")
    return {
        "truncated": (content[:-1], "is truncated"),
        "truncated in the script": (content[: head // 2], "is truncated"),
        "appended to": (content + b"\n", "has 1 bytes too many"),
        "line ends": (content.replace(b"\n", b"\r\n"), "line ends were changed"),
        "a bit of the payload": (content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "is damaged"),
        "a bit of the script": (content.replace(b"keep=1", b"keep=9"), "is damaged"),
    }


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
def test_a_file_that_is_not_whole_is_refused_before_anything_is_written(
    machine: Machine, tmp_path: Path, shell: tuple[str, ...]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    machine.shell = shell
    file = tmp_path / "app.sh"
    for content, said in mangled(machine.installers["1.0"].read_bytes()).values():
        file.write_bytes(content)
        done = machine.run(file, "--yes", "--prefix", str(machine.prefix))
        assert (done.returncode, done.stdout) == (4, ""), said
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert list(machine.home.iterdir()) == []


def test_it_tells_what_it_is(machine: Machine) -> None:
    file = machine.installers["1.0"]
    told = machine.run(file, "--info").stdout
    assert "app 1.0" in told
    assert f"{len(PLACEHOLDER)} bytes" in told
    assert "--extract-only DIR" in machine.run(file, "--help").stdout
    assert machine.run(file, "--verify").stdout == f"{file.name} is whole\n"
    assert list(machine.home.iterdir()) == []


def test_what_cannot_be_is_refused_before_anything_is_written(machine: Machine, tmp_path: Path) -> None:
    file, foreign = machine.installers["1.0"], tmp_path / "foreign"
    (foreign / "bin").mkdir(parents=True)
    (foreign / "bin" / "app").write_text("another's")
    other = tmp_path / "other"
    (other / "lib" / "app" / "of-another").mkdir(parents=True)
    cases = {
        ("--prefix", str(machine.prefix)): (2, "say --yes"),
        ("--yes", "--wrong"): (2, "--wrong is not known"),
        ("--yes", "--prefix"): (2, "--prefix needs a folder"),
        ("--yes", "--prefix", f"{machine.home}/a/../b"): (2, "is not there"),
        ("--yes", "--prefix", f"{machine.home}/a$b"): (3, "holds a character"),
        ("--yes", "--prefix", f"{machine.home}/{'x' * len(PLACEHOLDER)}"): (3, f"room for {len(PLACEHOLDER)}"),
        ("--yes", "--prefix", "/dev/null/x"): (3, "cannot be"),
        ("--yes", "--prefix", str(foreign)): (3, "app is there already, and is not of app"),
        ("--yes", "--prefix", str(other)): (3, "is no installation of app"),
        ("--extract-only", str(foreign)): (3, "not empty"),
    }
    for arguments, (status, said) in cases.items():
        done = machine.run(file, *arguments)
        assert (done.returncode, done.stdout) == (status, ""), arguments
        assert said in done.stderr
    assert list(machine.home.iterdir()) == []
    assert sorted(path.name for path in foreign.rglob("*")) == ["app", "bin"]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_who_is_interrupted_leaves_what_was(machine: Machine, tmp_path: Path, version: str) -> None:
    if version == "2.0":
        machine.install("1.0")
    shim = tmp_path / "shim"
    shim.mkdir()
    # Whoever stops it stops all that it runs.
    (shim / "tar").write_text('#!/bin/sh\nhead -c 20000 | /bin/tar "$@"\nkill -TERM 0\nsleep 60\n')
    (shim / "tar").chmod(0o755)
    assert machine.install(version, path=str(shim)).returncode == 143
    if version == "2.0":
        machine.works("1.0")
    else:
        machine.is_clean()


def test_two_at_once_do_not_meet(machine: Machine) -> None:
    machine.install("1.0")
    held = os.open(machine.root, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        for done in (machine.install("2.0"), machine.ctl("uninstall")):
            assert done.returncode != 0
            assert "another installation or removal" in done.stderr
    finally:
        os.close(held)
    machine.works("1.0")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_failing_hook_leaves_what_was(machine: Machine, version: str) -> None:
    if version == "2.0":
        machine.install("1.0")
    (machine.home / "fail-post-install").touch()
    done = machine.install(version)
    assert done.returncode == 1
    assert "the post-install hook (post-install.sh) failed with exit status 9" in done.stderr
    (machine.home / "fail-post-install").unlink()
    if version == "2.0":
        assert machine.says() == "app 1.0\n"
        assert machine.ctl("selfcheck").returncode == 1
    else:
        machine.is_clean()
    assert machine.install(version).returncode == 0
    machine.works(version)


@pytest.mark.parametrize("moment", ["pre-install", "unpacking", "post-install"])
def test_the_next_run_works_after_one_that_was_killed(machine: Machine, tmp_path: Path, moment: str) -> None:
    machine.install("1.0")
    shim = tmp_path / "shim"
    shim.mkdir()
    if moment == "unpacking":
        (shim / "tar").write_text('#!/bin/sh\nhead -c 20000 | /bin/tar "$@"\nkill -9 0\n')
        (shim / "tar").chmod(0o755)
    (machine.home / f"kill-{moment}").touch()
    assert machine.install("2.0", path=str(shim)).returncode == -9
    (machine.home / f"kill-{moment}").unlink()
    assert machine.says() == ("app 2.0\n" if moment == "post-install" else "app 1.0\n")
    assert machine.install("2.0").returncode == 0
    machine.works("2.0")
    machine.ctl("uninstall")
    machine.is_clean()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_any_user_installs_into_a_home(installers: Mapping[str, Path], folder: Path) -> None:
    home = folder / "no body"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    user = Machine(home, installers, ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "sh"))
    refused = user.run(installers["1.0"], "--yes", "--prefix", str(folder / "of-root"))
    assert (refused.returncode, refused.stderr.endswith("cannot be written\n")) == (3, True)
    done = user.run(installers["1.0"], "--yes", "--user")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("bin is not in PATH\n")
    receipt = json.loads((home / ".local/lib/app/install/receipt.json").read_text())
    assert (receipt["version"], receipt["commands"]) == ("1.0", ["app", "app-admin"])
    assert receipt["prefix"] == str(home / ".local")
    assert user.run(home / ".local/bin/app-ctl", "uninstall").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
@pytest.mark.parametrize(
    ("options", "said"),
    [("size=64k", "KiB free"), ("noexec", "is it mounted noexec?"), ("ro", "cannot be written")],
)
def test_a_file_system_that_cannot_take_it(machine: Machine, options: str, said: str) -> None:
    mount = f'mount -t tmpfs -o {options} none "$HOME" && exec sh "$@"'
    machine.shell = ("unshare", "--mount", "sh", "-c", mount, "sh")
    done = machine.install("1.0")
    assert (done.returncode, done.stdout) == (3, "")
    assert said in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_nothing_is_run_from_the_temporary_folder(machine: Machine, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    mount = f'mount -t tmpfs -o noexec none "{temporary}" && TMPDIR="{temporary}" exec sh "$@"'
    machine.shell = ("unshare", "--mount", "sh", "-c", mount, "sh")
    assert machine.install("1.0").returncode == 0
    machine.works("1.0")


def test_the_environment_alone(machine: Machine) -> None:
    place = machine.home / "only this"
    done = machine.run(machine.installers["1.0"], "--extract-only", str(place))
    assert (done.returncode, done.stdout) == (0, f"app 1.0 lies in {place}\n")
    assert (place / "etc" / "where.conf").read_text() == f"{place}/share\n"
    assert [path.name for path in machine.home.iterdir()] == [place.name]


def test_same_inputs_same_bytes(tmp_path: Path, folder: Path) -> None:
    assert made(tmp_path / "other", "1.0").read_bytes() == made(folder / "plain", "1.0").read_bytes()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_finds_nothing(installers: Mapping[str, Path]) -> None:
    content = installers["1.0"].read_bytes()
    script = content[: content.index(b"exit 0\n\x1f\x8b") + 7]
    # Not all of what the scripts share is used by each; values stand in the other half of a command line.
    command = ["shellcheck", "--shell", "sh", "--exclude", "SC2034,SC2317", "-"]
    done = subprocess.run(command, input=script, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
