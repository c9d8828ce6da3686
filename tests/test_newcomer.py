"""What a newcomer does wrong, or their machine does to them: one readable error, the right exit code, nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

MANIFEST = """
[app]
name = "small"
version = "1.0"
command = ["small"]
source = "."

[requires]
python = "3.11.*"

[targets.default]
interpreter = "host"
glibc = "2.36"

[boxes.wheelhouse]
[boxes.pex]
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1.0"

[project.scripts]
small = "small:main"
"""
# A backend of its own: these tests need no index.
BACKEND = """
import base64, hashlib, pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    files = {
        "small.py": pathlib.Path("small.py").read_text(),
        "small-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n",
        "small-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "small-1.0.dist-info/entry_points.txt": "[console_scripts]\\nsmall = small:main\\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text.encode())}\\n"
    files["small-1.0.dist-info/RECORD"] = record + "small-1.0.dist-info/RECORD,,\\n"
    name = "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        for member, text in files.items():
            wheel.writestr(member, text)
    return name
"""


def project_in(parent: Path) -> Path:
    folder = parent / "small"
    folder.mkdir()
    for name, text in {
        "boxsnake.toml": MANIFEST,
        "pyproject.toml": PROJECT,
        "backend.py": BACKEND,
        "small.py": "def main():\n    print('small')\n",
    }.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project_in(tmp_path)


@pytest.fixture(scope="module")
def locked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its lock, and the store in which that was made."""
    parent = tmp_path_factory.mktemp("locked")
    assert boxsnake("lock", cwd=project_in(parent)).returncode == 0
    return parent


@pytest.fixture
def locked(locked_once: Path, tmp_path: Path) -> Path:
    """A project of one's own that is locked, beside a store of one's own."""
    shutil.copytree(locked_once, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path / "small"


def boxsnake(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"BOXSNAKE_CACHE_DIR": str(cwd.parent / "store")} | variables
    return subprocess.run(
        [sys.executable, "-m", "boxsnake", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def assert_one_error(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.count("error: ") == 1
    assert "\nnext: " in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    assert_one_error(boxsnake("build", cwd=tmp_path), 2, "boxsnake init")


def test_a_wrong_manifest_tells_all_faults_with_their_lines(folder: Path) -> None:
    text = MANIFEST.replace("command =", "comand =").replace('"host"', '"hst"').replace("[boxes.pex]", "[boxes.pxe]")
    (folder / "boxsnake.toml").write_text(text)
    before = files_of(folder)
    done = boxsnake("lock", cwd=folder)
    assert_one_error(done, 3, "boxsnake.toml:5", "command", "boxsnake.toml:12", "pex")
    assert files_of(folder) == before


def test_a_build_before_any_lock(folder: Path) -> None:
    assert_one_error(boxsnake("build", cwd=folder), 5, "boxsnake lock")


@pytest.mark.index
def test_an_unknown_requirement(folder: Path) -> None:
    text = MANIFEST.replace("[targets", 'pip = ["boxsnake-has-no-such-distribution >=3"]\n[targets', 1)
    (folder / "boxsnake.toml").write_text(text)
    before = files_of(folder)
    done = boxsnake("lock", cwd=folder)
    assert_one_error(done, 4, "boxsnake-has-no-such-distribution", "requires.pip")
    assert files_of(folder) == before


def test_a_missing_engine_is_not_a_bad_box(locked: Path) -> None:
    assert boxsnake("build", "wheelhouse", cwd=locked).returncode == 0
    done = boxsnake("boot", "wheelhouse", cwd=locked, DOCKER_HOST="unix:///nonexistent.sock")
    assert_one_error(done, 11, "/nonexistent.sock")
    assert not (locked / "dist" / "boot.json").exists()


def test_a_box_that_was_not_made(locked: Path) -> None:
    assert_one_error(boxsnake("boot", "pex", cwd=locked), 8, "boxsnake build pex")


def test_an_unknown_format(locked: Path) -> None:
    assert_one_error(boxsnake("build", "flatpak", cwd=locked), 2, "flatpak", "wheelhouse")


def test_a_misspelt_command(folder: Path) -> None:
    done = boxsnake("biuld", cwd=folder)
    assert done.returncode == 2
    assert "'build'" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_no_half_made_box(locked: Path, small_disk: Path) -> None:
    done = boxsnake("build", "pex", "-o", str(small_disk / "dist"), cwd=locked)
    assert_one_error(done, 8, "space")
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_full_store_says_so(folder: Path, small_disk: Path) -> None:
    store = {"BOXSNAKE_CACHE_DIR": str(small_disk / "store")}
    assert boxsnake("lock", cwd=folder, **store).returncode == 0
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(512)):
            pass
    assert_one_error(boxsnake("build", cwd=folder, **store), 8, "space")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_build_that_is_stopped_leaves_nothing_that_is_trusted(locked: Path, number: int, code: int) -> None:
    (locked / "small.py").write_text("def main():\n    print('another')\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "boxsnake", "build", "pex"],
        cwd=locked,
        env=os.environ | {"BOXSNAKE_CACHE_DIR": str(locked.parent / "store")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not (locked / "dist").exists() and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(number)
    _, errors = child.communicate()
    assert child.returncode == code, errors
    assert "Traceback" not in errors
    assert not list((locked / "dist").glob("*.pex"))
    assert boxsnake("build", "pex", cwd=locked).returncode == 0
    assert [path.name for path in (locked / "dist").iterdir()] == ["small-1.0.pex"]
    assert boxsnake("cache", "verify", cwd=locked).returncode == 0


def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "boxsnake", "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, "Traceback" in done.stderr) == (8, False)


@pytest.mark.parametrize("text", ["today", "-5", "1e9", "²", "4294967296", "9" * 5000])
def test_a_time_that_no_box_can_say(locked: Path, text: str) -> None:
    assert_one_error(boxsnake("build", "wheelhouse", cwd=locked, SOURCE_DATE_EPOCH=text), 2, "SOURCE_DATE_EPOCH")


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_where_boxes_should_go(locked: Path, place: str) -> None:
    (locked / "taken").write_text("mine")
    assert_one_error(boxsnake("build", "wheelhouse", "-o", place, cwd=locked), 8, "taken", "out of the way")
    assert (locked / "taken").read_text() == "mine"


def test_the_doctors_lines_are_plain_where_there_is_no_terminal(tmp_path: Path) -> None:
    done = boxsnake("doctor", cwd=tmp_path)
    assert "x1b" not in repr(done.stdout)
    assert done.stdout.startswith("ok     python ")


def test_builds_at_the_same_time_make_the_same_boxes(locked: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: boxsnake("build", "--json", cwd=locked), range(3)))
    assert [one.returncode for one in done] == [0] * 3, [one.stderr for one in done]
    assert len({tuple(box["digest"] for box in json.loads(one.stdout)["boxes"]) for one in done}) == 1
    names = {"small-1.0.pex", "small-1.0.wheelhouse", "small-1.0.wheelhouse.tar"}
    assert {path.name for path in (locked / "dist").iterdir()} == names


@pytest.mark.parametrize("name", ["with blank ünï-çödé quo'te\"$x", "-dash\nline"])
def test_a_folder_of_any_name(folder: Path, name: str) -> None:
    moved = folder.rename(folder.parent / name)
    for command in (["lock"], ["lock", "--check"], ["build"]):
        done = boxsnake(*command, cwd=moved)
        assert done.returncode == 0, done.stderr
    assert boxsnake("cache", "clean", cwd=moved).returncode == 0


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        ("lock-version = 1", "lock-version = 99", ["99", "newer"]),
        ('python = "3.11"', 'python = "3.12"', ["edited", "boxsnake lock"]),
        ("lock-version = 1", "<<<<<<< HEAD", ["boxsnake lock"]),
    ],
    ids=["newer", "edited", "merged"],
)
def test_a_lock_that_is_not_to_be_trusted(locked: Path, pattern: str, text: str, words: list[str]) -> None:
    lock = locked / "boxsnake.lock"
    assert pattern in lock.read_text()
    lock.write_text(lock.read_text().replace(pattern, text, 1))
    assert_one_error(boxsnake("build", cwd=locked), 5, "boxsnake.lock", *words)
    assert not (locked / "dist").exists()
