"""Userspace images, run on this machine: mounted, extracted, killed, damaged, twice at once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_examples import Application, copy_of
from tests.thorough import thorough

pytestmark = [pytest.mark.channel, pytest.mark.index, pytest.mark.long]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
MODES = ["extract", pytest.param("loop", marks=AS_ROOT), pytest.param("fuse", marks=AS_ROOT)]
REFUSED = 125
SECONDS = 60.0

FACTS = """
import importlib.metadata, json, os, ssl, subprocess, sys, sysconfig
flask = subprocess.run(["flask", "--version"], capture_output=True, text=True, check=True).stdout
openssl = subprocess.run(["openssl", "version", "-d"], capture_output=True, text=True, check=True).stdout
print(json.dumps({
    "prefix": sys.prefix,
    "cafile": ssl.get_default_verify_paths().openssl_cafile,
    "authorities": len(ssl.create_default_context().get_ca_certs()),
    "sysconfig": sysconfig.get_config_var("prefix"),
    "flask": flask,
    "openssl": openssl,
    "scripts": sorted(entry.name for entry in importlib.metadata.entry_points(group="console_scripts")),
    "arguments": sys.argv[1:],
    "words": os.environ["WORDS"],
    "image": os.environ["APPIMAGE"],
}))
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    made = copy_of("hello-web", tmp_path_factory.mktemp("appimage") / "hello-web")
    made.ask("lock")
    made.ask("build", "appimage")
    return made


@pytest.fixture(scope="module")
def image(application: Application) -> Path:
    (path,) = (application.folder / "dist").glob("*.AppImage")
    return path


@dataclass(frozen=True)
class Home:
    """A home with a space in its path, and the image that is run in it."""

    folder: Path
    image: Path

    def variables(self, environment: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
        hostile = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "LANG": "C"}
        return kept | hostile | {"HOME": str(self.folder), "WORDS": "a b"} | environment

    def run(
        self, *arguments: str, before: Sequence[str] = (), cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, str(self.image), *arguments],
            env=self.variables(environment),
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.image), *arguments],
            env=self.variables(environment),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def state(self) -> Path:
        (found,) = (self.folder / ".cache" / "boxsnake").iterdir()
        return found


@pytest.fixture
def home(tmp_path: Path, image: Path) -> Iterator[Home]:
    folder = tmp_path / "a home"
    folder.mkdir()
    yield Home(folder, image)
    await_unmounted(folder)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Home:
    """A home in which the image was extracted already."""
    folder = tmp_path_factory.mktemp("warm") / "a home"
    folder.mkdir()
    home = Home(folder, image)
    assert home.run("--version", BOXSNAKE_MOUNT="extract").returncode == 0
    return home


def mounts(folder: Path) -> list[str]:
    wanted = str(folder).replace(" ", "\\040")
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if wanted in line]


def await_unmounted(folder: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while mounts(folder):
        assert time.monotonic() < deadline, mounts(folder)
        time.sleep(0.1)


@pytest.mark.parametrize("mode", MODES)
def test_what_depends_on_the_prefix_is_right_in_every_mode(home: Home, mode: str) -> None:
    for _ in range(2):
        done = home.run("-c", FACTS, "1 2", "", BOXSNAKE_RUN="python", BOXSNAKE_MOUNT=mode)
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert Path(facts["prefix"]).is_relative_to(home.state)
        assert facts["cafile"].startswith(f"{facts['prefix']}/")
        assert facts["authorities"] > 0
        assert facts["sysconfig"] == facts["prefix"]
        assert "Flask 3" in facts["flask"]
        assert facts["prefix"] in facts["openssl"]
        assert {"hello-web", "flask", "gunicorn"} <= set(facts["scripts"])
        assert (facts["arguments"], facts["words"], facts["image"]) == (["1 2", ""], "a b", str(home.image))
    failing = home.run("-c", "raise SystemExit(7)", BOXSNAKE_RUN="python", BOXSNAKE_MOUNT=mode)
    assert failing.returncode == 7
    assert "hello-web 1.0.0" in home.run("--version", BOXSNAKE_MOUNT=mode).stdout


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_application_and_no_mount_outlives_it(warm: Home, mode: str, number: int) -> None:
    sleeping = "import time; print('up', flush=True); time.sleep(600)"
    started = warm.start("-c", sleeping, BOXSNAKE_RUN="python", BOXSNAKE_MOUNT=mode)
    assert started.stdout is not None
    assert started.stdout.readline() == "up\n"
    os.kill(started.pid, number)
    started.communicate(timeout=SECONDS)
    assert started.returncode == -number
    await_unmounted(warm.folder)


@AS_ROOT
def test_one_run_does_not_unmount_what_another_uses(home: Home) -> None:
    waiting = "import sys; print('up', flush=True); sys.stdin.read(); import flask; print('done')"
    command = [str(home.image), "-c", waiting]
    environment = home.variables({"BOXSNAKE_RUN": "python", "BOXSNAKE_MOUNT": "fuse"})
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stdout.readline() == "up\n"
        assert home.run("--version", BOXSNAKE_MOUNT="fuse").returncode == 0
        time.sleep(0.5)  # the other's end is noticed meanwhile
        started.stdin.close()
        assert started.stdout.readline() == "done\n"
    assert started.returncode == 0


def test_two_first_runs_at_once(home: Home) -> None:
    both = [home.start("--version", BOXSNAKE_MOUNT="extract") for _ in range(2)]
    ended = [started.communicate(timeout=SECONDS) for started in both]
    assert [started.returncode for started in both] == [0, 0], ended
    assert not [path.name for path in home.state.iterdir() if path.name not in {"extracted", "lock", "runs"}]


def test_a_first_run_that_is_killed_harms_none_after_it(home: Home) -> None:
    started = home.start("--version", BOXSNAKE_MOUNT="extract")
    deadline = time.monotonic() + SECONDS
    while not list(home.folder.glob(".cache/boxsnake/*/extracted*/tree/bin")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate(timeout=SECONDS)
    assert home.run("--version", BOXSNAKE_MOUNT="extract").stdout == "hello-web 1.0.0\n"
    assert not list(home.state.glob("extracted.*"))


def test_a_home_that_was_moved_is_made_ready_anew(warm: Home, tmp_path: Path, image: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(warm.folder, folder, symlinks=True)
    done = Home(folder, image).run(
        "-c", "import sys; print(sys.prefix)", BOXSNAKE_RUN="python", BOXSNAKE_MOUNT="extract"
    )
    assert done.stdout.startswith(str(folder))
    assert "hello-web 1.0.0" in Home(folder, image).run("--version").stdout


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "seed"])
def test_a_damaged_file_is_refused_before_anything_of_it_is_run(tmp_path: Path, image: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    data = bytearray(image.read_bytes())
    if damage == "flipped":
        data[-100_000] ^= 1
    elif damage == "seed":
        data[1_000_000] ^= 1
    copy.write_bytes(data[:-1] if damage == "cut" else data + b"\n" if damage == "longer" else data)
    copy.chmod(0o755)
    home = Home(tmp_path, copy)
    done = home.run("--version", BOXSNAKE_MOUNT="extract")
    assert done.returncode == REFUSED, done.stderr
    assert "Copy it again" in done.stderr or "damaged" in done.stderr
    assert not list(tmp_path.glob(".cache/boxsnake/*/extracted"))


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]])
def test_any_shell_reads_it(warm: Home, shell: list[str]) -> None:
    assert warm.run("--version", before=shell).stdout == "hello-web 1.0.0\n"
    beside = subprocess.run(
        [*shell, warm.image.name, "--appimage-version"], cwd=warm.image.parent, capture_output=True, text=True
    )
    assert beside.stdout == "hello-web 1.0.0\n"


def test_what_is_run_can_be_chosen(warm: Home, tmp_path: Path) -> None:
    link = tmp_path / "linked"
    link.symlink_to(warm.image)
    linked = Home(warm.folder, link)
    assert linked.run("-c", "print(6 * 7)", BOXSNAKE_RUN="python").stdout == "42\n"
    assert "Flask" in linked.run("--version", BOXSNAKE_RUN="flask.cli:main").stdout
    refused = linked.run(BOXSNAKE_RUN="no-such-program")
    assert (refused.returncode, "no-such-program" in refused.stderr) == (REFUSED, True)
    assert linked.run(BOXSNAKE_MOUNT="floppy").returncode == 2
    colon = linked.run(BOXSNAKE_CACHE=f"{tmp_path}/a:b")
    assert (colon.returncode, "BOXSNAKE_CACHE" in colon.stderr) == (REFUSED, True)


def test_options_that_appimage_users_know(warm: Home) -> None:
    offset = int(warm.run("--appimage-offset").stdout)
    with warm.image.open("rb") as file:
        file.seek(offset)
        assert file.read(4) == b"hsqs"
    assert offset % 4096 == 0
    usage = warm.run("--appimage-help").stdout
    assert {"--appimage-extract", "--appimage-mount", "BOXSNAKE_MOUNT"} <= set(usage.replace("=", " ").split())
    assert warm.run("--appimage-updateinformation").returncode == 2
    assert warm.run("--appimage-extract-and-run", "--version").stdout == "hello-web 1.0.0\n"
    checked = warm.run("--appimage-selfcheck")
    assert checked.returncode == 0, checked.stderr
    assert "10 distributions, as they should be" in checked.stdout


def test_the_selfcheck_names_what_was_removed(warm: Home, tmp_path: Path) -> None:
    (found,) = warm.state.glob("extracted/tree/lib/python3*/site-packages/flask-*.dist-info")
    away = shutil.move(found, tmp_path)
    try:
        checked = warm.run("--appimage-selfcheck", BOXSNAKE_MOUNT="extract")
    finally:
        shutil.move(away, found)
    assert checked.returncode == 1
    assert "flask" in checked.stdout


def test_what_is_extracted_is_what_unsquashfs_reads(home: Home, tmp_path: Path) -> None:
    done = home.run("--appimage-extract")
    assert (done.returncode, done.stdout) == (0, "squashfs-root\n"), done.stderr
    ours = home.folder / "squashfs-root"
    assert [path.name for path in home.folder.iterdir() if path.name != "squashfs-root"] == []
    started = subprocess.run([ours / "AppRun", "--version"], capture_output=True, text=True)
    assert started.stdout == "hello-web 1.0.0\n", started.stderr
    theirs = tmp_path / "theirs"
    offset = home.run("--appimage-offset").stdout.strip()
    subprocess.run(["unsquashfs", "-q", "-n", "-o", offset, "-d", theirs, home.image], check=True, capture_output=True)
    placed = {
        f"tree/{patch['path']}" for patch in json.loads((theirs / ".boxsnake/patches.json").read_text())["patches"]
    }
    assert placed
    meant, found = listed(theirs), listed(ours)
    left = {path for path in meant if not path.startswith(".boxsnake/unplaced")}
    assert left ^ set(found) == {".boxsnake/prefix"}
    assert {path for path in left - placed if meant[path] != found[path]} == set()
    assert all((theirs / path).is_symlink() and not (ours / path).is_symlink() for path in placed)
    assert home.run("--appimage-extract").returncode == REFUSED, "it is there already"
    moved = ours.rename(home.folder / "moved")
    refused = subprocess.run([moved / "AppRun"], capture_output=True, text=True)
    assert (refused.returncode, "Extract it again" in refused.stderr) == (REFUSED, True)


def listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path with its permissions and what it holds."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            held = str(path.readlink())
        else:
            held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[path.relative_to(folder).as_posix()] = (path.lstat().st_mode & 0o777 if path.is_file() else 0, held)
    return found


@AS_ROOT
def test_it_is_mounted_for_others_until_it_is_interrupted(home: Home, tmp_path: Path) -> None:
    mounting = home.start("--appimage-mount", TMPDIR=str(tmp_path))
    assert mounting.stdout is not None
    point = Path(mounting.stdout.readline().rstrip("\n"))
    started = subprocess.run([point / "AppRun", "--version"], capture_output=True, text=True)
    assert started.stdout == "hello-web 1.0.0\n", started.stderr
    mounting.terminate()
    mounting.communicate(timeout=SECONDS)
    assert mounting.returncode == 0
    assert not mounts(tmp_path)
    assert not list(tmp_path.glob(".mount_*"))


def test_the_same_inputs_give_the_same_bytes(application: Application, image: Path, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        application.ask("build", "appimage", "--output", str(tmp_path), environment={"TZ": "Asia/Tokyo"})
    finally:
        os.umask(mask)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / image.name, image)}
    assert len(digests) == 1


def test_without_mksquashfs_the_package_is_named(application: Application, tmp_path: Path) -> None:
    done = application.run("build", "appimage", "--output", str(tmp_path), environment={"PATH": "/nowhere"})
    assert done.returncode == 8
    assert "squashfs-tools" in done.stderr


def test_a_program_that_is_not_in_it_is_refused(small: Application, tmp_path: Path) -> None:
    manifest = small.folder / "boxsnake.toml"
    given = manifest.read_text()
    if not (small.folder / "boxsnake.lock").exists():
        small.ask("lock")
    manifest.write_text(given.replace('command = ["hello-web"', 'command = ["hello-wen"'))
    done = small.run("build", "appimage", "--output", str(tmp_path))
    manifest.write_text(given)
    assert (done.returncode, "app.command: hello-wen: is no program of the environment" in done.stderr) == (9, True)
    assert not list(tmp_path.rglob("*.AppImage"))


def test_shellcheck_finds_nothing_in_its_scripts(warm: Home, tmp_path: Path) -> None:
    script, _, _ = warm.image.read_bytes().partition(b"\0")
    (tmp_path / "stub").write_bytes(script)
    reading = [
        "unsquashfs",
        "-q",
        "-n",
        "-o",
        warm.run("--appimage-offset").stdout.strip(),
        "-d",
        str(tmp_path / "of-it"),
    ]
    subprocess.run([*reading, warm.image, "AppRun"], check=True, capture_output=True)
    scripts = [str(tmp_path / "stub"), str(tmp_path / "of-it" / "AppRun")]
    done = subprocess.run(["shellcheck", "-s", "sh", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Application:
    return copy_of("hello-web", tmp_path_factory.mktemp("mounted") / "hello-web")


def mountable(application: Application, kind: str) -> Path:
    manifest = application.folder / "boxsnake.toml"
    text = re.sub(r"\[boxes\.appimage\]\n(kind = .*\n)?", f'[boxes.appimage]\nkind = "{kind}"\n', manifest.read_text())
    manifest.write_text(text)
    if not (application.folder / "boxsnake.lock").exists():
        application.ask("lock")
    application.ask("build", "appimage")
    return application.folder / "dist" / f"hello-web-1.0.0-x86_64.{kind}"


@pytest.mark.parametrize("kind", ["erofs", *thorough("squashfs", "iso")])
def test_file_systems_for_administrators(small: Application, tmp_path: Path, kind: str) -> None:
    folder = mountable(small, kind)
    image, first = folder / folder.name, hashlib.sha256((folder / folder.name).read_bytes()).hexdigest()
    mount = (folder / "opt-hello\\x2dweb.mount").read_text()
    assert f"What=/opt/images/{folder.name}\nWhere=/opt/hello-web\n" in mount
    service = (folder / "hello-web.service").read_text()
    assert service.startswith("[Unit]\nRequiresMountsFor=/opt/hello-web\n")
    assert "ExecStart=/opt/hello-web/bin/hello-web" in service
    script = tmp_path / "hello-web"
    if kind == "iso":
        # Not every kernel knows iso9660.
        reading = ["xorriso", "-osirrox", "on", "-indev", str(image), "-extract", "/bin/hello-web", str(script)]
        subprocess.run(reading, check=True, capture_output=True)
    elif os.geteuid() == 0:
        copying = 'mount -o ro,loop "$1" /mnt && cp /mnt/bin/hello-web "$2"'
        reading = ["unshare", "-m", "sh", "-c", copying, "sh", str(image), str(script)]
        subprocess.run(reading, check=True, capture_output=True)
    if script.exists():
        assert script.read_text().startswith("#!/opt/hello-web/bin/python")
    small.ask("build", "appimage", "--output", str(tmp_path / "again"))
    (again,) = (tmp_path / "again").glob(f"*/{folder.name}")
    assert hashlib.sha256(again.read_bytes()).hexdigest() == first
