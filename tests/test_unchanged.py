"""What a build takes to be unchanged: everything that decides an artifact's bytes is looked at each time."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from boxsnake.asked import asked_of
from boxsnake.checks_files import read_checks
from boxsnake.cli import boxsnake
from boxsnake.cli.subjects import own_subjects
from boxsnake.cli.workspace import open_workspace
from boxsnake.errors import BoxsnakeError, LockError, ManifestError
from boxsnake.manifest_file import load
from boxsnake.settings import Settings
from boxsnake.store import Store
from tests.small_world import CANARY, World, small_world

LARGE = "x" * 100_000


def tar(path: Path, name: str) -> None:
    """A base image: one file."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Locked once; its image has a file as its base, by a name that the settings know."""
    with small_world(tmp_path_factory.mktemp("unchanged")) as made:
        made.write(image="# image\n")
        manifest = made.app / "boxsnake.toml"
        manifest.write_text(manifest.read_text().replace('base = "scratch"', 'base = "team:1"') + "\n[hooks]\n")
        for name in ("one", "other"):
            tar(made.folder / f"{name}.tar", name)
        with made.settings.open("a") as settings:
            settings.write('[bases]\n"team:1" = "./one.tar"\n')
        (made.app / "large.txt").write_text(LARGE)
        made.done("lock")
        yield made


@pytest.fixture(autouse=True)
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in world.environment({}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.app)


def build(*arguments: str) -> dict[str, Any]:
    """The one box that was built. Errors: those of the build."""
    done = CliRunner().invoke(boxsnake, ["build", *(arguments or ("image",)), "--json"])
    if isinstance(done.exception, BoxsnakeError):
        raise done.exception
    assert done.exit_code == 0, done.output
    (box,) = json.loads(done.stdout)["boxes"]
    return dict(box)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def in_place(path: Path, old: str, new: str) -> None:
    """An edit of equal length, after which the file has its old time again."""
    before = path.stat()
    replaced(path, old, new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def cut(folder: Path) -> None:
    """Damage every file there."""
    for path in folder.rglob("*.json"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-9])


def committed(world: World) -> None:
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x")):
        subprocess.run(["git", *words], cwd=world.app, check=True, capture_output=True)


EDITS: dict[str, Callable[[World], object]] = {
    "a source": lambda world: replaced(world.app / "backend.py", "argv", "argv "),
    "a source, its size and time kept": lambda world: in_place(world.app / "backend.py", "json.dumps", "json.dumqs"),
    "a large source, its size and time kept": lambda world: in_place(world.app / "large.txt", "xxxx", "xxxy"),
    "a new source": lambda world: (world.app / "more.txt").write_text(""),
    "the project's metadata": lambda world: replaced(world.app / "pyproject.toml", '"1.0"', '"1.1"'),
    "the manifest": lambda world: replaced(world.app / "boxsnake.toml", "# image", 'labels = {a = "b"}'),
    "the settings": lambda world: replaced(world.settings, "./one.tar", "./other.tar"),
    "the base": lambda world: tar(world.folder / "other.tar", "another"),
    "the commit": committed,
    "the output deleted": lambda world: shutil.rmtree(world.app / "dist"),
    "the output altered": lambda world: (next(world.app.glob("dist/*.image")) / "index.json").write_text("{}"),
    "the store damaged": lambda world: cut(world.store / "v1" / "selectors"),
    "the store deleted": lambda world: shutil.rmtree(world.store),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_is_seen(world: World, edit: Callable[[World], object]) -> None:
    build()
    assert build()["unchanged"]
    edit(world)
    assert not build()["unchanged"]
    assert build()["unchanged"]


def test_an_artifact_that_is_older_than_what_it_is_made_of_is_known(world: World) -> None:
    def is_outdated() -> bool:
        (subject,), _ = own_subjects(open_workspace(None), ["image"], [], read_checks(()), offline=True)
        return subject.is_outdated

    def edit() -> None:
        with (world.app / "backend.py").open("a") as source:
            source.write("# edited\n")

    build()
    assert not is_outdated()
    edit()
    assert is_outdated()
    build()
    assert not is_outdated()
    edit()
    shutil.rmtree(world.store / "v1" / "selectors" / "made")  # as if it came from elsewhere
    assert not is_outdated()


def test_a_build_with_nothing_to_do_imports_nothing_heavy(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = shutil.copytree(world.app, tmp_path / "app")
    monkeypatch.chdir(app)
    # What has credentials in it is read anew each time.
    replaced(app / "boxsnake.toml", f"http://{world.address}/t/{CANARY}", f"{world.folder}/served")
    replaced(app / "boxsnake.toml", 'files = ["requirements.txt"]', "")
    assert CliRunner().invoke(boxsnake, ["lock"]).exit_code == 0
    build()
    script = (
        "import sys\n"
        "from boxsnake.cli.console import run\n"
        "from boxsnake.cli import boxsnake\n"
        "assert run(boxsnake, ['build', 'image']) == 0\n"
        "heavy = {'rattler', 'docker', 'httpx', 'pydantic', 'zstandard', 'rich', 'yaml', 'packaging', "
        "'installer', 'importlib.metadata', 'difflib', 'boxsnake.engine', 'boxsnake.stage', 'boxsnake.fetch'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "unchanged" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    assert not build()["unchanged"]


def test_a_hook_s_text_counts(world: World) -> None:
    replaced(world.app / "boxsnake.toml", "[hooks]", '[hooks]\npost-install = "hook.sh"')
    for text in ("#!/bin/sh\n", "#!/bin/sh\ntrue\n"):
        (world.app / "hook.sh").write_text(text)
        assert not build("wheelhouse")["unchanged"]
    assert build("wheelhouse")["unchanged"]
    replaced(world.app / "boxsnake.toml", '\npost-install = "hook.sh"', "")
    (world.app / "hook.sh").unlink()


@pytest.mark.parametrize("places", [("boxsnake.pack",), ("boxsnake.pack", "boxsnake.remembered")])
def test_what_another_version_made_is_made_again(monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...]) -> None:
    build()
    assert build()["unchanged"]
    for place in places:
        monkeypatch.setattr(f"{place}.digest_of_code", lambda _store, place=places: f"another {place}")
    assert not build()["unchanged"]
    assert build()["unchanged"]


def test_each_format_and_place_has_its_own(tmp_path: Path) -> None:
    build()
    assert not build("pex")["unchanged"]
    assert not build("image", "--output", str(tmp_path / "elsewhere"))["unchanged"]
    assert build()["unchanged"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("boxsnake.toml", 'pip = ["demo"]', 'pip = ["demo >=1"]'),
        ("boxsnake.toml", 'conda = ["gem"]', 'conda = ["gem >=1"]'),
        ("requirements.txt", "tool >=1", "tool >=0.1"),
        ("pyproject.toml", "[project]", '[project]\nrequires-python = ">=3.8"'),
    ],
)
def test_other_requirements_make_the_lock_stale(world: World, name: str, old: str, new: str) -> None:
    before = (world.app / name).read_text()
    build()
    replaced(world.app / name, old, new)
    for _ in range(2):
        with pytest.raises(LockError):
            build()
    (world.app / name).write_text(before)
    assert build()["unchanged"]


def test_requirement_files_are_read_anew_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = '[app]\nname = "a"\nversion = "1"\n[requires]\n'
    (tmp_path / "boxsnake.toml").write_text(head + 'pip = ["own"]\nfiles = ["requirements.txt"]\n')
    (tmp_path / "requirements.txt").write_text("-r more.txt\n")
    store = Store(tmp_path / "store")

    def shown() -> list[str]:
        asked = asked_of(load(tmp_path, store=store), store, Settings())
        return [requirement.text for requirement in asked.requirements.pip]

    for text, found in (("demo==1", ["own", "demo==1"]), ("demo==2", ["own", "demo==2"])):
        (tmp_path / "more.txt").write_text(text)
        assert [shown(), shown()] == [found, found]
    (tmp_path / "more.txt").unlink()
    for _ in range(2):
        with pytest.raises(ManifestError, match="more"):
            shown()
    (tmp_path / "requirements.txt").write_text("demo==${VERSION}\n")
    for version in ("1", "2"):
        monkeypatch.setenv("VERSION", version)
        assert shown() == ["own", f"demo=={version}"]


def test_another_lock_is_another_box(world: World) -> None:
    build()
    replaced(world.app / "boxsnake.toml", 'pip = ["demo"]', "pip = []")
    assert CliRunner().invoke(boxsnake, ["lock"]).exit_code == 0
    assert not build()["unchanged"]
