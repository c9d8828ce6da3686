"""The check of an installed version: it names what is missing, broken or does not do what it must."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent.parent / "rpm" / "check.py"


class Version:
    """An installed version of two files and a link, checked by the interpreter that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.support = folder / "prefix", folder / "support"
        (self.prefix / "bin").mkdir(parents=True)
        self.support.mkdir()
        sums = ""
        for name, content in (("bin/greet", "#!/bin/sh\necho hello\n"), ("a 'file' ü", "")):
            (self.prefix / name).write_text(content)
            (self.prefix / name).chmod(0o755)
            sums += f"{hashlib.sha256(content.encode()).hexdigest()}  {name}\n"
        (self.prefix / "link").symlink_to("./bin/greet")
        (self.support / "sums").write_text(sums)
        (self.support / "links").write_text("link\t./bin/greet\n")
        self.expect()

    def expect(self, **expected: Any) -> None:
        nothing: Mapping[str, Any] = {
            "application": "pytest",
            "checks": [],
            "distributions": [],
            "environment": {},
            "programs": [],
        }
        (self.support / "check.json").write_text(json.dumps({**nothing, **expected}))

    def check(self, depth: str = "full") -> tuple[int, str]:
        command = [sys.executable, "-I", "-B", str(PROGRAM), depth, str(self.support), str(self.prefix)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout.replace(f"{self.prefix}/", "")


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(tmp_path)


def command(
    *run: str, expect: str | None = None, matches: str | None = None, exit_code: int = 0, timeout: float = 30
) -> dict[str, Any]:
    check = {"name": "c", "run": run, "expect": expect, "matches": matches}
    return {**check, "exit_code": exit_code, "timeout": timeout}


@pytest.mark.parametrize("depth", ["present", "quick", "full"])
def test_a_whole_version_passes(version: Version, depth: str) -> None:
    version.expect(
        distributions=[("pytest", pytest.__version__)], programs=["pytest"], checks=[command("greet", expect="hello")]
    )
    assert version.check(depth) == (0, "")


def test_a_program_that_did_what_a_check_wants_is_not_imported_once_more(version: Version) -> None:
    # There is no such entry point: only its import could tell.
    version.expect(programs=["greet"], checks=[command("greet", expect="hello")])
    assert version.check() == (0, "")
    for check in (command("greet", expect="goodbye"), command("sh", "-c", "exit 0"), command("greet", exit_code=3)):
        version.expect(programs=["greet"], checks=[check])
        code, said = version.check()
        assert (code, said.startswith("the command greet cannot be imported: KeyError")) == (1, True)


def test_what_is_missing_is_named(version: Version) -> None:
    (version.prefix / "bin/greet").unlink()
    (version.prefix / "link").unlink()
    assert version.check("present") == (
        1,
        "bin/greet: No such file or directory\nlink: No such file or directory\n",
    )


def test_what_has_changed_is_named(version: Version) -> None:
    (version.prefix / "a 'file' ü").write_text("more")
    (version.prefix / "link").unlink()
    (version.prefix / "link").symlink_to("bin/greet")
    assert version.check() == (1, "a 'file' ü has other content than it had\nlink leads elsewhere than it did\n")
    assert version.check("quick") == (1, "link leads elsewhere than it did\n")


def test_many_faults_are_counted(version: Version) -> None:
    (version.support / "sums").write_text("".join(f"{'0' * 64}  missing-{number}\n" for number in range(30)))
    assert version.check()[1].endswith("missing-19: No such file or directory\nand 10 more\n")


def test_distributions_are_asked_for_in_their_versions(version: Version) -> None:
    version.expect(distributions=[("pytest", "0.1"), ("no-such", "1.0")])
    assert version.check("present") == (
        1,
        f"pytest 0.1 is not there, but {pytest.__version__} is\nno-such 1.0 is not there\n",
    )


def test_programs_must_be_importable(version: Version) -> None:
    version.expect(programs=["no-such"])
    assert version.check("present") == (0, "")
    assert version.check() == (1, "the command no-such cannot be imported: KeyError: 'no-such'\n")


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (command("greet", expect="goodbye"), "'goodbye' is not in what it said, at last: hello"),
        (command("greet", matches="^bye$"), "nothing that matches '^bye$' is in what it said, at last: hello"),
        (command("greet", exit_code=3), "exit status 0 instead of 3; it said last: hello"),
        (command("no-such-program"), "no-such-program: No such file or directory"),
        (command("sleep", "30", timeout=0.1), "it took more than 0.1 s"),
        (command("sh", "-c", "seq 99; echo oops >&2; exit 9"), "exit status 9 instead of 0; it said last: oops"),
    ],
)
def test_commands_must_do_what_they_should(version: Version, check: dict[str, Any], fault: str) -> None:
    version.expect(checks=[check])
    assert version.check() == (1, f"the check 'c' failed: {fault}\n")


def test_commands_have_the_applications_environment(version: Version) -> None:
    version.expect(environment={"GREETING": "from the manifest"}, checks=[command("sh", "-c", 'test -n "$GREETING"')])
    assert version.check() == (0, "")


def test_what_checks_keep_for_their_user_does_not_stay(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    script = 'mkdir -p "${XDG_CACHE_HOME:-$HOME/.cache}/it" && echo "$HOME" && ls -d "$HOME"'
    version.expect(checks=[command("sh", "-c", script)])
    assert version.check() == (0, "")
    assert not list(tmp_path.glob("home")) + list(tmp_path.glob("caches"))


@pytest.mark.parametrize("arguments", [(), ("full",), ("deep", "a", "b")])
def test_it_tells_its_usage(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr
