"""What all tests share: the local channel's settings, and a store that tests may fill."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHANNEL = ROOT / "build" / "channel"


def pytest_configure() -> None:
    """Tests that are run without make find the local channel as well."""
    os.environ.setdefault("BOXSNAKE_CONFIG", str(ROOT / "build" / "config.toml"))
    # A shell without job control starts what goes on in the background deaf to it, and so all of our children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Some thousand tests stay; looking through them for garbage again and again takes longer than most of them.
    gc.set_threshold(100_000, *gc.get_threshold()[1:])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: begun last, they would go on alone when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def _engine_answers() -> bool:
    if shutil.which("docker") is None and not Path("/run/docker.sock").exists():
        return False
    done = subprocess.run(["sh", str(ROOT / "docker" / "engine.sh")], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture(scope="session")
def channel() -> Path:
    """The local channel. `make channel` builds it."""
    assert (CHANNEL / "linux-64" / "repodata.json").is_file(), "run `make channel` first"
    return CHANNEL


@pytest.fixture(scope="session", autouse=True)
def _engine_runs(request: pytest.FixtureRequest) -> None:
    """Start the engine once when a test that needs one was chosen."""
    if any(item.get_closest_marker("engine") for item in request.session.items):
        assert _engine_answers(), "no container engine: run `make engine`"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody vouches for, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl's command")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *names, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine's strace with its libraries, as hosts have none."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("needs strace")
    folder = tmp_path_factory.mktemp("strace")
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in (program, *re.findall(r"=> (\S*/lib(?:unwind|lzma)\S*)", libraries)):
        shutil.copy(path, folder)
    return folder
