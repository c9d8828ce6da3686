from __future__ import annotations

import os
from pathlib import Path

import pytest

from boxsnake.stage import place
from boxsnake.stage.place import room_in_memory, staging_folder
from boxsnake.store import Store

PLENTY = 1 << 40


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the file system in memory, on a machine with plenty of it."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(place, "_MEMORY", folder)
    monkeypatch.setattr(place, "room_in_memory", lambda: PLENTY)
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.conda"
    path.write_bytes(bytes(1000))
    return path


def staged_in(store: Store, archive: Path) -> Path:
    with staging_folder(store, [archive]) as folder:
        assert folder.is_dir()
        assert not any(folder.iterdir())
    assert not folder.exists()
    return folder


def test_a_tree_is_staged_in_memory_and_leaves_nothing_in_it(tmp_path: Path, memory: Path, archive: Path) -> None:
    assert staged_in(Store(tmp_path / "store"), archive).is_relative_to(memory)
    assert not [path for path in memory.rglob("*") if not path.is_dir() and path.name != "clean.lock"]


def test_where_memory_is_short_it_is_staged_on_the_stores_disk(
    tmp_path: Path, memory: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "room_in_memory", lambda: 79_999)
    assert staged_in(Store(tmp_path / "store"), archive).is_relative_to(tmp_path / "store")
    assert not any(memory.iterdir())


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_is_not_ours_alone_is_not_used(tmp_path: Path, memory: Path, archive: Path, kind: str) -> None:
    place_in_memory = memory / f"boxsnake-{os.getuid()}"
    if kind == "open":
        place_in_memory.mkdir()
        place_in_memory.chmod(0o755)
    elif kind == "link":
        place_in_memory.symlink_to(tmp_path)
    else:
        place_in_memory.write_text("")
    assert staged_in(Store(tmp_path / "store"), archive).is_relative_to(tmp_path / "store")


def test_without_such_a_file_system_it_is_staged_on_disk(tmp_path: Path, memory: Path, archive: Path) -> None:
    memory.rmdir()
    assert staged_in(Store(tmp_path / "store"), archive).is_relative_to(tmp_path / "store")


def test_the_room_in_memory_is_no_more_than_a_control_group_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tmp_path / "cgroup"
    for folder in (groups, groups / "memory"):
        folder.mkdir()
    for folder, names in (
        (groups, ("memory.max", "memory.current")),
        (groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ):
        for name, content in zip(names, ("5000\n", "2000\n"), strict=True):
            (folder / name).write_text(content)
    monkeypatch.setattr(place, "_CONTROL_GROUPS", groups)
    assert room_in_memory() == 3000
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        (groups / name).write_text("max\n")
    assert room_in_memory() > 3000
