"""Artifacts of other people's tools: booted without manifest and lock, and found out where they are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from boxsnake.boot_recipe import BootRecipe
from boxsnake.boxes import Workspace
from boxsnake.checks_files import Said, read_checks
from boxsnake.cli.subjects import own_subjects
from boxsnake.errors import ManifestError, UsageError
from boxsnake.foreign import programs, recognise
from boxsnake.hosts import load_hosts
from tests.foreign_artifacts import CHECKS, CONTROL, STARTED, Workshop, run, wheel

NOTHING = Said()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    shop = Workshop(tmp_path_factory.mktemp("shop"), f"boxsnake-test-{uuid.uuid4().hex[:8]}")
    (shop.folder / "checks.toml").write_text(CHECKS)
    (shop.folder / "started.toml").write_text(CHECKS.replace("[app]\n", f"[app]\n{STARTED}"))
    yield shop
    shop.remove()


def boxsnake(shop: Workshop, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "boxsnake", "boot", *map(str, words)]
    return subprocess.run(command, cwd=shop.folder, env=os.environ, capture_output=True, text=True, check=False)


def booted(shop: Workshop, *words: str | Path, code: int = 0) -> dict[str, Any]:
    """The reports by the names of the artifacts; several of one artifact by their scenarios as well."""
    done = boxsnake(shop, *words, "--json", "--output", shop.folder)
    assert done.returncode == code, done.stdout + done.stderr
    assert (shop.folder / "boot.xml").exists()
    return {f"{one['format']} {one['scenario']}".strip(): one for one in json.loads(done.stdout)["boxes"]}


def detail(report: dict[str, Any], name: str) -> str:
    """What a step that passed has said."""
    (step,) = [step for step in report["steps"] if step["name"] == name]
    assert step["outcome"] == "passed", step
    return str(step["detail"])


def fault(report: dict[str, Any]) -> tuple[str, str]:
    """The step that failed, and the first line of what it said."""
    failed = next(step for step in report["steps"] if step["outcome"] == "failed")
    return failed["name"], failed["detail"].partition("\n")[0]


@pytest.mark.engine
def test_what_starts_itself_is_asked(shop: Workshop) -> None:
    files = (shop.pex(), shop.shiv(), shop.zipapp(), shop.layout(), f"{shop.image}:1.0")
    found = booted(shop, *files, "--checks", shop.folder / "checks.toml")
    assert {name: report["verdict"] for name, report in found.items()} == dict.fromkeys(found, "passed")
    assert len(found) == len(files)
    one = "1 distribution, Python 3.11.2, no lock to compare with"
    assert detail(found["tool.pex"], "packages") == detail(found["tool.pyz"], "packages") == one
    assert detail(found["plain.pyz"], "packages").startswith("0 distributions")
    for name in ("layout", f"{shop.image}:1.0"):
        # By the Python that its program is started by.
        assert detail(found[name], "packages") == one, found[name]
        assert found[name]["host"] == "artifact"
    assert {detail(report, "check: answers").partition(" ")[0] for report in found.values()} == {"200"}


@pytest.mark.engine
def test_what_is_installed_is_removed_again(shop: Workshop) -> None:
    files = (shop.rpm(), shop.deb(), shop.house(), shop.archive())
    found = booted(shop, *files, "--checks", shop.folder / "started.toml")
    assert {name: report["verdict"] for name, report in found.items()} == dict.fromkeys(found, "passed")
    for name in ("tool-1.0-1.x86_64.rpm", "tool_1.0_amd64.deb", "tool.tar.xz"):
        assert detail(found[name], "packages").startswith("1 distribution, Python 3.11.2")
        # The interpreter is among its files, and so are all that the installation has brought.
        assert int(detail(found[name], "files").partition(" ")[0]) > 10
        assert detail(found[name], "entry points") == "1 started"
    assert detail(found["house"], "packages").startswith("1 distribution,")
    assert [detail(found[name], "leftovers") for name in ("tool-1.0-1.x86_64.rpm", "house")] == ["", ""]


@pytest.mark.engine
def test_an_image_of_one_program_is_lent_a_python(shop: Workshop) -> None:
    checks = shop.folder / "hello.toml"
    checks.write_text(
        '[[checks]]\nname = "run"\nrun = ["/hello", "x"]\nexpect = "hello"\n[[checks]]\nname = "log"\nlog = "^hello$"\n'
    )
    name = shop.program()
    (report,) = booted(shop, name, "--checks", checks).values()
    assert (report["verdict"], detail(report, "packages")) == ("passed", "no Python of its own")
    assert detail(report, "files") == "1 file"
    checks.write_text(checks.read_text().replace('expect = "hello"', 'expect = "goodbye"'))
    (report,) = booted(shop, name, "--checks", checks, code=10).values()
    assert fault(report) == ("check: run", "`/hello x` does not say 'goodbye'")


@pytest.mark.engine
def test_packages_take_each_others_place(shop: Workshop) -> None:
    later = shop.rpm("2.0")
    older = shop.rpm("1.0", name="older")
    scenarios = ("upgrade", "downgrade")
    words = [word for name in scenarios for word in ("--scenario", name)]
    found = booted(shop, later, "--from", older, *words)
    assert {name: report["verdict"] for name, report in found.items()} == {
        f"{later.name} {name}": "passed" for name in scenarios
    }
    done = boxsnake(shop, later, "--from", shop.folder / "started.toml", "--scenario", "upgrade")
    assert (done.returncode, "started.toml" in done.stderr) == (2, True)
    done = boxsnake(shop, later, "--scenario", "rollback", "--from", older)
    assert (done.returncode, "rollback: is not for rpm, which keeps no earlier version" in done.stderr) == (2, True)


@pytest.mark.engine
def test_what_is_broken_is_told_in_one_line(shop: Workshop) -> None:
    broken = shop.folder / "moved.tar"
    # An environment that venv made for another place.
    with tarfile.open(broken, "w") as archive, tarfile.open(shop.tree()) as tree:
        for member in tree:
            member.name = member.name.replace("tool/", "moved/", 1)
            archive.addfile(member, tree.extractfile(member) if member.isfile() else None)
    lacking = shop.folder / "lacking"
    wanted = wheel(lacking, requires="absent >=2")
    files = {
        shop.pex("--python-shebang", "/build/bin/python3", name="shebang.pex"): (
            "install",
            "error: its first line names the interpreter /build/bin/python3, which is not found",
        ),
        shop.rpm("1.1", of="1.0", requires="libabsent.so.7()(64bit)", name="lacking"): (
            "install",
            "libabsent.so.7()(64bit) is needed by tool-1.1-1.x86_64",
        ),
        shop.rpm("1.2", of="1.0", postun=":", name="leaves"): (
            "leftovers",
            "left behind by the removal: /var/lib/tool (added)",
        ),
        lacking: ("install", "absent>=2"),
        wanted: ("requirements", "tool requires absent, which is not there"),
        broken: ("files", "begins with an interpreter that is not there: /opt/moved/moved/bin/"),
    }
    found = booted(shop, *files, code=10)
    for path, (step, told) in files.items():
        name, said = fault(found[path.name])
        assert name == step, found[path.name]
        assert told in said


def test_what_cannot_be_booted_is_refused(tmp_path: Path, shop: Workshop) -> None:
    sdist = tmp_path / "tool-1.0.tar.gz"
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n")
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(tmp_path / "PKG-INFO", "tool-1.0/PKG-INFO")
    (tmp_path / "text").write_text("nothing\n")
    (tmp_path / "folder").mkdir()
    words = {
        sdist: "is a sdist",
        tmp_path / "text": "is nothing that can be looked into",
        tmp_path / "folder": "is a folder",
        Path("no-such-thing"): "no format, no file, and no image of the engine",
    }
    for path, told in words.items():
        done = boxsnake(shop, path)
        assert (done.returncode, told in done.stderr, "next: " in done.stderr) == (2, True, True), done.stderr


def test_a_file_of_checks_is_read_strictly(tmp_path: Path, shop: Workshop) -> None:
    checks = tmp_path / "checks.toml"
    twice = '[[checks]]\nname = "a"\nhttp = "/"\n[[checks]]\nname = "a"\nrun = ["x"]\n'
    for text, *told in (('[app]\nname = "x"\n', "app.name"), (twice, "another check called 'a'", "needs a port")):
        checks.write_text(text)
        done = boxsnake(shop, checks, "--checks", checks)
        assert done.returncode == 3
        assert [words for words in told if words not in done.stderr] == []


def recipe_of(path: Path, said: Said = NOTHING) -> BootRecipe:
    return recognise(path, said, load_hosts(), path.parent).recipe


def test_constructors_installers_are_asked_in_their_own_words(shop: Workshop) -> None:
    recipe = recipe_of(shop.installer(), Said(prefix="/srv/tool"))
    file = "/tmp/Tool-1.0-Linux-x86_64.sh"
    assert recipe.install == (("bash", file, "-b", "-p", "/srv/tool"),)
    assert (recipe.python, recipe.remove) == (("/srv/tool/bin/python",), (("rm", "-rf", "/srv/tool"),))


def test_packages_of_a_folder_are_installed_together(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in ("one", "two"):
        root = tmp_path / name
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(CONTROL.format("1.0").replace("tool", name, 1))
        run("dpkg-deb", "--build", root, folder / f"{name}.deb")
    recipe = recipe_of(folder)
    assert recipe.install[0] == ("dpkg", "--install", "/tmp/packages/one.deb", "/tmp/packages/two.deb")
    assert recipe.remove[0] == ("dpkg", "--purge", "one", "two")
    (folder / "three.rpm").touch()
    with pytest.raises(UsageError, match="both RPMs and debs"):
        recipe_of(folder)
    (folder / "three.rpm").unlink()
    with pytest.raises(UsageError, match="whose place nobody can choose"):
        recipe_of(folder, Said(prefix="/srv/tool"))


def test_a_manifest_says_itself_how_its_boxes_are_started() -> None:
    with pytest.raises(UsageError, match="the manifest says so"):
        own_subjects(cast("Workspace", None), (), (), Said(command=("x",)), offline=False)


def test_files_of_checks_add_up(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.yaml"
    one.write_text(
        '[boot]\nskip = ["a"]\n[artifact]\npython = "/opt/python"\n[[checks]]\nname = "a"\nfile = "/etc/a"\n'
    )
    other.write_text("file:\n  /etc/b: {exists: true}\n")
    said = read_checks([one, other])
    assert ([check.name for check in said.checks], said.rules.exempt, said.python) == (
        ["a", "/etc/b"],
        ("a",),
        "/opt/python",
    )
    other.write_text("file:\n  a: {exists: true}\n")
    with pytest.raises(ManifestError, match="another file has a check of this name"):
        read_checks([one, other])


@pytest.mark.parametrize(
    ("constraints", "versions"),
    [
        ("CPython==3.11.*", "==3.11.*"),
        (">=3.9,<3.14 or PyPy", ">=3.9,<3.14"),
        ("3.11", "3.11"),
        ("CPython", ""),
        ("", ""),
    ],
)
def test_a_pex_says_which_pythons_it_takes(constraints: str, versions: str) -> None:
    assert programs._versions(constraints) == versions
