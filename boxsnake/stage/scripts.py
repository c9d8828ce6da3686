"""Interpreter lines of the scripts that come with conda packages, and which files of a tree depend on its prefix.

The linker writes a line that it finds too long in a way of its own, which quotes nothing, and for other interpreters
than Python leaves out where they lie. Here all lines are written in one way (`boxsnake.relocation.script_start`); those
of a relocatable tree stay as they are, as what they will be is known when the tree is placed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxsnake.entries import Patch
from boxsnake.relocation import script_start
from boxsnake.stage.owners import Owners
from boxsnake.stage.scrub import is_entry_point
from boxsnake.value import dataclass

_TWO_LINES = b"#!/bin/sh\n'''exec' "


@dataclass(frozen=True, kw_only=True)
class Linked:
    """A file of a conda package that was linked for a prefix: its path, its row in the record, the packed file."""

    path: str
    row: Mapping[str, Any]
    packed: Path


def linked_for_prefix(records: Sequence[Mapping[str, Any]], unpacked: Path, site_packages: str) -> Iterator[Linked]:
    """The files that depend on the prefix, of the packages with these records; `unpacked` has a folder for each."""
    for record in records:
        folder = unpacked / f"{record['name']}-{record['version']}-{record['build']}"
        for row in record["paths_data"]["paths"]:
            if row.get("prefix_placeholder") or is_entry_point(row):
                packed = _packed_path(row["_path"], site_packages) if record.get("noarch") == "python" else row["_path"]
                yield Linked(path=row["_path"], row=row, packed=folder / packed)


def patch_of(root: Path, linked: Linked, prefix: str, *, relocatable: bool) -> Patch:
    """Write the file's interpreter line as it must be, and tell how the file is placed."""
    old, new = str(linked.row.get("prefix_placeholder", "")).encode(), prefix.encode()
    place = root / linked.path
    if is_entry_point(linked.row):
        line, rest = _of_entry_point(place.read_bytes(), new)
        _rewrite(place, (line if relocatable else script_start(line, new, new)) + rest)
        return Patch(path=linked.path, kind="script")
    if linked.row.get("file_mode") == "binary":
        return Patch(path=linked.path, kind="binary")
    packed = linked.packed.read_bytes()
    line, feed, rest = packed.partition(b"\n")
    if not line.startswith(b"#!") or old not in line:
        return Patch(path=linked.path, kind="text")
    _rewrite(
        place, (line.replace(old, new) if relocatable else script_start(line, old, new)) + feed + rest.replace(old, new)
    )
    return Patch(path=linked.path, kind="script")


def patches_of(root: Path, candidates: Sequence[Patch], owners: Owners, placeholder: str) -> tuple[Patch, ...]:
    """Those of the candidates that are in the tree and hold the placeholder, sorted, each once."""
    held = placeholder.encode()
    found = {
        patch.path: patch for patch in candidates if patch.path in owners and held in (root / patch.path).read_bytes()
    }
    return tuple(found[path] for path in sorted(found))


def _packed_path(path: str, site_packages: str) -> str:
    """Where a file lies in a package of pure Python (conda's noarch)."""
    if path.startswith(f"{site_packages}/"):
        return f"site-packages/{path.removeprefix(f'{site_packages}/')}"
    return f"python-scripts/{path.removeprefix('bin/')}" if path.startswith("bin/") else path


def _of_entry_point(content: bytes, prefix: bytes) -> tuple[bytes, bytes]:
    """The interpreter line that is meant, without line feed, and the rest of the program."""
    lines = 2 if content.startswith(_TWO_LINES) else 1
    *head, rest = content.split(b"\n", lines)
    found = re.search(re.escape(prefix) + rb'(/[^" ]+)', b"\n".join(head))
    return b"#!" + prefix + (found.group(1) if found else b"/bin/python"), b"\n" + rest


def _rewrite(place: Path, content: bytes) -> None:
    if place.read_bytes() == content:
        return
    mode = place.stat().st_mode & 0o777
    place.unlink()  # it may be a hard link to somebody else's
    place.write_bytes(content)
    place.chmod(mode)
