"""What is in a box: its packages, what they require of each other, and its files. Each function is one step.

All return the detail of success, and raise NotPassedError where the box does not hold what it should.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import InvalidVersion, Version

from boxsnake.boot.box import Box, NotPassedError, listed, modules_of, probe, said
from boxsnake.boot_recipe import BootRecipe
from boxsnake.plain_text import counted

# In seconds: an import, the look at all files, a whole probe.
_IMPORT_SECONDS = 60.0
_LOOK_SECONDS = 300.0
_PROBE_SECONDS = 900.0
# What a conda package names instead of its prefix, until it is installed.
_TRACES = ("_placehold_placehold_", "/placeholder_placeholder_")

_OPTIONAL_LIBRARIES = (
    # numba's other ways to use several processors, one of which is always there.
    "libtbb.so.*",
    # Database drivers among Qt's plug-ins.
    "libfbclient.so.*",
    "libmimerapi.so",
    "libmysqlclient.so.*",
    "libodbc.so.*",
    "libpq.so.*",
)
"""Libraries that known packages do without."""

_SENTENCES = {
    "version": "needs a newer version of a library than there is",
    "search path": "looks for libraries where anybody may put them",
    "interpreter": "begins with an interpreter that is not there",
    "trace": "holds a path of the machine that built it",
    "setuid": "is run with its owner's rights (setuid or setgid)",
    "writable": "may be written by anybody",
}
"""The faults of files, the worst first."""


def check_packages(
    box: Box, facts: dict[str, Any], traces: Sequence[str] = (), roots: Sequence[str] | None = None
) -> str:
    """The installed packages are those of the lock; `facts` takes what the look at the box has found.

    `traces` are paths of the build, which no file of the box may name. `roots` are the box's own paths, where its
    recipe does not know them beforehand.
    """
    expects = box.recipe.expects
    own = _own_paths(box.recipe) if roots is None else list(roots)
    job = {
        "do": "inspect",
        "exempt": list(expects.rules.exempt),
        "seconds": _IMPORT_SECONDS,
        "seconds_to_look": _LOOK_SECONDS,
        "modules": modules_of("elf", "boot.files"),
        "roots": own,
        "brought": own if box.recipe.borrows else None,
        "sites": not expects.locked and not box.recipe.borrows,
        "stock": list(box.recipe.stock),
        "traces": [*_TRACES, *_foreign(box.recipe, traces)],
    }
    facts.update(probe(box, job, _PROBE_SECONDS))
    if not expects.locked:
        return _told(box, facts)
    found = _normal((name, version) for name, version, _ in facts["distributions"])
    wanted = _normal(expects.distributions)
    faults = _differences("distribution", wanted, found)
    if expects.conda:
        records = Counter((name, f"{version} {build}") for name, version, build in facts["conda"])
        faults += _differences(
            "conda package", Counter((name, f"{version} {build}") for name, version, build in expects.conda), records
        )
    if faults:
        raise NotPassedError("\n".join(faults))
    conda = f", {counted(len(expects.conda), 'conda package')}" if expects.conda else ""
    return f"{counted(len(expects.distributions), 'distribution')}{conda}, Python {facts['python']}"


def _told(box: Box, facts: Mapping[str, Any]) -> str:
    """What is found in a box that no lock tells of."""
    if box.is_lent:
        return "no Python of its own"
    conda = f", {counted(len(facts['conda']), 'conda package')}" if facts["conda"] else ""
    known = f"{counted(len(facts['distributions']), 'distribution')}{conda}, Python {facts['python']}"
    return f"{known}, no lock to compare with"


def _normal(distributions: Iterable[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Names and versions as they compare (PEP 503, PEP 440)."""
    return Counter(
        (str(canonicalize_name(name)), str(canonicalize_version(version, strip_trailing_zero=False)))
        for name, version in distributions
    )


def _differences(what: str, wanted: Counter[tuple[str, str]], found: Counter[tuple[str, str]]) -> list[str]:
    """Tell two sets of (name, version) apart, as sentences: missing, of another version, not expected, found twice."""
    missing, surplus = dict((wanted - found).keys()), dict((found - wanted).keys())
    others = sorted(missing.keys() & surplus.keys() - {name for name, _ in wanted & found})
    twice = sorted({name for name, count in Counter(name for name, _ in found.elements()).items() if count > 1})
    sentences = (
        ("missing", [f"{name} {version}" for name, version in sorted(missing.items()) if name not in others]),
        ("of another version", [f"{name} {surplus[name]} instead of {missing[name]}" for name in others]),
        ("found twice", twice),
        (
            "not expected",
            [f"{name} {version}" for name, version in sorted(surplus.items()) if name not in {*others, *twice}],
        ),
    )
    return [f"{what} {problem}: {listed(names)}" for problem, names in sentences if names]


def _own_paths(recipe: BootRecipe) -> list[str]:
    """The paths of the box alone; a package manager's records and a file that was only carried there are not."""
    copied = {target for _, target in recipe.copies}
    return [path for path in recipe.writes if path not in recipe.remains and path not in copied]


def _foreign(recipe: BootRecipe, traces: Sequence[str]) -> Iterator[str]:
    """Those paths of the build that are not by chance the box's own, and long enough to mean something."""
    own = [*recipe.writes, *recipe.python, recipe.scripts or "", *recipe.command]
    for trace in traces:
        if trace.count("/") > 1 and not any(path == trace or path.startswith(f"{trace}/") for path in own):
            yield trace


def check_requirements(facts: Mapping[str, Any]) -> str:
    """Every distribution has what it requires, in a version that it takes, as `pip check` judges it."""
    versions = {str(canonicalize_name(name)): version for name, version, _ in facts["distributions"]}
    faults = [
        fault
        for name in sorted(facts["requires"])
        for text in facts["requires"][name]
        if (fault := _unmet(name, text, versions, facts["markers"]))
    ]
    if faults:
        others = f"\nand {len(faults) - 1} more: {'; '.join(faults[1:])}" if len(faults) > 1 else ""
        raise NotPassedError(f"{faults[0]}{others}")
    return counted(sum(map(len, facts["requires"].values())), "requirement")


def _unmet(name: str, text: str, versions: Mapping[str, str], markers: Mapping[str, str]) -> str:
    """What is wrong with one requirement; "" where it is met, or asks nothing here."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        # Of an age when everything was allowed; no installer can read it either.
        return ""
    if requirement.marker and not requirement.marker.evaluate({**markers, "extra": ""}):
        return ""
    version = versions.get(str(canonicalize_name(requirement.name)))
    if version is None:
        return f"{name} requires {requirement.name}, which is not there"
    try:
        fits = requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        fits = True
    return "" if fits else f"{name} requires {requirement.name} {requirement.specifier}, and there is {version}"


def check_files(box: Box, facts: Mapping[str, Any]) -> str:
    """The files of the box are fit: libraries found, no traces of the build, no rights that nobody should have."""
    found = facts["files"]
    if found is None:
        raise NotPassedError(f"the files could not be read{said(facts['look']['output'])}", facts["look"]["output"])
    optional = (*_OPTIONAL_LIBRARIES, *box.recipe.expects.rules.optional_libraries)
    missing = [
        f"{path} does not find the library {library}"
        for library, path in found["missing"]
        if not any(fnmatch.fnmatchcase(library, pattern) for pattern in optional)
    ]
    faults = [
        *missing,
        *(f"{sentence}: {_named(found, kind)}" for kind, sentence in _SENTENCES.items() if kind in found["faults"]),
    ]
    if faults:
        raise NotPassedError("\n".join(faults))
    return counted(found["files"], "file")


def _named(found: Mapping[str, Any], kind: str) -> str:
    names, count = found["faults"][kind], found["counts"][kind]
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return f"{listed(names)}{more}"
