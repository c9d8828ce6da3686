"""Which boxes there are to make: the formats and targets of a manifest that are meant, each with its plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from boxsnake.application import check_of, describe, revision_of, rules_of
from boxsnake.asked import Asked
from boxsnake.errors import Fault, ManifestError, PackError, UsageError
from boxsnake.lock import Lock, TargetLock
from boxsnake.manifest import Manifest, Section, SharedBox
from boxsnake.manifest.section import key_of
from boxsnake.materials import Access
from boxsnake.os_packages.system_wanted import system_wanted
from boxsnake.packagers import Packager, packagers
from boxsnake.plain_text import shortened
from boxsnake.plan import Application, Hook, Part, Plan
from boxsnake.store import Store
from boxsnake.target import DEFAULT_TARGET, Target
from boxsnake.value import dataclass

DEFAULT_EPOCH = 1577836800
"""2020-01-01T00:00:00Z: the time of everything that is packed, unless SOURCE_DATE_EPOCH says another."""

LATEST_EPOCH = (1 << 32) - 1
"""What RPM and gzip can say: a day in 2106."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One thing to make: a format for a target, and where its artifact goes."""

    packager: Packager
    plan: Plan
    path: Path

    @property
    def name(self) -> str:
        """For people: "image", or "image (el9)" for a target that has a name of its own, "pex (a, b)" for several."""
        targets = ", ".join(part.target.name for part in self.plan.parts)
        return self.packager.name if targets == DEFAULT_TARGET else f"{self.packager.name} ({targets})"

    @property
    def by_target(self) -> tuple[Box, ...]:
        """The box as each of its targets sees it: the same artifact."""
        return tuple(replace(self, plan=self.plan.of(part)) for part in self.plan.parts)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A format for a target, whether the manifest asks for it or not: its box, or why there can be none."""

    packager: Packager
    target: Target
    is_asked: bool
    box: Box | None
    refusal: PackError | None


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """An application's folder, opened: what was asked and locked, and how what it takes is had.

    `output` is where artifacts go: those of the target "default" themselves, those of another into a folder of its name
    below it, as file names are those of each format's convention and need not tell targets apart.
    """

    asked: Asked
    lock: Lock
    store: Store
    output: Path
    access: Access

    def boxes(
        self,
        formats: Sequence[str] = (),
        targets: Sequence[str] = (),
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Box]:
        """The boxes that the manifest asks for, or those of `formats` and `targets` alone.

        `meanwhile` is as of `boxsnake.project.build_wheel`. Errors: UsageError, PackError.
        """
        _check_formats(formats)
        manifest = self.asked.manifest
        planned = _planning(self, meanwhile)
        found: dict[tuple[str, str], Box] = {}
        for target in _chosen_targets(self.lock, targets):
            for packager in _chosen_formats(manifest, formats, target.name):
                locks = _locks_of_box(self.lock, _options(manifest, packager), target)
                key = (packager.name, locks[0].target.name)
                if key not in found:
                    found[key] = planned(packager, locks)
        if formats and not found:
            cause = "is made for none of the targets: they have `boxes` of their own"
            raise UsageError(", ".join(formats), cause, "Add it to `boxes` of a target, or choose another target.")
        return list(found.values())

    def candidates(self, formats: Sequence[str] = (), targets: Sequence[str] = ()) -> Iterator[Candidate]:
        """Every format, or those of `formats` alone, for every target or those of `targets`. Errors: UsageError."""
        _check_formats(formats)
        manifest = self.asked.manifest
        planned = _planning(self)
        for target in _chosen_targets(self.lock, targets):
            wanted = _chosen_formats(manifest, (), target.name)
            for packager in (packagers()[name] for name in dict.fromkeys(formats or packagers())):
                locks = _locks_of_box(self.lock, _options(manifest, packager), target)
                box, refusal = None, None
                try:
                    box = planned(packager, locks)
                except PackError as error:
                    refusal = error
                yield Candidate(packager=packager, target=target, is_asked=packager in wanted, box=box, refusal=refusal)


def epoch() -> int:
    """The one time of everything that is packed, in seconds since 1970.

    Honours SOURCE_DATE_EPOCH (the Reproducible Builds specification). Errors: UsageError where it is no number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return DEFAULT_EPOCH
    if not (text.isascii() and text.isdecimal()):
        cause = f"is {shortened(repr(text))}, which is no number of seconds"
    elif len(text.lstrip("0")) > len(str(LATEST_EPOCH)) or int(text) > LATEST_EPOCH:
        cause = f"is {shortened(text)}, which is later than any box can say ({LATEST_EPOCH})"
    else:
        return int(text)
    raise UsageError("SOURCE_DATE_EPOCH", cause, "Unset it or give it seconds since 1970.")


def _planning(
    workspace: Workspace, meanwhile: Callable[[], None] | None = None
) -> Callable[[Packager, Sequence[TargetLock]], Box]:
    """What plans one box for the first of its targets and its others; it raises PackError where there can be none.

    What the plans of a target have in common is found once.
    """
    asked, store, output = workspace.asked, workspace.store, workspace.output
    manifest, root = asked.manifest, asked.root

    @cache
    def described(name: str) -> tuple[Application, str]:
        """The application for a target, and the commit that it was built from."""
        target_lock = next(target_lock for target_lock in workspace.lock.targets if target_lock.target.name == name)
        application = describe(asked, store, workspace.access, target_lock, without=output, meanwhile=meanwhile)
        return application, revision_of(asked, application, store, without=output)

    def planned(packager: Packager, locks: Sequence[TargetLock]) -> Box:
        target_lock, *others = locks
        folder = output if target_lock.target.name == DEFAULT_TARGET else output / target_lock.target.name
        application, revision = described(target_lock.target.name)
        plan = Plan(
            application=application,
            lock=target_lock,
            others=tuple(Part(lock=other, own=described(other.target.name)[0].wheel) for other in others),
            options=_options(manifest, packager),
            root=root,
            epoch=epoch(),
            requires_rpm=manifest.requires.rpm,
            requires_deb=manifest.requires.deb,
            missing_libraries=manifest.requires.missing_libraries,
            hooks=_hooks(manifest, root),
            system=system_wanted(manifest, root, application),
            revision=revision,
            checks=tuple(check_of(check, application.ports) for check in manifest.checks),
            boot=rules_of(manifest.boot),
        )
        packager.check(plan)
        return Box(packager=packager, plan=plan, path=folder / packager.file_name(plan))

    return planned


def _check_formats(formats: Sequence[str]) -> None:
    known = packagers()
    for name in formats:
        if name not in known:
            raise UsageError(name, "there is no such format", f"There are {', '.join(known)}.", formats=list(known))


def _chosen_formats(manifest: Manifest, formats: Sequence[str], target: str) -> list[Packager]:
    """The formats that were asked for, or else those of the manifest, as far as the target takes them."""
    own = manifest.targets[target].boxes
    return [packagers()[name] for name in dict.fromkeys(formats or manifest.boxes) if own is None or name in own]


def _options(manifest: Manifest, packager: Packager) -> Section:
    return manifest.boxes.get(packager.name) or packager.options()


def _locks_of_box(lock: Lock, options: Section, target: Target) -> list[TargetLock]:
    """The targets that share the box with this one, in the order of the box's own `targets`; often it alone."""
    shared = options.targets if isinstance(options, SharedBox) else ()
    names = shared if target.name in shared else (target.name,)
    known = {target_lock.target.name: target_lock for target_lock in lock.targets}
    return [known[name] for name in names]


def _chosen_targets(lock: Lock, targets: Sequence[str]) -> Iterator[Target]:
    known = {target_lock.target.name: target_lock.target for target_lock in lock.targets}
    for name in targets:
        if name not in known:
            step = f"The lock's targets: {', '.join(known)}."
            raise UsageError(name, "the lock has no such target", step, targets=list(known))
    yield from (known[name] for name in dict.fromkeys(targets or known))


def _hooks(manifest: Manifest, root: Path) -> tuple[Hook, ...]:
    found: list[Hook] = []
    for name, value in asdict(manifest.hooks).items():
        key = key_of(name)
        if value is None:
            continue
        path = root / value
        if not path.is_file():
            fault = Fault(source="manifest", line=0, key=f"hooks.{key}", message=f"there is no file {value}")
            raise ManifestError("manifest", (fault,))
        found.append(Hook(moment=key, file_name=path.name, content=path.read_bytes()))
    return tuple(found)
