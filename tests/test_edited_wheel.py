"""A wheel after an edit: the bytes that its backend would give, without asking one that only copies modules."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from boxsnake import child
from boxsnake.ingest.wheel import check, wheel_facts
from boxsnake.project import BuiltWheel, build_wheel, parse_source
from boxsnake.store import Store

pytestmark = pytest.mark.index

PROJECT = '[project]\nname = "demo"\nversion = "1.0"\ndescription = "made for tests"\n'
HATCH = '[build-system]\nrequires = ["hatchling>=1.27,<2"]\nbuild-backend = "hatchling.build"\n'
FLIT = '[build-system]\nrequires = ["flit_core>=3.11,<4"]\nbuild-backend = "flit_core.buildapi"\n'
SOURCES = {"src/demo/__init__.py": '"""Demo."""\n__version__ = "2.0"\n', "src/demo/cli.py": "def main(): pass\n"}
TOOL = "#!/usr/bin/env python3\nprint('a')\n"
HOOK = "from hatchling.builders.hooks.plugin.interface import BuildHookInterface\n\n\nclass Hook(BuildHookInterface):\n"
HOOK += "    def initialize(self, version, build_data):\n"
HOOK += "        build_data['force_include']['src/demo/cli.py'] = 'other.txt'\n"


class Workbench:
    """A store with the environments of its builds; `programs` counts what was started."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.programs = 0
        self._run = child.run

    def run(self, *arguments: Any, **more: Any) -> child.Finished:
        self.programs += 1
        return self._run(*arguments, **more)

    def build(self, project: Path) -> BuiltWheel:
        return build_wheel(self.store, parse_source(".", project))

    def build_of_backend(self, project: Path) -> BuiltWheel:
        """The wheel with nothing remembered of any other."""
        for kind in ("built-wheel", "edited-wheel"):
            shutil.rmtree(self.store.root / "v1" / "selectors" / kind, ignore_errors=True)
        return self.build(project)

    def members(self, built: BuiltWheel) -> dict[str, str]:
        with zipfile.ZipFile(self.store.path(built.digest)) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("edited"))


@pytest.fixture
def bench(shared: Workbench, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setattr(child, "run", shared.run)
    return shared


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("pyproject", [HATCH + PROJECT, FLIT + PROJECT], ids=["hatchling", "flit"])
def test_edits_of_modules_need_no_backend(bench: Workbench, tmp_path: Path, pyproject: str) -> None:
    project = write(tmp_path / "demo", {"pyproject.toml": pyproject, **SOURCES, "src/demo/data.txt": "data\n"})
    first = bench.build(project)
    programs = bench.programs
    write(project, {"src/demo/cli.py": "one = 1\n"})
    assert bench.members(bench.build(project))["demo/cli.py"] == "one = 1\n"
    edits = {"src/demo/cli.py": 'é = "ü"\n' * 9999, "src/demo/__init__.py": '"""Other."""\n'}
    edited = bench.build(write(project, edits))
    assert wheel_facts(bench.store, edited.sha256) == check(bench.store.path(edited.digest))
    assert bench.build(write(project, SOURCES)) == first
    assert bench.programs == programs
    write(project, edits)
    assert bench.build_of_backend(project) == edited
    assert bench.programs > programs


WITHOUT_VERSION = PROJECT.replace('version = "1.0"\n', 'dynamic = ["version"]\n')
CASES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "metadata": (HATCH + PROJECT, {}, {"pyproject.toml": HATCH + PROJECT.replace("1.0", "1.1")}),
    "data": (HATCH + PROJECT, {"src/demo/data.txt": "a"}, {"src/demo/data.txt": "b"}),
    "a new module": (HATCH + PROJECT, {}, {"src/demo/new.py": "new = 1\n"}),
    "ignored": (HATCH + PROJECT, {"src/demo/old.py": "old = 1\n"}, {".gitignore": "old.py\n"}),
    "no module of the wheel's": (HATCH + PROJECT, {"tests/test_it.py": "a = 1\n"}, {"tests/test_it.py": "a = 2\n"}),
    "two modules that were the same": (
        HATCH + PROJECT,
        {"src/demo/one/cli.py": "same = 1\n", "tools/cli.py": "same = 1\n"},
        {"tools/cli.py": "same = 2\n"},
    ),
    "two that were the same in the wheel": (
        HATCH + PROJECT,
        {"src/demo/one/__init__.py": "", "src/demo/two/__init__.py": ""},
        {"src/demo/two/__init__.py": "two = 2\n"},
    ),
    "the version's module": (
        HATCH + WITHOUT_VERSION + '[tool.hatch.version]\npath = "src/demo/__init__.py"\n',
        {},
        {"src/demo/__init__.py": '__version__ = "3.0"\n'},
    ),
    "the version's module, with flit": (
        FLIT + WITHOUT_VERSION,
        {},
        {"src/demo/__init__.py": '"""Demo."""\n__version__ = "3.0"\n'},
    ),
    "the text about it": (
        HATCH + PROJECT + 'readme = {file = "src/demo/cli.py", content-type = "text/plain"}\n',
        {},
        {"src/demo/cli.py": "other = 1\n"},
    ),
    "a module that is a program too": (
        HATCH + PROJECT + '[tool.hatch.build.targets.wheel.shared-scripts]\n"src/demo/cli.py" = "demo"\n',
        {"src/demo/cli.py": TOOL},
        {"src/demo/cli.py": TOOL.replace("'a'", "'b'")},
    ),
    "a module that a hook takes": (
        HATCH + PROJECT + "[tool.hatch.build.hooks.custom]\n",
        {"hatch_build.py": HOOK},
        {"src/demo/cli.py": "other = 1\n"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_other_edits_are_the_backends(bench: Workbench, tmp_path: Path, case: str) -> None:
    pyproject, files, changed = CASES[case]
    project = write(tmp_path / "demo", {"pyproject.toml": pyproject, **SOURCES, **files})
    first = bench.build(project)
    programs = bench.programs
    write(project, changed)
    edited = bench.build(project)
    assert bench.programs > programs
    assert bench.members(edited) == bench.members(bench.build_of_backend(project))
    assert (edited.sha256 == first.sha256) == (case in {"no module of the wheel's", "two modules that were the same"})


def test_a_lost_wheel_is_the_backends_again(bench: Workbench, tmp_path: Path) -> None:
    project = write(tmp_path / "demo", {"pyproject.toml": HATCH + PROJECT, **SOURCES})
    first = bench.build(project)
    bench.store.path(first.digest).chmod(0o644)
    bench.store.path(first.digest).write_bytes(b"other")
    programs = bench.programs
    write(project, {"src/demo/cli.py": "one = 1\n"})
    assert bench.members(bench.build(project))["demo/cli.py"] == "one = 1\n"
    assert bench.programs > programs
