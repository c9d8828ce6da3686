"""What is in the artifacts that are booted, for the report: looked at once for all that has the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from boxsnake.boot_report.value import Artifact, Content, Layer
from boxsnake.disk import disk_faults
from boxsnake.errors import BoxsnakeError
from boxsnake.inspection import Inspection, inspect
from boxsnake.store import Store

# Raised when other facts of an artifact are told.
_FORMAT = 2


def look_into(path: Path, store: Store) -> Artifact:
    """Sizes by layer and package; with a note where it cannot be looked into, as its boot shall tell what is wrong."""
    try:
        return _looked_into(path, store)
    except BoxsnakeError as error:
        return Artifact(path=str(path), note=f"{error.thing}: {error.cause}")


def _looked_into(path: Path, store: Store) -> Artifact:
    key = _key(path)
    facts = store.selected("contents", key) if key else None
    if facts is None:
        facts = _facts(inspect(path))
        if key:
            store.select("contents", key, facts)
    return Artifact(
        path=str(path),
        size=facts["size"],
        digest=facts["digest"],
        unpacked=facts["unpacked"],
        layers=tuple(Layer(**layer) for layer in facts["layers"]),
        contents=tuple(Content(**content) for content in facts["contents"]),
    )


def _key(path: Path) -> dict[str, object] | None:
    """What decides all that is in it: a file's bytes, or the index of a layout; None for another folder."""
    whole = path / "index.json" if path.is_dir() else path
    if not whole.is_file():
        return None
    with disk_faults(whole), whole.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"format": _FORMAT, "sha256": digest}


def _facts(found: Inspection) -> dict[str, Any]:
    versions: dict[tuple[str, str], str] = {(one.kind, one.name): one.version for one in found.packages}
    titles = _titles(found)
    return {
        "size": found.size or sum(part.size for part in found.parts) or found.installed_size,
        "digest": found.digest,
        "unpacked": found.installed_size,
        "layers": [{"name": titles[part.name], "size": part.size} for part in found.parts],
        "contents": [
            {
                "kind": share.kind,
                "name": share.name,
                "version": versions.get((share.kind, share.name), ""),
                "size": share.size,
                "layer": titles.get(share.part, ""),
            }
            for share in found.shares
            if share.size
        ],
    }


def _titles(found: Inspection) -> dict[str, str]:
    """What layers are called: the digest that one goes by whose history says nothing is no name for people."""
    nameless = [part.name for part in found.parts if part.name.startswith("sha256:")]
    titles = {name: f"base {at}" if len(nameless) > 1 else "base" for at, name in enumerate(nameless, 1)}
    return {part.name: titles.get(part.name, part.name) for part in found.parts}
