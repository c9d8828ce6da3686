"""A lock as text: TOML, the same bytes for the same lock, and a digest of its own that tells when it was edited."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from boxsnake.errors import LockError
from boxsnake.lock.locations import Locations
from boxsnake.lock.pylock import document as wheel_document
from boxsnake.lock.pylock import wheels_of
from boxsnake.lock.reader import CONDA_NAME, LOCATION, LOCK_AGAIN, SHA256, Table, by_name
from boxsnake.lock.system import system_document, system_of
from boxsnake.lock.values import BasePin, CondaPackage, Distribution, Inputs, Lock, Noarch, TargetLock
from boxsnake.reference import parse
from boxsnake.target import Interpreter, Platform, Target

if TYPE_CHECKING:
    from pathlib import PurePath

LOCK_VERSION = 1
"""Raised with every change that an older boxsnake would misread."""

_HEADER = "# Written by `boxsnake lock`. Change the manifest and lock again; an edited lock is refused.\n"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def encode(lock: Lock, root: PurePath | None = None) -> str:
    """The text of a lock that lies in the absolute folder `root`; without it, file: URLs are written as they are."""
    import tomli_w

    values = _document(lock, Locations.of(_posix(root), lock.inputs))
    head = {"lock-version": LOCK_VERSION, "digest": _digest_of(values)}
    return _HEADER + tomli_w.dumps({**head, **values}, multiline_strings=False)


def decode(text: str, source: str, root: PurePath | None = None) -> Lock:
    """The lock that a text holds; `source` names it in messages, `root` is the absolute folder that it lies in.

    Errors: LockError for everything that `encode` would not have written.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        conflict = "<<<<<<< " in text and ">>>>>>> " in text
        cause = "it holds a merge conflict" if conflict else f"it is not TOML: {error}"
        raise LockError(source, cause, LOCK_AGAIN) from None
    top = Table(values, source)
    _check_version(top)
    written = top.text("digest", _DIGEST)
    asked = top.table("inputs")
    inputs: Inputs = tuple(sorted((what, asked.texts(what)) for what in asked.values))
    locations = Locations.of(_posix(root), inputs)
    lock = Lock(
        inputs=inputs, targets=tuple(_target_lock(table, locations) for table in top.tables("targets", by_name))
    )
    # Comparing values, not bytes: line ends that version control changed are no edit.
    rest = {key: value for key, value in values.items() if key not in {"lock-version", "digest"}}
    if _digest_of(rest) != written or rest != _document(lock, locations):
        cause = "it contradicts itself: it was edited, or two locks were merged"
        raise LockError(source, cause, LOCK_AGAIN, expected=written, found=_digest_of(rest))
    return lock


def _posix(root: PurePath | None) -> str | None:
    return None if root is None else root.as_posix()


def _check_version(top: Table) -> None:
    version = top.number("lock-version")
    if version > LOCK_VERSION:
        cause = f"a newer boxsnake wrote it (lock-version {version}, this one knows {LOCK_VERSION})"
        raise LockError(top.source, cause, "Use the newer boxsnake, or run `boxsnake lock` with this one.")
    if version != LOCK_VERSION:
        raise top.fault("lock-version", f"is {version}, which is unknown")


def _digest_of(values: dict[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return f"sha256:{hashlib.sha256(canonical.encode('ascii')).hexdigest()}"


def _document(lock: Lock, locations: Locations) -> dict[str, Any]:
    targets = sorted(lock.targets, key=lambda target_lock: target_lock.target.name)
    return {
        "inputs": {what: list(lines) for what, lines in sorted(lock.inputs)},
        "targets": [_target_document(target_lock, locations) for target_lock in targets],
    }


def _target_document(target_lock: TargetLock, locations: Locations) -> dict[str, Any]:
    target = target_lock.target
    values: dict[str, Any] = {
        "name": target.name,
        "platform": target.platform,
        "interpreter": target.interpreter,
        "python": target_lock.python,
    }
    if target.glibc is not None:
        values["glibc"] = target.glibc
    if target.python is not None:
        values["requires-python"] = target.python
    if target_lock.unavailable:
        values["unavailable"] = [_pinned(found) for found in sorted(target_lock.unavailable)]
    if target_lock.base is not None:
        values["base"] = {"reference": target_lock.base.reference, "digest": target_lock.base.digest}
    conda = sorted(target_lock.conda, key=lambda package: package.name)
    values["conda"] = [_conda_document(package, locations) for package in conda]
    wheels = sorted(target_lock.wheels, key=lambda wheel: wheel.name)
    values["wheels"] = wheel_document(target_lock, wheels, locations)
    if target_lock.system is not None:
        values["system"] = system_document(target_lock.system)
    return values


def _conda_document(package: CondaPackage, locations: Locations) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build-number": package.build_number,
        "subdir": package.subdir,
        "channel": locations.written(package.channel),
        "url": locations.written(package.url),
        "sha256": package.sha256,
        "size": package.size,
    }
    if package.noarch is not None:
        values["noarch"] = package.noarch
    if package.depends:
        values["depends"] = list(package.depends)
    if package.distributions:
        values["distributions"] = [_pinned(found) for found in package.distributions]
    return values


def _pinned(distribution: Distribution) -> str:
    return f"{distribution.name}=={distribution.version}"


def _target_lock(table: Table, locations: Locations) -> TargetLock:
    target = Target(
        name=table.text("name"),
        platform=table.choice("platform", Platform),
        python=table.text_or_none("requires-python"),
        glibc=table.text_or_none("glibc"),
        interpreter=table.choice("interpreter", Interpreter),
    )
    return TargetLock(
        target=target,
        python=table.text("python"),
        conda=tuple(_conda_package(package, locations) for package in table.tables("conda", by_name)),
        wheels=wheels_of(table.table("wheels"), locations),
        unavailable=_distributions(table, "unavailable"),
        system=system_of(table.table_or_none("system")),
        base=_base_pin(table.table_or_none("base")),
    )


def _base_pin(table: Table | None) -> BasePin | None:
    if table is None:
        return None
    reference = table.text("reference")
    try:
        parse(reference)
    except ValueError:
        raise table.fault("reference", f"is {reference!r}, which names no image") from None
    return BasePin(reference=reference, digest=table.text("digest", _DIGEST))


def _conda_package(table: Table, locations: Locations) -> CondaPackage:
    location = table.text("url", LOCATION)
    if not CONDA_NAME.fullmatch(location.rpartition("/")[2]):
        raise table.fault("url", f"is {location!r}, which names no conda package")
    return CondaPackage(
        name=table.text("name"),
        version=table.text("version"),
        build=table.text("build"),
        build_number=table.number("build-number"),
        subdir=table.text("subdir"),
        channel=locations.read(table.text("channel", LOCATION)),
        url=locations.read(location),
        sha256=table.text("sha256", SHA256),
        size=table.number("size"),
        depends=table.texts("depends"),
        noarch=None if "noarch" not in table.values else table.choice("noarch", Noarch),
        distributions=_distributions(table, "distributions"),
    )


def _distributions(table: Table, key: str) -> tuple[Distribution, ...]:
    found = [line.partition("==") for line in table.texts(key)]
    if not all(name and version for name, _, version in found):
        raise table.fault(key, "must be like name==version")
    return tuple(Distribution(name=name, version=version) for name, _, version in found)
