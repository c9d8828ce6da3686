"""PEX files: that they run, for whom they are made, and that they are always the same."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from boxsnake.errors import PackError
from boxsnake.packagers import packagers
from boxsnake.packagers.pex import complete_platform
from boxsnake.plan import Plan
from boxsnake.store import Store
from boxsnake.target import Platform, Target
from tests.pex_runs import info_of, run
from tests.wheel_boxes import MINOR, add_wheel, conda_package, demo_plan, pack, with_conda


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def plan(store: Store, tmp_path: Path) -> Plan:
    return demo_plan(store, tmp_path / "wheels", "pex")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan's file, packed once for all who only use it."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store")
    return pack(store, demo_plan(store, folder / "wheels", "pex"), "pex", folder / "out")


def test_it_runs_and_holds_every_distribution(made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o755
    assert made.read_bytes().startswith(f"#!/usr/bin/env python{MINOR}\n".encode())
    assert run(made, "x") == "demo 42 x\n"
    script = "import importlib.metadata as m; print(sorted(f'{d.name} {d.version}' for d in m.distributions()))"
    assert run(made, "-c", script, PEX_INTERPRETER="1") == "['demo 1.0', 'helper 1.0']\n"


def test_its_cache_lies_where_caches_do_and_nowhere_else(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home)}
    subprocess.run([str(made)], env=environment, capture_output=True, check=True, timeout=60)
    assert [path.relative_to(home).as_posix() for path in home.glob("*/*")] == [".cache/pex"]


def test_an_environment_without_a_command_is_an_interpreter(store: Store, plan: Plan, tmp_path: Path) -> None:
    plan = replace(plan, application=replace(plan.application, command=(), environment=()))
    pex = pack(store, plan, "pex", tmp_path / "out")
    assert run(pex, "-c", "import helper; print('here')") == "here\n"


def test_one_plan_gives_one_file(
    made: Path, plan: Plan, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "9",
        "PEX_ROOT": str(tmp_path / "foreign"),
        "PEX_VERBOSE": "9",
        "HOME": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    before = os.umask(0o077)
    try:
        second = pack(store, plan, "pex", tmp_path / "two, ünïcode")
    finally:
        os.umask(before)
    assert made.read_bytes() == second.read_bytes()
    assert second.stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "foreign").exists()


@pytest.mark.parametrize(
    ("platform", "minor"),
    [
        ("linux-aarch64", "3.11"),
        ("osx-arm64", "3.12"),
        pytest.param("linux-64", "3.13", marks=pytest.mark.thorough),
    ],
)
def test_it_is_made_for_the_target_and_not_for_this_machine(
    store: Store, tmp_path: Path, platform: Platform, minor: str
) -> None:
    plan = demo_plan(store, tmp_path / "wheels", "pex", python=minor)
    tag = {
        "linux-aarch64": "manylinux_2_17_aarch64",
        "linux-64": "manylinux2014_x86_64",
        "osx-arm64": "macosx_11_0_arm64",
    }
    python = f"cp{minor.replace('.', '')}"
    native = add_wheel(
        store, tmp_path / "wheels", "native", {"native.py": ""}, tag=f"{python}-{python}-{tag[platform]}"
    )
    target = Target(name="default", platform=platform, glibc="2.17" if platform.startswith("linux") else None)
    plan = replace(plan, lock=replace(plan.lock, target=target, wheels=(*plan.lock.wheels, native)))
    pex = pack(store, plan, "pex", tmp_path / "out")
    assert native.file_name in info_of(pex)["distributions"]
    assert pex.read_bytes().startswith(f"#!/usr/bin/env python{minor}\n".encode())


def test_a_wheel_that_does_not_fit_the_target_is_named(store: Store, plan: Plan, tmp_path: Path) -> None:
    tag = f"cp{MINOR.replace('.', '')}-cp{MINOR.replace('.', '')}-manylinux_2_34_x86_64"
    native = add_wheel(store, tmp_path / "wheels", "native", {"native.py": ""}, tag=tag)
    plan = replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, native)))
    with pytest.raises(PackError, match="native") as raised:
        pack(store, plan, "pex", tmp_path / "out")
    assert str(store.root) not in str(raised.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_wheel_that_is_missing_is_named(store: Store, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="helper"):
        pack(store, replace(plan, lock=replace(plan.lock, wheels=())), "pex", tmp_path / "out")


@pytest.mark.parametrize(
    ("command", "options", "expected"),
    [
        (("demo", "--name", "two words", "it's"), {}, "demo 42 --name two words it's y\n"),
        (("python", "-m", "helper_main", "z"), {}, "main z y\n"),
        (("demo", "z"), {"entry-point": "helper_main:other"}, "other z y\n"),
    ],
    ids=["arguments", "module", "entry point"],
)
def test_what_it_runs(
    store: Store, plan: Plan, tmp_path: Path, command: tuple[str, ...], options: dict[str, str], expected: str
) -> None:
    text = "import sys\ndef other(): print('other', *sys.argv[1:])\n"
    text += "if __name__ == '__main__': print('main', *sys.argv[1:])\n"
    more = add_wheel(store, tmp_path / "wheels", "more", {"helper_main.py": text})
    plan = replace(
        plan,
        application=replace(plan.application, command=command),
        options=packagers()["pex"].options.decoded(options),
        lock=replace(plan.lock, wheels=(*plan.lock.wheels, more)),
    )
    assert run(pack(store, plan, "pex", tmp_path / "out"), "y") == expected


def test_options_reach_the_file(store: Store, plan: Plan, tmp_path: Path) -> None:
    options = {"sh-boot": True, "venv": False, "compress": False, "inject-env": {"MODE": "a b"}}
    options |= {"inherit-path": "fallback", "strip-env": False}
    plan = replace(
        plan,
        application=replace(plan.application, environment=(("LEVEL", "3"),)),
        options=packagers()["pex"].options.decoded(options),
    )
    pex = pack(store, plan, "pex", tmp_path / "out")
    info = info_of(pex)
    assert (info["venv"], info["inject_env"]) == (False, {"LEVEL": "3", "MODE": "a b"})
    assert (info["inherit_path"], info["strip_pex_env"]) == ("fallback", False)
    assert pex.read_bytes().startswith(b"#!/bin/sh\n")
    with zipfile.ZipFile(pex) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    assert run(pex) == "demo 42\n"


def test_a_library_without_a_wheel_is_refused(plan: Plan) -> None:
    with pytest.raises(PackError, match="libpq"):
        packagers()["pex"].check(with_conda(plan, conda_package("python"), conda_package("libpq")))


def test_a_target_has_the_tags_and_markers_of_its_own() -> None:
    found = complete_platform(Target(name="x", platform="linux-aarch64", glibc="2.28"), "3.13.2")
    assert found["compatible_tags"][0] == "cp313-cp313-manylinux_2_28_aarch64"
    assert "cp311-abi3-manylinux_2_17_aarch64" in found["compatible_tags"]
    assert not [tag for tag in found["compatible_tags"] if "manylinux_2_29_" in tag or "x86_64" in tag]
    assert found["marker_environment"]["python_full_version"] == "3.13.2"
    assert found["marker_environment"]["platform_machine"] == "aarch64"


def test_it_boots_on_a_host_with_its_python(plan: Plan, tmp_path: Path) -> None:
    recipe = packagers()["pex"].boot(plan, tmp_path / "demo-1.0.pex")
    assert recipe.python == ("env", "PEX_INTERPRETER=1", "/opt/demo/demo-1.0.pex")
    assert recipe.command == ("/opt/demo/demo-1.0.pex",)
    assert recipe.scripts is None
