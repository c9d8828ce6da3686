"""The packages of locks and plans as they are fetched: how large each is, and whether the store has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from boxsnake.entries import APPLICATION, conda_owner, wheel_owner
from boxsnake.forecast import Archive
from boxsnake.pins import unique_wheels

if TYPE_CHECKING:
    from boxsnake.lock import CondaPackage, TargetLock, Wheel
    from boxsnake.plan import Plan
    from boxsnake.store import Store


def environment(plan: Plan, store: Store) -> tuple[Archive, ...]:
    """What an environment is made of: the conda half, the wheels over it, the application."""
    own = plan.application.wheel
    conda = (_conda(package, store) for package in plan.lock.conda)
    return (*conda, *_wheels((*plan.wheels_over_conda, *((own,) if own else ())), own, store))


def locked(lock: TargetLock, store: Store) -> tuple[Archive, ...]:
    """Both halves of a lock, each whole."""
    return (*(_conda(package, store) for package in lock.conda), *_wheels(lock.wheels, None, store))


def wheels(plan: Plan, store: Store) -> tuple[Archive, ...]:
    """What a box without conda is made of: the wheels of all of its targets, the application's own among them."""
    return tuple(_wheels(unique_wheels(plan.parts), plan.application.wheel, store))


def _conda(package: CondaPackage, store: Store) -> Archive:
    return Archive(
        kind="conda",
        owner=conda_owner(package.name),
        title=f"{package.name} {package.version}",
        size=package.size,
        is_there=store.has(f"sha256:{package.sha256}"),
    )


def _wheels(found: Iterable[Wheel], own: Wheel | None, store: Store) -> Iterable[Archive]:
    for wheel in found:
        digest = f"sha256:{wheel.sha256}"
        is_there = store.has(digest)
        # Not every index tells sizes.
        size = store.path(digest).stat().st_size if wheel.size is None and is_there else wheel.size
        yield Archive(
            kind="application" if wheel == own else "wheel",
            owner=APPLICATION if wheel == own else wheel_owner(wheel.name),
            title=f"{wheel.name} {wheel.version}",
            size=size,
            is_there=is_there,
        )
