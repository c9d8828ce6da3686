"""What is written for systemd and logrotate: taken by their own programs, and read back as it was meant."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest

from boxsnake.manifest import Hardening
from boxsnake.manifest.section import key_of
from boxsnake.system import Directory, Logrotate, System, Unit
from boxsnake.system_files import logrotate, sysusers, tmpfiles, unit_file

PROGRAMS = "/opt/hello/current/bin"
EVERY = frozenset(key_of(spec.name) for spec in fields(Hardening))
NASTY = [
    "",
    " ",
    "50%",
    "%i",
    "$HOME",
    "${HOME}",
    'a "b"',
    "it's",
    "back\\slash\\",
    ";",
    "#",
    "\\x41",
    "ü 🐍",
    "a=b,c",
    "-",
]

ESCAPES = {"\\": "\\", '"': '"'}


def read_words(text: str) -> list[str]:
    """The words of a value, as systemd.syntax(7) has them: those in double quotes with C's escapes, others bare."""
    words: list[str] = []
    for quoted, bare in re.findall(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))', text):
        words.append(bare or re.sub(r"\\(.)", lambda match: ESCAPES[match[1]], quoted))
    return [word.replace("%%", "\0").replace("%", "SPECIFIER").replace("\0", "%") for word in words]


def values(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def run(*command: str | Path) -> str:
    program = shutil.which(str(command[0]))
    assert program, f"{command[0]} is not installed"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not on this machine")


def unit_of(*command: str, environment: Sequence[tuple[str, str]] = ()) -> str:
    unit = Unit(name="hello", command=command, environment=tuple(environment), hardening=EVERY)
    return unit_file(unit, System(), PROGRAMS)


@pytest.mark.parametrize("seed", range(40))
def test_words_and_variables_read_back_as_they_were(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same texts each time
    letters = "ab %$\\\"'`;#=,{}()<>|&*?!~-ü🐍"
    texts = [*NASTY, *("".join(chance.choices(letters, k=chance.randrange(12))) for _ in range(10))]
    chance.shuffle(texts)
    environment = {f"V{number}": text for number, text in enumerate(texts)}
    text = unit_of("hello", *texts, environment=list(environment.items()))
    (command,) = values(text, "ExecStart")
    words = read_words(command)
    assert words[0] == f"{PROGRAMS}/hello"
    assert [word.replace("$$", "$") for word in words[1:]] == texts
    assert all(word.count("$") == 2 * word.count("$$") for word in words)
    found = [read_words(line) for line in values(text, "Environment")]
    assert all(len(words) == 1 for words in found)
    assignments = dict(words[0].split("=", 1) for words in found)
    assert assignments.pop("PATH").startswith(f"{PROGRAMS}:/usr/local/sbin:")
    assert assignments == environment


@pytest.mark.parametrize("summary", ["Ends with \\", "50% of %n", "\\", "[Service]", "# none"])
def test_a_summary_stays_one_line_of_its_section(summary: str) -> None:
    unit = Unit(name="hello", command=("hello",))
    text = unit_file(unit, System(summary=summary), PROGRAMS)
    (description,) = values(text, "Description")
    assert not re.search(r"(?<!%)%(?!%)", description.replace("%%", ""))
    assert not any(line.endswith("\\") for line in text.splitlines())
    assert [line for line in text.splitlines() if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]


def test_every_protection_of_the_manifest_is_known_and_can_be_left_out() -> None:
    bare = unit_file(Unit(name="a", command=("a",)), System(), PROGRAMS)
    lines = {
        name: set(
            unit_file(Unit(name="a", command=("a",), hardening=frozenset({name})), System(), PROGRAMS).splitlines()
        )
        - set(bare.splitlines())
        for name in EVERY
    }
    assert all(lines.values())
    assert lines["no-new-privileges"] == {"NoNewPrivileges=yes"}


def test_a_protected_service_can_write_to_the_folders_of_the_application() -> None:
    system = System(directories=(Directory(path="/var/lib/hello", kind="state", owner="hello", group="hello"),))
    text = unit_file(Unit(name="hello", command=("hello",), user="hello", hardening=EVERY), system, PROGRAMS)
    assert "ReadWritePaths=-/var/lib/hello" in text
    assert "User=hello\nGroup=hello\n" in text
    assert values(text, "CapabilityBoundingSet") == [""]


@needs("systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    program = tmp_path / PROGRAMS[1:] / "hello"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for target in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
        (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("hello:x:990:990::/:/bin/sh\n")
    (tmp_path / "etc/group").write_text("hello:x:990:\n")
    system = System(directories=(Directory(path="/var/lib/hello", kind="state"),), summary="Says %hello \\")
    unit = Unit(
        name="hello-web",
        command=("hello", *NASTY),
        environment=tuple((f"V{number}", value) for number, value in enumerate(NASTY)),
        memory="512M",
        tasks=64,
        open_files=4096,
        capabilities=("CAP_NET_BIND_SERVICE",),
        hardening=EVERY,
    )
    path = units / "hello-web.service"
    path.write_text(unit_file(unit, system, PROGRAMS))
    said = run("systemd-analyze", f"--root={tmp_path}", "verify", "--man=no", path)
    assert "hello-web" not in said
    path.write_text(path.read_text().replace("MemoryMax=512M", "MemoryMax=lots"))
    broken = subprocess.run(
        ["systemd-analyze", f"--root={tmp_path}", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "hello-web.service:" in broken.stderr, "what is wrong would be told"


@needs("systemd-sysusers")
def test_systemd_makes_the_user_and_the_folders(tmp_path: Path) -> None:
    folder = Directory(path="/var/lib/hello", kind="state", owner="hello-web", group="hello-web", mode=0o750)
    system = System(user="hello-web", directories=(folder,))
    users, folders = tmp_path / "users.conf", tmp_path / "folders.conf"
    users.write_text(sysusers(system))
    folders.write_text(tmpfiles(system))
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    run("systemd-sysusers", f"--root={root}", users)
    name, _, uid, gid, comment, home, _shell = (root / "etc/passwd").read_text().strip().split(":")
    assert (name, comment, home) == ("hello-web", "hello-web", "/var/lib/hello")
    assert (root / "etc/group").read_text().strip() == f"hello-web:x:{gid}:"
    if os.geteuid() == 0:
        run("systemd-tmpfiles", f"--root={root}", "--create", folders)
        made = (root / "var/lib/hello").stat()
        assert (made.st_mode & 0o7777, made.st_uid, made.st_gid) == (0o750, int(uid), int(gid))


def test_no_user_and_no_folders_are_no_lines() -> None:
    assert (sysusers(System()), tmpfiles(System()), logrotate(System())) == ("", "", "")


def test_logs_are_rotated_as_their_owner() -> None:
    logs = Directory(path="/var/log/hello", kind="log", owner="hello", group="adm")
    state = Directory(path="/var/lib/hello", kind="state")
    system = System(directories=(logs, state), logrotate=Logrotate(every="daily", keep=3, max_size="10M"))
    assert logrotate(system) == (
        "/var/log/hello/*.log {\n    su hello adm\n    daily\n    rotate 3\n    copytruncate\n    missingok\n"
        "    notifempty\n    maxsize 10M\n    compress\n    delaycompress\n}\n"
    )


@needs("logrotate")
def test_logrotate_takes_its_file(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").write_text("line\n")
    system = System(directories=(Directory(path=str(logs), kind="log"),), logrotate=Logrotate(compress=False))
    path = tmp_path / "hello"
    path.write_text(logrotate(system))
    path.chmod(0o644)
    run("logrotate", "--force", "--state", tmp_path / "state", path)
    assert (logs / "a.log.1").read_text() == "line\n"
    assert (logs / "a.log").read_text() == ""
