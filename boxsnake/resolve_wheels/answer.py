"""From uv's answer to the wheels of a lock: one for each distribution, by SHA-256, with what it requires."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from boxsnake.errors import IntegrityError, PolicyError, UnsolvableError
from boxsnake.lock import Wheel
from boxsnake.project import Source, parse_source
from boxsnake.resolve_wheels.gather import build
from boxsnake.resolve_wheels.question import WheelAnswer
from boxsnake.wheel_tags import best_fit, supported_tags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxsnake.resolve_wheels.compile import Edges, File, Found
    from boxsnake.resolve_wheels.gather import Gathered
    from boxsnake.resolve_wheels.question import WheelQuestion, Workshop


def answer(
    question: WheelQuestion,
    workshop: Workshop,
    gathered: Gathered,
    found: tuple[Found, ...],
    edges: Edges,
    *,
    stubs: frozenset[str],
) -> WheelAnswer:
    """What the lock records. Errors: UnsolvableError, PolicyError, IntegrityError, those of `build_wheel`."""
    application = set() if question.application is None else {question.application.name}
    names = {package.name for package in found} - stubs - application
    wheels = []
    for package in sorted(found, key=lambda package: package.name):
        if package.name in names:
            wheel = _wheel(question, workshop, gathered, package, edges.index.get(package.name, ""))
            requires = tuple(name for name in edges.requires(package.name) if name in names)
            wheels.append(dataclasses.replace(wheel, requires=requires))
    for wheel in wheels:
        _check_hashes(wheel, question, workshop)
    held = stubs & {package.name for package in found}
    return WheelAnswer(wheels=tuple(wheels), unavailable=tuple(sorted(question.brought[name] for name in held)))


def _wheel(question: WheelQuestion, workshop: Workshop, gathered: Gathered, package: Found, index: str) -> Wheel:
    if package.is_direct:
        return gathered.built[package.name].wheel()
    served_by = index if index.startswith("http") else None
    chosen = best_fit([file.name for file in package.wheels], supported_tags(question.target, question.python))
    if chosen is None:
        return dataclasses.replace(_built_from_sdist(question, workshop, package), index=served_by)
    file = next(file for file in package.wheels if file.name == chosen)
    return Wheel(
        name=package.name,
        version=package.version,
        file_name=file.name,
        sha256=_digest(file),
        size=file.size,
        url=file.url,
        index=served_by,
    )


def _built_from_sdist(question: WheelQuestion, workshop: Workshop, package: Found) -> Wheel:
    if package.sdist is None or not {package.name, ":all:"} & (question.sdists | question.from_source):
        target = question.target
        raise UnsolvableError(
            f"{package.name} {package.version}",
            f"no wheel of it fits target {target.name} ({target.platform}, CPython {question.python}, glibc "
            f"{target.glibc}); there are {', '.join(file.name for file in package.wheels) or 'none'}",
            f'Ways out: allow its sdist by requires.sdists = ["{package.name}"]; ask for another version.',
            target=target.name,
        )
    sdist = package.sdist
    digest = _digest(sdist)
    source = Source(kind="sdist", location=sdist.url, shown=sdist.url, sha256=digest)
    if sdist.url.startswith("file://"):
        source = parse_source(f"{sdist.url}#sha256={digest}", workshop.root)
    wheel = build(question, workshop, source, f"requires.sdists ({package.name})").wheel()
    # A lock tells sdists that an index serves from archives that somebody named.
    origin = None if wheel.origin is None else dataclasses.replace(wheel.origin, kind="sdist")
    return dataclasses.replace(wheel, origin=origin)


def _digest(file: File) -> str:
    if file.sha256 is None:
        raise PolicyError(
            file.name,
            "the index gives no SHA-256 for it, and nothing weaker is taken",
            "Take it from an index that gives SHA-256 digests.",
            url=file.url,
        )
    return file.sha256


def _check_hashes(wheel: Wheel, question: WheelQuestion, workshop: Workshop) -> None:
    """Hold the file that was chosen against the hashes that requirement files ask for."""
    asking = [one for one in (*question.pip, *question.constraints) if one.name == wheel.name]
    allowed = {digest: one.source for one in asking for digest in one.hashes}
    origin = wheel.origin
    digest = f"sha256:{wheel.sha256 if origin is None else origin.sha256}"
    if not allowed or digest in allowed:
        return
    if origin is None and allowed.keys() & _other_digests(wheel, allowed, workshop):
        return
    places = ", ".join(sorted(set(allowed.values())))
    raise IntegrityError(
        wheel.file_name if origin is None else origin.url,
        f"has the digest {digest}, which is not among the hashes at {places}",
        "Add its hash where you trust it, or ask for the version whose hashes are given.",
        target=question.target.name,
        allowed=sorted(allowed),
        found=digest,
    )


def _other_digests(wheel: Wheel, wanted: Iterable[str], workshop: Workshop) -> set[str]:
    """The wheel's digests by the stronger algorithms among the wanted ones; it is fetched for that."""
    algorithms = {digest.partition(":")[0] for digest in wanted} & {"sha384", "sha512"}
    if not algorithms:
        return set()
    from boxsnake.fetch import Wanted, fetch

    file = Wanted(name=wheel.file_name, url=wheel.url or "", sha256=wheel.sha256, size=wheel.size, kind="wheel")
    paths = fetch(workshop.store, [file], offline=workshop.offline, credentials=workshop.credentials)
    found = set()
    for algorithm in algorithms:
        with paths[wheel.sha256].open("rb") as stream:
            found.add(f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}")
    return found
