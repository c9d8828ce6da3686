"""Pieces: what single packages have in the layers that the store knows, to make other layers of it.

A layer is written owner by owner, and each one's files begin a gzip member of their own. So they can be copied into
another layer as they are, compressed. A piece is no file: a selector tells where in which layer it lies, and another
one what its package brings, so that nothing need be staged to know whether packages go together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from boxsnake.archive import DamagedError
from boxsnake.entries import Entry, Tree
from boxsnake.errors import PackError, ResourceError
from boxsnake.layers.brought import Brought
from boxsnake.layers.keys import LayerKeys
from boxsnake.stage.scrub import HISTORY
from boxsnake.store import Store
from boxsnake.value import dataclass

_BROUGHT = "brought"
_PIECE = "piece"
_VARIABLES = "etc/conda/env_vars.d/"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A range of a layer's file: whole gzip members, of these sizes in bytes."""

    layer: Path
    start: int
    sizes: tuple[int, ...]

    def members(self) -> Iterator[bytes]:
        """The gzip members, one after the other. Errors: DamagedError where the file has not got them."""
        try:
            with self.layer.open("rb", buffering=0) as stream:
                stream.seek(self.start)
                for size in self.sizes:
                    member = stream.read(size)
                    if len(member) != size:
                        raise DamagedError("is cut off")
                    yield member
        except OSError as error:
            raise DamagedError(str(error)) from error


class Pieces:
    """The pieces of one environment that a store has."""

    def __init__(self, store: Store, keys: LayerKeys) -> None:
        self._store = store
        self._keys = keys
        self._read: dict[str, Brought | None] = {}

    def brought(self, owner: str) -> Brought | None:
        """What a package brings; None where that is not known."""
        if owner not in self._read:
            self._read[owner] = _as_brought(self._store.selected(_BROUGHT, self._keys.piece(owner)))
        return self._read[owner]

    def all_brought(self, owners: Iterable[str]) -> list[Brought] | None:
        """What several packages bring; None where that is not known of each."""
        found = []
        for owner in owners:
            one = self.brought(owner)
            if one is None:
                return None
            found.append(one)
        return found

    def find(self, owner: str) -> Piece | None:
        """The piece of a package, in a layer that has been found whole."""
        told = None if self._keys.looks_across else self._store.selected(_PIECE, self._keys.piece(owner))
        layer = self._store.sound(told["layer"]) if told else None
        if told is None or layer is None:
            return None
        return Piece(layer=layer, start=told["start"], sizes=tuple(told["sizes"]))

    def learn(self, brought: Mapping[str, Brought]) -> None:
        """Note what packages bring."""
        for owner, one in brought.items():
            if self._read.get(owner) != one:
                self._read[owner] = one
                self._select(_BROUGHT, owner, _document(one))

    def remember(self, owner: str, layer: str, start: int, sizes: Sequence[int]) -> None:
        """Note where in a layer, by its digest, all lies that a package brings."""
        told = {"layer": layer, "start": start, "sizes": list(sizes)}
        if not self._keys.looks_across and self._store.selected(_PIECE, self._keys.piece(owner)) != told:
            self._select(_PIECE, owner, told)

    def _select(self, kind: str, owner: str, value: Mapping[str, object]) -> None:
        with suppress(ResourceError):  # only time is lost
            self._store.select(kind, self._keys.piece(owner), value)


def brought_in(tree: Tree, owners: Iterable[str]) -> dict[str, Brought]:
    """What these owners bring, as a staged tree has it. Errors: PackError where a file asks for variables wrongly."""
    entries = owned(tree, owners)
    gone: dict[str, list[str]] = {}
    for owner, path in tree.gone:
        gone.setdefault(owner, []).append(path)
    remarked = {note for _, note in tree.remarks}
    return {
        owner: Brought(
            files={entry.path: _told(entry) for entry in mine},
            gone=tuple(gone.get(owner, ())),
            variables=tuple(variable for entry in mine for variable in _variables(tree, entry)),
            notes=tuple(note for note in tree.notes if note not in remarked),
            remarks=tuple(note for other, note in tree.remarks if other == owner),
            trimmed=tuple((rule, size) for other, rule, size in tree.trimmed if other == owner),
        )
        for owner, mine in entries.items()
    }


def owned(tree: Tree, owners: Iterable[str]) -> dict[str, list[Entry]]:
    """The files and links of each of these owners, in order, but for what belongs to all conda packages."""
    found: dict[str, list[Entry]] = {owner: [] for owner in owners}
    for entry in tree.entries:
        if entry.path != HISTORY:
            for owner in entry.owners:
                if owner in found:
                    found[owner].append(entry)
    return found


def _told(entry: Entry) -> str:
    return f"-> {entry.target}" if entry.kind == "link" else f"{entry.mode:o} {entry.sha256}"


def _variables(tree: Tree, entry: Entry) -> list[tuple[str, str, str]]:
    """The variables of a file in `etc/conda/env_vars.d`, a JSON object of texts."""
    if not entry.path.startswith(_VARIABLES) or not entry.path.endswith(".json"):
        return []
    try:
        document = json.loads((tree.root / entry.path).read_text(encoding="utf-8"))
        return [(entry.path, str(name), str(value)) for name, value in document.items()]
    except (ValueError, AttributeError):
        cause = "is not a JSON object of environment variables"
        step = "Take another build or version of its package."
        raise PackError(entry.path, cause, step, path=entry.path, owner=entry.owner) from None


def _document(brought: Brought) -> dict[str, Any]:
    return {
        "paths": [*brought.files],
        "files": [*brought.files.values()],
        "gone": [*brought.gone],
        "variables": [*map(list, brought.variables)],
        "notes": [*brought.notes],
        "remarks": [*brought.remarks],
        "trimmed": [*map(list, brought.trimmed)],
    }


def _as_brought(document: dict[str, Any] | None) -> Brought | None:
    if document is None:
        return None
    return Brought(
        files=dict(zip(document["paths"], document["files"], strict=True)),
        gone=tuple(document["gone"]),
        variables=tuple((path, name, value) for path, name, value in document["variables"]),
        notes=tuple(document["notes"]),
        remarks=tuple(document["remarks"]),
        trimmed=tuple((rule, size) for rule, size in document["trimmed"]),
    )
