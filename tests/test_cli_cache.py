from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from boxsnake.cli import boxsnake
from boxsnake.store import Store


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOXSNAKE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(boxsnake, ["cache", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json").stdout)  # type: ignore[no-any-return]


def test_dir_tells_the_place_and_makes_nothing(root: Path) -> None:
    assert run("dir").stdout == f"{root}\n"
    assert document("dir") == {"folder": str(root)}
    assert not root.exists()


def test_size_counts_everything(root: Path) -> None:
    Store(root).put_bytes(bytes(2_000_000))
    assert "2.0 MB" in run("size").stdout
    found = document("size")
    assert (found["blobs"], found["blob_bytes"], found["total_bytes"]) == (1, 2_000_000, 2_000_000)


def test_verify_tells_what_is_bad_by_its_exit_code(root: Path) -> None:
    digest = Store(root).put_bytes(b"data").digest
    assert run("verify").exit_code == 0
    path = Store(root).path(digest)
    path.chmod(0o644)
    path.write_bytes(b"dada")
    result = run("verify")
    assert result.exit_code == 7
    assert digest in result.stdout
    assert "quarantine" in result.stdout
    assert document("verify") == {"folder": str(root), "checked": 0, "bad": []}


def test_clean_takes_an_age(root: Path) -> None:
    store = Store(root)
    for data, day in ((b"old", 0), (b"new", 10**9)):
        os.utime(store.path(store.put_bytes(data).digest), (day, 2 * day))
    del store
    result = document("clean", "--older-than", "30")
    assert (result["blobs"], result["kept"], result["freed_bytes"]) == (1, 1, 3)
    assert run("clean", "--older-than", "-1").exit_code == 2
    assert "removed 1 files" in run("clean").stdout
    assert document("size")["total_bytes"] == 0


def test_clean_leaves_what_is_in_use(root: Path) -> None:
    store = Store(root)
    digest = store.put_bytes(b"data").digest
    assert "left    1 files" in run("clean").stdout
    assert store.intact(digest)
