"""Resolving the bases of images: the digest that a reference has now in its registry, for each target's platform.

A lock is the same on every machine, so what only one machine knows is no part of it: files, boxsnake's own hosts, names
that the user's settings map to something else, images that only a container engine has. Such a base stays without a
digest, or with the one that the last lock has for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from boxsnake.errors import NetworkError, PackError, UsageError
from boxsnake.image.base_name import base_of_target, is_local, named_bases
from boxsnake.lock import BasePin, Lock, TargetLock
from boxsnake.reference import Reference, parse
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.manifest import Manifest
    from boxsnake.registry import Registries
    from boxsnake.target import Target


@dataclass(frozen=True, kw_only=True)
class BaseQuestion:
    """What decides the pins: the manifest, the last lock, and how this machine reaches bases.

    `upgrade` are the references that are looked up again though the last lock has them; None: all of them.
    """

    manifest: Manifest
    registries: Registries
    mapped: Mapping[str, str]
    """The names that the user's settings map to others."""
    keep: Lock | None = None
    upgrade: frozenset[str] | None = frozenset()
    offline: bool = False


def pin_bases(lock: Lock, question: BaseQuestion) -> tuple[Lock, tuple[str, ...]]:
    """The lock with its bases' digests, and notes about those that have none.

    A registry that cannot be reached or has no such image is a note, as an engine may have it. Errors: UsageError for a
    name to upgrade that the last lock does not have; IntegrityError where a registry lies.
    """
    kept = {} if question.keep is None else {one.target.name: one.base for one in question.keep.targets}
    _check_names(question, kept.values())
    notes: list[str] = []
    targets = [_pinned(one, question, kept.get(one.target.name), notes) for one in lock.targets]
    return dataclasses.replace(lock, targets=tuple(targets)), tuple(dict.fromkeys(notes))


def _check_names(question: BaseQuestion, kept: Iterable[BasePin | None]) -> None:
    there = sorted({pin.reference for pin in kept if pin is not None})
    for name in sorted(question.upgrade or ()):
        if name not in there:
            step = (
                f"It has {', '.join(there)}." if there else "Run `boxsnake lock`, which looks up those that it lacks."
            )
            raise UsageError(name, "the lock has no such base", step, names=there)


def _pinned(target_lock: TargetLock, question: BaseQuestion, kept: BasePin | None, notes: list[str]) -> TargetLock:
    target = target_lock.target
    name = _base(question.manifest, target)
    platform = target.oci_platform
    if name is None or platform is None:
        return target_lock
    if kept is not None and kept.reference == name and question.upgrade is not None and name not in question.upgrade:
        return dataclasses.replace(target_lock, base=kept)
    pin = _looked_up(name, platform, question, notes)
    if pin is None and kept is not None and kept.reference == name:
        notes.append(f"the base {name} stays at {kept.digest}")
        pin = kept
    return dataclasses.replace(target_lock, base=pin)


def _base(manifest: Manifest, target: Target) -> str | None:
    """The name of a target's base, where it has an image whose base comes from a registry."""
    name = base_of_target(manifest, target)
    return None if name is None or is_local(name) else name


def _looked_up(name: str, platform: tuple[str, str], question: BaseQuestion, notes: list[str]) -> BasePin | None:
    is_named = name in named_bases(question.manifest)
    if name in question.mapped:
        if is_named:
            notes.append(f"the base {name} is not looked up: your settings map it to {question.mapped[name]}")
        return None
    there = _place(name, question.registries)
    if there is None:
        if is_named:
            notes.append(f"the base {name} has no digest here: it names no registry, nor do your settings")
        return None
    if question.offline and not there.digest:
        notes.append(f"the base {name} is not looked up, being offline")
        return None
    from boxsnake.bases.pulled import image_digest

    try:
        return BasePin(reference=name, digest=image_digest(question.registries, there, platform))
    except (NetworkError, PackError) as error:
        notes.append(f"the base {name} has no digest here: {error.cause}")
        return None


def _place(name: str, registries: Registries) -> Reference | None:
    try:
        return registries.meant(parse(name))
    except ValueError:
        return None  # the packager's own check tells
