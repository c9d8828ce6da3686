"""An application and its services, started as they are and gone without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake.boot_recipe import Check
from boxsnake.engine import Engine, connect
from boxsnake.errors import BootError, ManifestError, UsageError
from boxsnake.export.facts import Deployment
from boxsnake.hosts import image_id, load_hosts
from boxsnake.manifest.decoding import decode
from boxsnake.stack.plan import stack_of
from boxsnake.stack.running import STACK_LABEL, Terms, remove, start
from boxsnake.stack.secrets import secrets_of
from boxsnake.stack.source import mounts
from boxsnake.stack.value import Stack, Unit
from boxsnake.store import Store
from tests.test_examples import Application, copy_of

pytestmark = pytest.mark.long

VALUE = "it's a s3cret"
SERVICES = """
[services.database]
image = "service:postgresql"
secrets = ["POSTGRES_PASSWORD"]
environment = {POSTGRES_USER = "hello", POSTGRES_DB = "greetings"}

[environments.alone]
without = ["redis", "database", "idle"]

[environments.broken.services]
redis = "service:nothing"

[services.idle]
image = "service:redis"
command = ["sh", "-c", "sleep 0.3; echo cannot go on; exit 3"]

[environments.failing]
without = ["database", "redis"]
"""


def manifest_of(text: str) -> Any:
    return decode('[app]\nname = "x"\nversion = "1"\nsecrets = ["TOKEN"]\n' + text, "boxsnake.toml", box_options={})


DEPLOYMENT = Deployment(name="x", version="1", image="x:1", user="5:5", environment=(("A", "1"), ("B", "2")))


def test_an_environment_chooses_variables_images_and_services() -> None:
    manifest = manifest_of(
        '[services.a]\nimage = "a:1"\n[services.b]\nimage = "b:1"\n'
        '[environments.stage]\nenvironment = {B = "3", C = "4"}\nwithout = ["b"]\n'
        '[environments.stage.services]\na = "a:2"\n'
    )
    stack = stack_of(manifest, DEPLOYMENT, environment="stage", identity="i")
    assert [(unit.name, unit.image) for unit in stack.units] == [("a", "a:2"), ("x", "x:1")]
    assert dict(stack.application.environment) == {"A": "1", "B": "3", "C": "4"}
    plain = stack_of(manifest, DEPLOYMENT, environment="local", identity="i")
    assert [unit.image for unit in plain.services] == ["a:1", "b:1"]
    with pytest.raises(UsageError, match="local, stage"):
        stack_of(manifest, DEPLOYMENT, environment="prod", identity="i")


@pytest.mark.parametrize("text", ['without = ["c"]', 'services = {c = "c:1"}', 'environment = {TOKEN = "x"}'])
def test_an_environment_must_fit_the_rest(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        stack_of(manifest_of(f"[environments.e]\n{text}\n"), DEPLOYMENT, environment="e", identity="i")
    assert caught.value.faults[0].key.startswith("environments.e.")


def test_secrets_come_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("# ours\nexport A=a\nB='b = c'\n")
    (tmp_path / "c").write_text("from a file\n")
    given = {"A": "other", "C_FILE": str(tmp_path / "c")}
    found = secrets_of(("A", "B", "C"), given, file, thing="x")
    assert found == {"A": "other", "B": "b = c", "C": "from a file"}
    with pytest.raises(UsageError, match="nobody has given: D, E"):
        secrets_of(("D", "E"), {}, file, thing="x")


def wheel_with(folder: Path, *paths: str) -> Path:
    wheel = folder / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in paths:
            archive.writestr(path, "")
    return wheel


def test_a_checkout_is_mounted_package_by_package(tmp_path: Path) -> None:
    wheel = wheel_with(
        tmp_path, "a/__init__.py", "a/b/__init__.py", "space/c/__init__.py", "d.py", "x-1.dist-info/RECORD"
    )
    for path in ("src/a", "src/space/c"):
        (tmp_path / path).mkdir(parents=True)
    with pytest.raises(UsageError, match=r"none of src/d\.py"):
        mounts(wheel, tmp_path, "/site", thing="x")
    (tmp_path / "d.py").touch()
    assert mounts(wheel, tmp_path, "/site", thing="x") == (
        (str(tmp_path / "src/a"), "/site/a"),
        (str(tmp_path / "d.py"), "/site/d.py"),
        (str(tmp_path / "src/space/c"), "/site/space/c"),
    )
    with pytest.raises(UsageError, match="compiled modules"):
        mounts(wheel_with(tmp_path, "a/__init__.py", "a/fast.so"), tmp_path, "/site", thing="x")


# Real ones


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    copied = copy_of("hello-web", tmp_path_factory.mktemp("stack") / "hello-web")
    manifest = copied.folder / "boxsnake.toml"
    text = manifest.read_text().replace('"redis:7"', '"service:redis"')
    manifest.write_text(text.replace("[environments.local]", f"{SERVICES}[environments.local]\nwithout = ['idle']"))
    copied.ask("lock")
    copied.ask("build", "image")
    return copied


@pytest.fixture
def engine(application: Application) -> Iterator[Engine]:
    """The engine, in which nothing is left of the stack afterwards."""
    found = connect()
    yield found
    left = found.labelled(STACK_LABEL, _identity(application))
    application.run("down")
    assert left == ()
    assert not _own_networks(application)


def _identity(application: Application) -> str:
    from boxsnake.cli.stack import identity_of

    return identity_of(application.folder)


def _own_networks(application: Application) -> list[str]:
    command = ["docker", "network", "ls", "--format", "{{.Name}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split() if _identity(application) in name]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_a_stack_is_brought_up_shown_and_brought_down(application: Application, engine: Engine, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        here = taken.getsockname()[1]
        arguments = ("up", "--env", "LANG=C.UTF-8", "--port", f"{here}:8000")
        urls = application.ask(*arguments, environment={"POSTGRES_PASSWORD": VALUE})["urls"]
    reached = {one["unit"]: one["url"] for one in urls}
    assert set(reached) == {"redis", "database", "hello-web"}
    # Where somebody listens already, another port is taken.
    assert not reached["hello-web"].endswith(f":{here}")
    assert [get(f"{reached['hello-web']}/visits")["visits"] for _ in range(2)] == [1, 2]
    there = {one["unit"]: one for one in application.ask("ps")["containers"]}
    assert {unit: (one["kind"], one["state"]) for unit, one in there.items()} == {
        "redis": ("service", "running"), "database": ("service", "running"), "hello-web": ("application", "running"),
    }  # fmt: skip
    assert there["hello-web"]["urls"] == [reached["hello-web"]]
    question = [
        "psql",
        "--host",
        "127.0.0.1",
        "--user",
        "hello",
        "--tuples-only",
        "--command",
        "select 6 * 7",
        "greetings",
    ]
    container = engine.attached(there["database"]["id"])
    answer = container.execute(question, seconds=30, environment={"PGPASSWORD": VALUE})
    assert answer.output.strip() == b"42", answer.errors
    # What the engine keeps of a container has no secret.
    kept = subprocess.run(["docker", "inspect", there["database"]["id"]], capture_output=True, text=True, check=True)
    assert VALUE.rpartition(" ")[2] not in kept.stdout
    # Where no manifest lies, every stack is listed.
    anywhere = subprocess.run(
        [sys.executable, "-m", "boxsnake", "ps", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert there["redis"]["id"] in {one["id"] for one in json.loads(anywhere.stdout)["containers"]}
    logs = application.run("logs", "database")
    assert "database | " in logs.stdout
    assert "ready to accept connections" in logs.stdout
    assert application.run("logs", "nobody").returncode == 2
    assert application.run("exec", "--service", "redis", "redis-cli", "get", "visits").stdout == "2\n"
    ended = application.run("exec", "sh", "-c", "echo out; echo err >&2; id -u; exit 3")
    assert (ended.returncode, ended.stdout, "err" in ended.stderr) == (3, "out\n10001\n", True)
    prompt = [sys.executable, "-m", "boxsnake", "shell", "--python"]
    said = subprocess.run(prompt, cwd=application.folder, input="print(6 * 7)", capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "42\n")
    assert "3 containers removed" in application.run("down").stdout
    assert "nothing was up" in application.run("down").stdout
    assert application.run("logs").returncode == 2


def started(application: Application, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "POSTGRES_PASSWORD": VALUE}
    return subprocess.Popen(
        [sys.executable, "-m", "boxsnake", "run", *arguments],
        cwd=application.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines up to the one with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_run_shows_logs_and_ctrl_c_ends_it(application: Application, engine: Engine) -> None:
    process = started(application)
    lines = until(process, "hello-web: http://")
    (url,) = re.findall(r"http://\S+", lines[-1])
    assert get(f"{url}/health")["status"] == "ok"
    assert any(line.startswith("redis     | ") for line in lines)
    # No colours where there is no terminal.
    assert not any("\x1b" in line for line in lines)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert engine.labelled(STACK_LABEL, _identity(application)) == ()


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_nothing_is_left_after_a_kill(application: Application, engine: Engine) -> None:
    process = started(application, "--environment", "alone")
    until(process, "hello-web: http://")
    assert len(engine.labelled(STACK_LABEL, _identity(application))) == 1
    process.kill()
    process.communicate()
    for _ in range(300):
        if not engine.labelled(STACK_LABEL, _identity(application)) and not _own_networks(application):
            break
        time.sleep(0.1)


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
@pytest.mark.usefixtures("engine")
def test_a_box_that_is_no_image_is_started_where_it_was_installed(application: Application) -> None:
    urls = application.ask("up", "pex", "--environment", "alone")["urls"]
    assert get(f"{urls[0]['url']}/health")["status"] == "ok"
    shown = application.run("exec", "sh", "-c", "id -u; ls /opt/hello-web")
    assert shown.stdout == "10001\nhello-web-1.0.0.pex\n", shown.stderr
    assert application.run("up", "pex", "--mount-source").returncode == 2
    assert application.run("up", "dockerfile").returncode == 2
    assert "1 container removed" in application.run("down").stdout


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
@pytest.mark.parametrize("command", ["run", "up"])
def test_what_does_not_become_ready_is_named_with_its_last_words(
    application: Application, engine: Engine, command: str
) -> None:
    done = application.run(command, "--environment", "failing")
    assert done.returncode == 10, done.stdout + done.stderr
    assert "idle: ended with 3" in done.stderr
    assert "cannot go on" in done.stderr
    assert engine.labelled(STACK_LABEL, _identity(application)) == ()


@pytest.mark.engine
@pytest.mark.parametrize("request_", [None, Check(name="answers", http="/", port=8000)])
def test_an_application_may_end_where_nobody_is_to_ask_it(request_: Check | None) -> None:
    engine = connect()
    name = f"ends-{uuid.uuid4().hex[:12]}"
    image = image_id(engine, Store(Store.default_root()), load_hosts()["debian-12"])
    unit = Unit(name=name, image=image, command=("true",), request=request_, ports=(8000,) if request_ else ())
    said: list[str] = []
    terms = Terms(
        image=lambda: image,
        secrets={},
        python=(),
        labels={STACK_LABEL: name},
        ports={},
        say=lambda _, text: said.append(text),
        watch=lambda *_: None,
    )
    try:
        with pytest.raises(BootError, match="ended with 0") if request_ else contextlib.nullcontext():
            start(engine, Stack(name=name, id=name, environment="local", application=unit), terms)
    finally:
        remove(engine, name)
    assert [text.partition(" after")[0] for text in said] == ([] if request_ else ["ended with 0"])


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
def test_what_cannot_be_started_is_refused_before_anything_is(application: Application, engine: Engine) -> None:
    lacking = application.run("run")
    assert (lacking.returncode, "POSTGRES_PASSWORD" in lacking.stderr) == (2, True)
    unknown = application.run("up", "--environment", "broken", environment={"POSTGRES_PASSWORD": VALUE})
    assert (unknown.returncode, "service:postgresql, service:redis" in unknown.stderr) == (2, True)
    for wrong in (("--env", "x"), ("--port", "9:9"), ("--environment", "moon"), ("imago",)):
        assert application.run("run", *wrong).returncode == 2
    assert engine.labelled(STACK_LABEL, _identity(application)) == ()


@pytest.mark.channel
@pytest.mark.engine
@pytest.mark.index
@pytest.mark.usefixtures("engine")
def test_an_edit_of_the_working_copy_shows_at_once(application: Application, tmp_path: Path) -> None:
    library = tmp_path / "itsdangerous"
    library.mkdir()
    (library / "__init__.py").write_text(
        "ANSWER = 42\nclass BadSignature(Exception): ...\nclass URLSafeTimedSerializer: ...\n"
    )
    process = started(
        application, "--environment", "alone", "--mount-source", "--debug", "--with", f"itsdangerous={tmp_path}"
    )
    lines = until(process, "hello-web: http://")
    (url,) = re.findall(r"http://\S+", lines[-1])
    ports = {int(found) for line in lines for found in re.findall(r"tcp://127\.0\.0\.1:([0-9]+)", line)}
    with socket.create_connection(("127.0.0.1", ports.pop()), 5) as debugger:
        request = b'{"seq":1,"type":"request","command":"initialize","arguments":{"adapterID":"x"}}'
        debugger.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(request), request))
        assert debugger.recv(15) == b"Content-Length:"
    asked = application.run("exec", "python", "-c", "import itsdangerous; print(itsdangerous.ANSWER)")
    assert asked.stdout == "42\n", asked.stderr
    edited = application.folder / "src" / "hello_web" / "__init__.py"
    edited.write_text(edited.read_text().replace('status="ok"', 'status="ok", edited=True'))
    until(process, "starting anew")
    until(process, "ready after")
    assert get(f"{url}/health")["edited"] is True
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
