"""What a box would be made of, told before and after it is made."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake import inventory
from boxsnake.forecast import GZIP, Forecast
from boxsnake.needs import STEPS
from boxsnake.packagers import packagers
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from boxsnake.system import Directory, System
from tests.small_world import FORMATS, World, small_world
from tests.trees import EPOCH, MINOR, SITE, Workshop


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
        (name, "to fetch", True) for name in ("interpreter", "libraries", "rest", "application")
    ]
    packed = workshop.packages[1].size
    assert packed < (before.parts[1].size or 0) < 3 * packed
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
    assert states == ["there", "there", "there", "to fetch"]


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


def test_the_byte_code_that_sources_make_is_foreseen(workshop: Workshop) -> None:
    workshop.conda("toolkit", {f"{SITE}/toolkit.py": "VALUE = 1\n" * 100, "share/data": "x" * 5000})
    workshop.wheel("data", {"data.txt": "x" * 5000})
    store = Store(workshop.folder / "store")
    unread = {archive.title: archive for archive in inventory.environment(plan_of(workshop), store)}
    assert {archive.code for archive in unread.values()} == {None}
    for path in workshop.archives.values():
        store.put_file(path)
    read = {archive.title: archive for archive in inventory.environment(plan_of(workshop), store)}
    names = ("toolkit 1.0", "data 1.0", "hello 1.0")
    assert [read[name].code for name in names] == [1000, 0, len("VALUE = 1\n")]
    of_data = GZIP.of([read["data 1.0"]])
    assert of_data is not None
    assert of_data < (GZIP.of([unread["data 1.0"]]) or 0)
    assert inventory.environment(plan_of(workshop), store) == tuple(read.values()), "as it was remembered"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world")) as made:
        made.done("lock")
        yield made


def formats_of(world: World, *arguments: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The one target of `boxsnake plan --json`, and its formats by name."""
    (target,) = json.loads(world.run("plan", "--json", *arguments).stdout)["targets"]
    return target, {found["format"]: found for found in target["formats"]}


def test_every_format_is_looked_at(world: World) -> None:
    target, found = formats_of(world)
    assert set(found) == set(packagers())
    assert {name for name, one in found.items() if one["asked"]} == set(FORMATS)
    assert target["packages"]["conda-only"] == ["gem"]
    steps = [one["gradient"] for one in target["formats"]]
    assert steps == sorted(steps, key=STEPS.index)
    for one in found.values():
        assert one["fits"], one
        assert one["needs"]["machine"] == "x86_64"
        assert one["size"] > 0
    assert found["pex"]["needs"]["python"] == MINOR
    assert "gem" in found["pex"]["needs"]["further"]
    assert (found["rpm"]["needs"]["root"], found["installer"]["needs"]["root"]) == (True, False)
    assert (found["image"]["needs"]["takes"], found["image"]["needs"]["glibc"]) == ("engine", None)
    assert not (world.app / "dist").exists()


def test_what_does_not_fit_is_one_row_and_names_what_it_cannot_carry(world: World) -> None:
    manifest = world.app / "boxsnake.toml"
    manifest.write_text(manifest.read_text().replace('[boxes.pex]\nhost-brings = ["gem"]\n', "[boxes.pex]\n"))
    _, found = formats_of(world)
    assert (found["pex"]["fits"], found["pex"]["asked"]) == (False, True)
    assert found["pex"]["refusal"]["data"]["missing"] == ["gem"]
    assert "host-brings" in found["pex"]["refusal"]["next"]
    assert found["wheelhouse"]["fits"]
    shown = world.done("plan")
    assert "there is none of gem" in " ".join(shown.split())
    assert "host-brings" in world.done("plan", "pex")
    world.write()


def test_what_is_there_is_told_with_its_true_size(world: World) -> None:
    target, found = formats_of(world, "image", "pex")
    assert list(found) == ["pex", "image"]
    assert target["packages"]["wheels"]["to-fetch"] == target["packages"]["wheels"]["count"]
    assert (found["pex"]["state"], found["pex"]["predicted"]) == ("to fetch", True)
    assert "there" not in {part["state"] for part in found["image"]["parts"]}
    assert "demo 1.0" in found["image"]["parts"][-2]["contents"]
    world.done("build", "image", "pex")
    target, found = formats_of(world, "pex", "image")
    assert target["packages"]["wheels"]["to-fetch"] == 0
    for one in found.values():
        assert (one["state"], one["predicted"]) == ("there", False)
        path = Path(one["path"])
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        assert one["size"] == sum(file.stat().st_size for file in files)
    shown = world.done("plan", "image")
    assert "application" in shown
    assert "to make" not in shown
    assert world.run("plan", "imago").returncode == 2


def test_a_tool_that_is_not_installed_is_named(world: World) -> None:
    shown = world.done("plan", "appimage", PATH="/nowhere")
    assert "appimage cannot be made here: mksquashfs is not installed" in shown
