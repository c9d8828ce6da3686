"""Scriptlets: values and hooks reach the shell as they are."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from boxsnake.errors import PackError
from boxsnake.hook_script import interpreter
from boxsnake.os_packages import maintainer_scripts, scriptlets
from boxsnake.os_packages.scriptlets import Placing, control, hook_function, scripts, text
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.plan import Hook
from tests.thorough import thorough

LAYOUT = Layout(name="app", version="1.0.0-1")
ANYWHERE = Placing(root='"${RPM_INSTALL_PREFIX:-/opt}/app"', commands="/usr/bin", longest_prefix=255, names=("app",))
HOSTILE = "a'b\"c $(touch marker) `touch marker` $IFS \\ %(id) %{lua:x} ; touch marker #"


def hook(content: bytes, moment: str = "post-install", name: str = "migrate.sh") -> Hook:
    return Hook(moment=moment, file_name=name, content=content)


def run_hook(hook: Hook, folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """Run a hook as a scriptlet does, with the functions that all of them share."""
    assignments = {"name": "app", "version": "1.0.0-1", "app_version": "1.0", "root": str(folder)}
    script = "\n".join(f"{key}={value}" for key, value in {**assignments, **values}.items())
    script += f"\n{hook_function(hook)}\n{text('common.sh')}\naction=upgrade\nhook_script\n"
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, cwd=folder)


def test_every_scriptlet_is_sound_shell() -> None:
    hooks = tuple(hook(b"exit 0", moment) for moment in ("pre-install", "post-install", "pre-remove", "post-remove"))
    rendered = asdict(scripts(LAYOUT, app_version="1.0", needed=10_000, hooks=hooks))
    assert sorted(rendered) == ["after_install", "after_remove", "before_install", "before_remove", "verify"]
    for script in rendered.values():
        assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("placing", [None, *thorough(ANYWHERE)], ids=["fixed", "anywhere"])
def test_shellcheck_finds_nothing(placing: Placing | None) -> None:
    rendered = asdict(scripts(LAYOUT, app_version="1.0", needed=10_000, hooks=(), placing=placing))
    rendered["control"] = control(LAYOUT, app_version="1.0", placing=placing)
    # Those of split packages are the same wherever an application is placed.
    for module in (scriptlets, maintainer_scripts) if placing is None else ():
        of_environment = asdict(module.environment_scripts(LAYOUT, app_version="1.0", needed=10_000))
        of_store = asdict(module.store_scripts("/opt/boxsnake-store/x-1-0"))
        for kind, several in (("environment", of_environment), ("store", of_store)):
            rendered |= {f"{module.__name__} {kind} {name}": script for name, script in several.items()}
    for name, script in rendered.items():
        # Not every scriptlet uses all of what they share.
        command = ["shellcheck", "--shell", "sh", "--exclude", "SC2034,SC2317", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stdout}"


def test_values_are_quoted(tmp_path: Path) -> None:
    layout = Layout(name=HOSTILE, version="1.0.0-1", prefix_root="/opt")
    script = scripts(layout, app_version="1.0", needed=4097, hooks=()).verify
    assignments = script.partition("\nhook_script")[0]
    show = f'{assignments}\nprintf \'%s|%s|%s\' "$name" "$version" "$needed_kib"'
    done = subprocess.run(["sh"], input=show, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"{HOSTILE}|1.0.0-1|5"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "sh"]], ids=" ".join)
def test_bytecode_and_empty_folders_are_cleared_away_and_nothing_else(shell: list[str], tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    other, version = tmp_path / "other", tmp_path / "1.0 of ours"
    empty = ["a b/c", ".hidden/..odd", *(f"many/{number}" for number in range(250))]
    for folder in (*empty, "package/__pycache__", "users/__pycache__"):
        (version / folder).mkdir(parents=True)
    (other / "tmp").mkdir(parents=True)
    for name in ("package/__pycache__/x.cpython-311.pyc", "users/__pycache__/y.pyc.123", "users/notes"):
        (version / name).touch()
    (version / "users" / "link").symlink_to(other)
    # The second line of this name is a folder where the script runs.
    (version / "line\ntmp").mkdir()
    script = f"version=1 root=. app_version=1\n{text('common.sh')}\ntidy '{version}'\n"
    subprocess.run(shell, input=script, text=True, cwd=other, check=False, timeout=60)
    left = {str(path.relative_to(version)) for path in version.rglob("*")}
    assert left - {"line\ntmp"} == {"users", "users/notes", "users/link"}
    assert (other / "tmp").is_dir()


def test_a_hook_is_told_what_happens(tmp_path: Path) -> None:
    content = b'echo "$BOXSNAKE_ACTION $BOXSNAKE_PREFIX $BOXSNAKE_NAME $BOXSNAKE_VERSION"; echo "${PATH%%:*}"; cat'
    done = run_hook(hook(content), tmp_path)
    assert done.returncode == 0
    assert done.stdout == f"upgrade {tmp_path}/1.0.0-1 app 1.0\n{tmp_path}/1.0.0-1/bin\n"


@pytest.mark.parametrize(
    "content",
    [
        HOSTILE,
        "no line feed at the end",
        "EOF\nEND_OF_HOOK\n",
        "$HOME \\$HOME \\\n ${x:-y}\n",
        "tabs\tand é 🐍\n",
        "",
    ],
)
def test_a_hooks_text_is_what_it_was(tmp_path: Path, content: str) -> None:
    script = f"#!/bin/cat\n{content}"
    done = run_hook(hook(script.encode()), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == script.rstrip("\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["it's.sh", "-rf", "$(touch marker)", "a b.sh", "ü.sh"])
def test_a_hooks_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    done = run_hook(hook(b'printf "%s" "${0##*/}"', name=name), tmp_path)
    assert (done.returncode, done.stdout) == (0, name)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_hook_names_itself(tmp_path: Path) -> None:
    done = run_hook(hook(b"echo what it said >&2; exit 7"), tmp_path)
    assert done.returncode == 7
    assert done.stdout == "what it said\n"
    assert done.stderr == "app 1.0.0-1: the post-install hook (migrate.sh) failed with exit status 7\n"


def test_a_hook_that_is_killed_names_itself(tmp_path: Path) -> None:
    done = run_hook(hook(b"kill -9 $$"), tmp_path)
    assert done.returncode == 137
    assert "failed with exit status 137" in done.stderr


def test_a_hook_leaves_nothing_behind(tmp_path: Path) -> None:
    run_hook(hook(b"exit 1"), tmp_path, TMPDIR=f"{tmp_path}; export TMPDIR")
    assert list(tmp_path.iterdir()) == []


def test_a_hook_may_be_python(tmp_path: Path) -> None:
    content = b"#!/usr/bin/env python3\nimport os, sys\nprint(sys.version_info >= (3,), os.environ['BOXSNAKE_NAME'])\n"
    assert run_hook(hook(content, name="migrate.py"), tmp_path).stdout == "True app\n"


def test_a_hook_named_as_python_is_run_by_the_applications_own(tmp_path: Path) -> None:
    (tmp_path / "1.0.0-1/bin").mkdir(parents=True)
    python = tmp_path / "1.0.0-1/bin/python"
    python.write_text('#!/bin/sh\nexec python3 "$@"\n')
    python.chmod(0o755)
    content = b"import os, sys\nprint(sys.dont_write_bytecode, os.environ['BOXSNAKE_OLD_VERSION'])\n"
    done = run_hook(hook(content, name="migrate.py"), tmp_path)
    assert (done.returncode, done.stdout) == (0, "True 1.0\n")


@pytest.mark.parametrize("moment", ["pre-install", "post-remove"])
def test_there_is_no_python_before_the_installation_and_after_the_removal(moment: str) -> None:
    with pytest.raises(PackError, match="not there at that moment"):
        hook_function(hook(b"print()", moment, "migrate.py"))
    assert "/usr/bin/python3" in hook_function(hook(b"#!/usr/bin/python3\n", moment, "migrate.py"))


@pytest.mark.parametrize(
    ("word", "stays"), [("0", False), ("1", True), ("2", True), ("remove", False), ("purge", False), ("upgrade", True)]
)
def test_rpm_and_dpkg_say_alike_whether_the_application_stays(word: str, stays: bool) -> None:
    done = subprocess.run(["sh", "-c", f"root=/ version=1\n{text('common.sh')}\nstays {word}"])
    assert (done.returncode == 0) == stays


@pytest.mark.parametrize("content", [b"\x7fELF\0\0", b"caf\xe9\n", b"echo \0"])
def test_a_hook_is_a_text(content: bytes) -> None:
    with pytest.raises(PackError, match="post-install hook"):
        hook_function(hook(content))


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("echo", ("/bin/sh",)),
        ("#!/bin/bash", ("/bin/bash",)),
        ("#! /bin/sh -eu", ("/bin/sh", "-eu")),
        ("#!/bin/sh\r", ("/bin/sh",)),
        ("#!/usr/bin/env -S python3 -u", ("/usr/bin/env", "-S python3 -u")),
        ("#!", ("/bin/sh",)),
    ],
)
def test_the_interpreter_is_that_of_the_first_line(first: str, expected: tuple[str, ...]) -> None:
    assert interpreter(f"{first}\nexit\n") == expected
