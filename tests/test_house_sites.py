"""Wheelhouses at their sites: as a package index, as a delta, for several machines, and where there is no shell."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from boxsnake.credentials import Credentials
from boxsnake.errors import UsageError
from boxsnake.house_since import read_since
from boxsnake.lock import Lock, TargetLock
from boxsnake.lock_file import write
from boxsnake.materials import Access, StoreMaterials
from boxsnake.packagers.wheelhouse import Wheelhouse
from boxsnake.plan import Part, Plan
from boxsnake.store import Store
from boxsnake.target import Target
from tests.test_wheelhouse import (
    DAMAGED,
    FAILED,
    UNFIT,
    fake_python,
    house_of,
    install,
    names_in,
    output_of,
    unpack,
    with_hook,
)
from tests.wheel_boxes import MINOR, add_wheel, demo_plan

OTHER = "3.13" if MINOR != "3.13" else "3.12"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def plan(store: Store, tmp_path: Path) -> Plan:
    return demo_plan(store, tmp_path / "wheels", "wheelhouse")


@pytest.fixture
def house(store: Store, plan: Plan, tmp_path: Path) -> Path:
    return house_of(store, plan, tmp_path / "house")


# As a package index


class _Handler(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` runs; it remembers what was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The folder behind a plain web server: its address, and the paths that were asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "*"}


def test_pip_and_uv_install_from_the_index(house: Path, tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    uv = [str(bin_folder / "uv"), "pip", "install", "--quiet", "--no-cache", "--no-config"]
    tools = {
        "pip": [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--no-cache-dir"],
        "uv": [*uv, "--python", sys.executable],
    }
    with served(house.parent) as (address, asked):
        for name, tool in tools.items():
            asked.clear()
            target = tmp_path / name
            options = ["--index-url", f"{address}/{house.name}/simple/", "--target", str(target)]
            subprocess.run([*tool, *options, "demo"], env=environment(tmp_path), check=True)
            assert {"demo.py", "helper.py"} <= set(names_in(target))
            wanted = f"/{house.name}/wheels/helper-1.0-py3-none-any.whl"
            # The metadata is there by itself: nobody reads a wheel to know what it requires.
            assert {f"{wanted}.metadata", wanted} <= set(asked)


def test_the_index_says_the_same_in_both_forms(store: Store, plan: Plan, tmp_path: Path) -> None:
    picky = add_wheel(store, tmp_path / "wheels", "picky", {"picky.py": "", "METADATA": "Requires-Python: >=3.8\n"})
    house = house_of(store, replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, picky))), tmp_path / "h")
    page = (house / "simple" / "picky" / "index.html").read_text()
    assert f'href="../../wheels/{picky.file_name}#sha256={picky.sha256}"' in page
    assert 'data-requires-python="&gt;=3.8"' in page
    metadata = hashlib.sha256((house / "wheels" / f"{picky.file_name}.metadata").read_bytes()).hexdigest()
    assert f'data-core-metadata="sha256={metadata}"' in page
    facts = json.loads((house / "simple" / "picky" / "index.json").read_text())
    assert facts["versions"] == ["1.0"]
    (file,) = facts["files"]
    assert file == {
        "filename": picky.file_name,
        "url": f"../../wheels/{picky.file_name}",
        "size": picky.size,
        "hashes": {"sha256": picky.sha256},
        "core-metadata": {"sha256": metadata},
        "requires-python": ">=3.8",
    }
    listed = json.loads((house / "simple" / "index.json").read_text())["projects"]
    assert [project["name"] for project in listed] == ["demo", "helper", "picky"]
    assert re.findall(r'href="([^"]+)"', (house / "simple" / "index.html").read_text()) == [
        "demo/",
        "helper/",
        "picky/",
    ]


# Whole or not


def test_it_tells_without_a_python_whether_it_is_whole(house: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("dirname", "sha256sum", "grep", "awk", "find"):
        (tools / tool).symlink_to(shutil.which(tool) or "")

    def verify() -> subprocess.CompletedProcess[str]:
        command = [shutil.which("sh") or "sh", str(house / "install.sh"), "--verify"]
        return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)

    assert (verify().returncode, verify().stdout) == (0, "demo 1.0 is whole\n")
    (house / "wheels" / "stranger-1.0-py3-none-any.whl").write_bytes(b"")
    (house / "simple" / "index.html").write_text("")
    done = verify()
    assert done.returncode == DAMAGED
    assert "simple/index.html: FAILED" in done.stderr
    assert "wheels/stranger-1.0-py3-none-any.whl is not of this house" in done.stderr
    asked = subprocess.run([sys.executable, house / "install.py", "--verify"], capture_output=True, text=True)
    assert asked.returncode == DAMAGED
    assert "stranger" in asked.stderr


# Deltas


def delta_of(store: Store, plan: Plan, since: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    packager = Wheelhouse(read_since(since))
    out = folder / packager.file_name(plan)
    with StoreMaterials(store, plan, Access(credentials=Credentials(), offline=True)) as materials:
        packager.pack(plan, materials, out)
    unpack(out, folder)
    return folder / "demo-1.0.wheelhouse-delta"


def newer(store: Store, plan: Plan, folder: Path) -> Plan:
    """The plan with one wheel more."""
    more = add_wheel(store, folder, "more", {"more.py": "x = 1\n"})
    return replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, more)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_delta_becomes_the_whole_house(store: Store, plan: Plan, house: Path, tmp_path: Path) -> None:
    after = newer(store, plan, tmp_path / "newer")
    delta = delta_of(store, after, house.with_name(f"{house.name}.tar"), tmp_path / "delta")
    assert [path.name for path in delta.glob("wheels/*.whl")] == ["more-1.0-py3-none-any.whl"]
    for option in ("--verify", "--check"):
        done = install(delta, option)
        assert (done.returncode, "this is a delta" in done.stderr) == (DAMAGED, True)
    done = install(delta, "--from", house, tmp_path / "app")
    assert done.returncode == 0, done.stderr
    assert contents(delta) == contents(house_of(store, after, tmp_path / "whole"))
    assert output_of(tmp_path / "app" / "bin" / "demo") == "demo 42\n"
    assert install(delta, "--verify").returncode == 0


def test_a_delta_against_a_lock_and_against_a_folder(store: Store, plan: Plan, house: Path, tmp_path: Path) -> None:
    after = newer(store, plan, tmp_path / "newer")
    by_folder = delta_of(store, after, house, tmp_path / "folder")
    assert (by_folder / "DELTA").read_text() == "demo-1.0-py3-none-any.whl\nhelper-1.0-py3-none-any.whl\n"
    lock = tmp_path / "old.lock"
    write(lock, Lock(inputs=(), targets=(plan.lock,)))
    by_lock = delta_of(store, after, lock, tmp_path / "lock")
    assert (by_lock / "DELTA").read_text() == "helper-1.0-py3-none-any.whl\n", "the application is in no lock"


def test_a_delta_takes_no_other_wheel(store: Store, plan: Plan, house: Path, tmp_path: Path) -> None:
    delta = delta_of(store, newer(store, plan, tmp_path / "newer"), house, tmp_path / "delta")
    (house / "wheels" / "helper-1.0-py3-none-any.whl").write_bytes(b"other")
    done = install(delta, "--from", house)
    assert (done.returncode, "is not the wheel that this house needs" in done.stderr) == (DAMAGED, True)
    done = install(delta, "--from", tmp_path / "elsewhere")
    assert (done.returncode, "not the house that this delta was made against" in done.stderr) == (DAMAGED, True)
    assert (delta / "DELTA").is_file()


def test_what_is_no_earlier_house(tmp_path: Path) -> None:
    (tmp_path / "some.tar").write_text("no tar")
    for path in (tmp_path, tmp_path / "some.tar", tmp_path / "absent"):
        with pytest.raises(UsageError, match="is neither a lock nor a wheelhouse"):
            read_since(path)


# For several machines


def shared(store: Store, plan: Plan, folder: Path) -> Plan:
    """The plan, and another Python on a Mac, with another version of one wheel and one wheel more."""
    tag = f"cp{OTHER.replace('.', '')}-abi3-macosx_11_0_arm64"
    native = add_wheel(store, folder, "native", {"native.py": ""}, tag=tag)
    helper = add_wheel(store, folder, "helper", {"helper.py": "ANSWER = 43\n"}, version="2.0")
    target = Target(name="mac", platform="osx-arm64", glibc=None)
    lock = TargetLock(target=target, python=OTHER, conda=(), wheels=(helper, native))
    return replace(plan, others=(Part(lock=lock, own=plan.application.wheel),))


def test_each_machine_gets_its_wheels(store: Store, plan: Plan, tmp_path: Path) -> None:
    house = house_of(store, shared(store, plan, tmp_path / "wheels"), tmp_path / "house")
    assert len(list(house.glob("wheels/*.whl"))) == 4
    assert install(house, tmp_path / "app").returncode == 0
    assert output_of(tmp_path / "app" / "bin" / "demo") == "demo 42\n"
    receipt = json.loads((tmp_path / "app" / "wheelhouse.json").read_text())
    assert [target["name"] for target in receipt["targets"]] == ["default"]
    assert f"- CPython {OTHER} on macOS, arm64" in (house / "README.md").read_text()
    refused = fake_python(tmp_path / "bin", "python3", "3.6")
    assert f"Python {MINOR} or {OTHER} is needed" in install(house, "--check", python=str(refused)).stderr


def test_requirements_and_lock_tell_the_machines_apart(store: Store, plan: Plan, tmp_path: Path) -> None:
    plan = shared(store, plan, tmp_path / "wheels")
    house = house_of(store, plan, tmp_path / "house")
    lines = [line.partition(" --hash")[0] for line in (house / "requirements.txt").read_text().splitlines()[2:]]
    mac = {"python_version": OTHER, "sys_platform": "darwin", "platform_machine": "arm64"}
    here = {"python_version": MINOR, "sys_platform": "linux", "platform_machine": "x86_64"}

    def chosen(machine: dict[str, str]) -> list[str]:
        wanted = [Requirement(line) for line in lines]
        return [f"{one.name}{one.specifier}" for one in wanted if not one.marker or one.marker.evaluate(machine)]

    assert chosen(here) == ["demo==1.0", "helper==1.0"]
    assert chosen(mac) == ["demo==1.0", "helper==2.0", "native==1.0"]
    lock = tomllib.loads((house / "pylock.toml").read_text())
    assert len(lock["environments"]) == 2
    assert [package["name"] for package in lock["packages"]] == ["demo", "helper", "helper", "native"]
    pip = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-cache-dir"]
    command = [*pip, "--target", str(tmp_path / "target"), "-r", "requirements.txt"]
    subprocess.run(command, cwd=house, env=environment(tmp_path), check=True)
    assert "helper-1.0.dist-info" in names_in(tmp_path / "target")


def test_a_python_that_fits_is_taken_before_one_that_does_not(store: Store, plan: Plan, tmp_path: Path) -> None:
    """The Mac's Python stands first in the house, and one of its version is here."""
    plan = shared(store, plan, tmp_path / "wheels")
    mac = plan.others[0]
    first = replace(plan, lock=mac.lock, others=(Part(lock=plan.lock, own=plan.application.wheel),))
    house = house_of(store, first, tmp_path / "house")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / f"python{OTHER}").write_text(f"#!/bin/sh\n[ $# -gt 3 ] && exit 3\necho {OTHER}\n")
    (folder / f"python{OTHER}").chmod(0o755)
    (folder / f"python{MINOR}").symlink_to(sys.executable)
    done = install(house, "--check", python=None, PATH=f"{folder}:/usr/bin:/bin")
    assert (done.returncode, done.stdout) == (0, "demo 1.0 fits this machine\n"), done.stderr


# Where there is no shell


@pytest.mark.thorough
def test_pip_installs_as_on_windows_and_a_failure_leaves_what_was_there(
    store: Store, plan: Plan, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "wheelhouse.json").write_text("{}")
    (app / "mine").touch()
    hook = f'"$BOXSNAKE_PREFIX/bin/demo" x > "{tmp_path}/said"\nexit 7\n'
    house = house_of(store, with_hook(plan, hook), tmp_path / "house")
    command = [sys.executable, "-I", "-B", str(house / "install.py"), "--pip", str(app)]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == FAILED
    assert (tmp_path / "said").read_text() == "demo 42 x\n"
    assert names_in(app) == ["mine", "wheelhouse.json"]
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


def test_a_wheel_for_windows_is_for_windows(store: Store, plan: Plan, tmp_path: Path) -> None:
    tag = f"cp{MINOR.replace('.', '')}-abi3-win_amd64"
    native = add_wheel(store, tmp_path / "wheels", "native", {"native.py": ""}, tag=tag)
    target = Target(name="pc", platform="win-64", glibc=None)
    lock = replace(plan.lock, target=target, wheels=(*plan.lock.wheels, native))
    done = install(house_of(store, replace(plan, lock=lock), tmp_path / "house"), "--check")
    assert done.returncode == UNFIT
    assert "needs a platform win_amd64, this is linux" in done.stderr
