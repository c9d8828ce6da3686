"""Booting tiny boxes in a real engine: what a good box shows, and how each kind of bad one is told."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from boxsnake.boot import boot
from boxsnake.boot.box import because
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot_recipe import BootRules, Check
from boxsnake.engine import connect
from boxsnake.errors import UsageError
from boxsnake.store import Store
from tests.tiny_box import ALIVE, PREFIX, PROGRAM, failure, outcomes, recipe_for, write_box

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def runtime() -> InEngine:
    return InEngine(connect())


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


def test_a_good_box_passes_every_step(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    checks = [
        Check(name="version", run=("tiny", "--version"), expect="tiny 1.0"),
        Check(name="complains", run=("tiny", "nonsense"), expect="what?", exit_code=2),
        Check(name="no root", run=("tiny", "whoami"), expect="10001 /tmp False"),
        ALIVE,
        Check(name="again", http="/other", port=8000),
        Check(name="states", http="/json", port=8000, values=(("state", "up"), ("disks.0.full", False))),
        Check(name="load", http="/", port=8000, requests=50, matches="^well .* alive$"),
        Check(name="port", tcp=8000),
        Check(name="log", log=r"^listening on port \d+$"),
        Check(name="file", file=f"{PREFIX}/pyvenv.cfg", expect="version", matches="^home = "),
    ]
    recipe = recipe_for(write_box(tmp_path), "serve")
    recipe = dataclasses.replace(
        recipe, expects=dataclasses.replace(recipe.expects, console_scripts=("tiny", "tiny-server"))
    )
    report = boot(runtime, store, tmp_path, recipe, checks, format="tiny")
    assert report.failure is None, report.failure
    assert list(outcomes(report)) == [
        *("start", "copy", "install", "packages", "requirements", "files", "imports", "entry points"),
        *(f"check: {check.name}" for check in checks),
        "budgets",
        *("writes", "remove", "leftovers"),
    ]
    assert (report.verdict, report.format, report.host) == ("passed", "tiny", "debian-12-python")
    assert 0 < (report.figure("start") or 0) < 60
    assert (report.figure("memory") or 0) > 1 << 20


def test_checks_find_the_programs_of_a_box_without_a_folder_of_them(
    runtime: InEngine, store: Store, tmp_path: Path
) -> None:
    checks = [
        Check(name="a requirement's", run=("tiny", "--version"), expect="tiny 1.0"),
        Check(name="python's", run=("python", "-c", "import tiny; print(tiny.__file__)"), expect=PREFIX),
    ]
    recipe = recipe_for(write_box(tmp_path))
    expects = dataclasses.replace(recipe.expects, console_scripts=())
    report = boot(runtime, store, tmp_path, dataclasses.replace(recipe, scripts=None, expects=expects), checks)
    assert report.failure is None, report.failure


def test_what_an_earlier_command_of_the_install_said_is_told(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    install = (("sh", "-c", "echo 'no room for the index' >&2"), ("sh", "-c", "exit 3"))
    report = boot(runtime, store, tmp_path, dataclasses.replace(recipe_for(write_box(tmp_path)), install=install), [])
    _, detail = failure(report)
    assert detail.startswith("`sh -c 'exit 3'` exited with 3")
    assert "no room for the index" in detail


def test_a_full_disk_is_the_cause_of_all_that_fails_after_it() -> None:
    room = "app: needs 7106 KiB on the file system of /opt, which has 8 KiB free"
    others = "\n".join(f"error: package {number} cannot be configured" for number in range(30))
    assert because(f"{room}\n{others}").startswith(f": {room}\n")
    long = f"cannot copy '{'x' * 900}' (No space left on device)"
    first = because(f"{long}\n{others}").partition("\n")[0]
    assert first.endswith("x' (No space left on device)")
    assert len(first) < 310
    assert because(others).startswith(": error: package 29")


def test_what_a_package_gives_up_for_is_the_cause_though_its_manager_goes_on() -> None:
    given_up = "app 1.0-1: NOT INSTALLED: the post-install hook (a.sh) failed with exit status 3; it said last:"
    others = "warning: %post(app-1.0-1.x86_64) scriptlet failed, exit status 1"
    assert because(f"{given_up}\nwho\nknows\n{others}").startswith(f": {given_up} knows\n")
    earlier = f"{given_up}\nno such database\n{others}"
    found = because("error: %verify(app-1.0-1.x86_64) scriptlet failed", earlier=earlier)
    assert found.startswith(f": {given_up} no such database\n")
    assert because("", earlier=earlier) == f": {given_up} no such database"
    hook = "app 1.0-1: the pre-remove hook (a.sh) failed with exit status 3"
    assert because(f"still in use\n{hook}\nerror: app-1.0-1.x86_64: erase failed").startswith(f": {hook}\n")


def test_all_that_a_failing_step_has_said_is_kept(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    install = (("seq", "100"), ("sh", "-c", "seq 200 300; printf 'bad \\033[2J\\377 byte\\n' >&2; exit 3"))
    report = boot(runtime, store, tmp_path, dataclasses.replace(recipe_for(write_box(tmp_path)), install=install), [])
    assert report.failure is not None
    assert report.failure.log.startswith("$ seq 100\n1\n2\n")
    assert "\n200\n" in report.failure.log
    assert report.failure.log.endswith("300\nbad \\x1b[2J\ufffd byte\n")
    assert {step.log for step in report.steps if step.outcome != "failed"} == {""}


def test_what_is_written_elsewhere_and_left_behind_is_named(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    box = write_box(tmp_path, install="echo x >/etc/tiny.conf; echo y >>/etc/passwd; rm /etc/issue; mkdir /srv/empty")
    report = boot(runtime, store, tmp_path, recipe_for(box), [])
    assert outcomes(report)["remove"] == "passed"
    failed = [step for step in report.steps if step.outcome == "failed"]
    assert [step.name for step in failed] == ["writes", "leftovers"]
    for step in failed:
        for path in ("/etc/issue (removed)", "/etc/passwd (changed)", "/etc/tiny.conf (added)", "/srv/empty (added)"):
            assert path in step.detail
        assert PREFIX not in step.detail


def test_declared_paths_may_differ(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    box = write_box(tmp_path, install="mkdir -p /var/lib/tiny/state; echo x >/var/lib/tiny/state/log")
    recipe = dataclasses.replace(recipe_for(box), writes=(PREFIX, "/var/lib/tiny"), remains=("/var/lib/tiny",))
    assert boot(runtime, store, tmp_path, recipe, []).failure is None


@pytest.mark.parametrize(
    ("distributions", "told"),
    [
        ([("tiny", "1.0"), ("absent", "2")], "distribution missing: absent 2"),
        ([("tiny", "1.1")], "distribution of another version: tiny 1.0 instead of 1.1"),
        ([], "distribution not expected: tiny 1.0"),
    ],
    ids=["missing", "other-version", "surplus"],
)
def test_packages_are_exactly_the_expected(
    runtime: InEngine, store: Store, tmp_path: Path, distributions: list[tuple[str, str]], told: str
) -> None:
    recipe = recipe_for(write_box(tmp_path))
    expects = dataclasses.replace(recipe.expects, distributions=tuple(distributions))
    report = boot(runtime, store, tmp_path, dataclasses.replace(recipe, expects=expects), [])
    assert failure(report) == ("packages", told)
    assert (outcomes(report)["imports"], outcomes(report)["remove"]) == ("skipped", "passed")


def test_an_exempt_module_is_not_imported_nor_an_exempt_program_started(
    runtime: InEngine, store: Store, tmp_path: Path
) -> None:
    recipe = recipe_for(write_box(tmp_path, module="import libmissing"))
    assert recipe.expects.console_scripts == ("tiny",)
    expects = dataclasses.replace(recipe.expects, rules=BootRules(exempt=("tiny",)))
    assert boot(runtime, store, tmp_path, dataclasses.replace(recipe, expects=expects), []).failure is None


@pytest.mark.parametrize(("skip", "told"), [((), ("commands", "broken --help")), (("broken",), None)])
def test_an_exempt_command_is_not_started(
    runtime: InEngine, store: Store, tmp_path: Path, skip: tuple[str, ...], told: tuple[str, str] | None
) -> None:
    recipe = recipe_for(write_box(tmp_path))
    expects = dataclasses.replace(recipe.expects, rules=BootRules(exempt=skip))
    recipe = dataclasses.replace(recipe, expects=expects, commands=("broken",))
    found = boot(runtime, store, tmp_path, recipe, []).failure
    assert (found and (found.name, found.detail[: len("broken --help")])) == told


@pytest.mark.parametrize(("lacking", "outcome"), [("aiohttp", "passed"), ("libmissing", "failed")])
def test_a_module_may_want_an_extra_that_nobody_asked_for(
    runtime: InEngine, store: Store, tmp_path: Path, lacking: str, outcome: str
) -> None:
    box = write_box(tmp_path)
    (box / "site" / "tinyd.py").write_text(f"import {lacking}\n")
    info = box / "site" / "tiny-1.0.dist-info"
    (info / "RECORD").write_text(f"tinyd.py,,\n{(info / 'RECORD').read_text()}")
    (info / "METADATA").write_text(f'{(info / "METADATA").read_text()}Requires-Dist: aiohttp>=3; extra == "d"\n')
    report = boot(runtime, store, tmp_path, recipe_for(box), [])
    (step,) = (step for step in report.steps if step.name == "imports")
    assert (step.outcome, "tinyd" in step.detail) == (outcome, True)


@pytest.mark.parametrize(
    ("function", "told"),
    [("absent", "cannot import name 'absent'"), ("boom", "RuntimeError: boom")],
)
def test_an_entry_point_that_does_not_start_is_named(
    runtime: InEngine, store: Store, tmp_path: Path, function: str, told: str
) -> None:
    box = write_box(tmp_path, module=PROGRAM + "\ndef boom():\n    raise RuntimeError('boom')\n")
    recipe = dataclasses.replace(recipe_for(box), install=(("sh", "/box/install.sh", function, "serve"),))
    name, detail = failure(boot(runtime, store, tmp_path, recipe, []))
    assert name == "entry points"
    assert told in detail


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [("import optional", "passed"), ("raise OSError('libx.so.1: cannot open shared object file')", "failed")],
    ids=["lacks-what-nobody-required", "lacks-a-library"],
)
def test_the_programs_of_packages_are_started_too(
    runtime: InEngine, store: Store, tmp_path: Path, statement: str, verdict: str
) -> None:
    box = write_box(tmp_path)
    points = box / "site" / "tiny-1.0.dist-info" / "entry_points.txt"
    points.write_text("[console_scripts]\ntiny = tiny:main\nhelper = tiny.helper:main\n")
    (box / "site" / "tiny" / "helper.py").write_text(f"def main():\n    {statement}\n")
    report = boot(runtime, store, tmp_path, recipe_for(box), [])
    (step,) = (step for step in report.steps if step.name == "entry points")
    assert step.outcome == verdict
    assert "helper" in step.detail


def test_entry_points_start_without_scripts(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    box = write_box(tmp_path, install="rm /opt/tiny/bin/tiny*")
    check = Check(name="version", run=("tiny", "--version"), expect="tiny 1.0")
    assert boot(runtime, store, tmp_path, dataclasses.replace(recipe_for(box), scripts=None), [check]).failure is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("broken", "answered 500, not 200"),
        ("dies", "the application exited with 3 before it answered"),
        ("silent", "nothing listens there (tried "),
    ],
)
def test_a_server_that_does_not_serve(runtime: InEngine, store: Store, tmp_path: Path, command: str, told: str) -> None:
    check = dataclasses.replace(ALIVE, timeout=1 if command == "silent" else ALIVE.timeout)
    recipe = recipe_for(write_box(tmp_path), command)
    name, detail = failure(boot(runtime, store, tmp_path, recipe, [check]))
    assert name == "check: alive"
    assert told in detail
    assert ("cannot open the database" in detail) == (command == "dies")


def test_a_server_that_ignores_the_signal_to_stop_is_killed(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    report = boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path), "deaf"), [ALIVE])
    assert report.failure is None
    assert "ignored SIGTERM" in {step.name: step.detail for step in report.steps}["check: alive"]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (Check(name="c", run=("tiny",)), "`tiny` exited with 2, not 0: what?\n  what?"),
        (Check(name="c", run=("tiny", "--version"), expect="2.0"), "`tiny --version` does not say '2.0'\n  tiny 1.0"),
        (Check(name="c", run=("tiny", "silent"), timeout=1), "`tiny silent` was still running after 1 s"),
        (Check(name="c", run=("tiny", "--version"), matches="^2"), "`tiny --version` says nothing that matches '^2'"),
        (Check(name="c", file="/opt/tiny/no-such"), "/opt/tiny/no-such: No such file or directory"),
        (Check(name="c", file="/opt/tiny/pyvenv.cfg", expect="xyz"), "/opt/tiny/pyvenv.cfg does not hold 'xyz'"),
        (Check(name="c", run=("no-such-program",)), "cannot start no-such-program: No such file or directory"),
    ],
    ids=["exit", "output", "timeout", "pattern", "no-file", "file", "absent"],
)
def test_a_check_that_fails_says_how(runtime: InEngine, store: Store, tmp_path: Path, check: Check, told: str) -> None:
    name, detail = failure(boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path)), [check]))
    assert name == "check: c"
    assert told in detail


def test_loud_output_is_capped_and_escaped(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    check = Check(name="c", run=("tiny", "shouts"))
    _, detail = failure(boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path)), [check]))
    assert len(detail) < 5000
    assert "\x1b" not in detail
    assert "\\x1b[2J shouting \\x00" in detail


def test_want_of_memory_is_told_from_a_crash(
    runtime: InEngine, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsnake.boot.MEMORY_BYTES", 128 << 20)
    check = Check(name="c", run=("tiny", "greedy"))
    _, detail = failure(boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path)), [check]))
    assert "SIGKILL (the box ran out of memory)" in detail


def test_a_box_without_its_python_says_so(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    recipe = dataclasses.replace(recipe_for(write_box(tmp_path)), python=("/opt/tiny/bin/snake",))
    name, detail = failure(boot(runtime, store, tmp_path, recipe, []))
    assert name == "packages"
    assert "/opt/tiny/bin/snake" in detail


def test_the_network_is_off(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    script = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    check = Check(name="c", run=(f"{PREFIX}/bin/python", "-c", script))
    _, detail = failure(boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path)), [check]))
    assert "Network is unreachable" in detail


def test_an_unknown_host_is_named(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    recipe = dataclasses.replace(recipe_for(write_box(tmp_path)), host="beos")
    with pytest.raises(UsageError, match="beos"):
        boot(runtime, store, tmp_path, recipe, [])


def test_the_container_of_a_box_that_fails_is_kept_on_demand(store: Store, tmp_path: Path) -> None:
    recipe = recipe_for(write_box(tmp_path))
    engine = connect()
    boot(InEngine(engine), store, tmp_path, recipe, [], keep=True)
    assert engine.containers() == ()
    _, detail = failure(boot(InEngine(engine), store, tmp_path, recipe, [Check(name="c", run=("false",))], keep=True))
    (container,) = engine.containers()
    assert f"docker exec -it {container[:12]} sh" in detail
    subprocess.run(["docker", "exec", container, f"{PREFIX}/bin/python", "-c", ""], check=True)  # it is still installed
    engine.abandon()


def test_nothing_is_left_in_the_engine(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path)), [])
    assert runtime.engine.containers() == ()
