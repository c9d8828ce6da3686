"""Stacks and boots by podman, root's and an ordinary user's, each with storage of its own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from boxsnake import hosts
from boxsnake.store import Store
from tests.podman_service import podman_service
from tests.somebody import ROOT_ALONE, as_somebody, public_folder
from tests.test_examples import copy_of

HOST = hosts.load_hosts()["debian-12-python"]


@pytest.mark.channel
@pytest.mark.index
@pytest.mark.thorough
@ROOT_ALONE
def test_a_stack_is_brought_up_and_removed(tmp_path: Path) -> None:
    application = copy_of("hello-web", tmp_path / "hello-web")
    application.ask("lock")
    with podman_service(tmp_path) as podman:
        variables = {**podman.environment, "DOCKER_HOST": podman.address, "BOXSNAKE_RUNTIME": "podman"}
        try:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                # So podman takes any that is free: what a killed podman has forwarded stays forwarded.
                asked_for = f"{taken.getsockname()[1]}:8000"
                up = application.run("up", "--port", asked_for, environment=variables)
            assert up.returncode == 0, up.stdout + up.stderr
            asked = "import socket; socket.create_connection(('redis', 6379), timeout=10)"
            done = application.run("exec", "--", "python", "-c", asked, environment=variables)
            assert (done.returncode, done.stderr) == (0, "")
            units = application.ask("ps", environment=variables)["containers"]
            assert [unit["state"] for unit in units] == ["running", "running"]
        finally:
            down = application.run("down", environment=variables)
        assert (down.returncode, down.stdout) == (0, "2 containers removed\n")


BOOTING = """
import os
from pathlib import Path
from boxsnake.boot import boot
from boxsnake.boot.runtimes import runtime_of
from boxsnake.boot.scenarios import SCENARIOS
from boxsnake.store import Store
from tests.podman_service import podman_service
from tests.tiny_box import ALIVE, recipe_for, write_box
home = Path.home()
(home / "runtime").mkdir(mode=0o700)
os.environ["XDG_RUNTIME_DIR"] = str(home / "runtime")
store = Store(Store.default_root())
with podman_service(home) as podman:
    runtime = runtime_of("podman", store, {**podman.environment, "DOCKER_HOST": podman.address})
    recipe = recipe_for(write_box(home), "serve")
    report = boot(runtime, store, home, recipe, [ALIVE])
    limited = boot(runtime, store, home, recipe, [], scenario=SCENARIOS["limits"])
    print(report.verdict, limited.verdict, runtime.no_limits or "limits", runtime.engine.containers(), sep="; ")
"""


@pytest.mark.thorough
@ROOT_ALONE
def test_an_ordinary_user_boots_by_podman() -> None:
    source = Store(Store.default_root())
    with public_folder() as folder:
        theirs = Store(folder / "home" / "store")
        blob = theirs.put_file(source.path(hosts.rootfs(source, HOST).digest))
        theirs.select("host", hosts._key(HOST), {"digest": blob.digest, "size": blob.size})
        done = as_somebody(folder, "-c", BOOTING)
        assert done.returncode == 0, done.stderr
        verdict, limited, why, left = done.stdout.strip().split("; ")
        assert (verdict, left) == ("passed", "()")
        assert (limited, "does not limit" in why) == ("skipped", True)
