"""Files that checks come from beside a manifest, or instead of one: boxsnake's own, and other tools'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field, replace
from pathlib import Path

from boxsnake.application import check_of, rules_of
from boxsnake.boot_recipe import BootRules, Check
from boxsnake.disk import disk_faults
from boxsnake.errors import Fault, ManifestError
from boxsnake.foreign_checks import foreign_checks
from boxsnake.manifest.checks_file import decode_checks
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Said:
    """What such files say. Of the artifact only what is said; "" and () is what is not."""

    checks: tuple[Check, ...] = ()
    rules: BootRules = field(default_factory=BootRules)
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    python: str = ""

    @property
    def is_of_an_artifact(self) -> bool:
        """Whether anything is said that a manifest says of its own boxes."""
        return bool(self.command or self.environment or self.prefix or self.python)


def read_checks(paths: Iterable[Path]) -> Said:
    """What the files say together. Errors: ManifestError with all faults of a file; ResourceError."""
    found = Said()
    for path in paths:
        with disk_faults(path):
            text = path.read_bytes().decode("utf-8", "replace")
        one = _own(text, str(path)) if path.suffix == ".toml" else Said(checks=foreign_checks(text, str(path)))
        found = _together(found, one, str(path))
    return found


def _own(text: str, source: str) -> Said:
    file = decode_checks(text, source)
    return Said(
        checks=tuple(check_of(table, file.app.ports) for table in file.checks),
        rules=rules_of(file.boot),
        command=file.app.command,
        environment=tuple(sorted(file.app.environment.items())),
        prefix=file.artifact.prefix or "",
        python=file.artifact.python or "",
    )


def _together(one: Said, other: Said, source: str) -> Said:
    """Both; where both say something of the artifact, the later file is believed."""
    taken = {check.name for check in one.checks}
    faults = tuple(
        Fault(source=source, line=0, key=check.name, message="another file has a check of this name")
        for check in other.checks
        if check.name in taken
    )
    if faults:
        raise ManifestError(source, faults)
    return Said(
        checks=(*one.checks, *other.checks),
        rules=with_rules(one.rules, other.rules),
        command=other.command or one.command,
        environment=tuple(sorted({**dict(one.environment), **dict(other.environment)}.items())),
        prefix=other.prefix or one.prefix,
        python=other.python or one.python,
    )


def with_rules(one: BootRules, other: BootRules) -> BootRules:
    """Both: what either passes over, and the budgets of the second where it has any."""
    return replace(
        other,
        exempt=(*one.exempt, *other.exempt),
        optional_libraries=(*one.optional_libraries, *other.optional_libraries),
        start_seconds=one.start_seconds if other.start_seconds is None else other.start_seconds,
        memory=one.memory if other.memory is None else other.memory,
    )
