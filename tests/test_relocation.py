from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake import relocation
from boxsnake.entries import Tree
from boxsnake.store import Store

from .test_stage import FLASK
from .trees import EPOCH, MINOR, PLACEHOLDER, Content, Program, Workshop

PREFIXES = [
    "/p",
    "/opt/env",
    "/home/user name/.local/my app",
    "/srv/größer/アプリ",
    # The border of what a kernel reads, with "#!" and "/bin/python" around it.
    *("/" + "l" * length for length in range(108, 115)),
    "/" + "x" * (len(PLACEHOLDER) - 1),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Everything that can depend on a prefix."""
    workshop = Workshop(tmp_path_factory.mktemp("archives"))
    text = PLACEHOLDER.encode()
    workshop.python(
        {
            f"lib/python{MINOR}/_sysconfigdata.py": f"A = '{PLACEHOLDER}/a:{PLACEHOLDER}'\n",
            "lib/twice.so": b"\x7fELF\0" + text + b"/lib:" + text + b"/more\0\0tail" + text + b"\0end",
            "lib/open-end.so": b"\0" + text + b"/never/ended",
            "bin/told": Program(f"#!{PLACEHOLDER}/bin/python{MINOR} -s\nprint('{PLACEHOLDER}')\n"),
            "bin/spaced": Program(f"#! \t{PLACEHOLDER}/bin/python\nprint(1)\n"),
            "bin/perlish": Program(f"#!{PLACEHOLDER}/bin/perl -w\n"),
            "bin/argued": Program(f"#!/usr/bin/env {PLACEHOLDER}/bin/python\n"),
            "bin/shell": Program(f"#!/bin/sh\nexec {PLACEHOLDER}/bin/python\n"),
        }
    )
    scripted: dict[str, Content] = {"python-scripts/noarch-tool": Program(f"#!{PLACEHOLDER}/bin/python\n"), **FLASK}
    workshop.conda("flask", scripted, noarch="python", depends=["python"], entry_points=["flask = flask:main"])
    files = {"web/__init__.py": "def main():\n    pass\n", "web-1.0.data/scripts/tool": "#!python\nprint(1)\n"}
    workshop.wheel("web", files, entry_points="[console_scripts]\nweb = web:main\n")
    return workshop


@pytest.fixture(scope="module")
def relocatable(workshop: Workshop, store: Store) -> Iterator[Tree]:
    with workshop.stage(store, prefix=None) as tree:
        yield tree


@pytest.fixture
def support(relocatable: Tree, tmp_path: Path) -> Path:
    """What a box carries of the tree: the files that must be placed, and the list of them."""
    folder = tmp_path / "support"
    modes = {entry.path: (entry.mode, entry.sha256) for entry in relocatable.entries}
    patches = []
    for patch in relocatable.patches:
        mode, digest = modes[patch.path]
        patches.append({"path": patch.path, "kind": patch.kind, "mode": mode, "sha256": digest})
        packed = folder / "unplaced" / patch.path
        packed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(relocatable.root / patch.path, packed)
    document = {"placeholder": relocatable.prefix, "time": EPOCH, "patches": patches}
    (folder / "patches.json").write_text(json.dumps(document))
    return folder


def place(support: Path, prefix: str | Path, action: str = "place") -> subprocess.CompletedProcess[str]:
    program = support.parent / "place.py"
    shutil.copyfile(relocation.__file__, program)
    command = [sys.executable, "-IBS", str(program), action, str(support), str(prefix)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_tree_names_every_file_that_depends_on_its_prefix(relocatable: Tree) -> None:
    held = {
        entry.path
        for entry in relocatable.entries
        if entry.kind == "file" and relocatable.prefix.encode() in (relocatable.root / entry.path).read_bytes()
    }
    kinds = {patch.path: patch.kind for patch in relocatable.patches}
    assert held == {path for path, kind in kinds.items() if kind != "record"}
    assert len(relocatable.prefix) == len(PLACEHOLDER)
    assert {kinds[path] for path in ("bin/told", "bin/flask", "bin/web", "bin/tool", "bin/noarch-tool")} == {"script"}
    assert kinds["bin/shell"] == kinds[f"lib/python{MINOR}/_sysconfigdata.py"] == "text"
    assert kinds["lib/twice.so"] == "binary"


@pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: f"{len(prefix)} bytes")
def test_a_placed_tree_is_one_that_was_staged_for_its_prefix(
    relocatable: Tree, workshop: Workshop, store: Store, prefix: str
) -> None:
    changed: dict[str, tuple[str, int]] = {}
    found = {entry.path: entry.sha256 or entry.target for entry in relocatable.entries}
    for patch in relocatable.patches:
        packed = (relocatable.root / patch.path).read_bytes()
        content = relocation.placed(packed, patch.kind, relocatable.prefix, prefix, changed)
        digest = hashlib.sha256(content).hexdigest()
        changed[found[patch.path]] = (digest, len(content))
        found[patch.path] = digest
    with workshop.stage(store, prefix=prefix) as tree:
        assert found == {entry.path: entry.sha256 or entry.target for entry in tree.entries}


def test_scripts_start_wherever_they_are_placed(relocatable: Tree, support: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "a home" / "with spaces"
    shutil.copytree(relocatable.root, prefix, symlinks=True)
    done = place(support, prefix)
    assert (done.returncode, done.stderr) == (0, "")
    told = subprocess.run([str(prefix / "bin" / "told")], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == f"{prefix}\n"
    for line in (support / "placed-sums").read_text().splitlines():
        digest, _, path = line.partition("  ")
        assert hashlib.sha256((prefix / path).read_bytes()).hexdigest() == digest


def test_verify_tells_damage_from_placing(support: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    assert place(support, prefix).returncode == 0
    assert place(support, prefix, "verify").stdout == ""
    (prefix / "bin" / "told").write_text("other")
    (prefix / "bin" / "flask").chmod(0o700)
    (prefix / "bin" / "web").unlink()
    done = place(support, prefix, "verify")
    assert done.returncode == 1
    assert set(done.stdout.splitlines()) == {
        f"other content  {prefix}/bin/told",
        f"other mode  {prefix}/bin/flask",
        f"missing  {prefix}/bin/web",
    }
    assert place(support, prefix).returncode == 0
    assert place(support, prefix, "verify").returncode == 0


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("/" + "x" * len(PLACEHOLDER), f"{len(PLACEHOLDER) + 1} bytes; the packages have room for {len(PLACEHOLDER)}"),
        ("relative", "no absolute path"),
        ("/a/../b", "shortest form"),
        ("/a'b", "would not read as a part of a path"),
        ("/a$HOME", "would not read as a part of a path"),
        ("/a\nb", "would not read as a part of a path"),
    ],
)  # fmt: skip
def test_prefixes_that_cannot_be_are_refused(support: Path, prefix: str, said: str) -> None:
    done = place(support, prefix)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_damaged_file_is_not_placed(support: Path, tmp_path: Path) -> None:
    (support / "unplaced" / "bin" / "told").write_text("damaged")
    done = place(support, tmp_path / "prefix")
    assert done.returncode == 1
    assert "is damaged: it is not the file that was packed" in done.stderr


def test_the_program_is_read_by_old_interpreters() -> None:
    ast.parse(Path(relocation.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
