"""The wheel half as a PEP 751 document, which pip, uv and pex read when it is written out by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boxsnake.lock.locations import Locations
from boxsnake.lock.reader import COMMIT, LOCATION, NAME, SHA256, WHEEL_NAME, Table, by_name
from boxsnake.lock.values import Origin, Wheel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxsnake.lock.values import TargetLock
    from boxsnake.pins import Pin
    from boxsnake.target import Target

CREATOR = "boxsnake"
VERSION = "1.0"
"""Of the specification: https://packaging.python.org/en/latest/specifications/pylock-toml/"""


def pylock(target_lock: TargetLock, wheels: Iterable[Wheel], *, folder: str | None = None) -> str:
    """The text of a `pylock.toml` with these wheels of the target, and nothing of boxsnake's own needed to read it.

    With `folder` every wheel is named by its path in that folder, relative to the file ("." is the file's own): so
    too those that were built here. Without it, a wheel that was built is named by what it was built from.
    """
    import tomli_w

    chosen = sorted(wheels, key=lambda wheel: wheel.name)
    if folder is None:
        return tomli_w.dumps(document(target_lock, chosen, Locations(root=None)))
    names = {wheel.name for wheel in chosen}
    packages = [{**_head(wheel, names), "wheels": [_in_folder(wheel, folder)]} for wheel in chosen]
    return tomli_w.dumps({**_top(target_lock), "packages": packages})


def shared_pylock(pins: Iterable[Pin], environments: Iterable[str], *, python: str, folder: str) -> str:
    """The text of a `pylock.toml` for several targets, every wheel named by its path in `folder`.

    `environments` are the markers of the targets, `python` the lowest minor version of theirs. Of what a distribution
    needs it says nothing: that differs from target to target.
    """
    import tomli_w

    packages = [
        {
            "name": pin.name,
            "version": pin.version,
            **({"marker": pin.marker} if pin.marker else {}),
            "wheels": [_in_folder(wheel, folder) for wheel in pin.wheels],
        }
        for pin in pins
    ]
    top = {"lock-version": VERSION, "created-by": CREATOR, "environments": list(environments)}
    return tomli_w.dumps({**top, "requires-python": f">={python}", "packages": packages})


def document(target_lock: TargetLock, wheels: Iterable[Wheel], locations: Locations) -> dict[str, Any]:
    """The document as plain values."""
    chosen = list(wheels)
    names = {wheel.name for wheel in chosen}
    return {**_top(target_lock), "packages": [_package(wheel, names, locations) for wheel in chosen]}


def wheels_of(half: Table, locations: Locations) -> tuple[Wheel, ...]:
    """The wheels of a document that `document` made. Errors: LockError."""
    if half.text("lock-version") != VERSION:
        raise half.fault("lock-version", f"is not {VERSION}")
    return tuple(_wheel(package, locations) for package in half.tables("packages", by_name))


def _top(target_lock: TargetLock) -> dict[str, Any]:
    return {
        "lock-version": VERSION,
        "created-by": CREATOR,
        "environments": [_environment(target_lock.target)],
        "requires-python": f"=={target_lock.python_minor}.*",
    }


def _environment(target: Target) -> str:
    known = target.marker_environment("3")
    keys = ("implementation_name", "platform_machine", "sys_platform")
    return " and ".join(f'{key} == "{known[key]}"' for key in keys)


def _head(wheel: Wheel, names: set[str]) -> dict[str, Any]:
    head: dict[str, Any] = {"name": wheel.name, "version": wheel.version}
    needed = [{"name": name} for name in wheel.requires if name in names]
    if needed:
        head["dependencies"] = needed
    if wheel.index is not None:
        head["index"] = wheel.index
    return head


def _package(wheel: Wheel, names: set[str], locations: Locations) -> dict[str, Any]:
    if wheel.origin is None:
        file = {"name": wheel.file_name, **_place(locations.written(wheel.url or "")), **_bytes(wheel.sha256, wheel)}
        return {**_head(wheel, names), "wheels": [file]}
    built = {"wheel": {"name": wheel.file_name, **_bytes(wheel.sha256, wheel)}}
    if wheel.origin.kind == "folder" and wheel.origin.sha256 is not None:
        built["source"] = {"sha256": wheel.origin.sha256}
    return {**_head(wheel, names), **_origin(wheel.origin), "tool": {CREATOR: built}}


def _in_folder(wheel: Wheel, folder: str) -> dict[str, Any]:
    path = wheel.file_name if folder == "." else f"{folder}/{wheel.file_name}"
    return {"name": wheel.file_name, "path": path, **_bytes(wheel.sha256, wheel)}


def _place(location: str) -> dict[str, str]:
    return {"url": location} if "://" in location else {"path": location}


def _bytes(sha256: str | None, thing: Wheel | Origin) -> dict[str, Any]:
    size = {} if thing.size is None else {"size": thing.size}
    return {**size, "hashes": {"sha256": sha256}}


def _origin(origin: Origin) -> dict[str, Any]:
    below = {} if origin.subdirectory is None else {"subdirectory": origin.subdirectory}
    match origin.kind:
        case "git":
            return {"vcs": {"type": "git", **_place(origin.url), "commit-id": origin.commit, **below}}
        case "folder":
            return {"directory": {"path": origin.url, **below}}
        case "archive":
            return {"archive": {**_place(origin.url), **_bytes(origin.sha256, origin), **below}}
        case "sdist":
            name = origin.url.rpartition("/")[2]
            return {"sdist": {"name": name, **_place(origin.url), **_bytes(origin.sha256, origin)}}


def _wheel(package: Table, locations: Locations) -> Wheel:
    needed = package.tables("dependencies", by_name)
    common: dict[str, Any] = {
        "name": package.text("name", NAME),
        "version": package.text("version"),
        "index": package.text_or_none("index"),
        "requires": tuple(dependency.text("name", NAME) for dependency in needed),
    }
    if "wheels" not in package.values:
        return _built_wheel(package, common)
    files = package.tables("wheels", by_name)
    if len(files) != 1:
        raise package.fault("wheels", "must be one wheel")
    return Wheel(**common, **_file(files[0]), url=locations.read(_location(files[0])))


def _built_wheel(package: Table, common: dict[str, Any]) -> Wheel:
    built = package.table("tool").table(CREATOR)
    source = built.table_or_none("source")
    folder_digest = None if source is None else source.text("sha256", SHA256)
    return Wheel(**common, **_file(built.table("wheel")), url=None, origin=_read_origin(package, folder_digest))


def _read_origin(package: Table, folder_digest: str | None) -> Origin:
    if (table := package.table_or_none("vcs")) is not None:
        below = table.text_or_none("subdirectory")
        return Origin(kind="git", url=_location(table), commit=table.text("commit-id", COMMIT), subdirectory=below)
    if (table := package.table_or_none("directory")) is not None:
        below = table.text_or_none("subdirectory")
        return Origin(kind="folder", url=table.text("path"), sha256=folder_digest, subdirectory=below)
    if (table := package.table_or_none("archive")) is not None:
        below = table.text_or_none("subdirectory")
        return Origin(kind="archive", url=_location(table), **_digest(table), subdirectory=below)
    table = package.table("sdist")
    return Origin(kind="sdist", url=_location(table), **_digest(table))


def _file(table: Table) -> dict[str, Any]:
    return {"file_name": table.text("name", WHEEL_NAME), **_digest(table)}


def _digest(table: Table) -> dict[str, Any]:
    return {"sha256": table.table("hashes").text("sha256", SHA256), "size": table.number_or_none("size")}


def _location(table: Table) -> str:
    return table.text("path" if "path" in table.values else "url", LOCATION)
