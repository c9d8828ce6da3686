"""From uv's answer to the wheels of a lock: one for each distribution, by SHA-256, with what it requires."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from boxsnake.errors import PolicyError, UnsolvableError
from boxsnake.lock import Wheel
from boxsnake.project import Source, parse_source
from boxsnake.resolve_wheels.gather import build
from boxsnake.resolve_wheels.hashes import check_hashes
from boxsnake.resolve_wheels.question import WheelAnswer
from boxsnake.wheel_tags import best_fit, supported_tags

if TYPE_CHECKING:
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
        asking = [one for one in (*question.pip, *question.constraints) if one.name == wheel.name and one.hashes]
        hashes = tuple(digest for one in asking for digest in one.hashes)
        check_hashes(wheel, hashes, ", ".join(sorted({one.source for one in asking})), workshop)
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
