"""Booting an artifact that is itself an image: read-only, as its own user, other images' names untouched."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from boxsnake import hosts
from boxsnake.boot import boot
from boxsnake.boot.image import loaded
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot_recipe import BootRecipe, Check, Expected
from boxsnake.engine import Engine, connect
from boxsnake.errors import BootError
from boxsnake.image.docker_archive import read_archive
from boxsnake.store import Store

TAG = "boxsnake-test/tiny:1"
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getuid()} {os.getcwd()} {os.environ['COLOUR']} {sys.argv[1:]}".encode())
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
RECIPE = BootRecipe(
    host="artifact",
    copies=(),
    install=(),
    python=("/usr/bin/python3",),
    scripts=None,
    command=("/not/what/the/image/says",),
    remove=(),
    writes=(),
    remains=(),
    expects=Expected(distributions=(), conda=(), console_scripts=()),
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return connect()


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


@pytest.fixture(scope="module")
def archive(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker archive: the host's layer, and one with an application."""
    base = hosts.rootfs(store, hosts.load_hosts()["debian-12-python"])
    application = io.BytesIO()
    with tarfile.open(fileobj=application, mode="w") as layer:
        add(layer, "srv/serve.py", SERVER.encode())
    diff_ids = [base.digest, f"sha256:{hashlib.sha256(application.getvalue()).hexdigest()}"]
    settings = {
        "Entrypoint": ["/usr/bin/python3", "/srv/serve.py"],
        "Cmd": ["--flag"],
        "Env": ["PATH=/usr/bin:/bin", "COLOUR=green"],
        "User": "4242:4242",
        "WorkingDir": "/srv",
    }
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": settings, "rootfs": rootfs}).encode()
    manifest = [{"Config": "config.json", "RepoTags": [TAG], "Layers": ["base/layer.tar", "app/layer.tar"]}]
    path = tmp_path_factory.mktemp("image") / "tiny.tar"
    with tarfile.open(path, "w") as out:
        out.add(store.path(base.digest), "base/layer.tar")
        add(out, "app/layer.tar", application.getvalue())
        add(out, "config.json", config)
        add(out, "manifest.json", json.dumps(manifest).encode())
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    archive.addfile(info, io.BytesIO(data))


def id_of(engine: Engine, tag: str) -> str:
    image = engine.image(tag)
    assert image is not None
    return image.id


@pytest.fixture(autouse=True)
def _clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.node.get_closest_marker("engine"):
        request.getfixturevalue("engine").remove_image(TAG)


@pytest.mark.engine
def test_an_image_boots_as_it_is_started_in_production(engine: Engine, store: Store, archive: Path) -> None:
    answer = Check(name="answers", http="/", port=8000, expect="4242 /srv green ['--flag']", timeout=10)
    script = "open('/srv/x', 'w')"
    locked = Check(name="locked", run=("/usr/bin/python3", "-c", script), expect="Read-only file system", exit_code=1)
    report = boot(InEngine(engine), store, archive, RECIPE, [answer, locked], format="image")
    assert report.failure is None, report.failure
    checks = ["check: answers", "check: locked"]
    names = ["start", "packages", "requirements", "files", "imports", "entry points", *checks, "budgets", "writes"]
    assert [step.name for step in report.steps] == names


@pytest.mark.engine
def test_a_command_that_the_image_has_not_got_does_not_start(engine: Engine, store: Store, archive: Path) -> None:
    recipe = dataclasses.replace(RECIPE, scripts="/usr/bin", program="/usr/bin/gunicron")
    report = boot(InEngine(engine), store, archive, recipe, [], format="image")
    assert "cannot start /usr/bin/gunicron: No such file or directory" in str(report.failure)


@pytest.mark.engine
def test_an_image_goes_again_and_takes_no_names(engine: Engine, store: Store, archive: Path) -> None:
    former = hosts.image_id(engine, store, hosts.load_hosts()["debian-12-python"])
    engine.tag(former, TAG)
    with loaded(engine, archive) as identity:
        assert id_of(engine, TAG) == former != identity
    assert id_of(engine, TAG) == former
    assert engine.image(read_archive(archive).id) is None


@pytest.mark.engine
def test_layers_that_the_engine_has_do_not_travel(
    engine: Engine, store: Store, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.image_id(engine, store, hosts.load_hosts()["debian-12-python"])
    sent = []
    load = Engine.load

    def counting(self: Engine, data: Path | Iterable[bytes]) -> tuple[str, ...]:
        assert not isinstance(data, Path)
        chunks = [*data]
        sent.append(sum(map(len, chunks)))
        return load(self, chunks)

    monkeypatch.setattr(Engine, "load", counting)
    with loaded(engine, archive):
        pass
    assert len(sent) == 1
    assert sent[0] < 1 << 20 < archive.stat().st_size


@pytest.mark.engine
def test_an_image_stays_for_as_long_as_somebody_boots_it(engine: Engine, archive: Path) -> None:
    with loaded(engine, archive) as first:
        with loaded(engine, archive) as second:
            assert first == second
        assert engine.image(first) is not None
    assert engine.image(first) is None


@pytest.mark.engine
def test_what_a_killed_run_has_loaded_goes_with_the_next(engine: Engine, archive: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from boxsnake.boot.image import loaded\n"
        "from boxsnake.engine import connect\n"
        "with loaded(connect(), Path(sys.argv[1])): os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(archive)]).returncode == -9
    assert engine.image(read_archive(archive).id) is not None
    connect()
    assert engine.image(read_archive(archive).id) is None


@pytest.mark.engine
def test_an_image_that_was_there_stays(engine: Engine, store: Store, archive: Path) -> None:
    engine.load(archive)
    boot(InEngine(engine), store, archive, RECIPE, [])
    assert id_of(engine, TAG) == read_archive(archive).id


@pytest.mark.engine
def test_an_image_without_its_python_does_not_start(engine: Engine, store: Store, archive: Path) -> None:
    report = boot(InEngine(engine), store, archive, dataclasses.replace(RECIPE, python=("/opt/env/bin/python",)), [])
    assert report.failure is not None
    assert report.failure.name == "start"
    assert "/opt/env/bin/python" in report.failure.detail


@pytest.mark.parametrize("content", [b"", b"rubbish" * 1000], ids=["empty", "rubbish"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "box.tar").write_bytes(content)
    with pytest.raises(BootError, match="no image archive"):
        read_archive(tmp_path / "box.tar")


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "box.tar", "w") as out:
        add(out, "readme", b"no manifest")
    with pytest.raises(BootError, match=r"manifest.json"):
        read_archive(tmp_path / "box.tar")
