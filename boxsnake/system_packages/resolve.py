"""From a question to what the lock holds: whose package manager answers, and what is kept of the last lock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from boxsnake.bases import base_image
from boxsnake.bases.files import read_files
from boxsnake.image.base_name import MINIMAL
from boxsnake.lock import BasePin, Lock, SystemKind, SystemLock, SystemPackage
from boxsnake.progress import track
from boxsnake.registry import Registries
from boxsnake.store import Store
from boxsnake.system_packages import debian, minimal
from boxsnake.system_packages.question import SystemQuestion
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.resolve import Upgrade
    from boxsnake.settings import Settings

_RELEASES = ("usr/lib/os-release", "etc/os-release")
_RPM_DATABASE = re.compile(r"(var/lib|usr/lib/sysimage)/rpm/(rpmdb\.sqlite|Packages(\.db)?)")
_RPM_FAMILY = frozenset({"fedora", "rhel", "centos", "suse", "opensuse", "amzn"})


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """How this machine reaches bases and archives, and the folder that relative paths are read against."""

    store: Store
    settings: Settings
    registries: Registries
    root: Path
    offline: bool = False


def lock_system(
    lock: Lock, questions: Sequence[SystemQuestion], around: Surroundings, *, keep: Lock | None, upgrade: Upgrade
) -> Lock:
    """The lock, whose bases are held already, with the packages that are put on them.

    What `keep` has for the same question and base stays, but for what `upgrade` names. Errors: those of
    `resolve_system`.
    """
    before = {one.target.name: one for one in keep.targets} if keep and not upgrade.everything else {}
    asked = {question.target.name: question for question in questions}
    is_same = keep is not None and _lines(keep) == _lines(lock)
    targets = []
    for one in lock.targets:
        question, old = asked.get(one.target.name), before.get(one.target.name)
        if question is None:
            targets.append(replace(one, system=None))
            continue
        kept = _without(old.system, upgrade.names) if old else None
        if is_same and old and old.base == one.base and kept == old.system:
            targets.append(replace(one, system=old.system))
        else:
            targets.append(replace(one, system=resolve_system(question, around, pin=one.base, kept=kept)))
    return replace(lock, targets=tuple(targets))


def _lines(lock: Lock) -> list[tuple[str, tuple[str, ...]]]:
    return [line for line in lock.inputs if line[0] in {"bases", "requires.deb", "requires.rpm", "targets"}]


def _without(system: SystemLock | None, names: frozenset[str]) -> SystemLock | None:
    if system is None:
        return None
    packages = (package for package in system.packages if canonicalize_name(package.name) not in names)
    return replace(system, packages=tuple(packages))


def resolve_system(
    question: SystemQuestion, around: Surroundings, *, pin: BasePin | None = None, kept: SystemLock | None = None
) -> SystemLock | None:
    """What is put on the base; None where the base has no package manager that is asked for something.

    Versions of `kept` are taken where they are still to be had. Errors: those of reading a base, UnsolvableError,
    NetworkError, ResourceError.
    """
    store, settings = around.store, around.settings
    if question.base == MINIMAL:
        with track(f"resolve packages for {question.base}"):
            return minimal.resolve_minimal(
                question,
                store=store,
                mirrors=settings.mirrors,
                kept=kept.packages if kept else (),
                offline=around.offline,
            )
    with track(f"resolve packages for {question.base}"):
        base = base_image(
            store,
            question.base,
            bases=settings.bases,
            root=around.root,
            wanted=question.platform,
            registries=around.registries,
            pin=pin,
            offline=around.offline,
        )
        files = read_files(store, base, _is_wanted)
        release = os_release(files)
        kind = _kind(question, files, release)
        pins: Sequence[SystemPackage] = kept.packages if kept and kept.kind == kind else ()
        if kind == "deb":
            return debian.resolve_deb(
                question, files, release, store=store, mirrors=settings.mirrors, kept=pins, offline=around.offline
            )
        if kind == "rpm":
            from boxsnake.system_packages import redhat

            return redhat.resolve_rpm(question, base, release, store=store, kept=pins, offline=around.offline)
    return None


def os_release(files: Mapping[str, bytes]) -> dict[str, str]:
    """What os-release(5) says of a system."""
    text = next((files[path] for path in _RELEASES if path in files), b"").decode("utf-8", "replace")
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs if key.strip()}


def _is_wanted(path: str) -> bool:
    return path in _RELEASES or bool(_RPM_DATABASE.fullmatch(path)) or debian.is_wanted(path)


def _kind(question: SystemQuestion, files: Mapping[str, bytes], release: Mapping[str, str]) -> SystemKind | None:
    """The kind of packages that are put on a base: it has their database, and they are asked for.

    A base with both databases is asked first for what its distribution is made of.
    """
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    has: dict[SystemKind, bool] = {
        "deb": debian.STATUS in files and bool(question.deb),
        "rpm": any(map(_RPM_DATABASE.fullmatch, files)) and bool(question.rpm),
    }
    first: SystemKind = "rpm" if family & _RPM_FAMILY else "deb"
    return next((kind for kind in sorted(has, key=lambda kind: kind != first) if has[kind]), None)
