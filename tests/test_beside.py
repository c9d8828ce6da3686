from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from boxsnake import flock
from boxsnake.beside import beside, publish_bytes, sweep
from boxsnake.errors import ResourceError

KILLED = """
import os, sys
from pathlib import Path
from boxsnake.beside import beside
with beside(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"x")
    os.kill(os.getpid(), 9)
"""


def test_the_folder_goes_with_its_block(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with contextlib.suppress(KeyboardInterrupt), beside(final) as folder:
        (folder / "file").write_bytes(b"x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


LINGERS = """
import sys
from pathlib import Path
from boxsnake.beside import beside
with beside(Path(sys.argv[1]), lingers=True) as folder:
    (folder / "old").mkdir()
    for number in range(1000):
        (folder / "old" / str(number)).touch()
"""


def test_one_that_lingers_goes_before_the_process_has_ended(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LINGERS, tmp_path / "final"], check=True)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "final"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with beside(tmp_path / "other") as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_two_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    with beside(tmp_path / "final") as one:
        with beside(tmp_path / "final") as other:
            assert one != other
            sweep(tmp_path)
            assert other.is_dir()
        assert one.is_dir()


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(flock, "try_acquire_folder", refuse)
    with beside(tmp_path / "one") as one, beside(tmp_path / "other"):
        assert one.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_published_with_a_mode(tmp_path: Path) -> None:
    publish_bytes(b"one", tmp_path / "final", mode=0o640)
    publish_bytes(b"two", tmp_path / "final", mode=0o600)
    assert (tmp_path / "final").read_bytes() == b"two"
    assert (tmp_path / "final").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ResourceError, match="absent"):
        publish_bytes(b"", tmp_path / "absent" / "final")
