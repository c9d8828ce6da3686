"""The plugin for pytest: an application's own tests against its box, in a pytest of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxsnake.engine import connect
from boxsnake.stack.running import NAME_LABEL
from tests.test_examples import Application, copy_of

NAME = "plugged"
# One that a failing test ends, and the next one finds ended; `restart` mends it.
TROUBLE = """
import time

def test_that_fails(boxsnake):
    boxsnake.exec(["python", "-c", "import os; os.kill(-1, 15)"])
    while not boxsnake.ended():
        time.sleep(0.05)
    raise AssertionError("sorry")

def test_that_finds_it_ended(boxsnake):
    raise AssertionError("not reached")

def test_without_it():
    pass
"""
WAITS = """
import pathlib, time

def test_that_waits(boxsnake):
    pathlib.Path("ready").write_text(boxsnake.url)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    copied = copy_of("hello-web", tmp_path_factory.mktemp("plugin") / "hello-web")
    manifest = copied.folder / "boxsnake.toml"
    text = manifest.read_text().replace('"redis:7"', '"service:redis"').replace("hello-web", NAME, 1)
    text = (
        text.replace('command = ["hello-web"]', 'command = ["hello-web"]\nsource = "."', 1)
        if "source" not in text
        else text
    )
    manifest.write_text(f'{text}\n[environments.alone]\nwithout = ["redis"]\n')
    copied.ask("lock")
    copied.ask("build", "image")
    return copied


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def pytest_in(
    application: Application, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # A run of its own, and no worker of the one that these tests may be in.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    variables = inherited | (environment or {})
    return subprocess.run(
        command(*arguments), cwd=application.folder, env=variables, capture_output=True, text=True, check=False
    )


def left() -> list[str]:
    return [one.id for one in connect().labelled(NAME_LABEL, NAME)]


def trouble(application: Application, text: str) -> str:
    path = application.folder / "test_trouble.py"
    path.write_text(text)
    return path.name


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_the_examples_tests_pass_in_processes_side_by_side(application: Application) -> None:
    done = pytest_in(application, "tests", "-n", "2", "--dist", "each")
    assert (done.returncode, "8 passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert left() == []


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_what_fails_is_shown_with_what_the_application_said(application: Application) -> None:
    done = pytest_in(application, trouble(application, TROUBLE), "--boxsnake-environment", "alone")
    assert done.returncode == 1
    assert f"{NAME} says" in done.stdout
    assert "Listening at: http://0.0.0.0:8000" in done.stdout
    assert f"{NAME} ended with " in done.stdout
    assert "not reached" not in done.stdout
    assert re.search(r"1 failed, 1 passed, 1 error", done.stdout), done.stdout
    # Those that use the fixture are marked.
    done = pytest_in(application, trouble(application, TROUBLE), "-m", "not boxsnake", "--strict-markers")
    assert "1 passed, 2 deselected" in done.stdout
    assert left() == []


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_nothing_is_left_after_a_kill(application: Application) -> None:
    words = command(trouble(application, WAITS), "-o", "boxsnake_environment=alone")
    ready = application.folder / "ready"
    process = subprocess.Popen(words, cwd=application.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not ready.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    assert ready.exists()
    assert len(left()) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_what_is_kept_is_up_until_it_is_brought_down(application: Application) -> None:
    test = trouble(application, "def test_it(boxsnake):\n    assert boxsnake.url\n")
    done = pytest_in(application, test, "--boxsnake-keep", "--boxsnake-environment", "alone")
    assert done.returncode == 0, done.stdout
    assert re.search(rf"still up: {NAME} http://127\.0\.0\.1:\d+; `boxsnake down`", done.stdout)
    assert [one["unit"] for one in application.ask("ps")["containers"]] == [NAME]
    assert "1 container removed" in application.run("down").stdout
    assert left() == []


@pytest.mark.channel
@pytest.mark.index
def test_without_an_engine_tests_fail_or_are_skipped(application: Application, tmp_path: Path) -> None:
    none = {"DOCKER_HOST": f"unix://{tmp_path}/none"}
    test = trouble(application, "def test_it(boxsnake):\n    pass\n")
    done = pytest_in(application, test, environment=none)
    assert (done.returncode, "1 error" in done.stdout, "does not answer" in done.stdout) == (1, True, True), done.stdout
    done = pytest_in(application, test, "-o", "boxsnake_without_engine=skip", "-rs", environment=none)
    assert (done.returncode, "1 skipped" in done.stdout, "does not answer" in done.stdout) == (0, True, True)


def test_an_error_is_told_with_its_next_step(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(boxsnake):\n    pass\n")
    done = pytest_in(Application(tmp_path), "--boxsnake-environment", "stage")
    assert done.returncode == 1
    assert "there is no boxsnake.toml" in done.stdout
    assert "boxsnake init" in done.stdout
    assert "Traceback" not in done.stdout


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n"
        "    ours = sorted(name for name in sys.modules if name.partition('.')[0] == 'boxsnake')\n"
        "    assert ours == ['boxsnake', 'boxsnake.pytest_plugin']\n"
        "    assert not {'click', 'docker', 'pydantic', 'httpx'} & set(sys.modules)\n"
    )
    done = pytest_in(Application(tmp_path))
    assert done.returncode == 0, done.stdout
