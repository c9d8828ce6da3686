"""Decoding manifests: what is right, and every fault of what is wrong with its key and line."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

from boxsnake.canonical import canonical_json
from boxsnake.errors import ManifestError, UsageError
from boxsnake.manifest import (
    App,
    CheckTable,
    DirectoryTable,
    EnvironmentTable,
    FileTable,
    Hardening,
    Hooks,
    LogrotateTable,
    Manifest,
    Requires,
    Section,
    Service,
    SystemTable,
    TargetTable,
    UnitTable,
)
from boxsnake.manifest.decoding import decode
from boxsnake.manifest.section import key_of
from boxsnake.manifest.written import read, written
from boxsnake.manifest_file import find, load
from boxsnake.store import Store
from boxsnake.target import Target
from boxsnake.toml_lines import KeyPath, key_lines, line_of
from boxsnake.value import dataclass

ROOT = Path(__file__).parent.parent

TABLES: tuple[type[Section], ...] = (
    *(App, Requires, TargetTable, Hooks, Service, EnvironmentTable, CheckTable),
    *(SystemTable, DirectoryTable, FileTable, UnitTable, Hardening, LogrotateTable),
)
"""The tables of a manifest, each documented by itself."""


@dataclass(frozen=True, kw_only=True)
class RpmOptions(Section):
    """`[boxes.rpm]`."""

    payload: str = "files"
    """What it holds."""
    after_install: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PexOptions(Section):
    """`[boxes.pex]`."""


BOXES: dict[str, type[Section]] = {"pex": PexOptions, "rpm": RpmOptions}

WHOLE = r"""
[app]
name = "hello-web"
version = "1.0.0"
source = "."
extras = ["fast"]
command = ["hello-web", "--port", "8000"]
ports = [8000]
summary = "Says hello 🐍 100%% of $(time)"
description = '''
First line.
Second "line".
'''
environment = { GREETING = "hello", "LANG" = "C.UTF-8" }

[requires]
python = "3.11.*"
channels = ["conda-forge", "https://example.org/channel", "./local"]
conda = ["openssl >=3", "conda-forge::numpy=2.1"]
pip = [
    "flask >=3",   # a comment
    "gunicorn; python_version >= '3.11'",
]
files = ["requirements.txt"]
sdists = ["Some.Thing"]
rpm = ["libxcrypt"]
deb = ["libcrypt1"]

[targets.default]
platform = "linux-64"
glibc = "2.28"
[targets.arm]
platform = "linux-aarch64"
python = ">=3.12,<3.14"
[targets.mac]
platform = "osx-arm64"
interpreter = "host"

[hooks]
post-install = "scripts/post_install.sh"

[system]
user = "hello"
[[system.directories]]
[[system.directories]]
kind = "log"
path = "/srv/hello/logs"
owner = "root:hello"
mode = "0770"
[[system.files]]
source = "etc/hello.conf"
path = "/etc/hello-web/hello.conf"
[system.units.serve]
environment = { MODE = "50%" }
memory = "512M"
capabilities = ["CAP_NET_BIND_SERVICE"]
hardening = { private-tmp = false }
[system.logrotate]
max-size = "10M"

[services.redis]
image = "redis:7"

[[checks]]
name = "answers"
http = "/health"
[[checks]]
name = "version"
run = ["hello-web", "--version"]
expect = "1.0"
exit-code = 0
timeout = 5

[boxes.rpm]
payload = "archives"
after-install = ["one", "two"]
"""


def decoded(text: str, source: str = "boxsnake.toml") -> Manifest:
    return decode(text, source, box_options=BOXES)


def faults_of(text: str, source: str = "boxsnake.toml") -> list[tuple[int, str, str]]:
    with pytest.raises(ManifestError) as caught:
        decoded(text, source)
    assert {fault.source for fault in caught.value.faults} == {source}
    return [(fault.line, fault.key, fault.message) for fault in caught.value.faults]


def decoded_or_refused(text: str) -> None:
    """Nothing but a ManifestError, with its faults, may come of a text, whatever is in it."""
    try:
        decoded(text)
    except ManifestError as error:
        refused = error
    else:
        return
    assert refused.faults
    assert all(fault.message for fault in refused.faults)


def app(rest: str = "") -> str:
    return f'[app]\nname = "a"\nversion = "1"\n{rest}'


def test_a_whole_manifest() -> None:
    manifest = decoded(WHOLE)
    assert manifest.app.command == ("hello-web", "--port", "8000")
    assert manifest.app.description == 'First line.\nSecond "line".\n'
    assert manifest.app.environment == {"GREETING": "hello", "LANG": "C.UTF-8"}
    assert manifest.requires.pip == ("flask >=3", "gunicorn; python_version >= '3.11'")
    assert manifest.requires.sdists == ("some-thing",)
    assert manifest.checks[1].timeout == 5.0
    assert manifest.hooks == Hooks(post_install="scripts/post_install.sh")
    assert manifest.boxes == {"rpm": RpmOptions(payload="archives", after_install=("one", "two"))}
    assert manifest.target("arm") == Target(name="arm", platform="linux-aarch64", python=">=3.12,<3.14")
    assert manifest.target("mac").glibc is None


def test_what_is_left_out() -> None:
    manifest = decoded(app())
    assert manifest.boxes == {"pex": PexOptions(), "rpm": RpmOptions()}
    assert manifest.target("default") == Target(name="default")


def test_no_format_is_made_where_the_table_is_empty() -> None:
    assert decoded(app("[boxes]\n")).boxes == {}


def test_decoded_values_are_frozen() -> None:
    manifest = decoded(app())
    with pytest.raises(FrozenInstanceError):
        manifest.app.name = "b"  # type: ignore[misc]  # what is tried


def test_all_faults_at_once() -> None:
    text = '[app]\nname = "A b"\nversoin = "1"\nports = [0]\n[boxes.rmp]\n[hooks]\npost-install = "/x"\n'
    assert [(line, key) for line, key, _ in faults_of(text)] == [
        (2, "app.name"),
        (3, "app.versoin"),
        (4, "app.ports[0]"),
        (5, "boxes.rmp"),
        (7, "hooks.post-install"),
    ]


FAULTS = {
    "nothing": ("", 0, "app", "is needed"),
    "no name": ("[app]\n", 1, "app.name", "is needed"),
    "no table": ("app = 1", 1, "app", "must be a table, not a whole number"),
    "array of tables": ("[[app]]\nname = 'a'", 1, "app", "must be a table, not an array"),
    "unknown table": (app("[app.sub]"), 4, "app.sub", "unknown key"),
    "near key": (app("verzion = 1"), 4, "app.verzion", "is 'version' meant?"),
    "far key": (app("zzz = 1"), 4, "app.zzz", "known are command, commands, description,"),
    "key of another table": (app("pip = []"), 4, "app.pip", "it belongs in [requires]"),
    "key of an array of tables": (app("run = []"), 4, "app.run", "it belongs in [[checks]]"),
    "key of named tables": (app("glibc = ''"), 4, "app.glibc", "it belongs in [targets.<name>]"),
    "_": (app("[hooks]\npost_install = 'x'"), 5, "hooks.post_install", "is 'post-install' meant?"),
    "near table": (app("[target.x]"), 4, "target", "is 'targets' meant?"),
    "near format": (app("[boxes.rmp]"), 4, "boxes.rmp", "unknown format; is 'rpm' meant?"),
    "far format": (app("[boxes.tea]"), 4, "boxes.tea", "unknown format; known are pex, rpm"),
    "target's format": (
        app('[boxes.pex]\n[targets.x]\nboxes = ["pex", "rpm"]'),
        *(6, "targets.x.boxes[1]", "there is no [boxes.rpm]; known are pex"),
    ),
    "format's key": (app("[boxes.rpm]\nx = 1"), 5, "boxes.rpm.x", "unknown key"),
    "format's type": (app("[boxes.rpm]\npayload = 1"), 5, "boxes.rpm.payload", "must be text"),
    "format's table": (app("[boxes]\nrpm = true"), 5, "boxes.rpm", "must be a table, not true or false"),
    "boxes": ("boxes = []\n" + app(), 1, "boxes", "must be a table, not an array"),
    "text for array": (app("command = 'x'"), 4, "app.command", "must be an array, not text"),
    "item": (app("command = [\n 'x',\n 3,\n]"), 6, "app.command[1]", "must be text, not a whole number"),
    "no program": (app("command = ['']"), 4, "app.command", "must begin with a program"),
    "newline in command": (app("command = ['x', \"a\\nb\"]"), 4, "app.command[1]", r"character \n"),
    "port's type": (app("ports = ['80']"), 4, "app.ports[0]", "must be a whole number, not text"),
    "true is no number": (app("ports = [true]"), 4, "app.ports[0]", "not true or false"),
    "fraction": (app("ports = [1.5]"), 4, "app.ports[0]", "must be a whole number, not a number"),
    "port": (app("ports = [65536]"), 4, "app.ports[0]", "must be less than or equal to 65535"),
    "port twice": (app("ports = [80, 80]"), 4, "app.ports", "names a port twice"),
    "date": (app("ports = 2030-01-01"), 4, "app.ports", "not a date or time"),
    "variable": (app("environment = {'A B' = 'x'}"), 4, 'app.environment."A B"', "environment variable"),
    "NUL": (app('environment.A = "\\u0000"'), 4, "app.environment.A", r"character \x00"),
    "escape": (app('summary = "a\\u001b]0;x"'), 4, "app.summary", r"character \x1b"),
    "newline in summary": (app('summary = "a\\nb"'), 4, "app.summary", r"character \n"),
    "line separator": (app('summary = "a\\u2028b"'), 4, "app.summary", r"character \u2028"),
    "change of direction": (app('license = "a\\u202eb"'), 4, "app.license", r"character \u202e"),
    "tab in description": (app('description = "a\\tb"'), 4, "app.description", r"character \t"),
    "extra": (app("extras = ['a b']"), 4, "app.extras[0]", "must be the name of an extra"),
    "extras alone": (app("extras = ['a']"), 4, "app.extras", "extras of a source, and there is none"),
    "source's scheme": (app("source = 'svn://x'"), 4, "app.source", "must be a folder"),
    "no version": ("[app]\nname = 'a'", 1, "app.version", "where there is no source"),
    "version": ("[app]\nname='a'\nversion='1-x-y'", 3, "app.version", "PEP 440"),
    "name is a path": ("[app]\nname='../a'\nversion='1'", 2, "app.name", "lower-case letters"),
    "name is a command": ("[app]\nname='$(id)'\nversion='1'", 2, "app.name", "lower-case letters"),
    "name with backslash": ("[app]\nname='a\\n'\nversion='1'", 2, "app.name", "lower-case letters"),
    "name with newline": ('[app]\nname="a\\n"\nversion="1"', 2, "app.name", "lower-case letters"),
    "long name": (f"[app]\nname='{'a' * 65}'\nversion='1'", 2, "app.name", "at most 64"),
    "python": (app("[requires]\npython = '3.x'"), 5, "requires.python", "not a version specifier"),
    "no python": (app("[requires]\npython = ''"), 5, "requires.python", "not a version specifier"),
    "PEP 508": (app("[requires]\npip = ['a', 'b >>3']"), 5, "requires.pip[1]", "expected semicolon"),
    "hash": (app("[requires]\npip = ['a --hash=sha256:0']"), 5, "requires.pip[0]", "requirements.txt"),
    "option": (app("[requires]\npip = ['-r x.txt']"), 5, "requires.pip[0]", "requirements.txt"),
    "variable in pip": (app("[requires]\npip = ['${A}']"), 5, "requires.pip[0]", "variables"),
    "newline in pip": (app('[requires]\npip = ["a\\n"]'), 5, "requires.pip[0]", "control characters"),
    "marker in conda": (app("[requires]\nconda = ['a;b']"), 5, "requires.conda[0]", "has no marker"),
    "no MatchSpec": (app("[requires]\nconda = ['']"), 5, "requires.conda[0]", "not a MatchSpec"),
    "channel": (app("[requires]\nchannels = ['a b']"), 5, "requires.channels[0]", "a channel's name"),
    "absolute file": (app("[requires]\nfiles = ['/etc/x']"), 5, "requires.files[0]", "relative"),
    "all sdists": (app("[requires]\nsdists = [':all:']"), 5, "requires.sdists[0]", "distribution"),
    "blank": (app("[requires]\nrpm = [' ']"), 5, "requires.rpm[0]", "must not be empty"),
    "target's name": (app("[targets.'../x']"), 4, 'targets."../x"', "lower-case letters"),
    "platform": (app("[targets.x]\nplatform = 'linux-65'"), 5, "targets.x.platform", "'linux-64', "),
    "glibc": (app("[targets.x]\nglibc = '2'"), 5, "targets.x.glibc", "such as '2.28'"),
    "glibc on Windows": (app("[targets.x]\nplatform = 'win-64'\nglibc = '2.28'"), 4, "targets.x", "win-64 has none"),
    "absolute hook": (app("[hooks]\npost-install = '/x'"), 5, "hooks.post-install", "relative"),
    "hook at home": (app("[hooks]\npost-install = '~/x'"), 5, "hooks.post-install", "relative"),
    "image": (app("[services.x]\nimage = ''"), 5, "services.x.image", "name of an image"),
    "empty check": (app("[[checks]]\nname = 'a'"), 4, "checks[0]", "one of `run`, `http`"),
    "two in one": (app("[[checks]]\nname = 'a'\nrun = ['a']\nhttp = '/'"), 4, "checks[0]", "one of `run`, `http`"),
    "empty run": (app("[[checks]]\nname = 'a'\nrun = []"), 6, "checks[0].run", "begin with a program"),
    "status of run": (app("[[checks]]\nname = 'a'\nrun = ['a']\nstatus = 200"), 4, "checks[0]", "`status` is for"),
    "no port": (app("command = ['a']\n[[checks]]\nname = 'a'\nhttp = '/'"), 7, "checks[0].http", "needs a port"),
    "requests of run": (app("[[checks]]\nname = 'a'\nrun = ['a']\nrequests = 2"), 4, "checks[0]", "`requests` is for"),
    "expression": (app("[[checks]]\nname = 'a'\nlog = '('"), 6, "checks[0].log", "must be a regular expression"),
    "relative file": (app("[[checks]]\nname = 'a'\nfile = 'a'"), 6, "checks[0].file", "absolute path"),
    "budget of nothing": (app("[boot]\nmemory = '9M'"), 5, "boot.memory", "needs a check with"),
    "port without a command": (app("[[checks]]\nname = 'a'\ntcp = 80"), 6, "checks[0].tcp", "needs app.command"),
    "no command": (app("[[checks]]\nname = 'a'\nhttp = '/'\nport = 80"), 6, "checks[0].http", "needs app.command"),
    "twice": (app("[[checks]]\nname='a'\nrun=['x']\n[[checks]]\nname='a'\nrun=['y']"), 8, "checks[1].name", "another"),
    "for ever": (app("[[checks]]\nname='a'\nrun=['x']\ntimeout=inf"), 7, "checks[0].timeout", "finite"),
    "no value": ("[app]\nname = \n", 2, "", "not valid TOML"),
    "key twice": ("[app]\nname = 'a'\nname = 'b'", 3, "", "not valid TOML"),
    "open string": ("[app]\nname = 'a", 2, "", "not valid TOML"),
    "open lines": ("[app]\nname = '''a\n\n", 2, "", "not valid TOML"),
    "huge number": (f"x = {'9' * 5000}", 0, "", "not valid TOML"),
    "deep nesting": (f"x = {'[' * 9000}{']' * 9000}", 0, "", "nested too deeply"),
    "huge text": ("#" * (1 << 21), 0, "", "a manifest has at most"),
}


@pytest.mark.parametrize(("text", "line", "key", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_has_its_line_and_key(text: str, line: int, key: str, message: str) -> None:
    found = faults_of(text)
    assert [fault[:2] for fault in found] == [(line, key)]
    assert message in found[0][2]


SYSTEM_FAULTS = {
    "a user called root": ('[system]\nuser = "root"', 2, "system.user", "is root, whom every system has"),
    "a user with a blank": ('[system]\nuser = "a b"', 2, "system.user", "must be a user's name: "),
    "an owner that nobody makes": (
        '[system]\nuser = "me"\n[[system.files]]\nsource = "a"\npath = "/etc/a"\nowner = "root:you"',
        6,
        "system.files[0].owner",
        "must be root or system.user: nothing makes you",
    ),
    "a unit's user that nobody makes": (
        '[system.units.web]\ncommand = ["a"]\nuser = "me"',
        3,
        "system.units.web.user",
        "must be root or system.user: nothing makes me",
    ),
    "a unit without a command": ("[system.units.web]\ntasks = 1", 1, "system.units.web.command", "is needed where "),
    "a unit's name with a specifier": (
        '[system.units."a%i"]\ncommand = ["a"]',
        1,
        'system.units."a%i"',
        "must be at most 64 lower-case letters",
    ),
    "a configuration file elsewhere": (
        '[[system.files]]\nsource = "a"\npath = "/usr/bin/a"',
        1,
        "system.files[0]",
        "`path` must lie below /etc",
    ),
    "a path that leads up": (
        '[[system.files]]\nsource = "a"\npath = "/etc/../a"',
        3,
        "system.files[0].path",
        "must be an absolute path below a folder of the system",
    ),
    "a folder of everybody's": (
        '[[system.directories]]\npath = "/var/lib"',
        1,
        "system.directories[0]",
        "`path` is a folder of the system's own",
    ),
    "a folder of programs": (
        '[[system.directories]]\npath = "/usr/local/x"',
        1,
        "system.directories[0]",
        "`path` is a folder of the system's own",
    ),
    "a run folder that would stay": (
        '[[system.directories]]\nkind = "run"\npath = "/var/x"',
        1,
        "system.directories[0]",
        "`path` lies below /run",
    ),
    "two folders at one path": (
        '[[system.directories]]\n[[system.directories]]\npath = "/var/lib/a"',
        2,
        "system.directories[1]",
        "there is another with this path (/var/lib/a)",
    ),
    "a mode with the setuid bit": (
        '[[system.directories]]\nmode = "4755"',
        2,
        "system.directories[0].mode",
        "must be permissions in octal",
    ),
    "rotation without logs": ("[system.logrotate]", 1, "system.logrotate", 'needs a folder of the kind "log"'),
}


@pytest.mark.parametrize(("text", "line", "key", "message"), SYSTEM_FAULTS.values(), ids=SYSTEM_FAULTS)
def test_a_fault_of_the_system_table_has_its_line_and_key(text: str, line: int, key: str, message: str) -> None:
    found = faults_of(app(text))
    assert [fault[:2] for fault in found] == [(line + 3, key)]
    assert message in found[0][2]


def test_faults_of_sound_tables_are_told_beside_those_of_others() -> None:
    text = app("[requires]\nx = 1\n[[checks]]\nname = 'a'\nhttp = '/'\n[[checks]]\nname = 3\n")
    assert [key for _, key, _ in faults_of(text)] == [
        "requires.x",
        "checks[0].http",
        "checks[0].http",
        "checks[1].name",
    ]


def test_no_fault_shows_a_credential() -> None:
    text = app(
        "source = 'svn://user:hunter2@host/x'\n[requires]\npip = ['x @ https://user:hunter2@host/x y', "
        "'https://[user:hunter2@host/x']\nconda = ['https://user:hunter2@host/c::numpy >']\n"
        "'https://user:hunter2@host' = 1\n"
    )
    with pytest.raises(ManifestError) as caught:
        decoded(text)
    assert len(caught.value.faults) == 5
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.data)


def test_keys_with_control_characters_are_escaped() -> None:
    [(_, key, message)] = faults_of(app('"a\\u001b[31m" = 1'))
    assert (key, "\x1b" in message) == (r'app."a\x1b[31m"', False)


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 7))
def test_a_truncated_manifest_is_a_manifest_error_or_sound(cut: int) -> None:
    decoded_or_refused(WHOLE[:cut])


@pytest.mark.parametrize(
    "odd", ["\x00", "\ufeff", "\ud800", "\r", "[", "]]", "{", "=", '"', "'''", "\\", ".", "é", "1e999"]
)
def test_a_damaged_manifest_is_a_manifest_error_or_sound(odd: str) -> None:
    for position in range(0, len(WHOLE), 41):
        decoded_or_refused(WHOLE[:position] + odd + WHOLE[position:])


@pytest.mark.parametrize(
    "value", ["0", "-1", "1e400", "nan", "''", "[]", "[[]]", "{}", "true", "00:00:00", "[{}, 1]", "9223372036854775808"]
)
@pytest.mark.parametrize("key", ["app", "requires", "targets", "hooks", "services", "checks", "boxes"])
def test_an_odd_value_is_a_manifest_error_or_sound(key: str, value: str) -> None:
    decoded_or_refused(f"{key} = {value}")
    decoded_or_refused(f"{key}.name = {value}")
    decoded_or_refused(f"{key} = {value}\n{app()}")


class TestPyproject:
    def test_the_project_fills_in_what_is_left_out(self) -> None:
        manifest = decoded('[project]\nname = "Hello"\nversion = "1.0"\n[tool.boxsnake]\n', "x/pyproject.toml")
        assert (manifest.app.name, manifest.app.version, manifest.app.source) == ("hello", "1.0", ".")

    def test_a_dynamic_version_is_left_to_the_source(self) -> None:
        text = '[project]\nname = "a"\ndynamic = ["version"]\n[tool.boxsnake.app]\ncommand = ["a"]\n'
        assert decoded(text, "pyproject.toml").app.version is None

    def test_what_is_given_wins(self) -> None:
        text = '[project]\nname = "a"\nversion = "1"\n[tool.boxsnake.app]\nname = "b"\nsource = "dist/a.whl"\n'
        manifest = decoded(text, "pyproject.toml")
        assert (manifest.app.name, manifest.app.version, manifest.app.source) == ("b", "1", "dist/a.whl")

    def test_faults_name_the_whole_key(self) -> None:
        text = '[project]\nname = "A b"\n[tool.boxsnake.requires]\npyp = []\n'
        assert [fault[:2] for fault in faults_of(text, "pyproject.toml")] == [
            (2, "project.name"),
            (4, "tool.boxsnake.requires.pyp"),
        ]

    @pytest.mark.parametrize("text", ["", "tool = 1", "[tool]\nboxsnake = 1", "[tool.other]"])
    def test_a_missing_table_is_a_fault(self, text: str) -> None:
        assert [message for _, _, message in faults_of(text, "pyproject.toml")] == ["has no table [tool.boxsnake]"]

    @pytest.mark.parametrize("project", ["project = 1", "[project]\nname = 1", "[[project]]"])
    def test_an_odd_project_is_a_fault(self, project: str) -> None:
        assert faults_of(f"{project}\n[tool.boxsnake]\n", "pyproject.toml")


LINES = '''
a.b = 1
"x y" = """
[no]
k = 1 \\""" """""
[t]  # c
'q' = [ 1, # x
  "]", [2,
  3], {z = 1, "w" = [1,
2]}]
d = 1979-05-27 07:32:00
[[c.d]]
n = 1
[[c.d]]
n = 2
[c.d.e]
f = \'\'\'
x\'\'\'
[[c.d.g]]
[ t . "u.v\\u0041" ]
w = {}
'''


def paths_of(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    found = [path] if path else []
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths_of(inner, (*path, key))
    return found


@pytest.mark.parametrize("text", [LINES, WHOLE, (ROOT / "pyproject.toml").read_text(encoding="utf-8")], ids="abc")
def test_every_key_has_a_line(text: str) -> None:
    lines = key_lines(text)
    paths = paths_of(tomllib.loads(text))
    assert sorted(map(str, lines)) == sorted(map(str, paths))
    source = text.splitlines()
    for path in paths:
        name = next(part for part in reversed(path) if isinstance(part, str))
        if isinstance(path[-1], str):
            assert name.removesuffix("A") in source[lines[path] - 1]


def test_lines_of_nested_values() -> None:
    lines = key_lines(LINES)
    wanted: list[KeyPath] = [
        ("x y",),
        ("t", "q", 2, 1),
        ("t", "q", 3, "w", 1),
        ("c", "d", 1, "e", "f"),
        ("c", "d", 1, "g", 0),
    ]
    assert [lines[path] for path in wanted] == [3, 9, 10, 17, 19]
    assert line_of(lines, ("c", "d", 1, "nothing", "here")) == 14
    assert line_of(lines, ("nothing",)) == 0


class TestFile:
    def test_a_manifest_of_its_own_comes_first(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[tool.boxsnake]\n")
        assert find(tmp_path) == tmp_path / "pyproject.toml"
        (tmp_path / "boxsnake.toml").write_text("")
        assert find(tmp_path) == tmp_path / "boxsnake.toml"

    def test_without_one_the_way_out_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
        with pytest.raises(UsageError, match="boxsnake init"):
            find(tmp_path)

    def test_one_in_a_folder_above_is_named_and_not_used(self, tmp_path: Path) -> None:
        (tmp_path / "boxsnake.toml").write_text(app())
        (tmp_path / "src").mkdir()
        with pytest.raises(UsageError, match=f"Go to {tmp_path}"):
            find(tmp_path / "src")

    @pytest.mark.parametrize("given", ["folder", "file", "nothing"])
    def test_load(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
        file = tmp_path / "boxsnake.toml"
        file.write_bytes(b"\xef\xbb\xbf" + app().replace("\n", "\r\n").encode())
        monkeypatch.chdir(tmp_path)
        loaded = load({"folder": tmp_path, "file": file, "nothing": None}[given], box_options=BOXES)
        assert (loaded.manifest.app.name, loaded.root) == ("a", tmp_path)
        assert loaded.path.samefile(file)

    @pytest.mark.parametrize(
        ("content", "line", "message"),
        [
            pytest.param(b"a = 1\nb = '\xe9'\n", 2, "is not UTF-8 text", id="Latin-1"),
            pytest.param("a = 1".encode("utf-16"), 0, "save it as UTF-8", id="UTF-16"),
            pytest.param(b"#" * 5_000_000, 0, "has more than", id="huge"),
        ],
    )
    def test_bytes_that_are_no_text(self, tmp_path: Path, content: bytes, line: int, message: str) -> None:
        file = tmp_path / "boxsnake.toml"
        file.write_bytes(content)
        with pytest.raises(ManifestError) as caught:
            load(file, box_options=BOXES)
        assert [(fault.line, message in fault.message) for fault in caught.value.faults] == [(line, True)]

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is no such file"):
            load(tmp_path / "other.toml", box_options=BOXES)


def test_the_reference_has_every_key() -> None:
    spec = importlib.util.spec_from_file_location("manifest_tables", ROOT / "docs" / "manifest_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    assert tables.written(text) == text, "run `python docs/manifest_tables.py`"
    for model in TABLES:
        assert f"<!-- {model.__name__} -->\n| key |" in text
        keys = [key_of(spec.name) for spec in fields(model)]
        assert [key for key in keys if f"\n| `{key}` |" not in text] == []


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_reference_are_sound(number: int) -> None:
    text = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    example = text.split("```toml\n")[1 + number].partition("```")[0]
    assert decode(example, ["boxsnake.toml", "pyproject.toml"][number], box_options=BOXES).app.name


class TestRemembered:
    """What a text was decoded to is in the store."""

    def test_it_is_what_was_decoded(self) -> None:
        manifest = decoded(WHOLE)
        again = read(json.loads(canonical_json(written(manifest))))
        assert dict(again.boxes) == manifest.boxes
        assert list(again.boxes) == list(manifest.boxes)
        assert replace(again, boxes={}) == replace(manifest, boxes={})

    @pytest.mark.parametrize("text", [app(), app("[boxes]\n"), app('[boxes.image]\ntags = ["a:1"]\n[boxes.deb]\n')])
    def test_formats_and_their_options(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "boxsnake.toml").write_text(text)
        store = Store(tmp_path / "store")
        first, second = (load(tmp_path, store=store).manifest.boxes for _ in range(2))
        assert dict(first) == dict(second)
        assert list(first) == list(second)

    def test_nothing_is_validated_again(self, tmp_path: Path) -> None:
        (tmp_path / "boxsnake.toml").write_text(app('[targets.a]\nplatform = "linux-64"\n'))
        script = (
            "import sys\nfrom pathlib import Path\nfrom boxsnake.manifest_file import load\n"
            "from boxsnake.store import Store\n"
            "loaded = load(store=Store(Path('store')))\n"
            "assert loaded.manifest.targets['a'].platform == 'linux-64'\n"
            "print('pydantic' in sys.modules)\n"
        )
        command = [sys.executable, "-c", script]
        runs = [subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True) for _ in range(2)]
        assert [done.stdout for done in runs] == ["True\n", "False\n"]

    def test_an_edit_is_seen_and_a_fault_told_each_time(self, tmp_path: Path) -> None:
        store, file = Store(tmp_path / "store"), tmp_path / "boxsnake.toml"
        times = (1_600_000_000, 1_600_000_000)
        for name in ("a", "b"):
            file.write_text(app().replace('"a"', f'"{name}"'))
            os.utime(file, times)
            assert load(file, store=store).manifest.app.name == name
        file.write_text(app("[boxes.rmp]\n"))
        for _ in range(2):
            with pytest.raises(ManifestError, match="rmp"):
                load(file, store=store)

    def test_the_file_s_name_counts(self, tmp_path: Path) -> None:
        store, text = Store(tmp_path / "store"), f"{app()}[tool.boxsnake.app]\nname = 'b'\nversion = '1'\n"
        (tmp_path / "pyproject.toml").write_text(text)
        assert load(tmp_path / "pyproject.toml", store=store).manifest.app.name == "b"
        (tmp_path / "boxsnake.toml").write_text(text)
        with pytest.raises(ManifestError, match="tool"):
            load(tmp_path / "boxsnake.toml", store=store)

    @pytest.mark.parametrize("damage", [b"", b"{}", b"[]", None])
    def test_a_damaged_store_costs_time_alone(self, tmp_path: Path, damage: bytes | None) -> None:
        (tmp_path / "boxsnake.toml").write_text(app())
        store = Store(tmp_path / "store")
        wanted = load(tmp_path, store=store).manifest
        (kept,) = (path for path in (store.root / "v1" / "selectors" / "manifest").rglob("*.json"))
        text = kept.read_bytes().replace(b'"told":{"name":"a"', b'"told":{"name":"z"') if damage is None else damage
        assert text != kept.read_bytes()
        kept.chmod(0o644)
        kept.write_bytes(text)
        assert load(tmp_path, store=store).manifest.app == wanted.app

    def test_credentials_stay_out_of_the_store(self, tmp_path: Path) -> None:
        (tmp_path / "boxsnake.toml").write_text(app('[requires]\nchannels = ["https://me:CANARY@example.org/c"]\n'))
        store = Store(tmp_path / "store")
        for _ in range(2):
            assert "CANARY" in load(tmp_path, store=store).manifest.requires.channels[0]
        assert [path for path in store.root.rglob("*") if path.is_file() and b"CANARY" in path.read_bytes()] == []
