"""From requirements to the lines that uv reads: what no index serves is built first and named by its wheel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from boxsnake.project import BuiltWheel, Source, build_wheel, parse_source
from boxsnake.project.extras import requirements_with
from boxsnake.resolve_wheels.explain import both_halves
from boxsnake.resolve_wheels.fit import check_fit
from boxsnake.resolve_wheels.hashes import check_hashes
from boxsnake.resolve_wheels.stub import write_stub
from boxsnake.urls import redact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxsnake.project import ProjectMetadata
    from boxsnake.requirements import PipRequirement
    from boxsnake.resolve_wheels.question import WheelQuestion, Workshop


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The lines of requirement files, and the wheels that some of them point at, by name."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    overrides: tuple[str, ...]
    built: Mapping[str, BuiltWheel]


def gather(question: WheelQuestion, workshop: Workshop, folder: Path) -> Gathered:
    """The lines for a question; `folder` takes the files that they point at. Errors: those of `build_wheel`."""
    gathering = _Gathering(question=question, workshop=workshop, folder=folder)
    application = [] if question.application is None else [gathering.application(question.application)]
    requirements = [line for requirement in question.pip for line in gathering.lines(requirement)]
    constraints = [line for constraint in question.constraints for line in gathering.lines(constraint)]
    return Gathered(
        requirements=(*application, *requirements),
        constraints=tuple(constraints),
        overrides=tuple(gathering.overrides),
        built=gathering.built,
    )


def build(question: WheelQuestion, workshop: Workshop, source: Source, asked_by: str) -> BuiltWheel:
    """The wheel of a source, which fits the target."""
    built = build_wheel(
        workshop.store,
        source,
        python=question.minor,
        environment=workshop.index.variables(),
        credentials=workshop.credentials,
    )
    check_fit(built, workshop.store.path(built.digest), question.target, question.python, asked_by)
    return built


def held(source: Source, line: str, question: WheelQuestion) -> Source:
    """The source at the commit, or with the digest, that the last lock has for the very same line.

    A branch that has moved does not move the lock; an archive that has changed is told.
    """
    if question.preferred is None or line not in question.kept_lines:
        return source
    for wheel in question.preferred.wheels:
        origin = wheel.origin
        if source.kind == "wheel" and wheel.url == source.shown:
            return dataclasses.replace(source, sha256=source.sha256 or wheel.sha256)
        if origin is None or (origin.url, origin.subdirectory) != (source.shown, source.subdirectory):
            continue
        if source.kind == "git" and origin.kind == "git":
            return dataclasses.replace(source, ref=origin.commit)
        if source.kind == "sdist" and origin.kind != "git":
            return dataclasses.replace(source, sha256=source.sha256 or origin.sha256)
    return source


def with_hash(source: Source, hashes: tuple[str, ...]) -> Source:
    """The source with the digest that was asked for, so that it is checked before anything of it runs."""
    digests = [digest.removeprefix("sha256:") for digest in hashes if digest.startswith("sha256:")]
    is_archive = source.kind in {"sdist", "wheel"}
    return dataclasses.replace(source, sha256=digests[0]) if is_archive and len(digests) == 1 else source


@dataclass(kw_only=True)
class _Gathering:
    """The work of `gather`: what was built so far, and the overrides that replace URLs in its metadata."""

    question: WheelQuestion
    workshop: Workshop
    folder: Path
    built: dict[str, BuiltWheel] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    def application(self, application: ProjectMetadata) -> str:
        """The line of a stub with the application's requirements."""
        requires = [self.local(line, "app.source") for line in application.requires_dist]
        stub = write_stub(self.folder / "application", application.name, application.version, requires)
        return f"{application.name} @ {stub.as_uri()}"

    def lines(self, requirement: PipRequirement) -> list[str]:
        """A requirement as uv takes it; none where its marker leaves the target out."""
        place = requirement.url or requirement.path
        if place is None:
            return [requirement.text]
        if requirement.marker and not self.holds(f"name ; {requirement.marker}"):
            return []
        source = parse_source(place, self.workshop.root, manifest=requirement.source, key=requirement.shown)
        source = with_hash(held(source, requirement.shown, self.question), requirement.hashes)
        built = self.build(source, requirement.source, frozenset(requirement.extras))
        check_hashes(built.wheel(), requirement.hashes, requirement.source)
        extras = f"[{','.join(requirement.extras)}]" if requirement.extras else ""
        return [f"{built.name}{extras} @ {self.path_of(built).as_uri()}"]

    def local(self, line: str, asked_by: str) -> str:
        """A requirement of metadata, its URL replaced by that of the wheel that is built from it."""
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            return line  # uv says what is wrong with it
        if requirement.url is None or not self.holds(line):
            return line
        source = parse_source(requirement.url, self.workshop.root, manifest=asked_by, key=requirement.name)
        source = held(source, redact(line), self.question)
        extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
        requirement.url = self.path_of(self.build(source, asked_by, extras)).as_uri()
        return str(requirement)

    def build(self, source: Source, asked_by: str, extras: frozenset[str]) -> BuiltWheel:
        """The wheel of a source, and the wheels of the sources that its metadata names in turn."""
        question = self.question
        built = build(question, self.workshop, source, asked_by)
        brought = question.brought.get(built.name)
        if brought is not None:
            clash = {brought: (f"{built.version} from {source.shown}", (asked_by,))}
            raise both_halves(question.target, clash, question.conda, question.conda_requirements)
        if built.name not in self.built:
            self.built[built.name] = built
            for line in requirements_with(built.requires_dist, built.name, extras):
                local = self.local(line, source.shown)
                if local != line:
                    self.overrides.append(local)
        return built

    def path_of(self, built: BuiltWheel) -> Path:
        """The wheel under its own name, which tells uv what it is."""
        link = self.folder / "built" / built.file_name
        if not link.is_symlink():
            link.symlink_to(self.workshop.store.path(built.digest))
        return link

    def holds(self, line: str) -> bool:
        """Whether a requirement's marker holds on the target."""
        marker = Requirement(line).marker
        environment = self.question.target.marker_environment(self.question.python)
        return marker is None or marker.evaluate({**environment, "extra": ""})
