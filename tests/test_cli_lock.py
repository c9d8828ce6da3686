from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxsnake.cli import boxsnake
from boxsnake.cli.console import run
from tests.sources import python_channel, write_wheel

MANIFEST = """
[app]
name = "hello"
version = "1.0"
[requires]
python = "3.11.*"
pip = ["web"]
files = ["requirements.txt"]
"""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-lock")
    channel = python_channel(folder / "channel")
    channel.add("onlyconda", "1.0", subdir="noarch", depends=["python >=3.9"], distribution="onlyconda")
    channel.index()
    for version in ("1.0", "2.0"):
        write_wheel(folder / "links", "web", version, requires=["tool"])
        write_wheel(folder / "links", "tool", version)
    return folder


@pytest.fixture
def app(tmp_path: Path, stock: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application's folder, which is also the working folder."""
    config = tmp_path / "config.toml"
    config.write_text(f'channels = ["{stock / "channel"}"]\n')
    monkeypatch.setenv("BOXSNAKE_CONFIG", str(config))
    monkeypatch.setenv("BOXSNAKE_CACHE_DIR", str(tmp_path / "store"))
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {stock / 'links'}\n")
    (folder / "boxsnake.toml").write_text(MANIFEST)
    monkeypatch.chdir(folder)
    return folder


def edit(app: Path, before: str, after: str) -> None:
    path = app / "boxsnake.toml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def lock(*arguments: str) -> int:
    return run(boxsnake, ["lock", *arguments])


def test_a_lock_is_written_beside_the_manifest_and_its_halves_are_counted(
    app: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lock("--manifest", str(app)) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "default: linux-64, python 3.11.9: 1 conda package, 2 wheels",
        "boxsnake.lock written",
    ]
    assert (app / "boxsnake.lock").is_file()


def test_a_second_lock_writes_nothing(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock()
    before = (app / "boxsnake.lock").stat()
    capsys.readouterr()
    assert lock() == 0
    assert "boxsnake.lock unchanged" in capsys.readouterr().out
    assert (app / "boxsnake.lock").stat().st_mtime_ns == before.st_mtime_ns


def test_check_tells_a_missing_a_fitting_and_a_stale_lock(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock("--check") == 5
    assert "there is no lock yet" in capsys.readouterr().err
    lock()
    assert lock("--check") == 0
    edit(app, '"web"', '"web", "tool<2"')
    capsys.readouterr()
    assert lock("--check") == 5
    captured = capsys.readouterr()
    assert "requires.pip: + tool<2" in captured.err
    assert "boxsnake lock" in captured.err
    assert (app / "boxsnake.lock").read_text().count("tool<2") == 0


def test_diff_says_what_would_change_and_writes_nothing(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock()
    before = (app / "boxsnake.lock").read_bytes()
    edit(app, '"web"', '"web", "tool<2"')
    capsys.readouterr()
    assert lock("--diff") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["default, wheels:", "  ~ tool 2.0 -> 1.0"]
    assert lines[-1] == "boxsnake.lock would change"
    assert (app / "boxsnake.lock").read_bytes() == before


def test_upgrade_takes_the_newest_of_all_or_of_one(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(app, '"web"', '"web<2", "tool<2"')
    lock()
    edit(app, '"web<2", "tool<2"', '"web"')
    lock()
    capsys.readouterr()
    assert lock("--upgrade", "tool", "--diff") == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "default, wheels:",
        "  ~ tool 1.0 -> 2.0",
        "default: linux-64, python 3.11.9: 1 conda package, 2 wheels",
    ]
    assert lock("--upgrade-package", "web", "--diff") == 0
    assert "~ web 1.0 -> 2.0" in capsys.readouterr().out
    assert lock("--upgrade") == 0
    assert capsys.readouterr().out.splitlines()[1:3] == ["  ~ tool 1.0 -> 2.0", "  ~ web 1.0 -> 2.0"]
    assert lock("--upgrade", "nothing") == 2
    assert "nothing of that name" in capsys.readouterr().err


def test_channels_of_the_command_line_are_relative_to_the_working_folder(
    app: Path, stock: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text('channels = ["http://127.0.0.1:9/none"]\n')
    monkeypatch.chdir(stock)
    assert lock("--manifest", str(app), "--channel", "channel/") == 0
    assert (stock / "channel").as_uri() in (app / "boxsnake.lock").read_text()
    assert lock("--manifest", str(app), "--check") == 0


def test_a_broken_lock_is_told_and_then_replaced(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock()
    path = app / "boxsnake.lock"
    path.write_text(path.read_text().replace("3.11.9", "3.11.8"))
    assert lock("--check") == 5
    assert "contradicts itself" in capsys.readouterr().err
    assert lock() == 0
    assert "nothing is kept of the old boxsnake.lock" in capsys.readouterr().out
    assert lock("--check") == 0


def test_json_is_one_document(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(app, '"web"]', '"web", "onlyconda"]\nconda = ["onlyconda"]')
    assert lock("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["written"] is True
    assert document["lock"] == str(app / "boxsnake.lock")
    assert document["targets"] == [
        {
            "name": "default",
            "platform": "linux-64",
            "python": "3.11.9",
            "conda": 2,
            "wheels": 2,
            "system": 0,
            "unavailable": ["onlyconda"],
            "base": None,
        }
    ]
    assert {"target": "default", "half": "wheels", "name": "web", "before": None, "after": "2.0"} in document["changes"]
    assert lock("--check", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"stale": False, "changes": []}


def test_what_boxes_without_conda_lack_is_noted(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(app, '"web"]', '"web"]\nconda = ["onlyconda"]')
    lock()
    assert "no index has a wheel of onlyconda 1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ('"web"', '"absent"', 4, "absent was not found"),
        ("3.11.*", "3.12.*", 4, "No candidates were found for python 3.12.*"),
        ('"web"', '"web>=9"', 4, "asked: web>=9 (requires.pip[0])"),
        ('"web"', '"web ==="', 3, "requires.pip"),
    ],
    ids=["unknown name", "no such Python", "no such version", "no requirement"],
)
def test_a_failure_has_its_exit_code_and_leaves_nothing(
    app: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, code: int, words: str
) -> None:
    edit(app, before, after)
    assert lock() == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.splitlines()[-1].startswith("next: ")
    assert sorted(path.name for path in app.iterdir()) == ["boxsnake.toml", "requirements.txt"]


def test_check_goes_with_nothing_that_resolves(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock("--check", "--upgrade") == 2
    assert "--check resolves nothing" in capsys.readouterr().err
    assert app.is_dir()


def test_offline_after_a_first_run(app: Path) -> None:
    assert lock() == 0
    written = (app / "boxsnake.lock").read_bytes()
    assert lock("--offline") == 0
    assert (app / "boxsnake.lock").read_bytes() == written
