"""How an image's processes start: what its configuration says is run here, with this machine's Python."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake.bases import Base
from boxsnake.boot_recipe import Check
from boxsnake.errors import PackError
from boxsnake.image.configuration import runtime
from boxsnake.lock import TargetLock
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.target import Target
from tests.test_layers import conda

TELL = "import json, os, sys; print(json.dumps([os.getpid(), sys.argv[1:]]))"
COMMANDS = (("migrate", (sys.executable, "-c", TELL, "--all")), ("gone", ("/no/such/program",)))


def plan_of(*, lock: TargetLock | None = None, checks: tuple[Check, ...] = (), **given: Any) -> Plan:
    application = Application(
        name="hello", version="1.0", command=(sys.executable, "-c", TELL, "serve"), commands=COMMANDS
    )
    options = ImageOptions.decoded({key: value for key, value in given.items() if key != "application"})
    return Plan(
        application=dataclasses.replace(application, **given.get("application", {})),
        lock=lock or TargetLock(target=Target(name="default"), python="3.11.9", conda=(), wheels=()),
        options=options,
        root=Path("/"),
        epoch=0,
        checks=checks,
    )


def said(plan: Plan) -> dict[str, Any]:
    return runtime(plan, Base(name="scratch", digest="scratch"), ()).document()


def here(words: list[str]) -> list[str]:
    """The words with this Python in place of the box's."""
    return [sys.executable if word == "/opt/env/bin/python" else word for word in words]


def started(plan: Plan, *arguments: str) -> subprocess.Popen[str]:
    """What an engine starts for `docker run IMAGE arguments`."""
    words = said(plan)
    command = [*here(words.get("Entrypoint", [])), *(arguments or words.get("Cmd", []))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), ["serve"]),
        (("migrate",), ["--all"]),
        (("migrate", "--to", "a b\n$(x)"), ["--all", "--to", "a b\n$(x)"]),
        (("serve-other", "-v"), ["serve-other", "-v"]),
    ],
    ids=["default", "by name", "with arguments", "no name"],
)
def test_a_first_argument_may_be_a_command(arguments: tuple[str, ...], told: list[str]) -> None:
    plan = plan_of(entrypoint=(sys.executable, "-c", TELL), command=() if arguments else ("serve",))
    process = started(plan, *arguments)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    # The very process that the engine has started: signals reach it.
    assert json.loads(output) == [process.pid, told]


def test_signals_are_as_a_program_expects_them() -> None:
    commands = (("signals", ("/bin/sh", "-c", "grep SigIgn /proc/self/status")),)
    output, _ = started(plan_of(application={"commands": commands}), "signals").communicate(timeout=30)
    direct = subprocess.run(
        ["/bin/sh", "-c", "grep SigIgn /proc/self/status"], capture_output=True, text=True, restore_signals=True
    )
    assert output == direct.stdout


def test_without_commands_no_launcher_is_needed() -> None:
    words = said(plan_of(application={"commands": ()}))
    assert words["Entrypoint"] == [sys.executable]


def test_an_application_without_a_command_of_its_own_can_have_others() -> None:
    plan = plan_of(application={"command": ()})
    assert said(plan)["Cmd"] == ["/opt/env/bin/python"]
    output, _ = started(plan, "migrate").communicate(timeout=30)
    assert json.loads(output)[1] == ["--all"]
    output, _ = started(plan, sys.executable, "-c", "print(1)").communicate(timeout=30)
    assert output == "1\n"


def test_commands_are_proven_by_the_boot_and_found_in_the_box() -> None:
    plan = plan_of(application={"commands": (("migrate", ("manage", "migrate")),)})
    recipe = PACKAGER.boot(plan, Path("x"))
    assert (recipe.commands, recipe.program) == (("migrate",), sys.executable)
    table = json.loads(said(plan)["Entrypoint"][3])
    assert table["commands"] == {"migrate": ["/opt/env/bin/manage", "migrate"]}


def test_a_command_with_a_nul_is_refused() -> None:
    with pytest.raises(PackError, match="control character"):
        PACKAGER.check(plan_of(application={"commands": (("x", ("a", "b\0c")),)}))


def test_an_init_is_the_first_process_or_is_missed() -> None:
    lock = TargetLock(target=Target(name="default"), python="3.11.9", conda=(conda("tini"),), wheels=())
    plan = plan_of(lock=lock, init=True, application={"commands": ()})
    PACKAGER.check(plan)
    assert said(plan)["Entrypoint"] == ["/opt/env/bin/tini", "--", sys.executable]
    bare = plan_of(lock=lock, init=True, application={"commands": (), "command": ()})
    assert (said(bare)["Entrypoint"], said(bare)["Cmd"]) == (["/opt/env/bin/tini", "--"], ["/opt/env/bin/python"])
    with pytest.raises(PackError, match="no conda package tini") as caught:
        PACKAGER.check(plan_of(init=True))
    assert "conda" in caught.value.next_step


# Health

HEALTH = Check(name="answers", http="/health?a=b", port=0, status=201, expect="fine", timeout=60)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(201 if self.path == "/health?a=b" else 404)
        self.end_headers()
        self.wfile.write(b"all is fine")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("changes", "well"),
    [({}, True), ({"status": 200}, False), ({"expect": "ill"}, False), ({"http": "/"}, False), ({"port": 9}, False)],
    ids=["well", "another status", "another text", "another path", "nobody there"],
)
def test_the_first_request_of_the_checks_tells_health(port: int, changes: dict[str, Any], well: bool) -> None:
    checks = (Check(name="runs", run=("hello",)), dataclasses.replace(HEALTH, **{"port": port} | changes))
    check = said(plan_of(checks=checks))["Healthcheck"]
    assert check["Test"][:3] == ["CMD", "/opt/env/bin/python", "-ISc"]
    times = {key: value for key, value in check.items() if key != "Test"}
    second = 10**9
    assert times == {"Interval": 30 * second, "Timeout": 10 * second, "StartPeriod": 60 * second, "Retries": 3}
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(here(check["Test"][1:]), env=environment, capture_output=True, timeout=30)
    assert (done.returncode == 0) == well


def test_an_image_says_nothing_of_health_where_nothing_is_asked() -> None:
    assert "Healthcheck" not in said(plan_of())
    assert "Healthcheck" not in said(plan_of(checks=(dataclasses.replace(HEALTH, port=1),), healthcheck=False))
