"""Which wheels fit a target: its compatibility tags, best first, and the glibc that a wheel's tags ask for.

Specifications: platform compatibility tags (PEP 425), manylinux (PEP 600 and those before it).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.tags import compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from boxsnake.target import DEFAULT_GLIBC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.tags import Tag

    from boxsnake.target import Target

_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST = {"x86_64": 5, "aarch64": 17}
_OSX = {"osx-64": ((10, 15), "x86_64"), "osx-arm64": ((11, 0), "arm64")}
_MANYLINUX = re.compile(r"manylinux_2_(\d+)_")


def supported_tags(target: Target, python: str) -> list[Tag]:
    """The tags of wheels that CPython `python` ("3.11" or "3.11.7") can install on the target, best first."""
    major, minor = (int(part) for part in python.split(".")[:2])
    version = (major, minor)
    interpreter = f"cp{major}{minor}"
    platforms = list(_platforms(target))
    return [
        *cpython_tags(version, abis=[interpreter], platforms=platforms),
        *compatible_tags(version, interpreter=interpreter, platforms=platforms),
    ]


def best_fit(file_names: Iterable[str], tags: list[Tag]) -> str | None:
    """The file name of the wheel that fits best, by the order of the tags; None where none fits."""
    places = {tag: place for place, tag in enumerate(tags)}
    fitting = []
    for file_name in file_names:
        places_of_this = [places[tag] for tag in tags_of(file_name) if tag in places]
        if places_of_this:
            # Of two builds with the same tags the one with the higher build number counts.
            fitting.append((min(places_of_this), [-part for part in _build_number(file_name)], file_name))
    return min(fitting)[2] if fitting else None


def tags_of(file_name: str) -> frozenset[Tag]:
    """The tags in a wheel's file name; none where it is not one."""
    try:
        return parse_wheel_filename(file_name)[3]
    except (InvalidWheelFilename, InvalidVersion):
        return frozenset()


def lowest_glibc(file_name: str) -> int | None:
    """The lowest glibc 2.x that a wheel's tags promise to run with, as x; None where they promise nothing."""
    old = {name: minor for minor, name in _OLD_NAMES.items()}
    found = [int(minor) for minor in _MANYLINUX.findall(file_name)]
    found += [minor for name, minor in old.items() if f"{name}_" in file_name]
    return min(found, default=None)


def _build_number(file_name: str) -> list[int]:
    build = parse_wheel_filename(file_name)[2]
    return [build[0]] if build else [0]


def _platforms(target: Target) -> Iterator[str]:
    if target.is_linux:
        machine = target.machine
        newest = int((target.glibc or DEFAULT_GLIBC).partition(".")[2])
        for minor in range(newest, _OLDEST[machine] - 1, -1):
            yield f"manylinux_2_{minor}_{machine}"
            if minor in _OLD_NAMES and (machine == "x86_64" or minor == _OLDEST[machine]):
                yield f"{_OLD_NAMES[minor]}_{machine}"
        yield f"linux_{machine}"
    elif target.platform in _OSX:
        version, machine = _OSX[target.platform]
        yield from mac_platforms(version, machine)
    else:
        yield "win_amd64"
