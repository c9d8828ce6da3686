from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from boxsnake import child
from boxsnake.errors import ResourceError

IGNORES_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
UNDOES = """
import pathlib, sys, time
pathlib.Path("started").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("undone").touch()
"""
FORKS = "import os, time\npid = os.fork()\nprint(pid, flush=True) if pid else time.sleep(60)\n"


def run(tmp_path: Path, code: str, deadline: float = 30.0, grace: float = 0.0) -> child.Finished:
    env = child.environment(tmp_path)
    return child.run([sys.executable, "-c", code], cwd=tmp_path, env=env, deadline=deadline, grace=grace)


def test_a_program_ends_by_itself(tmp_path: Path) -> None:
    done = run(tmp_path, "import sys; print('out'); sys.exit(3)")
    assert (done.code, done.output) == (3, "out\n")
    assert done.why(1) == "ended with status 3"
    assert run(tmp_path, "import os; os.kill(os.getpid(), 11)").why(1) == "was ended by SIGSEGV"


def test_the_environment_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "PYTHONPATH", "PYTHONOPTIMIZE", "LD_PRELOAD", "UV_INDEX", "PIP_INDEX_URL", "TZ"):
        monkeypatch.setenv(name, "ours")
    said = run(tmp_path, "import os; print(dict(os.environ), open('/proc/self/status').read())").output
    assert "ours" not in said
    assert "Umask:\t0022" in said


def test_the_deadline_ends_it_with_all_that_it_started(tmp_path: Path) -> None:
    done = run(tmp_path, IGNORES_TERM, deadline=0.2)
    assert done.code is None
    assert done.why(0.2) == "was stopped after 0 s"
    place = Path(f"/proc/{int(run(tmp_path, FORKS).output)}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while place.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)  # the signal is on its way


def test_a_program_with_something_to_undo_is_given_the_time(tmp_path: Path) -> None:
    assert run(tmp_path, UNDOES, deadline=0.5, grace=10.0).code is None
    assert (tmp_path / "started").exists()
    assert (tmp_path / "undone").exists()
    assert run(tmp_path, "import signal, time\nsignal.signal(2, lambda *_: 0)\ntime.sleep(60)", 0.2, 0.1).code is None


@pytest.mark.parametrize(
    "words",
    ["No space left on device", "write /tmp/x: no space left on device", "write /tmp/x: no\n    space left on device"],
)
def test_a_full_disk_is_this_machines_fault(tmp_path: Path, words: str) -> None:
    with pytest.raises(ResourceError, match="no space left on the disk"):
        run(tmp_path, f"import sys; sys.exit({words!r})")
    assert run(tmp_path, f"print({words!r})").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_program_can_say_that_the_disk_is_full_which_its_temporary_files_are_on(tmp_path: Path) -> None:
    env = child.environment(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", env["TMPDIR"]], check=True)
    try:
        with pytest.raises(ResourceError, match="no space left on the disk"):
            child.run(["dd", "if=/dev/zero", f"of={env['TMPDIR']}/x"], cwd=tmp_path, env=env, deadline=30.0)
    finally:
        subprocess.run(["umount", env["TMPDIR"]], check=True)


def test_a_program_that_does_not_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be started"):
        child.run([str(tmp_path / "absent")], cwd=tmp_path, env={}, deadline=1.0)
    with pytest.raises(ResourceError, match="Install the-package"):
        child.found("no-such-program", "the-package")


def test_a_signal_while_a_program_starts_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    real = child._started

    def start(*arguments: object) -> object:
        process = real(*arguments)  # type: ignore[arg-type]
        started.append(process.pid)
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(child, "_started", start)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_thread_can_run_a_program(tmp_path: Path) -> None:
    found: list[child.Finished] = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path, "print(1)")))
    thread.start()
    thread.join()
    assert found[0].output == "1\n"


ASKING = """
import sys, threading
from boxsnake import child

sys.setswitchinterval(1e-6)
ready, found = threading.Barrier(8), []

def ask():
    ready.wait()
    found.append(child.uv_program())

threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(len(found) != 8)
"""


def test_threads_may_ask_for_uv_at_once() -> None:
    """Its first answer reads what Python 3.11 tells of itself to one thread alone."""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
