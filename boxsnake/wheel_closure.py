"""Boxes without conda: what of a lock's conda half they do without, and where and how they are started."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from boxsnake.entries import APPLICATION, wheel_owner
from boxsnake.errors import PackError
from boxsnake.project.wheel_archive import installed_members, is_same_member
from boxsnake.stage.owners import collision

if TYPE_CHECKING:
    from boxsnake.lock import CondaPackage, TargetLock
    from boxsnake.plan import Part, Plan

# Clean systems that have an interpreter of their own, by its minor version.
_HOSTS = {"3.11": "debian-12-python", "3.13": "debian-13-python"}


def check_closure(plan: Plan, host_brings: Sequence[str], *, box: str) -> None:
    """Refuse a plan whose conda half has something that wheels do not bring, unless the host brings it.

    Raises PackError, which names all of it; `box` is the format's name.
    """
    brought = _normalised(host_brings)
    for part in plan.parts:
        missing = [name for name in without_wheels(part.lock) if canonicalize_name(name) not in brought]
        if missing:
            raise _lacking(missing, box, part.target.name)


def _lacking(missing: Sequence[str], box: str, target: str) -> PackError:
    names = ", ".join(f'"{name}"' for name in missing)
    return PackError(
        f"{box} for {target}",
        f"carries wheels alone, and there is none of {', '.join(missing)}",
        f"Where the host brings it, say so: host-brings = [{names}] in [boxes.{box}]; "
        "else pack an image, an RPM or a deb.",
        format=box,
        missing=list(missing),
    )


def closure_notes(plan: Plan, host_brings: Sequence[str]) -> list[str]:
    """What the user should know of the conda packages that are not in the box."""
    notes = []
    if host_brings:
        notes.append(f"the host must bring {', '.join(sorted(host_brings))}")
    left_out = sorted({name for part in plan.parts for name in carried_by_wheels(part.lock)})
    if left_out:
        notes.append(f"conda's {', '.join(left_out)} left out: wheels carry their own copies of such libraries")
    return notes


def check_owners(plan: Plan, wheels: Mapping[str, Path]) -> None:
    """Refuse wheels that bring different files for one path; `wheels` are their files by name. Raises PackError."""
    for part in plan.parts:
        _check_owners(part, wheels)


def _check_owners(part: Part, wheels: Mapping[str, Path]) -> None:
    brought: dict[str, tuple[str, Path, str]] = {}
    for wheel in part.wheels:
        owner = APPLICATION if wheel == part.own else wheel_owner(wheel.name)
        file = wheels[wheel.file_name]
        for path, member in installed_members(file, wheel.file_name).items():
            other, its_file, its_member = brought.setdefault(path, (owner, file, member))
            if other == owner or (member and its_member and is_same_member(file, its_file, (member, its_member))):
                continue
            raise collision(path, other, owner)


def without_wheels(lock: TargetLock) -> tuple[str, ...]:
    """What the conda half brings and wheels cannot: distributions that no index has a wheel of, and native packages."""
    return (*(found.name for found in lock.unavailable), *native_packages(lock))


def native_packages(lock: TargetLock) -> tuple[str, ...]:
    """The conda packages that were asked for by themselves and bring no Python distribution, sorted.

    What the interpreter needs is not among them, as the host brings an interpreter with all of its libraries; nor is
    what a distribution's conda package needs, as its wheel carries what it needs. Of the rest only the tops are
    named: what they depend on comes with them.
    """
    reached = _reached(lock.conda, [package for package in lock.conda if _is_python(package) or package.distributions])
    rest = [package for package in lock.conda if package.name not in reached]
    below = {name for package in rest for name in _needed(package)}
    return tuple(sorted(package.name for package in rest if package.name not in below))


def carried_by_wheels(lock: TargetLock) -> tuple[str, ...]:
    """The conda packages that only Python distributions need, and not the interpreter, sorted."""
    brought = {package.name for package in lock.conda if package.distributions}
    with_python = _reached(lock.conda, [package for package in lock.conda if _is_python(package)])
    with_distributions = _reached(lock.conda, [package for package in lock.conda if package.distributions])
    return tuple(sorted(with_distributions - with_python - brought))


def _is_python(package: CondaPackage) -> bool:
    # Of these the interpreter itself is built for several ABIs, and the host's has one of them.
    return package.name in {"python", "python_abi"}


def _reached(packages: Iterable[CondaPackage], roots: Iterable[CondaPackage]) -> set[str]:
    by_name = {package.name: package for package in packages}
    reached: set[str] = set()
    todo = [package.name for package in roots]
    while todo:
        name = todo.pop()
        if name in by_name and name not in reached:
            reached.add(name)
            todo.extend(_needed(by_name[name]))
    return reached


def _needed(package: CondaPackage) -> list[str]:
    return [spec.split()[0] for spec in package.depends if spec.strip()]


def _normalised(names: Iterable[str]) -> set[str]:
    return {canonicalize_name(name) for name in names}


def python_host(plan: Plan) -> str:
    """The name of a host whose own interpreter is of the plan's Python version."""
    minor = plan.lock.python_minor
    return _HOSTS.get(minor, f"python-{minor}")


def start_command(plan: Plan, scripts: str) -> tuple[str, ...]:
    """What starts the application where its programs lie in the folder `scripts`."""
    if not plan.application.command:
        return ()
    program, *arguments = plan.application.command
    return (posixpath.join(scripts, program), *arguments)
