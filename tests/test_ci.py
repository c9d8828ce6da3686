"""Pipelines that build servers take: valid by their vendors' own schemas and checks, and of commands that exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from boxsnake.cli import boxsnake

MANIFEST = """
[app]
name = "shop"
version = "1"
command = ["python"]

[targets.here]
platform = "linux-64"

[targets.there]
platform = "linux-aarch64"

[boxes.image]
base = "scratch"

[boxes.rpm]
"""
SCHEMAS = {"gitlab": "gitlab-ci.json", "github": "github-workflows.json"}
WHOLE = ["lock --check", "build", "sbom", "boot --target here", "publish image", 'publish rpm-repo "$RPM_REPOSITORY"']


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest that is not at the top of its repository, on a path that wants quotes."""
    (tmp_path / ".git").mkdir()
    made = tmp_path / "ours it's"
    made.mkdir()
    (made / "boxsnake.toml").write_text(MANIFEST)
    return made


def written(folder: Path, server: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "boxsnake", "ci", server, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def scripts(server: str, text: str) -> list[str]:
    """All lines that a shell is given."""
    if server == "gitlab":
        document = yaml.safe_load(text)
        jobs = [document["default"], *(document[name] for name in document["stages"])]
        return [line for job in jobs for line in (*job.get("before_script", ()), *job.get("script", ()))]
    if server == "github":
        steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
        return [line for step in steps for line in step.get("run", "").splitlines()]
    if server == "jenkins":
        blocks = re.findall(r"sh '''(.*?)'''", text.replace("\\'", "\0"), re.DOTALL)
        return [
            line.strip().replace("\0", "'").replace("\\\\", "\\") for block in blocks for line in block.splitlines()
        ]
    calls: list[str] = []
    factory = type("Factory", (), {"addStep": lambda _self, step: calls.extend(step)})()
    plugins = {
        "util": _Anything(BuildFactory=lambda: factory),
        "steps": _Anything(ShellCommand=lambda **given: given["command"][-1].splitlines()),
    }
    body = text.partition("from buildbot.plugins")[2].partition("\n")[2].partition("\nc = ")[0]
    exec(body, {"steps": plugins["steps"], "util": plugins["util"]})  # noqa: S102 - what was just written
    return calls


class _Anything:
    """Takes every call."""

    def __init__(self, **known: Any) -> None:
        self._known = known

    def __getattr__(self, name: str) -> Any:
        return self._known.get(name, lambda *_given, **_named: ())


@pytest.mark.parametrize("server", ["gitlab", "github", "jenkins", "buildbot"])
def test_a_pipeline_does_the_same_everywhere_by_commands_that_exist(folder: Path, server: str) -> None:
    lines = scripts(server, written(folder, server, *(["--repository", "x.git"] if server == "buildbot" else [])))
    ours = [line.partition("/opt/boxsnake/bin/boxsnake ")[2] for line in lines if "bin/boxsnake " in line]
    assert ours == WHOLE
    assert "cd 'ours it'\"'\"'s'" in lines
    for line in ours:
        _check(shlex.split(line))
    subprocess.run(["sh", "-n"], input="\n".join(lines), text=True, check=True)


def _check(words: list[str]) -> None:
    """Have the command line take the words, without running them."""
    context = click.Context(boxsnake, info_name="boxsnake")
    found: click.Command = boxsnake
    while isinstance(found, click.Group):
        _, following, words = found.resolve_command(context, words)
        assert following is not None
        found = following
    found.make_context("boxsnake", words)


@pytest.mark.parametrize("server", sorted(SCHEMAS))
def test_it_is_valid_by_the_vendors_schema(folder: Path, server: str) -> None:
    import jsonschema  # which takes seconds, and all processes of a run import this file

    place = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / SCHEMAS[server]
    validator = jsonschema.Draft7Validator(json.loads(place.read_text(encoding="utf-8")))
    document = yaml.safe_load(written(folder, server))
    assert [error.message for error in validator.iter_errors(document)] == []
    job = document["build"] if server == "gitlab" else document["jobs"]["boxes"]
    job["nonsense"] = 1
    assert not validator.is_valid(document)


def test_buildbot_takes_its_configuration(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "master.cfg"
    written(folder, "buildbot", "--repository", "https://example.org/x.git", "--output", str(file))
    command = [str(Path(sys.executable).with_name("buildbot")), "checkconfig", str(file)]
    environment = {**os.environ, "BUILDBOT_WORKER_PASSWORD": "x"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, "Config file is good" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_jenkinsfile_closes_what_it_opens(folder: Path) -> None:
    text = written(folder, "jenkins", "--branch", "it's")
    assert "branch 'it\\'s'" in text
    bare = re.sub(r"'''.*?'''|'[^'\n]*'|\"[^\"\n]*\"", "", text.replace("\\'", ""), flags=re.DOTALL)
    assert bare.count("{") == bare.count("}") > 10
    assert bare.count("stage(") == 5


def test_buildbot_must_be_told_what_to_check_out(folder: Path) -> None:
    command = [sys.executable, "-m", "boxsnake", "ci", "buildbot"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, "--repository URL" in done.stderr) == (2, True)
