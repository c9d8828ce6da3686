"""PEX files that are more than one file with one program: for several targets, folders, plug-ins, holders of files."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxsnake.errors import ManifestError, PackError, UsageError
from boxsnake.lock import TargetLock, Wheel
from boxsnake.packagers import packagers
from boxsnake.plan import Application, Part, Plan
from boxsnake.store import Store
from boxsnake.target import Target
from tests.pex_runs import info_of, run
from tests.thorough import thorough
from tests.wheel_boxes import MINOR, add_wheel, demo_plan, pack

pytestmark = pytest.mark.long

OTHER = "3.13" if MINOR != "3.13" else "3.12"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def plan(store: Store, tmp_path: Path) -> Plan:
    return demo_plan(store, tmp_path / "wheels", "pex")


def with_options(plan: Plan, **options: Any) -> Plan:
    return replace(plan, options=packagers()["pex"].options(**options))


# Several targets in one file


def part_of(plan: Plan, *wheels: Wheel, python: str = OTHER, **target: Any) -> Part:
    lock = TargetLock(target=Target(name="other", **target), python=f"{python}.1", conda=(), wheels=wheels)
    return Part(lock=lock, own=plan.application.wheel)


def test_each_target_gets_the_version_that_its_lock_has(store: Store, plan: Plan, tmp_path: Path) -> None:
    newer = add_wheel(store, tmp_path / "wheels", "helper", {"helper.py": "ANSWER = 43\n"}, version="2.0")
    native = add_wheel(
        store,
        tmp_path / "wheels",
        "native",
        {"native.py": ""},
        tag=f"cp{OTHER.replace('.', '')}-abi3-macosx_11_0_arm64",
    )
    other = part_of(plan, newer, native, platform="osx-arm64", glibc=None)
    here = pack(store, replace(plan, others=(other,)), "pex", tmp_path / "here")
    assert here.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert set(info_of(here)["distributions"]) == {
        "demo-1.0-py3-none-any.whl",
        "helper-1.0-py3-none-any.whl",
        "helper-2.0-py3-none-any.whl",
        native.file_name,
    }
    assert run(here) == "demo 42\n"


def test_targets_that_no_marker_tells_apart_must_agree(store: Store, plan: Plan, tmp_path: Path) -> None:
    newer = add_wheel(store, tmp_path / "wheels", "helper", {"helper.py": ""}, version="2.0")
    other = part_of(plan, newer, python=MINOR, glibc="2.36")
    with pytest.raises(PackError, match="default and other: have different versions of helper"):
        packagers()["pex"].check(replace(plan, others=(other,)))


def test_one_file_name_has_one_content(store: Store, plan: Plan, tmp_path: Path) -> None:
    changed = add_wheel(store, tmp_path / "changed", "helper", {"helper.py": "ANSWER = 44\n"})
    with pytest.raises(PackError, match="other bytes for the target other"):
        packagers()["pex"].check(replace(plan, others=(part_of(plan, changed),)))


# Folders


@pytest.mark.parametrize("layout", ["loose", *thorough("packed")])
def test_a_layout_that_is_a_folder_comes_in_a_tar(store: Store, plan: Plan, tmp_path: Path, layout: str) -> None:
    plan = with_options(plan, layout=layout)
    first = pack(store, plan, "pex", tmp_path / "one")
    before = os.umask(0o077)
    try:
        second = pack(store, plan, "pex", tmp_path / "two")
    finally:
        os.umask(before)
    assert first.read_bytes() == second.read_bytes()
    assert first.name == f"demo-1.0.{layout}-pex.tar"
    with tarfile.open(first) as archive:
        archive.extractall(tmp_path, filter="data")
    start = tmp_path / f"demo-1.0.{layout}-pex" / "__main__.py"
    assert run(start, "x", PEX_ROOT=str(tmp_path / "root")) == "demo 42 x\n"
    recipe = packagers()["pex"].boot(plan, first)
    assert recipe.install == (("tar", "-xf", f"/opt/demo/{first.name}", "-C", "/opt/demo"),)
    assert recipe.command == (f"/opt/demo/demo-1.0.{layout}-pex/__main__.py",)


# Files of the project


READ = "import importlib.resources as r; print(r.files('words').joinpath('deep/a.txt').read_text(), end='')"


@pytest.mark.parametrize("venv", [False, *thorough(True)])
def test_files_of_the_project_are_found_as_resources(store: Store, plan: Plan, tmp_path: Path, *, venv: bool) -> None:
    (plan.root / "texts" / "deep").mkdir(parents=True)
    (plan.root / "texts" / "deep" / "a.txt").write_text("words\n")
    pex = pack(store, with_options(plan, venv=venv, include={"words": "texts"}), "pex", tmp_path / "out")
    assert run(pex, "-c", READ, PEX_INTERPRETER="1") == "words\n"


def test_what_is_included_decides_the_artifact_and_must_be_there(plan: Plan) -> None:
    plan = with_options(plan, include={"a.txt": "a.txt"})
    with pytest.raises(ManifestError, match=r"there is no file or folder a\.txt"):
        packagers()["pex"].check(plan)
    (plan.root / "a.txt").write_text("one")
    before = packagers()["pex"].inputs(plan, None)  # type: ignore[arg-type]
    (plan.root / "a.txt").write_text("two")
    assert packagers()["pex"].inputs(plan, None) != before  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../up", "a/", ".", "a\\b"])
def test_a_file_cannot_be_put_outside_of_the_box(path: str) -> None:
    with pytest.raises(ValueError, match="must be a path inside of the box"):
        packagers()["pex"].options.decoded({"include": {path: "a.txt"}})


# Several programs


def test_the_program_is_chosen_by_a_variable(store: Store, plan: Plan, tmp_path: Path) -> None:
    pex = pack(store, with_options(plan, programs="prepend"), "pex", tmp_path / "out")
    assert run(pex, PEX_SCRIPT="demo-py") == "42\n"
    assert run(pex, "y", PEX_MODULE="demo:main") == "demo 42 y\n"
    which = "import shutil; print(shutil.which('demo-py') is not None)"
    assert run(pex, "-c", which, PEX_INTERPRETER="1") == "True\n"


# Plug-ins and their core

CORE = """
import importlib.metadata
import helper

def main():
    for found in importlib.metadata.entry_points(group="core.plugins"):
        print(found.name, found.load()(helper.ANSWER))
    print("core")
"""


def core_of(store: Store, plan: Plan, folder: Path, **options: Any) -> Path:
    files = {"core.py": CORE, "entry_points.txt": "[console_scripts]\ncore = core:main\n"}
    own = add_wheel(store, folder / "wheels", "core", {**files, "METADATA": "Requires-Dist: helper\n"})
    application = Application(name="core", version="1.0", command=("core",), wheel=own, console_scripts=("core",))
    return pack(store, with_options(replace(plan, application=application), **options), "pex", folder / "core")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core, packed once for all of its plug-ins."""
    folder = tmp_path_factory.mktemp("core")
    store = Store(folder / "store")
    return core_of(store, demo_plan(store, folder / "wheels", "pex"), folder)


def plugin_of(store: Store, plan: Plan, folder: Path, core: Path, **options: Any) -> Plan:
    files = {
        "double.py": "import helper, extra\ndef run(n): return n * extra.FACTOR\n",
        "entry_points.txt": "[core.plugins]\ndouble = double:run\n",
        "METADATA": "Requires-Dist: helper\nRequires-Dist: core\nRequires-Dist: extra\n",
    }
    own = add_wheel(store, folder / "wheels", "double", files)
    extra = add_wheel(store, folder / "wheels", "extra", {"extra.py": "FACTOR = 2\n"})
    core_wheel = add_wheel(store, folder / "again", "core", {"core.py": CORE})
    application = Application(name="double", version="1.0", wheel=own)
    lock = replace(plan.lock, wheels=(core_wheel, extra, *plan.lock.wheels))
    return with_options(
        replace(plan, application=application, lock=lock), core=os.path.relpath(core, plan.root), **options
    )


@pytest.mark.parametrize("venv", [True, *thorough(False)])
def test_a_plugin_is_found_by_its_core(store: Store, plan: Plan, core: Path, tmp_path: Path, *, venv: bool) -> None:
    core = core if venv else core_of(store, plan, tmp_path, venv=venv)
    plugin_plan = plugin_of(store, plan, tmp_path, core, venv=venv)
    plugin = pack(store, plugin_plan, "pex", tmp_path / "plugin")
    info = info_of(plugin)
    assert set(info["distributions"]) == {"double-1.0-py3-none-any.whl", "extra-1.0-py3-none-any.whl"}
    assert "entry_point" not in info
    assert run(core) == "core\n"
    assert run(core, PEX_PATH=str(plugin)) == "double 84\ncore\n"


def test_a_plugin_is_booted_with_its_core(store: Store, plan: Plan, core: Path, tmp_path: Path) -> None:
    recipe = packagers()["pex"].boot(plugin_of(store, plan, tmp_path, core), tmp_path / "double-1.0.pex")
    assert recipe.copies[1] == (str(core), "/opt/double/core/core-1.0.pex")
    assert recipe.command == ("/opt/double/core/core-1.0.pex",)
    assert ("PEX_PATH", "/opt/double/double-1.0.pex") in recipe.environment
    assert [name for name, _ in recipe.expects.distributions] == ["core", "double", "extra", "helper"]


def test_a_plugin_and_its_core_must_agree(store: Store, plan: Plan, core: Path, tmp_path: Path) -> None:
    plugin = plugin_of(store, plan, tmp_path, core)
    newer = add_wheel(store, tmp_path / "wheels", "helper", {"helper.py": ""}, version="2.0")
    wheels = (newer, *(wheel for wheel in plugin.lock.wheels if wheel.name != "helper"))
    with pytest.raises(PackError, match=r"brings helper 1\.0, and the plug-in is locked to 2\.0"):
        packagers()["pex"].check(replace(plugin, lock=replace(plugin.lock, wheels=wheels)))
    with pytest.raises(UsageError, match="there is no such PEX"):
        packagers()["pex"].check(with_options(plan, core="absent.pex"))
    (tmp_path / "no.pex").write_text("no zip")
    with pytest.raises(UsageError, match="is no PEX that can be read"):
        packagers()["pex"].check(with_options(plan, core="../no.pex"))
    with pytest.raises(PackError, match="has everything"):
        packagers()["pex"].check(with_options(plan, core=f"../demo/{pack(store, plan, 'pex', tmp_path / 'demo').name}"))
