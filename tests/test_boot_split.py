"""Packages that are split, in the scenarios of those that take each other's place."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from boxsnake.boot import boot
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot.scenarios import SCENARIOS
from boxsnake.boot_recipe import BootRecipe, Expected
from boxsnake.engine import connect
from boxsnake.packagers import Packager
from boxsnake.packagers.deb import PACKAGER as DEB
from boxsnake.packagers.rpm import PACKAGER as RPM
from boxsnake.store import Store
from tests import deb_trees, rpm_trees
from tests.thorough import thorough
from tests.tiny_box import failure

Parts = dict[str, tuple[BootRecipe, Path]]

# The small trees' interpreter is the host's.
EXPECTS = Expected(distributions=(), conda=(), console_scripts=("app", "app-admin"), locked=False)
HOSTS = {"rpm": "debian-12-rpm", "deb": "debian-12-python"}


def recipe(packager: Packager, version: str, folder: Path, *, is_folder: bool = False) -> tuple[BootRecipe, Path]:
    trees = deb_trees if packager is DEB else rpm_trees
    plan = trees.plan_for(version, options={"split": True})
    artifact = rpm_trees.build(plan, folder, packager)
    if is_folder:
        subprocess.run(["tar", "-xf", str(artifact), "-C", str(folder)], check=True)
        artifact = artifact.with_suffix("")
    found = packager.boot(plan, artifact)
    return dataclasses.replace(found, host=HOSTS[packager.name], expects=EXPECTS, borrows=True), artifact


@pytest.fixture(scope="module", params=[RPM, DEB], ids=["rpm", "deb"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Two versions of an application: the earlier one as the folder that its box is laid out in."""
    folder = tmp_path_factory.mktemp("split")
    return {
        "older": recipe(request.param, "1.0", folder / "older", is_folder=True),
        "newer": recipe(request.param, "2.0", folder / "newer"),
    }


@pytest.mark.engine
@pytest.mark.parametrize("name", ["upgrade", "downgrade", *thorough("rollback", "reinstall", "killed-install")])
def test_versions_take_each_others_place(parts: Parts, name: str) -> None:
    (older, _), (newer, artifact) = parts["older"], parts["newer"]
    store, runtime = Store(Store.default_root()), InEngine(connect())
    report = boot(runtime, store, artifact, newer, [], scenario=SCENARIOS[name], older=older)
    assert report.failure is None, report.failure


@pytest.mark.engine
def test_a_disk_without_room_is_named_whatever_is_said_after_that(parts: Parts) -> None:
    newer, artifact = parts["newer"]
    smaller = dataclasses.replace(SCENARIOS["full-disk"], small=lambda _: {"/opt": 64 << 10})
    report = boot(InEngine(connect()), Store(Store.default_root()), artifact, newer, [], scenario=smaller)
    assert report.failure is None, report.failure
    assert re.search(r"space|needs \d+ KiB on the file system of /opt", report.steps[-1].detail)


@pytest.mark.engine
def test_what_a_removal_leaves_is_found(parts: Parts) -> None:
    (older, _), (newer, artifact) = parts["older"], parts["newer"]
    # As if it knew of its own packages alone, and not of what the earlier version had brought.
    forgetful = dataclasses.replace(newer, remove=(("sh", "-c", "true"),))
    store, runtime = Store(Store.default_root()), InEngine(connect())
    report = boot(runtime, store, artifact, forgetful, [], scenario=SCENARIOS["upgrade"], older=older)
    step, detail = failure(report)
    assert step == "leftovers"
    assert "/opt/app" in detail
