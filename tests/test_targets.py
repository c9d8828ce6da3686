"""Several targets in one manifest: two Pythons, two processors, two C libraries; in boxes of their own or shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from boxsnake.engine import connect
from boxsnake.errors import EngineError
from boxsnake.target import Target
from tests.test_newcomer import BACKEND, PROJECT

MANIFEST = """
[app]
name = "small"
source = "."
command = ["small"]

[requires]
python = "3.11.*"

[targets.new]
python = "3.13.*"
glibc = "2.41"
boxes = ["rpm", "image"]

[targets.old]
interpreter = "host"
glibc = "2.36"
boxes = ["pex", "wheelhouse"]

[targets.fresh]
python = "3.13.*"
interpreter = "host"
glibc = "2.41"
boxes = ["pex", "wheelhouse"]

[targets.other]
platform = "linux-aarch64"
interpreter = "host"
glibc = "2.36"
boxes = ["pex", "wheelhouse"]

[[checks]]
name = "speaks"
run = ["small"]
expect = "small on"

[boxes.image]
[boxes.rpm]

[boxes.pex]
targets = ["old", "fresh"]

[boxes.wheelhouse]
targets = ["old", "fresh", "other"]
"""
PROGRAM = "import sys\n\ndef main():\n    print(f'small on {sys.version_info[0]}.{sys.version_info[1]}')\n"


@pytest.mark.parametrize(
    ("glibc", "release"), [("2.28", "12"), ("2.36", "12"), ("2.38", "13"), ("2.41", "13"), ("2.99", "13"), (None, "12")]
)
def test_the_debian_that_has_a_glibc(glibc: str | None, release: str) -> None:
    assert Target(name="x", glibc=glibc).debian == release


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Path:
    """The application, locked and packed for all of its targets."""
    assert list(channel.glob("linux-64/python-3.13.*")), "run `boxsnake channel build --with python-3.13` first"
    folder = tmp_path_factory.mktemp("targets") / "small"
    folder.mkdir()
    texts = {"boxsnake.toml": MANIFEST, "pyproject.toml": PROJECT, "backend.py": BACKEND, "small.py": PROGRAM}
    for name, text in texts.items():
        (folder / name).write_text(text)
    settings = '[bases]\n"debian:13-slim" = "host:debian-13"\n'
    (folder.parent / "config.toml").write_text(f'channels = ["{channel}"]\n{settings}')
    result("lock", cwd=folder)
    result("build", cwd=folder)
    return folder


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "boxsnake", *arguments, "--json"],
        cwd=cwd,
        env=os.environ | {"BOXSNAKE_CONFIG": str(cwd.parent / "config.toml")},
        capture_output=True,
        text=True,
        check=False,
    )


def result(*arguments: str, cwd: Path) -> dict[str, Any]:
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.channel
def test_each_target_gets_its_own_boxes(folder: Path) -> None:
    made = {(box["target"], box["format"]) for box in result("build", cwd=folder)["boxes"]}
    assert made == {
        *(("new", "rpm"), ("new", "image")),
        *(("old", "pex"), ("old", "wheelhouse")),
        ("other", "pex"),
    }
    assert (folder / "dist" / "other" / "small-1.0.pex").is_file()


@pytest.mark.channel
def test_a_bundle_holds_the_boxes_of_all_targets_and_their_bills(folder: Path) -> None:
    # Not in the project: that would make other boxes of it.
    (folder.parent / "README.md").write_text("How to run it.\n")
    made = result("bundle", "--docs", "../README.md", cwd=folder)
    assert len(made["boxes"]) == 5
    verified = result("bundle", "--verify", made["path"], cwd=folder)
    # Five boxes and their bills, the document, the lock, README, verify.sh and the sums.
    assert verified["files"] == 15
    bills = result("sbom", "pex", cwd=folder)["bills"]
    assert [Path(one["path"]).name for one in bills] == ["small-1.0.pex.cdx.json"] * 2
    assert run("bundle", "--verify", "boxsnake.lock", cwd=folder).returncode == 7


@pytest.mark.channel
def test_a_delta_is_made_against_an_earlier_house(folder: Path) -> None:
    earlier = "dist/old/small-1.0.wheelhouse.tar"
    (made,) = result("build", "wheelhouse", "--since", earlier, cwd=folder)["boxes"]
    assert Path(made["path"]) == folder / "dist" / "old" / "small-1.0.wheelhouse-delta.tar"
    assert "0 of 1 wheels: the earlier house has the others" in made["notes"]
    done = run("build", "pex", "--since", earlier, cwd=folder)
    assert (done.returncode, json.loads(done.stderr)["error"]["cause"]) == (2, "is for wheelhouse alone")


@pytest.mark.channel
def test_a_format_for_a_target_that_does_not_take_it(folder: Path) -> None:
    done = run("build", "rpm", "--target", "other", cwd=folder)
    assert done.returncode == 2
    assert "none of the targets" in json.loads(done.stderr)["error"]["cause"]


@pytest.mark.channel
@pytest.mark.engine
def test_each_box_is_booted_on_a_host_of_its_target(folder: Path) -> None:
    report = result("boot", "--target", "new", "--target", "old", "--target", "fresh", cwd=folder)
    booted = {box["format"]: (box["host"], box["verdict"]) for box in report["boxes"]}
    assert booted == {
        "image (new)": ("artifact", "passed"),
        "rpm (new)": ("debian-13-rpm", "passed"),
        "pex (old)": ("debian-12-python", "passed"),
        "pex (fresh)": ("debian-13-python", "passed"),
        "wheelhouse (old)": ("debian-12-python", "passed"),
        "wheelhouse (fresh)": ("debian-13-python", "passed"),
    }


@pytest.mark.channel
@pytest.mark.engine
def test_a_box_for_another_processor_is_not_booted_and_no_success(folder: Path) -> None:
    if engine_architecture() == "arm64":
        pytest.skip("that processor is this one")
    done = run("boot", "pex", "--target", "other", cwd=folder)
    assert done.returncode == 8
    error = json.loads(done.stderr)["error"]
    assert error["data"] == {"boxes": ["pex (other)"]}
    assert "linux-aarch64" in error["cause"]
    report = json.loads(done.stdout)
    assert report["verdict"] == "skipped"
    assert report == json.loads((folder / "dist" / "boot.json").read_text())


def engine_architecture() -> str:
    try:
        return connect().architecture
    except EngineError:
        pytest.skip("needs a container engine")
