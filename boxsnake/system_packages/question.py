"""What is asked of an image's distribution: which targets have an image, on which base, and what it must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from boxsnake.image.base_name import MINIMAL, base_of_target
from boxsnake.manifest import Manifest
from boxsnake.target import Target
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class SystemQuestion:
    """One target's. Requirements are as the manifest has them, in the words of their package managers."""

    target: Target
    platform: tuple[str, str]
    base: str
    deb: tuple[str, ...]
    rpm: tuple[str, ...]


def system_questions(manifest: Manifest, targets: Sequence[Target]) -> tuple[SystemQuestion, ...]:
    """The questions of those targets that have an image with something to ask for."""
    found = []
    for target in targets:
        base, platform = base_of_target(manifest, target), target.oci_platform
        if base is None or platform is None:
            continue
        question = SystemQuestion(
            target=target, platform=platform, base=base, deb=manifest.requires.deb, rpm=manifest.requires.rpm
        )
        if question.deb or question.rpm or base == MINIMAL:
            found.append(question)
    return tuple(found)


def asked_lines(questions: Sequence[SystemQuestion]) -> Mapping[str, Sequence[str]]:
    """The questions as a lock's inputs record them."""
    return {
        "requires.deb": sorted({line for question in questions for line in question.deb}),
        "requires.rpm": sorted({line for question in questions for line in question.rpm}),
        "bases": [f"{question.target.name}: {question.base}" for question in questions],
    }
