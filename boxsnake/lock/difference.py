"""What changed: between two locks, and between a lock and what is asked now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boxsnake.lock.values import CondaPackage, Inputs, Lock, TargetLock, Wheel

Half = Literal["target", "base", "conda", "wheels", "system"]


@dataclass(frozen=True, kw_only=True, order=True)
class Change:
    """One thing of one target that was added (`before` is None), removed (`after` is None) or changed."""

    target: str
    half: Half
    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.name} {self.after}"
        if self.after is None:
            return f"- {self.name} {self.before}"
        return f"~ {self.name} {self.before} -> {self.after}"


@dataclass(frozen=True, kw_only=True)
class LockDifference:
    """All that changes from one lock to another."""

    changes: tuple[Change, ...]
    hosts: tuple[str, ...]
    """Servers that the old lock fetches nothing from."""
    sources: tuple[str, ...]
    """What the new lock builds wheels from and the old did not: somebody else's code that runs here."""

    def __bool__(self) -> bool:
        return bool(self.changes or self.hosts or self.sources)

    def lines(self) -> list[str]:
        """For people: each target's changes under its name, then what deserves a second look."""
        lines: list[str] = []
        head = None
        for change in self.changes:
            if (change.target, change.half) != head:
                head = (change.target, change.half)
                lines.append(f"{change.target}" if change.half == "target" else f"{change.target}, {change.half}:")
            lines.append(f"  {change}")
        lines += [f"new server: {host}" for host in self.hosts]
        lines += [f"new build: {source}" for source in self.sources]
        return lines


def difference(old: Lock | None, new: Lock) -> LockDifference:
    """What changes from `old` (None: there is none yet) to `new`."""
    before = {} if old is None else {target_lock.target.name: target_lock for target_lock in old.targets}
    after = {target_lock.target.name: target_lock for target_lock in new.targets}
    changes: list[Change] = []
    for name in sorted(before.keys() | after.keys()):
        for half, facts in _HALVES:
            changes += _changes(name, half, facts(before.get(name)), facts(after.get(name)))
    return LockDifference(
        changes=tuple(changes),
        hosts=tuple(sorted(_hosts(new) - (set() if old is None else _hosts(old)))),
        sources=tuple(sorted(_sources(new) - (set() if old is None else _sources(old)))),
    )


def stale(lock: Lock, inputs: Inputs) -> list[str]:
    """How what is asked now differs from what the lock was made for, in lines such as "requires.pip: + flask>=3"."""
    before, after = dict(lock.inputs), dict(inputs)
    lines: list[str] = []
    for what in sorted(before.keys() | after.keys()):
        old, new = before.get(what, ()), after.get(what, ())
        lines += [f"{what}: - {line}" for line in old if line not in new]
        lines += [f"{what}: + {line}" for line in new if line not in old]
        if old != new and set(old) == set(new):
            lines.append(f"{what}: another order ({', '.join(new)})")
    return lines


def _changes(target: str, half: Half, before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[Change]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield _told(Change(target=target, half=half, name=name, before=before.get(name), after=after.get(name)))


def _told(change: Change) -> Change:
    """The change in as few words as tell it: the version alone where it differs, else the file's name or digest."""
    before, after = (text.split(" ") if text else None for text in (change.before, change.after))
    words = len(before or after or ())
    shown = next((n for n in range(1, words + 1) if before and after and before[:n] != after[:n]), 1)
    return Change(
        target=change.target,
        half=change.half,
        name=change.name,
        before=" ".join(before[:shown]) if before else None,
        after=" ".join(after[:shown]) if after else None,
    )


def _target_facts(target_lock: TargetLock | None) -> dict[str, str]:
    if target_lock is None:
        return {}
    target = target_lock.target
    facts = {"platform": target.platform, "interpreter": target.interpreter, "python": target_lock.python}
    if target.glibc is not None:
        facts["glibc"] = target.glibc
    return facts | {f"{found.name} (no wheel)": found.version for found in target_lock.unavailable}


def _base_facts(target_lock: TargetLock | None) -> dict[str, str]:
    base = None if target_lock is None else target_lock.base
    return {} if base is None else {base.reference: base.digest}


def _conda_facts(target_lock: TargetLock | None) -> dict[str, str]:
    def facts(package: CondaPackage) -> str:
        return f"{package.version} {package.build} {package.channel} {package.sha256[:12]}"

    return {} if target_lock is None else {package.name: facts(package) for package in target_lock.conda}


def _wheel_facts(target_lock: TargetLock | None) -> dict[str, str]:
    def facts(wheel: Wheel) -> str:
        return f"{wheel.version} {wheel.file_name} {wheel.index or '-'} {wheel.sha256[:12]}"

    return {} if target_lock is None else {wheel.name: facts(wheel) for wheel in target_lock.wheels}


def _system_facts(target_lock: TargetLock | None) -> dict[str, str]:
    packages = target_lock.system.packages if target_lock and target_lock.system else ()
    return {
        package.name: f"{package.version} {package.architecture} {package.archive} {package.sha256[:12]}"
        for package in packages
    }


_HALVES: tuple[tuple[Half, Callable[[TargetLock | None], dict[str, str]]], ...] = (
    ("target", _target_facts),
    ("base", _base_facts),
    ("conda", _conda_facts),
    ("wheels", _wheel_facts),
    ("system", _system_facts),
)


def _hosts(lock: Lock) -> set[str]:
    urls = [package.url for target_lock in lock.targets for package in target_lock.conda]
    for target_lock in lock.targets:
        urls += [wheel.url for wheel in target_lock.wheels if wheel.url]
        urls += [wheel.origin.url for wheel in target_lock.wheels if wheel.origin]
        urls += [url for _, url in (target_lock.system.archives if target_lock.system else ())]
    return {host for url in urls if (host := urlsplit(url).hostname)}


def _sources(lock: Lock) -> set[str]:
    return {
        f"{wheel.name} {wheel.version} from {wheel.origin.url}"
        for target_lock in lock.targets
        for wheel in target_lock.wheels
        if wheel.origin is not None
    }
