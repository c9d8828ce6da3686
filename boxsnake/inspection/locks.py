"""A lock looked at as if it were a box: its packages, and no files."""

from __future__ import annotations

from pathlib import Path

from boxsnake.errors import UsageError
from boxsnake.inspection.value import Inspection, Package
from boxsnake.lock_file import read


def inspect_lock(path: Path, target: str = "") -> Inspection:
    """One target of a lock; sizes are those of archives. Errors: LockError, UsageError for a target it has not got."""
    lock = read(path)
    names = [one.target.name for one in lock.targets]
    if target and target not in names:
        raise UsageError(f"target {target}", f"{path.name} has no such target", f"It has {', '.join(names)}.")
    chosen = next(one for one in lock.targets if one.target.name == (target or names[0]))
    found = [Package(kind="conda", name=one.name, version=one.version, size=one.size) for one in chosen.conda]
    found += [Package(kind="python", name=one.name, version=one.version, size=one.size) for one in chosen.wheels]
    wheels = {wheel.name for wheel in chosen.wheels}
    found += [
        Package(kind="python", name=one.name, version=one.version)
        for one in chosen.conda_distributions
        if one.name not in wheels
    ]
    if chosen.system is not None:
        kind = chosen.system.kind
        found += [
            Package(kind=kind, name=one.name, version=one.version, size=one.size) for one in chosen.system.packages
        ]
    others = [name for name in names if name != chosen.target.name]
    notes = (f"target {chosen.target.name}; it has {', '.join(others)} as well",) if others else ()
    return Inspection(
        artifact=str(path),
        format="lock",
        platform=chosen.target.platform,
        python=chosen.python,
        base=chosen.base.reference if chosen.base else "",
        packages=tuple(sorted(found, key=lambda one: (one.kind, one.name, one.version))),
        notes=notes,
    )
