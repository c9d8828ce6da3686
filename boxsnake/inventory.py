"""The packages of locks and plans as they are fetched: what is known of each, and whether the store has it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from boxsnake.entries import APPLICATION, conda_owner, wheel_owner
from boxsnake.forecast import Archive
from boxsnake.pins import unique_wheels
from boxsnake.stage.bytecode import is_compiled

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
    is_there = store.has(f"sha256:{package.sha256}")
    return Archive(
        kind="conda",
        owner=conda_owner(package.name),
        title=f"{package.name} {package.version}",
        size=package.size,
        is_there=is_there,
        code=_code(store, package.sha256, package.file_name) if is_there else None,
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
            code=_code(store, wheel.sha256, wheel.file_name) if is_there else None,
        )


def _code(store: Store, sha256: str, file_name: str) -> int | None:
    """The bytes of what is compiled of a package that the store has; None where telling them takes unpacking it."""
    key = {"format": 2, "sha256": sha256}
    known = store.selected("code", key)
    if known is None:
        path = store.path(f"sha256:{sha256}")
        sizes: Mapping[str, int]
        if file_name.endswith(".conda"):
            from boxsnake.ingest.conda import conda_facts, file_sizes

            conda_facts(store, sha256)  # what is read has passed the check
            with path.open("rb") as package:
                sizes = file_sizes(package)
        elif file_name.endswith(".whl"):
            from boxsnake.ingest.wheel import wheel_facts

            wheel_facts(store, sha256)
            with zipfile.ZipFile(path) as archive:
                sizes = {member.filename: member.file_size for member in archive.infolist()}
        else:
            return None
        known = {"bytes": sum(size for name, size in sizes.items() if is_compiled(name))}
        store.select("code", key, known)
    return int(known["bytes"])
