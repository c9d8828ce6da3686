"""Checks of container-structure-test and goss: what is taken over, and what is refused by its key."""

from __future__ import annotations

import pytest

from boxsnake.boot_recipe import Check
from boxsnake.errors import ManifestError
from boxsnake.foreign_checks import foreign_checks

STRUCTURE = """
schemaVersion: "2.0.0"
commandTests:
  - name: version
    command: hello-web
    args: ["--version"]
    expectedOutput: ["^hello-web", "1\\\\.0"]
  - name: fails
    command: "false"
    exitCode: 1
fileExistenceTests:
  - name: there
    path: /etc/passwd
    shouldExist: true
fileContentTests:
  - name: root
    path: /etc/passwd
    expectedContents: ["root:.*"]
"""
GOSS = """
command:
  version:
    title: it tells its version
    exec: hello-web --version
    exit-status: 0
    stdout: ["hello-web", "/^hello.*1/"]
    timeout: 5000
file:
  /etc/passwd: {exists: true, contents: ["root:"]}
port:
  tcp:8000: {listening: true}
http:
  http://localhost:8000/health?all=1: {status: 200, body: ["ok"]}
  http://localhost:8000/other: {skip: true}
"""


def test_container_structure_tests_are_taken_over() -> None:
    run = ("hello-web", "--version")
    assert foreign_checks(STRUCTURE, "tests.yaml") == (
        Check(name="version", run=run, matches="^hello-web"),
        Check(name="version (2)", run=run, matches="1\\.0"),
        Check(name="fails", run=("false",), exit_code=1),
        Check(name="there", file="/etc/passwd"),
        Check(name="root", file="/etc/passwd", matches="root:.*"),
    )


def test_goss_files_are_taken_over() -> None:
    run = ("sh", "-c", "hello-web --version")
    url = "http://localhost:8000/health?all=1"
    assert foreign_checks(GOSS, "goss.yaml") == (
        Check(name="version", run=run, matches="hello\\-web", timeout=5),
        Check(name="version (2)", run=run, matches="^hello.*1", timeout=5),
        Check(name="/etc/passwd", file="/etc/passwd", matches="root:"),
        Check(name="tcp:8000", tcp=8000),
        Check(name=url, http="/health?all=1", port=8000, matches="ok"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("schemaVersion: 2.0.0\nmetadataTest: {}", "metadataTest: has no counterpart"),
        ("schemaVersion: 2.0.0\nlicenseTests: []", "licenseTests: has no counterpart"),
        ("schemaVersion: 2.0.0\ncommandTests: [{command: x}]", "commandTests[0]: has no name"),
        (
            "schemaVersion: 2.0.0\ncommandTests: [{name: a, command: x, setup: [[y]]}]",
            "commandTests[0].setup: has no counterpart",
        ),
        (
            "schemaVersion: 2.0.0\nfileExistenceTests: [{name: a, path: /x, shouldExist: false}]",
            "fileExistenceTests[0].shouldExist: has no counterpart",
        ),
        ("process: {sshd: {running: true}}", "process: has no counterpart"),
        ("process: {sshd: {running: true}}", "Take these out"),
        ("file: {/x: {exists: true, mode: '0644'}}", "file./x.mode: has no counterpart"),
        ("command: {x: {stdout: ['!bad']}}", "what must not be there ('!bad') has no counterpart"),
        ("command: {x: {stdout: ['/(/']}}", "'(' is no regular expression"),
        ("port: {udp:53: {listening: true}}", "port.udp:53: has no counterpart"),
        ("http: {https://example.org/: {status: 200}}", "asks another host, or by TLS"),
        ("command: {x: {exit-status: none}}", "command.x: cannot be read"),
        ("schemaVersion: 2.0.0\ncommandTests: [{name: a, command: x, args: 3}]", "commandTests[0]: cannot be read"),
        ("a: [", "is no YAML"),
        ("a: [", "Correct the file"),
        ("- a", "its top is no mapping"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_by_its_key(text: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        foreign_checks(text, "checks.yaml")
    assert told in str(caught.value)
