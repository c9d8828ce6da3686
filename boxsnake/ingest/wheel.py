"""The check that a wheel passes before it is used (PEP 427 and the binary distribution format, entry points, RECORD).

What real wheels do and is let through, as no installer is misled by it:

- members for folders, data descriptors, zip64 fields and odd permission bits (installers set their own);
- RECORD without a hash for itself and its signatures, which cannot have one, and for compiled `.pyc` files;
- RECORD without the entries of signatures; WHEEL tags that differ from those in the file name (repaired wheels).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from boxsnake.entry_points import COMMAND_GROUPS
from boxsnake.ingest import CHECK_VERSION, escaped, unsafe
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boxsnake.store import Store


@dataclass(frozen=True, kw_only=True)
class WheelFacts:
    """What is known of a wheel that passed the check; sizes in bytes."""

    name: str
    """Normalised (PEP 503)."""
    version: str
    tags: tuple[str, ...]
    requires_dist: tuple[str, ...]
    requires_python: str | None
    top_level: tuple[str, ...]
    """Names that can be imported."""
    console_scripts: tuple[tuple[str, str], ...]
    gui_scripts: tuple[tuple[str, str], ...]
    scripts: tuple[str, ...]
    """Files that become commands as they are."""
    startup_files: tuple[str, ...]
    """Files that an interpreter runs at every start: .pth files, sitecustomize."""
    files: int
    unpacked_size: int
    has_elf: bool
    warnings: tuple[str, ...]


def wheel_facts(store: Store, sha256: str) -> WheelFacts:
    """Look up what is known of a wheel in the store; it is checked now if it never was.

    Raises IntegrityError where it does not pass.
    """
    key = _key(sha256)
    known = store.selected("ingest", key)
    if known is not None:
        return _from_json(known)
    facts = check(store.path(f"sha256:{sha256}"))
    store.select("ingest", key, asdict(facts))
    return facts


def passes_as(store: Store, sha256: str, before: str, growth: int) -> None:
    """Let a wheel pass that boxsnake has written out of one that passed, with other text in some modules and no more.

    `growth` is in bytes. Raises IntegrityError where the one `before` does not pass.
    """
    facts = wheel_facts(store, before)
    store.select("ingest", _key(sha256), asdict(replace(facts, unpacked_size=facts.unpacked_size + growth)))


def _key(sha256: str) -> dict[str, object]:
    return {"sha256": sha256, "kind": "wheel", "check": CHECK_VERSION}


def agree(facts: WheelFacts, file_name: str) -> None:
    """Refuse a wheel whose file name tells another name or version than the wheel itself."""
    if _is_usual(facts, file_name):
        return
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        name, version, _, _ = parse_wheel_filename(file_name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise unsafe(escaped(file_name), None, "is not the file name of a wheel") from error
    if (name, version) != (facts.name, Version(facts.version)):
        raise unsafe(escaped(file_name), None, f"holds {facts.name} {facts.version}")


def _is_usual(facts: WheelFacts, file_name: str) -> bool:
    """Whether it is the very name that most tools give such a wheel: that is seen without the library that reads it."""
    parts = file_name.removesuffix(".whl").split("-")
    is_one = file_name.endswith(".whl") and len(parts) == 5 and all(parts)
    return is_one and parts[:2] == [facts.name.replace("-", "_"), facts.version]


def check(path: Path, file_name: str | None = None) -> WheelFacts:
    """Check a wheel, with its file name where that is not the path's (a file of the store has none: pass None).

    Raises IntegrityError, which names the member at fault, and ResourceError where the file cannot be read.
    """
    if file_name is None and path.suffix == ".whl":
        file_name = path.name
    from boxsnake.ingest.wheel_check import facts_of

    facts = facts_of(path, escaped(file_name or path.name))
    if file_name is not None:
        agree(facts, file_name)
        facts = _compare_tags(facts, file_name)
    return facts


def _compare_tags(facts: WheelFacts, file_name: str) -> WheelFacts:
    from packaging.utils import parse_wheel_filename

    named = sorted(str(tag) for tag in parse_wheel_filename(file_name)[3])
    if named == sorted(facts.tags):
        return facts
    warning = f"WHEEL has the tags {', '.join(facts.tags)}, the file name {', '.join(named)}"
    return _from_json(asdict(facts) | {"warnings": [*facts.warnings, warning]})


def _from_json(values: Mapping[str, Any]) -> WheelFacts:
    facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for group in COMMAND_GROUPS:
        facts[group] = tuple((name, target) for name, target in facts[group])
    return WheelFacts(**facts)
