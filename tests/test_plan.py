"""What a box would be made of, told before and after it is made."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake.forecast import Forecast, predicted
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from boxsnake.system import Directory, System
from tests.small_world import World, small_world
from tests.trees import EPOCH, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    made.python()
    made.conda("libtool", {"lib/tool": "x"})
    made.wheel("web", {"web.py": ""})
    made.wheel("hello", {"hello.py": "VALUE = 1\n"}, own=True)
    return made


def plan_of(workshop: Workshop) -> Plan:
    application = Application(name="hello", version="1.0", wheel=workshop.application)
    options = ImageOptions(base="scratch")
    return Plan(application=application, lock=workshop.lock(), options=options, root=workshop.folder, epoch=EPOCH)


def forecast(workshop: Workshop, plan: Plan) -> Forecast:
    store = Store(workshop.folder / "store")
    return PACKAGER.forecast(plan, workshop.materials(store, plan.lock))


def test_sizes_are_reckoned_before_and_true_after(workshop: Workshop) -> None:
    plan = plan_of(workshop)
    before = forecast(workshop, plan)
    assert [(part.name, part.state, part.is_predicted) for part in before.parts] == [
        (name, "to make", True) for name in ("interpreter", "libraries", "rest", "application")
    ]
    assert before.parts[1].size == predicted(workshop.packages[1].size)
    assert before.is_predicted
    materials = workshop.materials(Store(workshop.folder / "store"), plan.lock)
    PACKAGER.pack(plan, materials, workshop.folder / "out.tar")
    after = forecast(workshop, plan)
    with tarfile.open(workshop.folder / "out.tar") as archive:
        sizes = [archive.getmember(name).size for name in json.load(_member(archive))[0]["Layers"]]
    assert [(part.size, part.state) for part in after.parts] == [(size, "there") for size in sizes]
    assert (after.size, after.is_predicted) == (sum(sizes), False)
    workshop.wheel("hello", {"hello.py": "VALUE = 2\n"}, own=True)
    states = [part.state for part in forecast(workshop, plan_of(workshop)).parts]
    assert states == ["there", "there", "there", "to make"]


def _member(archive: tarfile.TarFile) -> Any:
    return archive.extractfile("manifest.json")


def test_nothing_is_staged_for_a_forecast(workshop: Workshop) -> None:
    plan = plan_of(workshop)
    materials = workshop.materials(Store(workshop.folder / "store"), plan.lock)
    PACKAGER.forecast(plan, materials)
    assert materials.staged == 0


def test_what_the_system_layer_brings_lies_below_the_application(workshop: Workshop) -> None:
    folder = Directory(path="/var/lib/hello", kind="state", owner="hello", group="hello", mode=0o750)
    plan = dataclasses.replace(plan_of(workshop), system=System(directories=(folder,)))
    *_, system, application = forecast(workshop, plan).parts
    assert (system.name, system.contents, application.name) == ("system", ("/var/lib/hello",), "application")


def test_a_size_that_nobody_told_is_unknown(workshop: Workshop) -> None:
    plan = plan_of(workshop)
    (web,) = plan.lock.wheels
    lock = dataclasses.replace(plan.lock, wheels=(dataclasses.replace(web, size=None),))
    found = {part.name: part for part in forecast(workshop, dataclasses.replace(plan, lock=lock)).parts}
    assert found["rest"].size is None
    assert found["rest"].contents == ("web 1.0",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world")) as made:
        yield made


def test_the_command_line_shows_it(world: World) -> None:
    world.done("lock")
    (plan,) = json.loads(world.run("plan", "--json").stdout)["plans"]
    assert (plan["format"], plan["predicted"]) == ("image", True)
    assert {part["state"] for part in plan["parts"]} == {"to make"}
    assert "demo 1.0" in plan["parts"][-2]["contents"]
    assert not (world.app / "dist").exists()
    world.done("build", "image")
    shown = world.done("plan", "image")
    assert "application" in shown
    assert "there" in shown
    assert "to make" not in shown
    refused = world.run("plan", "pex")
    assert (refused.returncode, "no forecast for this format" in refused.stderr) == (2, True)
    assert world.run("plan", "imago").returncode == 2
