"""Scenarios on a tiny box: each passes with a good one, and fails with one that is not up to it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from boxsnake.boot import boot
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot.scenarios import SCENARIOS, chosen
from boxsnake.boot_recipe import BootRecipe, Check
from boxsnake.boot_report.value import BootReport
from boxsnake.engine import connect
from boxsnake.store import Store
from tests.tiny_box import PREFIX, failure, recipe_for, write_box

AGAIN = (("sh", "-c", f"rm -rf {PREFIX} && sh /box/install.sh main serve"),)

PROGRAM = """
import os, pathlib, sys, time

def main():
    word = sys.argv[1]
    if word == "--help" and {trap}:
        raise RuntimeError("trapped")
    if word == "once":
        pathlib.Path("/tmp/once").mkdir()
    if word == "hoard":
        print(len([b"x" * (1 << 20) for _ in range(1024)]))
    if word == "keeps":
        pathlib.Path(sys.argv[2]).expanduser().write_text("x")

serve = main
"""

# What makes the box's installation too long to be over at once, or too large.
FURTHER = {
    "killed-install": f"sleep 0.5; touch {PREFIX}/complete",
    "full-disk": f"dd if=/dev/zero of={PREFIX}/large bs=1M count=9",
}


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A box that a scenario finds out: what its program is asked and when it raises, or how its recipe is changed."""

    told: str
    step: str
    trap: str = "False"
    run: tuple[str, ...] = ("--version",)
    change: Callable[[BootRecipe], BootRecipe] = lambda recipe: recipe


def recipe_of(box: Path, name: str = "") -> BootRecipe:
    recipe = recipe_for(box, "serve")
    if name == "killed-install":
        # Two at once refuse each other, and what is started leaves the session, as apt has it with dpkg.
        alone = "setsid --wait flock --nonblock /box/install.sh"
        commands = [f"{alone} {shlex.join(recipe.install[0])}", f"{alone} {shlex.join(AGAIN[0])}"]
        install, again = ((("sh", "-c", command),) for command in commands)
        return dataclasses.replace(recipe, install=install, again=again)
    return dataclasses.replace(recipe, again=AGAIN, replace=AGAIN, rollback=(("true",),), isolated=True)


BAD = {
    "second-start": Bad(step="check: c again", told="FileExistsError", run=("once",)),
    "two-at-once": Bad(
        step="entry points, two at once",
        told="File exists: '/tmp/busy'",
        trap="(os.mkdir('/tmp/busy') or time.sleep(2))",
    ),
    "unknown-user": Bad(step="check: c", told="FileNotFoundError", run=("keeps", "~/kept")),
    "limits": Bad(step="check: c", told="SIGKILL (the box ran out of memory)", run=("hoard",)),
    "hostile-environment": Bad(step="entry points with LANG=C", told="trapped", trap="os.environ.get('LANG') == 'C'"),
    "python-variables": Bad(step="entry points with PYTHONPATH", told="a stray sitecustomize was imported"),
    "read-only-root": Bad(step="check: c", told="Read-only file system", run=("keeps", "/var/tmp/kept")),
    "reinstall": Bad(
        step="install again",
        told="File exists",
        change=lambda recipe: dataclasses.replace(recipe, again=(("mkdir", PREFIX),)),
    ),
    "killed-install": Bad(
        step="install again",
        told="exited with 1",
        change=lambda recipe: dataclasses.replace(recipe, again=(("test", "-e", f"{PREFIX}/complete"),)),
    ),
    "full-disk": Bad(
        step="install on a full disk",
        told="does not say that the disk is full",
        change=lambda recipe: dataclasses.replace(
            recipe, install=(("sh", "-c", "sh /box/install.sh main serve >/dev/null 2>&1"),)
        ),
    ),
    "upgrade": Bad(
        step="leftovers",
        told="/etc/of-the-older (added)",
        change=lambda recipe: dataclasses.replace(recipe, replace=(*AGAIN, ("touch", "/etc/of-the-older"))),
    ),
    "downgrade": Bad(
        step="downgrade",
        told="cannot go back",
        change=lambda recipe: dataclasses.replace(recipe, replace=(("sh", "-c", "echo cannot go back; exit 1"),)),
    ),
    "rollback": Bad(
        step="rollback", told="exited with 1", change=lambda recipe: dataclasses.replace(recipe, rollback=(("false",),))
    ),
}


@pytest.fixture(scope="module")
def runtime() -> InEngine:
    return InEngine(connect())


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


def tried(runtime: InEngine, store: Store, name: str, recipe: BootRecipe, check: Check) -> BootReport:
    return boot(runtime, store, Path("tiny"), recipe, [check], scenario=SCENARIOS[name], older=recipe)


@pytest.mark.engine
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "python-variables"])
def test_a_good_box_is_up_to_it(runtime: InEngine, store: Store, tmp_path: Path, name: str) -> None:
    box = write_box(tmp_path, module=PROGRAM.format(trap="False"), install=FURTHER.get(name, ""))
    report = tried(runtime, store, name, recipe_of(box, name), Check(name="c", run=("tiny", "--version")))
    assert (report.failure, report.scenario) == (None, name)


@pytest.mark.engine
@pytest.mark.parametrize("name", BAD)
def test_a_bad_box_is_found_out(runtime: InEngine, store: Store, tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    box = write_box(tmp_path, module=PROGRAM.format(trap=bad.trap), install=FURTHER.get(name, ""))
    recipe = bad.change(recipe_of(box, name))
    report = tried(runtime, store, name, recipe, Check(name="c", run=("tiny", *bad.run)))
    step, detail = failure(report)
    assert step == bad.step, detail
    assert bad.told in detail


def test_there_is_a_bad_box_for_every_scenario() -> None:
    # Whether there is a network is for the engine to say, not for the box.
    assert set(SCENARIOS) - {"no-network"} == set(BAD)


def test_all_are_those_that_a_box_takes() -> None:
    recipe = recipe_for(Path("box"))
    own = {"reinstall", "killed-install", "full-disk", "upgrade", "downgrade", "rollback", "python-variables"}
    assert {scenario.name for scenario in chosen(["all"], recipe, older=True)} == set(SCENARIOS) - own
    able = recipe_of(Path("box"))
    older = {"upgrade", "downgrade", "rollback"}
    assert {scenario.name for scenario in chosen(["all"], able, older=False)} == set(SCENARIOS) - older
    assert [scenario.name for scenario in chosen(["limits", "limits"], able, older=False)] == ["limits"]
