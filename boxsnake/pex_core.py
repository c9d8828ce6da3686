"""The core of a plug-in: a PEX that another one extends, and what it brings already.

The two are composed by PEX itself: `PEX_PATH=plugin.pex core.pex` puts the plug-in's distributions beside the core's.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from boxsnake.errors import PackError, UsageError
from boxsnake.lock import Distribution
from boxsnake.plan import Part
from boxsnake.value import dataclass
from boxsnake.wheel_tags import best_fit, supported_tags

_INFO = "PEX-INFO"


@dataclass(frozen=True, kw_only=True)
class Core:
    """A PEX, file or folder, and the file names of the wheels in it."""

    path: Path
    wheels: tuple[str, ...]

    def distributions(self, part: Part) -> tuple[Distribution, ...]:
        """What it brings to a target, sorted."""
        tags = supported_tags(part.target, part.lock.python)
        found = set()
        for file_name in self.wheels:
            if best_fit([file_name], tags):
                name, version, *_ = parse_wheel_filename(file_name)
                found.add(Distribution(name=str(name), version=str(version)))
        return tuple(sorted(found))


def read_core(path: Path) -> Core:
    """Read what a PEX holds. Errors: UsageError where it is not there or is no PEX."""
    step = "Build the core first, and name the PEX that it is: a file, or the folder of another layout."
    try:
        if path.is_dir():
            text = (path / _INFO).read_text("utf-8")
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(_INFO).decode("utf-8")
        names = sorted(json.loads(text)["distributions"])
        for name in names:
            parse_wheel_filename(name)
    except FileNotFoundError:
        raise UsageError(str(path), "there is no such PEX", step, key="boxes.pex.core") from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, InvalidWheelFilename) as error:
        raise UsageError(str(path), f"is no PEX that can be read: {error}", step, key="boxes.pex.core") from None
    return Core(path=path, wheels=tuple(names))


def left_to_core(parts: Sequence[Part], core: Core | None) -> frozenset[str]:
    """The names of the distributions that a plug-in for these targets need not bring.

    Errors: PackError where the core has another version of one, has it for some of the targets only, or has all.
    """
    if core is None:
        return frozenset()
    left = frozenset(name for part in parts for name in _left(part, core))
    for part in parts:
        carried = {wheel.name for wheel in part.wheels} - left
        if not carried:
            raise _contradiction(core, "has everything that the plug-in would bring", "Pack it without `core`.")
        missing = left & {wheel.name for wheel in part.wheels} - {found.name for found in core.distributions(part)}
        if missing:
            cause = f"has no {min(missing)} for the target {part.target.name}"
            raise _contradiction(core, cause, "Make the core for every target that the plug-in is for.")
    return left


def _left(part: Part, core: Core) -> Iterator[str]:
    brought = {found.name: found.version for found in core.distributions(part)}
    for wheel in part.wheels:
        version = brought.get(wheel.name)
        if version == wheel.version:
            yield wheel.name
        elif version is not None:
            cause = f"brings {wheel.name} {version}, and the plug-in is locked to {wheel.version}"
            step = f'Require it as the core has it: pip = ["{wheel.name}=={version}"], and lock again.'
            raise _contradiction(core, cause, step)


def _contradiction(core: Core, cause: str, step: str) -> PackError:
    return PackError(core.path.name, cause, step, format="pex")
