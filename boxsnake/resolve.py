"""Resolving: from a manifest to a lock. Conda first, then wheels for exactly the interpreter that conda brought."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from boxsnake.asked import Asked, credentials_of, inputs
from boxsnake.credentials import Credentials
from boxsnake.errors import Fault, ManifestError, ResourceError, UsageError
from boxsnake.lock import CondaPackage, Distribution, Lock, TargetLock
from boxsnake.progress import track
from boxsnake.requirements import CondaRequirement
from boxsnake.resolve_conda import CondaQuestion, channel_location, name_of_spec, resolve_conda
from boxsnake.resolve_wheels.question import WheelAnswer, WheelQuestion, Workshop
from boxsnake.target import Target
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boxsnake.settings import Settings
    from boxsnake.store import Store

# With an interpreter of the host's, these are there already.
_OF_THE_HOST = frozenset({"python", "pip"})
_OLDEST_MINOR, _NEWEST_MINOR, _NEWEST_PATCH = 8, 40, 40


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """What of the last lock is not kept: nothing, some distributions and packages by name, or all."""

    everything: bool = False
    names: frozenset[str] = frozenset()
    """Normalised."""


def resolve(
    asked: Asked,
    *,
    settings: Settings,
    store: Store,
    keep: Lock | None = None,
    upgrade: Upgrade | None = None,
    channels: Sequence[str] = (),
    offline: bool = False,
) -> Lock:
    """Resolve every target.

    What `keep` holds stays where the requirements still allow it, except for what `upgrade` names. `channels` are
    taken in place of all others. Errors: UnsolvableError, NetworkError, PolicyError, IntegrityError, ManifestError,
    UsageError for a name to upgrade that `keep` does not have, and those of building sdists.
    """
    from boxsnake.resolve_wheels.resolve import resolve_wheels

    upgrade = upgrade or Upgrade()
    kept = _kept(keep, upgrade)
    credentials = credentials_of(settings, asked.requirements, channels)
    with track("resolve conda packages"):
        conda = _conda_halves(asked, settings, store, kept, channels, credentials, offline=offline)
    workshop = Workshop(
        store=store,
        root=asked.root,
        index=asked.index,
        credentials=credentials,
        offline=offline,
    )

    def lock_target(target: Target) -> TargetLock:
        question = _wheel_question(asked, target, conda.get(target.name, ()), kept.get(target.name))
        refresh = None if upgrade.everything else tuple(sorted(upgrade.names))
        question = dataclasses.replace(question, kept_lines=_lines(keep), refresh=refresh)
        return _target_lock(question, resolve_wheels(question, workshop))

    with track("resolve wheels"):
        locked = _each(lock_target, asked.targets)
    return Lock(inputs=inputs(asked, store), targets=tuple(locked))


def _each(verb: Callable[[Target], TargetLock], targets: Sequence[Target]) -> list[TargetLock]:
    """The verb for every target, a few at a time; a single one in this thread, where an interrupt ends it at once."""
    if len(targets) == 1:
        return [verb(targets[0])]
    pool = ThreadPoolExecutor(max_workers=min(4, len(targets)))
    try:
        return list(pool.map(verb, targets))
    finally:
        pool.shutdown(cancel_futures=True)


# What is kept


def _kept(keep: Lock | None, upgrade: Upgrade) -> Mapping[str, TargetLock]:
    if keep is None or upgrade.everything:
        return {}
    known = {package.name for target_lock in keep.targets for package in target_lock.conda}
    known |= {wheel.name for target_lock in keep.targets for wheel in target_lock.wheels}
    known |= {package.name for found in keep.targets if found.system for package in found.system.packages}
    unknown = sorted(upgrade.names - {canonicalize_name(name) for name in known})
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Name what the lock has, or upgrade all."
        raise UsageError(", ".join(unknown), "nothing of that name is in the lock", hint, names=unknown)
    return {target_lock.target.name: _without(target_lock, upgrade.names) for target_lock in keep.targets}


def _without(target_lock: TargetLock, names: frozenset[str]) -> TargetLock:
    def is_named(package: CondaPackage) -> bool:
        return bool({canonicalize_name(package.name), *(found.name for found in package.distributions)} & names)

    return dataclasses.replace(
        target_lock,
        conda=tuple(package for package in target_lock.conda if not is_named(package)),
        wheels=tuple(wheel for wheel in target_lock.wheels if wheel.name not in names),
        unavailable=tuple(found for found in target_lock.unavailable if found.name not in names),
    )


# The conda half


def _conda_halves(
    asked: Asked,
    settings: Settings,
    store: Store,
    kept: Mapping[str, TargetLock],
    channels: Sequence[str],
    credentials: Credentials,
    *,
    offline: bool,
) -> dict[str, tuple[CondaPackage, ...]]:
    """The conda halves by target, with the distributions that their packages bring."""
    targets = [target for target in asked.targets if target.interpreter == "conda"]
    chosen = channels or asked.requirements.channels or settings.channels
    locations = tuple(dict.fromkeys(channel_location(channel, asked.root) for channel in chosen))
    questions = [
        CondaQuestion(
            target=target,
            channels=locations,
            requirements=(*asked.requirements.conda, *_python_requirements(asked, target)),
            preferred=kept[target.name].conda if target.name in kept else (),
        )
        for target in targets
    ]
    cache = store.cache_folder("repodata")
    with store.scratch("solve") as scratch:
        halves = resolve_conda(
            questions, cache=cache, scratch=scratch, credentials=settings.credentials, offline=offline
        )
    unique = {package.sha256: package for half in halves for package in half}
    brought = _distributions(list(unique.values()), store, credentials, offline=offline)
    return {
        target.name: tuple(
            dataclasses.replace(package, distributions=brought.get(package.sha256, ())) for package in half
        )
        for target, half in zip(targets, halves, strict=True)
    }


def _python_requirements(asked: Asked, target: Target) -> list[CondaRequirement]:
    wanted = asked.python(target)
    if not wanted:
        return [CondaRequirement(spec="python", source="boxsnake")]
    return [CondaRequirement(spec=f"python {conda_version(spec)}", source=source) for spec, source in wanted]


def conda_version(specifier: str) -> str:
    """A PEP 440 specifier set as conda writes it: "==3.11.*" -> "3.11.*"."""
    parts = []
    for one in sorted(SpecifierSet(specifier), key=str):
        operator = {"===": "=="}.get(one.operator, one.operator)
        is_series = operator == "==" and one.version.endswith(".*")
        parts.append(one.version if is_series else f"{operator}{one.version}")
    return ",".join(parts)


def _distributions(
    packages: Sequence[CondaPackage], store: Store, credentials: Credentials, *, offline: bool
) -> dict[str, tuple[Distribution, ...]]:
    """The Python distributions in packages, by SHA-256: read from the packages, which are fetched the first time."""
    from boxsnake.fetch import Wanted, fetch

    candidates = [package for package in packages if may_hold_python(package)]
    found = {package.sha256: _known_distributions(store, package) for package in candidates}
    unknown = [package for package in candidates if found[package.sha256] is None]
    if unknown:
        wanted = [Wanted(name=p.file_name, url=p.url, sha256=p.sha256, size=p.size, kind="conda") for p in unknown]
        fetch(store, wanted, offline=offline, credentials=credentials)
        found |= {package.sha256: _known_distributions(store, package) for package in unknown}
    return {sha256: distributions or () for sha256, distributions in found.items()}


def may_hold_python(package: CondaPackage) -> bool:
    """Whether a package can hold Python distributions: it is for Python, or needs one to run with."""
    return package.noarch == "python" or any(
        name_of_spec(depend) in {"python", "python_abi"} for depend in package.depends
    )


def _known_distributions(store: Store, package: CondaPackage) -> tuple[Distribution, ...] | None:
    from boxsnake.ingest.conda import conda_facts

    try:
        facts = conda_facts(store, package.sha256)
    except ResourceError:
        if store.has(f"sha256:{package.sha256}"):
            raise
        return None
    return tuple(sorted(Distribution(name=name, version=version) for name, version in facts.distributions))


# The wheel half


def _lines(keep: Lock | None) -> frozenset[str]:
    """The requirements that a lock was made for."""
    known = {} if keep is None else dict(keep.inputs)
    return frozenset(
        line for what in ("app.requires", "requires.constraints", "requires.pip") for line in known.get(what, ())
    )


def _wheel_question(
    asked: Asked, target: Target, conda: tuple[CondaPackage, ...], kept: TargetLock | None
) -> WheelQuestion:
    requirements = asked.requirements
    return WheelQuestion(
        target=target,
        python=_host_python(asked, target) if target.interpreter == "host" else _conda_python(conda),
        pip=requirements.pip,
        constraints=requirements.constraints,
        application=asked.application,
        sdists=frozenset(canonicalize_name(name) for name in asked.manifest.requires.sdists),
        from_source=frozenset(requirements.index.no_binary) - frozenset(requirements.index.only_binary),
        conda=conda,
        conda_requirements=requirements.conda,
        preferred=kept,
    )


def _target_lock(question: WheelQuestion, answer: WheelAnswer) -> TargetLock:
    return TargetLock(
        target=question.target,
        python=question.minor if question.target.interpreter == "host" else question.python,
        conda=question.conda,
        wheels=answer.wheels,
        unavailable=answer.unavailable,
    )


def _conda_python(conda: Sequence[CondaPackage]) -> str:
    return next(package.version for package in conda if package.name == "python")


def _host_python(asked: Asked, target: Target) -> str:
    """The lowest version of the lowest minor version that is asked for: what a host must have at least.

    Errors: ManifestError where none is asked for, or conda packages are that nobody would bring.
    """
    left = [one for one in asked.requirements.conda if name_of_spec(one.spec) not in _OF_THE_HOST]
    if left:
        message = f"target {target.name} takes its interpreter from the host, and nothing would bring this"
        faults = tuple(Fault(source=one.source, line=0, key=one.shown, message=message) for one in left)
        step = f'Ask for them by requires.pip, or set targets.{target.name}.interpreter = "conda".'
        raise ManifestError("conda requirements", faults, step)
    wanted = asked.python(target)
    both = SpecifierSet(",".join(spec for spec, _ in wanted))
    if wanted and any(one.operator not in {"<", "<=", "!="} for one in both):
        for minor in range(_OLDEST_MINOR, _NEWEST_MINOR):
            for patch in range(_NEWEST_PATCH):
                if both.contains(f"3.{minor}.{patch}"):
                    return f"3.{minor}.{patch}"
    key = f"targets.{target.name}.python"
    message = f"no Python version follows from {both}" if wanted else "a host's interpreter needs a Python version"
    raise ManifestError(
        "targets", (Fault(source="targets", line=0, key=key, message=message),), f'Set {key}, such as "3.11.*".'
    )
