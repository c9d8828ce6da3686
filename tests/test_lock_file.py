from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxsnake import lock_file
from boxsnake.errors import LockError, ResourceError
from boxsnake.lock import Lock
from tests.test_lock import LOCK


def test_a_lock_that_is_not_there(tmp_path: Path) -> None:
    assert lock_file.read_if_any(tmp_path / "boxsnake.lock") is None
    with pytest.raises(LockError, match="no lock yet"):
        lock_file.read(tmp_path / "boxsnake.lock")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"lock-version = 1\n"], ids=["no text", "empty", "cut off"])
def test_a_file_that_is_no_lock(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "boxsnake.lock"
    path.write_bytes(content)
    with pytest.raises(LockError) as caught:
        lock_file.read(path)
    assert caught.value.thing == "boxsnake.lock"


def test_a_file_of_enormous_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "boxsnake.lock"
    with path.open("wb") as stream:
        stream.truncate(lock_file.LONGEST + 1)
    with pytest.raises(LockError, match="which no lock has"):
        lock_file.read(path)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "boxsnake.lock").mkdir()
    with pytest.raises(ResourceError):
        lock_file.read(tmp_path / "boxsnake.lock")


def test_a_write_that_fails_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "boxsnake.lock"
    lock_file.write(path, LOCK)
    before = path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError):
        lock_file.write(path, Lock(inputs=(), targets=()))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["boxsnake.lock"]
