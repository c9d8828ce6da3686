"""Why there is no wheel half: uv's words sorted into errors which name who asked, and the ways out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from boxsnake.errors import (
    BoxsnakeError,
    Fault,
    ManifestError,
    NetworkError,
    PackError,
    ResourceError,
    UnsolvableError,
    network_step,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boxsnake.lock import CondaPackage, Distribution
    from boxsnake.requirements import CondaRequirement, PipRequirement
    from boxsnake.target import Target

_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NO_WHEELS = re.compile(r"([A-Za-z0-9._-]+?)(?:[=<>!~,][^\s]*)? ha(?:s|ve) no (?:usable |compatible )?wheels")
_OFFLINE = re.compile("network was disabled|network connectivity is disabled", re.IGNORECASE)
_NOT_ADMITTED = re.compile(r"lack of valid authentication credentials|\((?:401|403) |returned a (?:401|403) ")
_WHEELS_HINT = re.compile(r"^hint: .*\bwheels\b.*? for `([A-Za-z0-9._-]+)`", re.IGNORECASE | re.MULTILINE)
_MISSING = re.compile(r"(\S+) was not found in the (?:package registry|provided package locations)")
_LINES = 30  # of uv's explanation that are shown

_NETWORK = (
    "failed to fetch",
    "failed to download",
    "error sending request",
    "request failed",
    "did not answer",
    "http status server error",
)


def names_in(text: str, names: Iterable[str]) -> list[str]:
    """Which of the normalised names the text speaks of, sorted."""
    words = {canonicalize_name(word) for word in _WORD.findall(text)}
    return sorted(words & set(names))


def tidy(text: str) -> str:
    """What uv explains, without its frame, its hints about options that are not the user's, and its length."""
    text = re.sub(r"^(warning|hint): .*(\n(?=\S)|\n*$)", "", text, flags=re.MULTILINE)
    text = re.sub(r"^error: No solution found when resolving dependencies[^\n]*\n", "", text.strip())
    text = re.sub(r"^\s*(cause:|╰─▶)\s?", "", text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if len(lines) > _LINES:
        left_out = len(lines) - _LINES
        # The end is what it comes to; the beginning is one of many ways that were tried.
        lines = [f"… {left_out} lines before this …", *lines[-_LINES:]]
    margin = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    return "\n".join(f"  {line[margin:] if line[:margin].isspace() else line.lstrip()}" for line in lines)


def asked_lines(text: str, pip: Sequence[PipRequirement]) -> list[str]:
    """The requirements that the text speaks of, with their places."""
    mentioned = set(names_in(text, (requirement.name for requirement in pip if requirement.name)))
    return [f"asked: {one.shown} ({one.source})" for one in pip if one.name in mentioned]


def _with_asked(text: str, pip: Sequence[PipRequirement]) -> str:
    return "\n".join([tidy(text), *(f"  {line}" for line in asked_lines(text, pip))])


def trouble(text: str, target: Target, pip: Sequence[PipRequirement]) -> BoxsnakeError:
    """The error for what is not a question of solutions, or one only because an index was not reached."""
    lowered = text.lower()
    thing = f"wheels of target {target.name}"
    data: dict[str, object] = {"target": target.name, "log": text}
    if _OFFLINE.search(text):
        return NetworkError(thing, f"not all is in the cache\n{tidy(text)}", "Run once without --offline.", **data)
    if _NOT_ADMITTED.search(text):
        step = "Name credentials for it in the configuration's [credentials], in netrc or in the environment."
        return NetworkError(thing, f"{_first_url(text)}it wants credentials, or others", step, **data)
    if "couldn't parse requirement" in lowered:
        faults = tuple(Fault(source=one.source, line=0, key=one.shown, message=tidy(text).strip()) for one in pip)
        named = tuple(fault for fault in faults if fault.key.split(";")[0].strip() in text)
        return ManifestError("pip requirements", named or faults[:1])
    if any(sign in lowered for sign in _NETWORK):
        return NetworkError(thing, _network_cause(text), network_step(text), **data)
    if "failed to build" in lowered:
        step = "Ask for a version that has a wheel, or mend its build."
        return PackError(thing, f"metadata of a source distribution cannot be had\n{tidy(text)}", step, **data)
    return ResourceError(thing, f"uv failed\n{tidy(text)}", "Correct what it names, and lock again.", **data)


def is_network_trouble(text: str) -> bool:
    """Whether a solution failed only because an index was not asked, or did not answer."""
    return bool(_OFFLINE.search(text) or _NOT_ADMITTED.search(text))


def _network_cause(text: str) -> str:
    causes = re.findall(r"cause: ([^\n]+)", text)
    return f"{_first_url(text)}{causes[-1] if causes else text.splitlines()[0]}"


def _first_url(text: str) -> str:
    url = re.search(r"[a-z]+://[^\s`)]+", text)
    return f"{url.group().rstrip(').,')}: " if url else ""


def without_usable_wheels(text: str) -> list[str]:
    """The normalised names of which uv says that some version has no wheel that fits."""
    return sorted({canonicalize_name(name) for name in (*_NO_WHEELS.findall(text), *_WHEELS_HINT.findall(text))})


def no_wheel(
    text: str,
    names: Sequence[str],
    target: Target,
    python: str,
    pip: Sequence[PipRequirement],
    *,
    enough_glibc: str | None,
) -> UnsolvableError:
    """The error for distributions that have no wheel for the target, in any version that is asked for."""
    system = f"{target.platform}, CPython {python}" + (f", glibc {target.glibc}" if target.glibc else "")
    ways = []
    if enough_glibc is not None:
        ways.append(f"raise targets.{target.name}.glibc to {enough_glibc}, where there is one")
    ways += ["ask for a version that has a wheel", _sdists_way(names), "take it from conda by requires.conda"]
    return UnsolvableError(
        ", ".join(names),
        f"no wheel fits target {target.name} ({system})\n{_with_asked(text, pip)}",
        f"Ways out: {'; '.join(ways)}.",
        target=target.name,
        platform=target.platform,
        python=python,
        glibc=target.glibc,
        distributions=list(names),
        explanation=text,
    )


def _sdists_way(names: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return f"let it be built from its source by requires.sdists = [{listed}]"


def no_solution(text: str, target: Target, python: str, pip: Sequence[PipRequirement]) -> UnsolvableError:
    """The error for requirements that contradict each other, or ask for what no index has."""
    missing = sorted({canonicalize_name(name) for name in _MISSING.findall(text)})
    names = without_usable_wheels(text)
    if missing:
        step = "Look at the spelling, name an index that has it, or take it from conda by requires.conda."
    elif names:
        step = f"Ways out: loosen one of the requirements that are named above; {_sdists_way(names)}."
    else:
        step = "Loosen one of the requirements that are named above."
    return UnsolvableError(
        f"pip requirements of target {target.name} ({target.platform}, Python {python})",
        f"there is no solution\n{_with_asked(text, pip)}",
        step,
        target=target.name,
        platform=target.platform,
        python=python,
        missing=missing,
        explanation=text,
    )


def both_halves(
    target: Target,
    clashes: Mapping[Distribution, tuple[str, tuple[str, ...]]],
    conda: Sequence[CondaPackage],
    requirements: Sequence[CondaRequirement],
) -> UnsolvableError:
    """The error for distributions that both halves would install.

    `clashes` maps what conda brings to the version that the wheel half needs and who needs it there.
    """
    from boxsnake.resolve_conda import name_of_spec

    lines = []
    for brought, (version, wanted_by) in clashes.items():
        carriers = [package.name for package in conda if brought in package.distributions]
        asked = [f"{one.shown} ({one.source})" for one in requirements if name_of_spec(one.spec) in carriers]
        needed = [
            f"{package.name} {package.version}"
            for package in conda
            if any(name_of_spec(depend) in carriers for depend in package.depends)
        ]
        lines.append(f"{brought.name}:")
        lines.append(f"  conda brings {brought.version}, for {', '.join(asked + needed)}")
        lines.append(f"  pip needs {version}, for {', '.join(wanted_by)}")
    names = ", ".join(found.name for found in clashes)
    listing = "\n".join(f"  {line}" for line in lines)
    return UnsolvableError(
        f"target {target.name}",
        f"both halves would install {names}, each its own\n{listing}",
        "Ways out: let conda bring it, with requirements on the pip side that its version meets (or ask conda for "
        "that version); or let pip bring it, and take out of the conda side what asks for it.",
        target=target.name,
        clashes={found.name: {"conda": found.version, "pip": version} for found, (version, _) in clashes.items()},
    )
