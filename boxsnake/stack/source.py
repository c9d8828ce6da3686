"""Working copies over what is installed: where a distribution's packages lie in a checkout and in an environment."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from boxsnake.errors import UsageError

# Where projects keep their packages, relative to their folder.
_PLACES = ("src", ".", "lib", "python")
_COMPILED = (".so", ".pyd", ".dylib")


def mounts(wheel: Path, checkout: Path, site: str, *, thing: str) -> tuple[tuple[str, str], ...]:
    """(path of the checkout, path below `site`) for each package and module that the wheel has at its top.

    Errors: UsageError where the checkout has not got one of them, or the wheel has compiled modules, which no checkout
    has for this environment.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    compiled = next((name for name in names if name.endswith(_COMPILED)), None)
    if compiled:
        cause = f"has compiled modules ({compiled}), and a checkout has none that fit the box"
        raise UsageError(thing, cause, "Build a wheel of it, and require that by its path.")
    found = []
    for top in tops(names):
        place = next((path for place in _PLACES if (path := checkout / place / top).exists()), None)
        if place is None:
            looked = ", ".join(str(Path(place) / top) for place in _PLACES)
            raise UsageError(thing, f"{checkout} has none of {looked}", "Name the folder with its pyproject.toml.")
        found.append((str(place.resolve()), f"{site}/{top}"))
    return tuple(found)


def tops(names: list[str]) -> list[str]:
    """The highest packages (folders with an `__init__.py`) and the modules beside them, sorted.

    A folder without one is a namespace, which other distributions may share.
    """
    paths = [PurePosixPath(name) for name in names if name.endswith(".py") and ".data/" not in name]
    packages = {path.parent for path in paths if path.name == "__init__.py"}
    highest = {one for one in packages if not packages & set(one.parents)}
    modules = {path for path in paths if not highest & set(path.parents) and path.name != "__init__.py"}
    return sorted(str(one) for one in highest | modules)


def times(paths: Iterator[str] | list[str]) -> Mapping[str, int]:
    """When each source file below these paths was written, in nanoseconds."""
    found: dict[str, int] = {}
    for path in map(Path, paths):
        files = [path] if path.is_file() else [one for one in path.rglob("*") if "__pycache__" not in one.parts]
        for file in files:
            try:
                if file.is_file():
                    found[str(file)] = file.stat().st_mtime_ns
            except OSError:
                # It went away while it was looked at.
                continue
    return found
