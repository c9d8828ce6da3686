"""The attempts: ask uv, learn from a refusal what can be done about it, ask again, or explain it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.version import Version

from boxsnake.fetch import Wanted
from boxsnake.lock import Distribution
from boxsnake.lock.pylock import pylock
from boxsnake.resolve_wheels import explain
from boxsnake.resolve_wheels.answer import answer
from boxsnake.resolve_wheels.compile import KNOWN_GLIBC, Asked, Edges, Found, Place, Refusal, compile_wheels, edges
from boxsnake.resolve_wheels.gather import Gathered, gather
from boxsnake.resolve_wheels.question import WheelAnswer, WheelQuestion, Workshop, can_be_pinned
from boxsnake.resolve_wheels.stub import write_stub
from boxsnake.value import dataclass
from boxsnake.wheel_tags import lowest_glibc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from boxsnake.errors import UnsolvableError

_ATTEMPTS = 12
_NEWEST_GLIBC = f"2.{max(KNOWN_GLIBC)}"


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One way of asking: what is asked, and what earlier attempts have shown."""

    question: WheelQuestion
    gathered: Gathered
    place: Place
    stubs: frozenset[str] = frozenset()
    """Names of conda's distributions whose place a stub holds, as no index has a wheel of that version."""
    probed: frozenset[str] = frozenset()
    """Names for which that has been looked up."""
    from_source: frozenset[str] = frozenset()
    """Names that are taken as sdists."""

    @property
    def stub_folder(self) -> Path:
        return self.place.folder / "stubs"

    def asked(self, *, with_conda: bool = True) -> Asked:
        brought = self.question.brought.values() if with_conda else ()
        roots = self.question.roots if with_conda else ()
        return Asked(
            requirements=(*self.gathered.requirements, *_pins(roots)),
            constraints=(*self.gathered.constraints, *_pins(found for found in brought if can_be_pinned(found))),
            overrides=self.gathered.overrides,
            stubs=self.stub_folder if self.stubs else None,
            from_source=self.from_source,
        )


def resolve_wheels(question: WheelQuestion, workshop: Workshop) -> WheelAnswer:
    """The wheel half of a target.

    Errors: UnsolvableError where there is no solution, no wheel for the target, or a distribution of which both halves
    need their own version; NetworkError, PolicyError (no SHA-256), IntegrityError (not one of the hashes that were
    asked for), and those of `boxsnake.project.build_wheel`.
    """
    with workshop.store.scratch("wheels") as folder:
        for name in ("application", "built", "stubs"):
            (folder / name).mkdir()
        gathered = gather(question, workshop, folder)
        if not gathered.requirements and not question.roots:
            return WheelAnswer()
        place = Place(
            folder=folder,
            cache=workshop.store.cache_folder("uv"),
            target=question.target,
            python=question.python,
            index=workshop.index,
            offline=workshop.offline,
            refresh=question.refresh,
        )
        attempt, found = _solve(_first_attempt(question, gathered, place))
        known = edges(place, attempt.asked(), found)
        return _measured(answer(question, workshop, gathered, found, known, stubs=attempt.stubs), question, workshop)


def _measured(found: WheelAnswer, question: WheelQuestion, workshop: Workshop) -> WheelAnswer:
    """The answer with sizes where the index told none: by them it is decided which packages share an image's layer."""
    preferred = question.preferred.wheels if question.preferred else ()
    known = {wheel.sha256: wheel.size for wheel in preferred if wheel.size is not None}
    unknown = [
        Wanted(name=wheel.file_name, url=wheel.url, sha256=wheel.sha256, size=None, kind="wheel")
        for wheel in found.wheels
        if wheel.size is None and wheel.url is not None and wheel.sha256 not in known
    ]
    if unknown:
        from boxsnake.fetch.sizes import sizes

        known |= sizes(workshop.store, unknown, credentials=workshop.credentials, offline=workshop.offline)
    wheels = (dataclasses.replace(wheel, size=wheel.size or known.get(wheel.sha256)) for wheel in found.wheels)
    return dataclasses.replace(found, wheels=tuple(wheels))


def _first_attempt(question: WheelQuestion, gathered: Gathered, place: Place) -> _Attempt:
    """Start with what the last lock had to find out."""
    attempt = _Attempt(question=question, gathered=gathered, place=place, from_source=question.from_source)
    if question.preferred is None:
        return attempt
    built = {wheel.name for wheel in question.preferred.wheels if wheel.origin and wheel.origin.kind == "sdist"}
    brought = question.brought
    still = [found for found in question.preferred.unavailable if brought.get(found.name) == found]
    attempt = _with_stubs(attempt, still)
    return dataclasses.replace(attempt, from_source=attempt.from_source | (built & question.sdists))


def _with_stubs(attempt: _Attempt, found: Sequence[Distribution]) -> _Attempt:
    for one in found:
        write_stub(attempt.stub_folder, one.name, one.version)
    names = {one.name for one in found}
    return dataclasses.replace(attempt, stubs=attempt.stubs | names, probed=attempt.probed | names)


def _solve(attempt: _Attempt) -> tuple[_Attempt, tuple[Found, ...]]:
    """Ask until there is an answer, or nothing more that could be done about it."""
    question = attempt.question
    preferred = _preferred(question)
    for _ in range(_ATTEMPTS):
        outcome = compile_wheels(attempt.place, attempt.asked(), preferred)
        if not isinstance(outcome, Refusal):
            return attempt, outcome
        if not outcome.is_unsolvable or explain.is_network_trouble(outcome.text):
            raise explain.trouble(outcome.text, question.target, question.pip)
        better = _learnt(attempt, outcome.text)
        if better is None:
            raise _unsolvable(attempt, outcome.text)
        attempt = better
    raise _unsolvable(attempt, f"no solution in {_ATTEMPTS} attempts")


def _preferred(question: WheelQuestion) -> str | None:
    if question.preferred is None:
        return None
    kept = [wheel for wheel in question.preferred.wheels if wheel.origin is None or wheel.origin.kind == "sdist"]
    return pylock(question.preferred, kept)


def _learnt(attempt: _Attempt, text: str) -> _Attempt | None:
    """A better attempt after a failure, or None.

    A sdist that is permitted is built; where an index lacks conda's version of a distribution, a stub holds its place.
    """
    question = attempt.question
    permitted = frozenset(explain.names_in(text, question.sdists - attempt.from_source))
    if permitted:
        return dataclasses.replace(attempt, from_source=attempt.from_source | permitted)
    brought = question.brought
    suspects = [name for name in explain.names_in(text, brought) if name not in attempt.probed]
    absent = [brought[name] for name in suspects if can_be_pinned(brought[name]) and not _is_served(attempt, name)]
    if not absent:
        return None
    return dataclasses.replace(_with_stubs(attempt, absent), probed=attempt.probed | set(suspects))


def _is_served(attempt: _Attempt, name: str) -> bool:
    """Whether an index has a wheel of conda's version that fits the target."""
    asked = Asked(requirements=tuple(_pins([attempt.question.brought[name]])), alone=True)
    return not isinstance(compile_wheels(attempt.place, asked, None), Refusal)


def _unsolvable(attempt: _Attempt, text: str) -> UnsolvableError:
    """The error that explains a failure best, found by asking again with less."""
    question = attempt.question
    if question.brought:
        asked = attempt.asked(with_conda=False)
        without = compile_wheels(attempt.place, asked, None)
        if not isinstance(without, Refusal):
            clashes = _clashes(question, without, edges(attempt.place, asked, without))
            if clashes:
                return explain.both_halves(question.target, clashes, question.conda, question.conda_requirements)
        elif without.is_unsolvable:
            text = without.text
    names = [name for name in explain.without_usable_wheels(text) if not _has_usable_wheel(attempt, name)]
    if names:
        glibc = _enough_glibc(attempt)
        return explain.no_wheel(text, names, question.target, question.python, question.pip, enough_glibc=glibc)
    return explain.no_solution(text, question.target, question.python, question.pip)


def _has_usable_wheel(attempt: _Attempt, name: str) -> bool:
    """Whether the user's own requirements on a distribution, and nothing else, leave it a wheel that fits."""
    question = attempt.question
    direct = [one.text for one in question.pip if one.name == name and not one.url and not one.path]
    limits = [one.text for one in question.constraints if one.name == name]
    asked = Asked(requirements=tuple(direct or [name]), constraints=tuple(limits), alone=True)
    return not isinstance(compile_wheels(attempt.place, asked, None), Refusal)


def _clashes(
    question: WheelQuestion, found: Sequence[Found], known: Edges
) -> dict[Distribution, tuple[str, tuple[str, ...]]]:
    """What conda brings and the wheel half needs in another version, with those who need it there."""
    clashes = {}
    brought = question.brought
    versions = {package.name: package.version for package in found}
    for name in sorted(versions.keys() & brought.keys()):
        version = versions[name]
        if can_be_pinned(brought[name]) and Version(version) == Version(brought[name].version):
            continue
        direct = [f"{one.shown} ({one.source})" for one in question.pip if one.name == name]
        indirect = [f"{other} {versions.get(other, '')}".strip() for other in known.required_by.get(name, ())]
        clashes[brought[name]] = (version, (*direct, *indirect))
    return clashes


def _enough_glibc(attempt: _Attempt) -> str | None:
    """The glibc with which there would be a solution, where a higher one is all that lacks."""
    target = attempt.question.target
    if not target.is_linux or target.glibc == _NEWEST_GLIBC:
        return None
    place = dataclasses.replace(attempt.place, target=dataclasses.replace(target, glibc=_NEWEST_GLIBC))
    outcome = compile_wheels(place, attempt.asked(), _preferred(attempt.question))
    if isinstance(outcome, Refusal):
        return None
    floors = [
        min(found)
        for package in outcome
        if (found := [floor for file in package.wheels if (floor := lowest_glibc(file.name)) is not None])
    ]
    known = [minor for minor in KNOWN_GLIBC if minor >= max(floors, default=0)]
    return f"2.{known[0]}" if known else None


def _pins(found: Iterable[Distribution]) -> Iterable[str]:
    return (f"{one.name}=={one.version}" for one in found)
