"""An edited application and new wheels: staged by themselves, with the same bytes as among all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boxsnake.credentials import Credentials
from boxsnake.errors import PackError
from boxsnake.layers.plan import AS_THEY_ARE, LayerBlob, Treatment, group
from boxsnake.materials import Access, StoreMaterials
from boxsnake.packagers.image import ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from tests.trees import EPOCH, PYTHON_FILES, SITE, VERSION, Content, Program, Workshop

SCRIPTS = "[console_scripts]\nhello = hello:main\n"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "archives").mkdir()
    made = Workshop(tmp_path / "archives")
    # From a folder, as the materials fetch by URL.
    made.conda("python", PYTHON_FILES, version=VERSION, url=made.folder.as_uri())
    return made


@pytest.fixture(autouse=True)
def staged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How trees were staged: "all" or "alone"."""
    import boxsnake.stage.staging as module

    found: list[str] = []

    def noted(name: str, function: Any) -> Any:
        def note(*arguments: Any, **more: Any) -> Any:
            found.append(name)
            return function(*arguments, **more)

        return note

    monkeypatch.setattr(module, "stage", noted("all", module.stage))
    monkeypatch.setattr(module, "stage_wheels", noted("alone", module.stage_wheels))
    return found


def layers(workshop: Workshop, store: Store, treatment: Treatment = AS_THEY_ARE, **files: str) -> list[LayerBlob]:
    """The layers with an application of these modules."""
    sources = {f"{name}.py": text for name, text in files.items()}
    scripts = {"hello-1.0.data/scripts/run": Program("#!python\nimport hello\n")}
    wheel = workshop.wheel("hello", {**sources, **scripts}, entry_points=SCRIPTS, own=True)
    for name, path in workshop.archives.items():
        store.put_file(path)
        assert name
    application = Application(name="hello", version="1.0", wheel=wheel)
    plan = Plan(
        application=application, lock=workshop.lock(), options=ImageOptions(), root=workshop.folder, epoch=EPOCH
    )
    with StoreMaterials(store, plan, Access(credentials=Credentials(), offline=True)) as materials:
        return list(materials.layers("/opt/env", group(plan.lock, application=True), treatment))


def test_after_an_edit_the_application_is_staged_alone(workshop: Workshop, tmp_path: Path, staged: list[str]) -> None:
    workshop.wheel("other", {"other.py": ""})
    store = Store(tmp_path / "store")
    first = layers(workshop, store, hello="def main(): ...\n", data="1")
    second = layers(workshop, store, hello="def main(): print()\n", data="2")
    assert staged == ["all", "alone"]
    assert first[:-1] == second[:-1]
    assert layers(workshop, Store(tmp_path / "fresh"), hello="def main(): print()\n", data="2") == second
    assert staged == ["all", "alone", "all"]


def test_a_file_more_is_compared_with_what_others_bring(workshop: Workshop, tmp_path: Path, staged: list[str]) -> None:
    workshop.wheel("other", {"other.py": "OTHER = 1\n"})
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    layers(workshop, store, hello="", more="")
    assert staged == ["all", "alone"]
    for _ in range(2):  # the second time, the application's layer is there
        with pytest.raises(PackError, match=r"other\.py: the application and the wheel other both bring this path"):
            layers(workshop, store, hello="", other="OTHER = 2\n")
    assert staged == ["all", "alone", "alone", "all", "all"]


def test_a_file_that_others_bring_as_well_is_compared_each_time(
    workshop: Workshop, tmp_path: Path, staged: list[str]
) -> None:
    workshop.conda("other", {f"{SITE}/shared.py": ""}, distribution=True, url=workshop.folder.as_uri())
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="", shared="")
    with pytest.raises(PackError, match="both bring this path"):
        layers(workshop, store, hello="", shared="CHANGED = 1\n")
    assert staged == ["all", "alone", "all"]


def test_an_application_beside_packages_that_others_brought_is_staged_alone(
    workshop: Workshop, tmp_path: Path, staged: list[str]
) -> None:
    for name in ("one", "two"):
        workshop.wheel(name, {f"{name}.py": ""})
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    del workshop.wheels[0]
    second = layers(workshop, store, other="")
    assert staged == ["all", "alone"]
    assert layers(workshop, Store(tmp_path / "fresh"), other="") == second


def test_where_the_interpreter_does_not_start_everything_is_staged(tmp_path: Path, staged: list[str]) -> None:
    (tmp_path / "archives").mkdir()
    workshop = Workshop(tmp_path / "archives")
    broken = {name: Program("exit 1\n") for name in PYTHON_FILES if name.startswith("bin/python3")}
    workshop.conda("python", PYTHON_FILES | broken, version=VERSION, url=workshop.folder.as_uri())
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    second = layers(workshop, store, hello="VALUE = 2\n")
    assert staged == ["all", "alone", "all"]
    assert layers(workshop, Store(tmp_path / "fresh"), hello="VALUE = 2\n") == second


def test_for_another_processor_the_application_is_staged_alone_as_well(
    workshop: Workshop, tmp_path: Path, staged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("boxsnake.stage.bytecode", "boxsnake.stage.staging"):
        monkeypatch.setattr(f"{module}.runs_here", lambda _: False)
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    second = layers(workshop, store, hello="VALUE = 2\n")
    assert staged == ["all", "alone"]
    assert [layer.digest for layer in layers(workshop, Store(tmp_path / "fresh"), hello="VALUE = 2\n")] == [
        layer.digest for layer in second
    ]


@pytest.mark.parametrize("treatment", [AS_THEY_ARE, Treatment(trim=("docs",))], ids=["whole", "trimmed"])
def test_new_wheels_are_staged_alone(
    workshop: Workshop, tmp_path: Path, staged: list[str], treatment: Treatment
) -> None:
    workshop.conda("conda", {f"{SITE}/conda.py": ""}, distribution=True, url=workshop.folder.as_uri())
    workshop.wheel("other", {"other.py": "", "licence": "free\n"})
    store = Store(tmp_path / "store")
    layers(workshop, store, treatment, hello="")
    more: dict[str, Content] = {"more.py": "MORE = 1\n", "licence": "free\n", "more-1.0.data/data/share/doc/more": "x"}
    workshop.wheel("more", {**more, "more-1.0.data/scripts/more": Program("#!python\n")}, entry_points=SCRIPTS)
    workshop.wheel("another", {"another.py": ""})
    second = layers(workshop, store, treatment, hello="MAIN = 1\n")
    assert staged == ["all", "alone"]
    assert layers(workshop, Store(tmp_path / "fresh"), treatment, hello="MAIN = 1\n") == second


def test_a_new_wheel_with_a_file_of_another_is_refused(workshop: Workshop, tmp_path: Path, staged: list[str]) -> None:
    workshop.wheel("other", {"other.py": "OTHER = 1\n"})
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    workshop.wheel("more", {"other.py": "OTHER = 2\n"})
    with pytest.raises(PackError, match=r"other\.py: the wheel more and the wheel other both bring this path"):
        layers(workshop, store, hello="")
    assert staged == ["all", "alone", "all"]


def test_new_wheels_that_do_not_go_together_are_refused(workshop: Workshop, tmp_path: Path, staged: list[str]) -> None:
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    for name in ("one", "two"):
        workshop.wheel(name, {"both.py": f"NAME = '{name}'\n"})
    with pytest.raises(PackError, match=r"both\.py: the wheel one and the wheel two both bring this path"):
        layers(workshop, store, hello="")
    assert staged == ["all", "alone", "all"]


def test_a_new_conda_package_is_staged_with_all_others(workshop: Workshop, tmp_path: Path, staged: list[str]) -> None:
    store = Store(tmp_path / "store")
    layers(workshop, store, hello="")
    workshop.conda("conda", {f"{SITE}/conda.py": ""}, distribution=True, url=workshop.folder.as_uri())
    layers(workshop, store, hello="")
    assert staged == ["all", "all"]
