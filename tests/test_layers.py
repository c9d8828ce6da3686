from __future__ import annotations

import dataclasses

import pytest

from boxsnake.layers import HEAVY, Group, group
from boxsnake.lock import CondaPackage, Distribution, TargetLock, Wheel
from boxsnake.target import Target


def conda(name: str, *depends: str, size: int = 1000, dist: bool = False) -> CondaPackage:
    return CondaPackage(
        name=name,
        version="1",
        build="0",
        build_number=0,
        subdir="linux-64",
        channel="https://channel.example/c",
        url=f"https://channel.example/c/linux-64/{name}-1-0.conda",
        sha256="0" * 64,
        size=size,
        depends=depends,
        distributions=(Distribution(name=name, version="1"),) if dist else (),
    )


def wheel(name: str, size: int | None = 1000) -> Wheel:
    return Wheel(name=name, version="1", file_name=f"{name}-1-py3-none-any.whl", sha256="1" * 64, size=size, url=None)


def lock(*parts: CondaPackage | Wheel) -> TargetLock:
    return TargetLock(
        target=Target(name="default"),
        python="3.11.9",
        conda=tuple(part for part in parts if isinstance(part, CondaPackage)),
        wheels=tuple(part for part in parts if isinstance(part, Wheel)),
    )


PYTHON = (conda("python", "openssl >=3", "libzlib>=1.2,<2", size=20_000_000), conda("openssl"), conda("libzlib"))
USUAL = lock(
    *PYTHON,
    conda("libpq", "openssl >=3"),
    conda("numpy", "python", size=9_000_000, dist=True),
    conda("flask", "python", dist=True),
    wheel("pandas", 12_000_000),
    wheel("gunicorn"),
    wheel("local", None),
)


def owners(groups: tuple[Group, ...]) -> dict[str, tuple[str, ...]]:
    return {found.name: found.owners for found in groups}


def test_layers_are_in_the_order_of_how_rarely_they_change() -> None:
    assert owners(group(USUAL, application=True)) == {
        "interpreter": ("conda:libzlib", "conda:openssl", "conda:python"),
        "libraries": ("conda:libpq",),
        "numpy": ("conda:numpy",),
        "pandas": ("wheel:pandas",),
        "rest": ("conda:flask", "wheel:gunicorn", "wheel:local"),
        "application": ("application",),
    }


def test_a_wheel_that_conda_brings_as_well_is_not_in_any_layer() -> None:
    both = lock(*PYTHON, conda("numpy", size=9_000_000, dist=True), wheel("numpy", 9_000_000))
    assert owners(group(both, application=False)) == {
        "interpreter": ("conda:libzlib", "conda:openssl", "conda:python"),
        "numpy": ("conda:numpy",),
    }


@pytest.mark.parametrize("budget", range(1, 20))
def test_every_owner_is_in_exactly_one_layer_within_the_budget(budget: int) -> None:
    many = lock(*USUAL.conda, *USUAL.wheels, *(wheel(f"heavy{n}", HEAVY + n) for n in range(9)))
    groups = group(many, application=True, budget=budget)
    assert len(groups) <= budget
    found = [owner for one in groups for owner in one.owners]
    expected = {f"conda:{p.name}" for p in many.conda} | {f"wheel:{w.name}" for w in many.wheels} | {"application"}
    assert sorted(found) == sorted(expected)


def test_small_budgets_gather_neighbours() -> None:
    assert list(owners(group(USUAL, application=True, budget=4))) == ["interpreter", "libraries", "rest", "application"]
    assert list(owners(group(USUAL, application=True, budget=3))) == ["interpreter", "rest", "application"]
    assert list(owners(group(USUAL, application=True, budget=2))) == ["requirements", "application"]
    assert list(owners(group(USUAL, application=True, budget=1))) == ["environment"]


def test_the_heaviest_get_the_places_there_are() -> None:
    heavy = lock(*PYTHON, wheel("a", HEAVY), wheel("b", HEAVY + 2), wheel("c", HEAVY + 1))
    assert list(owners(group(heavy, application=True, budget=6))) == ["interpreter", "b", "c", "rest", "application"]


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize(
    ("one", "name"),
    [(wheel("tiny"), "rest"), (conda("libtiny"), "libraries"), (conda("tiny", dist=True), "rest")],
    ids=["wheel", "library", "conda distribution"],
)
def test_adding_a_small_package_changes_one_layer(one: CondaPackage | Wheel, name: str, budget: int) -> None:
    for base in (USUAL, lock(*PYTHON), lock(*PYTHON, wheel("a", HEAVY), wheel("b", HEAVY + 1), wheel("c", HEAVY + 2))):
        before = group(base, application=True, budget=budget)
        after = group(lock(*base.conda, *base.wheels, one), application=True, budget=budget)
        changed = {found.name for found in set(before) ^ set(after)}
        gathered = {"libraries": "interpreter"} if budget == 3 else {}
        small = {1: "environment", 2: "requirements"}
        assert changed == {small.get(budget, gathered.get(name, name))}


def test_upgrading_a_small_package_moves_nothing() -> None:
    upgraded = tuple(dataclasses.replace(p, version="2", size=p.size + 500) for p in USUAL.wheels if p.size)
    assert group(dataclasses.replace(USUAL, wheels=(*upgraded, wheel("local"))), application=True) == group(
        USUAL, application=True
    )


def test_the_order_within_the_lock_does_not_matter() -> None:
    turned = dataclasses.replace(USUAL, conda=USUAL.conda[::-1], wheels=USUAL.wheels[::-1])
    assert group(turned, application=True) == group(USUAL, application=True)


def test_a_lock_without_conda_has_no_interpreter_layer() -> None:
    assert owners(group(lock(wheel("flask")), application=True)) == {
        "rest": ("wheel:flask",),
        "application": ("application",),
    }


def test_packages_named_like_layers_stay_apart() -> None:
    odd = lock(*PYTHON, wheel("rest", HEAVY), wheel("application", HEAVY), wheel("small"))
    assert sorted(group(odd, application=True), key=lambda found: found.owners) == sorted(
        (
            Group(name="interpreter", owners=("conda:libzlib", "conda:openssl", "conda:python")),
            Group(name="application", owners=("wheel:application",)),
            Group(name="rest", owners=("wheel:rest",)),
            Group(name="rest", owners=("wheel:small",)),
            Group(name="application", owners=("application",)),
        ),
        key=lambda found: found.owners,
    )
