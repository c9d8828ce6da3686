"""The contract that every format keeps, whichever formats there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxsnake.lock import TargetLock, Wheel
from boxsnake.needs import STEPS
from boxsnake.packagers import Packager, packagers
from boxsnake.plan import Application, Plan
from boxsnake.system import PARTS
from boxsnake.target import Target

MOMENTS = {"pre-install", "post-install", "pre-remove", "post-remove"}


def plan_for(packager: Packager, name: str = "hello", version: str = "1.0") -> Plan:
    wheel = Wheel(
        name=name, version=version, file_name=f"{name}-{version}-py3-none-any.whl", sha256="0" * 64, size=1, url=None
    )
    application = Application(name=name, version=version, command=(name,), wheel=wheel, console_scripts=(name,))
    lock = TargetLock(target=Target(name="default"), python="3.11.9", conda=(), wheels=())
    return Plan(application=application, lock=lock, options=packager.options(), root=Path("/nowhere"), epoch=0)


def test_the_formats_are_those_of_the_folder() -> None:
    folder = Path(__file__).parent.parent / "boxsnake" / "packagers"
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert {name.replace("-", "_") for name in packagers()} == files


@pytest.mark.parametrize("packager", packagers().values(), ids=packagers())
def test_a_format_describes_itself(packager: Packager) -> None:
    assert packager.summary
    assert "\n" not in packager.summary
    assert packager.moments <= MOMENTS
    assert packager.system <= set(PARTS)
    assert isinstance(packager.unfolds, bool)
    assert packager.options() is not None, "every option has a default"
    assert packager.step in STEPS
    words = packager.needs(plan_for(packager))
    assert all(word and word == word.strip() and "\n" not in word for word in words)


@pytest.mark.parametrize("packager", packagers().values(), ids=packagers())
def test_file_names_are_plain_and_tell_versions_apart(packager: Packager) -> None:
    names = {packager.file_name(plan_for(packager, version=version)) for version in ("1.0", "1.0.post1", "2.0rc1")}
    assert len(names) == 3
    for name in names:
        assert "hello" in name
        assert not set(name) & set("/\\ \n\0")


def test_no_two_formats_make_the_same_file() -> None:
    names = [packager.file_name(plan_for(packager)) for packager in packagers().values()]
    assert len(names) == len(set(names))
