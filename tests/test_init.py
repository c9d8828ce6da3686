"""`boxsnake init`: the manifest that it writes for what lies in a folder, and what it leaves alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from boxsnake.cli import boxsnake
from boxsnake.errors import BoxsnakeError, ManifestError, ResourceError, UsageError
from boxsnake.manifest_file import LoadedManifest, load
from boxsnake.new_manifest import look, manifest_text
from boxsnake.packagers import packagers

PYPROJECT = """\
[build-system]
requires = ["hatchling"]

[project]
name = "Hello.Web"
dynamic = ["version"]
requires-python = ">=3.11"

[project.scripts]
hello-admin = "hello:admin"
hello-web = "hello:main"
"""


def init(*arguments: str) -> Result:
    return CliRunner().invoke(boxsnake, ["init", *arguments])


def written(folder: Path, *options: str) -> LoadedManifest:
    result = init(str(folder), *options)
    assert result.exit_code == 0, result.output
    return load(folder)


def refusal(*arguments: str) -> BoxsnakeError:
    result = init(*arguments)
    assert isinstance(result.exception, BoxsnakeError)
    return result.exception


def test_a_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    manifest = written(tmp_path).manifest
    assert manifest.app.name == "hello.web"
    assert (manifest.app.version, manifest.app.source, manifest.app.command) == (None, ".", ("hello-web",))
    assert list(manifest.boxes) == list(packagers())


def test_a_project_with_a_version_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\nversion = "1.2"\n')
    assert written(tmp_path).manifest.app.version == "1.2"


def test_a_version_that_is_none_is_left_to_the_source(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\nversion = "one"\n')
    assert written(tmp_path).manifest.app.version is None


def test_a_poetry_project(tmp_path: Path) -> None:
    text = '[tool.poetry]\nname = "a"\nversion = "1"\n[tool.poetry.scripts]\nrun-a = "a:main"\n'
    (tmp_path / "pyproject.toml").write_text(text)
    app = written(tmp_path).manifest.app
    assert (app.name, app.version, app.source, app.command) == ("a", "1", ".", ("run-a",))


def test_a_setup_cfg(tmp_path: Path) -> None:
    text = "[metadata]\nname = a_b\nversion = attr: a.v\n[options.entry_points]\nconsole_scripts =\n    a-b = a:main\n"
    (tmp_path / "setup.cfg").write_text(text)
    app = written(tmp_path).manifest.app
    assert (app.name, app.version, app.source, app.command) == ("a_b", None, ".", ("a-b",))


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        pytest.param("setup.py", "import sys; sys.exit('never run')", ".", id="setup.py"),
        pytest.param("setup.cfg", "[flake8]\nmax-line-length = 1\n", None, id="settings of tools"),
        pytest.param("setup.cfg", "no section", None, id="broken setup.cfg"),
        pytest.param("pyproject.toml", "[tool.ruff]\n", None, id="pyproject.toml of tools"),
        pytest.param("pyproject.toml", "project = 1\ntool = 2\n", None, id="odd pyproject.toml"),
    ],
)
def test_what_makes_a_folder_a_source(tmp_path: Path, name: str, content: str, source: str | None) -> None:
    (tmp_path / name).write_text(content)
    assert written(tmp_path).manifest.app.source == source


def test_requirement_files(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask >=3\n")
    (tmp_path / "environment.yml").write_text("channels: [conda-forge]\ndependencies: [python=3.12, openssl]\n")
    requires = written(tmp_path).manifest.requires
    assert requires.files == ("requirements.txt", "environment.yml")
    assert requires.python is None, "the environment file says it"


def test_faults_of_requirement_files_are_told_and_do_not_hinder(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask\na b\n")
    (tmp_path / "environment.yaml").write_text("nam: x\n")
    result = init(str(tmp_path))
    assert "to be corrected: requirements.txt:2: a b:" in result.output
    assert "to be corrected: environment.yaml:1: nam:" in result.output
    assert load(tmp_path).manifest.requires.files == ("requirements.txt", "environment.yaml")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        pytest.param("My App!", "my-app", id="blank"),
        pytest.param("$(id)", "id", id="command"),
        pytest.param("...", "app", id="dots"),
        pytest.param("é", "app", id="accent"),
        pytest.param("a" * 200, "a" * 64, id="long"),
        pytest.param("UPPER_case", "upper_case", id="case"),
    ],
)
def test_an_empty_folder_gives_its_name(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    manifest = written(tmp_path / folder).manifest
    assert (manifest.app.name, manifest.app.version, manifest.app.source) == (name, "0.1.0", None)
    assert manifest.requires.python


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["no line end", "line end", "CRLF"])
def test_pyproject(tmp_path: Path, end: str) -> None:
    path = tmp_path / "pyproject.toml"
    before = PYPROJECT.rstrip("\n").replace("\n", end or "\n") + end
    path.write_bytes(before.encode())
    path.chmod(0o640)
    loaded = written(tmp_path, "--pyproject")
    assert (loaded.path, loaded.manifest.app.name, loaded.manifest.app.command) == (path, "hello.web", ("hello-web",))
    after = path.read_bytes().decode()
    assert after.startswith(before)
    assert after.count("\r\n") in {0, after.count("\n")}
    assert "name" not in tomllib.loads(after)["tool"]["boxsnake"]["app"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "boxsnake.toml"
    path.write_text("mine")
    assert isinstance(refusal(str(tmp_path)), UsageError)
    assert path.read_text() == "mine"
    assert written(tmp_path, "--force").path == path


def test_a_table_in_pyproject_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    text = f"{PYPROJECT}[tool.boxsnake]\n"
    path.write_text(text)
    for options in ((), ("--pyproject",), ("--pyproject", "--force")):
        assert "[tool.boxsnake] already" in str(refusal(str(tmp_path), *options))
    assert [file.name for file in tmp_path.iterdir()] == ["pyproject.toml"]
    assert path.read_text() == text


def test_pyproject_must_be_there(tmp_path: Path) -> None:
    assert isinstance(refusal(str(tmp_path), "--pyproject"), UsageError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"[project\n", b"\xff", b"tool = {}\n"], ids=["syntax", "bytes", "closed table"])
def test_a_pyproject_that_cannot_be_extended_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(content)
    assert isinstance(refusal(str(tmp_path), "--pyproject"), ManifestError)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["pyproject.toml"]


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert isinstance(refusal(str(tmp_path)), ResourceError)
    assert list(tmp_path.iterdir()) == []


def test_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "cd 'a b' && boxsnake lock" in init("a b").output
    assert init().output.endswith("then: boxsnake lock\n")


def test_comments_hold_no_line_that_is_meant_otherwise(tmp_path: Path) -> None:
    text = manifest_text(look(tmp_path), {"odd": "two\nlines = 1"})
    assert "boxes" not in tomllib.loads(text)
