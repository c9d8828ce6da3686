from __future__ import annotations

import dataclasses
import random

import pytest

from boxsnake.layers.plan import HEAVY, Group, group
from boxsnake.lock import CondaPackage, Distribution, Origin, TargetLock, Wheel
from boxsnake.target import Target

from .test_rpm_version import repeatable


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


def ours(name: str, size: int = 1000) -> Wheel:
    """A wheel that is built from a folder."""
    return dataclasses.replace(wheel(name, size), origin=Origin(kind="folder", url=f"../{name}"))


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
    mixed = lock(*USUAL.conda, *USUAL.wheels, ours("acme-core"))
    with_own = owners(group(mixed, application=True, budget=5))
    assert list(with_own) == ["interpreter", "libraries", "rest", "own", "application"]
    four = owners(group(mixed, application=True, budget=4))
    assert list(four) == ["interpreter", "libraries", "rest", "application"]
    assert "wheel:acme-core" in four["rest"]
    assert list(owners(group(mixed, application=True, budget=3))) == ["interpreter", "rest", "application"]
    assert list(owners(group(USUAL, application=True, budget=3))) == ["interpreter", "rest", "application"]
    assert list(owners(group(USUAL, application=True, budget=2))) == ["requirements", "application"]
    assert list(owners(group(USUAL, application=True, budget=1))) == ["environment"]


def test_the_heaviest_get_the_places_there_are() -> None:
    heavy = lock(*PYTHON, wheel("a", HEAVY), wheel("b", HEAVY + 2), wheel("c", HEAVY + 1))
    assert list(owners(group(heavy, application=True, budget=7))) == ["interpreter", "b", "c", "rest", "application"]


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 5, 8, 12])
@pytest.mark.parametrize(
    ("one", "name"),
    [
        (wheel("tiny"), "rest"),
        (conda("libtiny"), "libraries"),
        (conda("tiny", dist=True), "rest"),
        (ours("acme"), "own"),
    ],
    ids=["wheel", "library", "conda distribution", "own"],
)
def test_adding_a_small_package_changes_one_layer(one: CondaPackage | Wheel, name: str, budget: int) -> None:
    for base in (USUAL, lock(*PYTHON), lock(*PYTHON, wheel("a", HEAVY), wheel("b", HEAVY + 1), wheel("c", HEAVY + 2))):
        before = group(base, application=True, budget=budget)
        after = group(lock(*base.conda, *base.wheels, one), application=True, budget=budget)
        changed = {found.name for found in set(before) ^ set(after)}
        gathered = {"libraries": "interpreter"} if budget == 3 else {}
        gathered |= {"own": "rest"} if budget < 5 else {}
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


def test_what_the_team_releases_is_next_to_the_application() -> None:
    named = dataclasses.replace(wheel("acme-big", HEAVY), index="https://index.example/simple")
    by_url = dataclasses.replace(wheel("by-url"), url="https://files.example/by_url-1-py3-none-any.whl")
    sdist = dataclasses.replace(wheel("of-sdist"), origin=Origin(kind="sdist", url="https://index.example/x.tar.gz"))
    usual = dataclasses.replace(wheel("usual"), url="https://index.example/u.whl", index="https://index.example/simple")
    git = dataclasses.replace(wheel("by-git"), origin=Origin(kind="git", url="https://git.example/x", commit="0" * 40))
    tool = conda("acme_tool", "python")
    many = lock(*PYTHON, tool, wheel("zeta", HEAVY), named, by_url, sdist, usual, git, ours("acme-core"))
    found = owners(group(many, application=True, own=("Acme.*", "python")))
    assert found == {
        "interpreter": ("conda:libzlib", "conda:openssl", "conda:python"),
        "zeta": ("wheel:zeta",),
        "rest": ("wheel:of-sdist", "wheel:usual"),
        "acme-big": ("wheel:acme-big",),
        "own": ("conda:acme_tool", "wheel:acme-core", "wheel:by-git", "wheel:by-url"),
        "application": ("application",),
    }
    assert list(found)[-3:] == ["acme-big", "own", "application"]


# Many locks: whatever is changed in one, a layer changes and no other


def some_lock(dice: random.Random, count: int = 12) -> TargetLock:
    """An interpreter and some packages of all kinds, as many heavy ones as have places."""
    names = dice.sample([f"p{number}" for number in range(60)], count)
    return lock(*PYTHON, *(some_package(name) for name in names))


def some_package(name: str) -> CondaPackage | Wheel:
    """The package of a name: the same wherever it is asked for."""
    number = int(name[1:])
    size = HEAVY + number if number % 9 == 0 else 1000 + number
    kinds = (wheel(name, size), wheel(name, size), ours(name, size), conda(name, size=size), conda(name, dist=True))
    return kinds[number % 5]


def blobs(found: TargetLock) -> dict[tuple[str, ...], str]:
    """What decides each layer's bytes, by the layer."""
    digests = {f"conda:{package.name}": package.version for package in found.conda}
    digests |= {f"wheel:{wheel.name}": wheel.version for wheel in found.wheels}
    groups = group(found, application=True, own=("p7", "p1*"))
    return {one.owners: one.name + str([f"{owner} {digests.get(owner)}" for owner in one.owners]) for one in groups}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_package_changes_its_own_layer_changes_and_no_other(seed: int) -> None:
    dice = repeatable(seed)
    before = some_lock(dice)
    parts: list[CondaPackage | Wheel] = [*before.conda, *before.wheels]
    place = dice.randrange(len(PYTHON), len(parts))
    one = parts[place]
    less = lock(*parts[:place], *parts[place + 1 :])
    newer = lock(*parts[:place], dataclasses.replace(one, version="2"), *parts[place + 1 :])
    owner = f"{'conda' if isinstance(one, CondaPackage) else 'wheel'}:{one.name}"
    for after in (less, newer):
        gone, come = set(blobs(before).values()), set(blobs(after).values())
        assert len(gone - come) == 1
        assert owner in next(iter(gone - come))
        assert len(come - gone) <= 1


def test_applications_share_all_that_they_can() -> None:
    """Of ten, each layer of one package, and the interpreter's, is the same in all that have it."""
    layers = [one for seed in range(10) for one in group(some_lock(repeatable(seed)), application=True)]
    alone = {one.owners for one in layers if one.name not in {"libraries", "rest", "own"}}
    owners_of_alone = [owner for owners in alone for owner in owners]
    assert len(owners_of_alone) == len(set(owners_of_alone))
    assert len(alone) > 4
