"""Layers in the store: found by what they are made of, made of pieces of others, and staged only where that fails.

A layer is a tar in gzip members: the folders above all of its files, then what each of its owners brings, one owner
after the other, each beginning a gzip member, then the tar's end. A file that several of them bring is the first one's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any

from boxsnake.archive import (
    TAR_END,
    DamagedError,
    GzipSink,
    Member,
    folders_above,
    gunzipped_member,
    without_members,
    write_members,
)
from boxsnake.entries import APPLICATION, Entry, Tree, conda_owner, wheel_owner
from boxsnake.errors import PackError, ResourceError
from boxsnake.layers.brought import Brought, go_together, notes_of, shared, trimmed_of, variables_of
from boxsnake.layers.keys import LayerKeys
from boxsnake.layers.pieces import Piece, Pieces, brought_in, owned
from boxsnake.layers.plan import Group, LayerBlob
from boxsnake.oci import LAYER_GZIP
from boxsnake.progress import track
from boxsnake.stage.activation import activated as activated_variables
from boxsnake.stage.activation import activation_scripts, is_activation
from boxsnake.stage.interpreter import NotStartingError
from boxsnake.stage.owners import shown
from boxsnake.stage.scrub import HISTORY, scripts_not_run
from boxsnake.store import Store

_AT_ONCE = 2

Alone = Callable[[LayerBlob, Collection[str]], AbstractContextManager[Tree]]
"""Stages the wheels of some owners by themselves, given the layer with the interpreter."""
Put = Callable[[str, Collection[str], GzipSink], None]
"""Writes what an owner brings, but for these paths, which an earlier one has brought."""


def layer_blobs(
    store: Store,
    groups: Sequence[Group],
    keys: LayerKeys,
    *,
    tree: Callable[[], AbstractContextManager[Tree]],
    alone: Alone | None = None,
) -> list[LayerBlob]:
    """One compressed layer for each group, in order, whose paths lie below the keys' prefix.

    A layer is a pure function of what its key tells. `tree` stages everything, treated; it is called once, and only
    where a layer is lacking that cannot be made of pieces and of what `alone` stages, or where it is not known that all
    of the packages go together. Errors are those of staging, and of `boxsnake.stage.activation`.
    """
    making = _Making(store, groups, keys)
    making.of_pieces()
    if alone:
        making.of_wheels(alone)
    if making.missing or not making.environment_fits() or not making.application_fits():
        with tree() as staged:
            making.of_tree(staged)
    return [layer for layer in making.found.values() if layer is not None]


def known_layers(store: Store, groups: Sequence[Group], keys: LayerKeys) -> list[LayerBlob | None]:
    """The layers that `layer_blobs` would not have to make; None for the others."""
    return [_known(store, group, keys.layer(group)) for group in groups]


def _known(store: Store, group: Group, key: dict[str, Any]) -> LayerBlob | None:
    known = store.selected("layer", key)
    if known is None or store.sound(known["digest"]) is None:
        return None
    return _layer(group, known)


def _layer(group: Group, made: dict[str, Any]) -> LayerBlob:
    return LayerBlob(
        name=group.name,
        digest=made["digest"],
        size=made["size"],
        diff_id=made["diff_id"],
        media_type=LAYER_GZIP,
        environment=tuple((name, value) for name, value in made["environment"]),
        notes=tuple(made["notes"]),
        trimmed=tuple((rule, size) for rule, size in made["trimmed"]),
    )


class _Making:
    """The layers of one environment: those that the store has, and those that are made."""

    def __init__(self, store: Store, groups: Sequence[Group], keys: LayerKeys) -> None:
        self._store = store
        self._keys = keys
        self._below = keys.prefix.strip("/")
        self._pieces = Pieces(store, keys)
        self._has_application = any(APPLICATION in group.owners for group in groups)
        self.found: dict[Group, LayerBlob | None] = {group: _known(store, group, keys.layer(group)) for group in groups}

    @property
    def missing(self) -> list[Group]:
        """The groups without a layer."""
        return [group for group, layer in self.found.items() if layer is None]

    # Whether all packages go together

    def environment_fits(self) -> bool:
        """Whether it is known of everything but the application that it can be installed into one tree."""
        key = self._keys.together()
        if self._store.selected("together", key) is not None:
            return True
        # Which of the folders with tests a package of another layer needs, staging alone tells.
        brought = None if self._keys.looks_across else self._pieces.all_brought(self._keys.environment)
        if brought is None or not go_together(brought):
            return False
        self._note("together", key)
        return True

    def application_fits(self) -> bool:
        """Whether it is known that the application goes with everything else. Its files may have been edited."""
        if not self._has_application:
            return True
        application = self._pieces.brought(APPLICATION)
        if application is None:
            return False
        key = self._places(application)
        if self._store.selected("apart", key) is not None:
            return True
        others = None if self._keys.looks_across else self._pieces.all_brought(self._keys.environment)
        if others is None or not go_together([*others, application]):
            return False
        if not any(shared(application.files, other) for other in others):
            self._note("apart", key)
        return True

    def _places(self, application: Brought) -> dict[str, Any]:
        """Where the application has files, whatever is in them, and what else is there."""
        return {"format": 2, "beside": self._keys.together(), "paths": [*application.files, *application.gone]}

    def _note(self, kind: str, key: Mapping[str, object]) -> None:
        with suppress(ResourceError):  # only time is lost
            self._store.select(kind, key, {})

    # Making layers

    def of_pieces(self) -> None:
        """Make what can be made without staging anything."""
        pieces = {group: self._pieces_of(group) for group in self.missing}
        whole = [group for group, found in pieces.items() if found.keys() == {*group.owners}]
        self._make(whole, lambda group: self._layer(group, pieces[group], None))

    def of_wheels(self, alone: Alone) -> None:
        """Make what can be made of pieces and of some wheels, which are staged by themselves."""
        pieces = {group: self._pieces_of(group) for group in self.missing}
        lacking = {owner for group in pieces for owner in group.owners if owner not in pieces[group]}
        interpreter = next((self.found[group] for group in self.found if conda_owner("python") in group.owners), None)
        if not lacking or interpreter is None or not self._can_be_alone(lacking):
            return
        # Where they cannot be had by themselves, staging everything does it, or says why not.
        with suppress(NotStartingError, PackError), alone(interpreter, lacking) as tree:
            self._pieces.learn(brought_in(tree, lacking))
            if lacking == {APPLICATION} or self.environment_fits():
                self._make(self.missing, lambda group: self._layer(group, pieces[group], tree))

    def _can_be_alone(self, owners: Collection[str]) -> bool:
        """Whether these are wheels, and of all else it is known what it brings."""
        if {*owners} == {APPLICATION}:
            return True
        wheels = all(owner == APPLICATION or owner.startswith(wheel_owner("")) for owner in owners)
        others = [owner for owner in self._keys.environment if owner not in owners]
        return wheels and not self._keys.looks_across and self._pieces.all_brought(others) is not None

    def of_tree(self, tree: Tree) -> None:
        """Make what is missing, of everything, which goes together."""
        self._make(self.missing, lambda group: self._layer(group, {}, tree))
        unknown = [owner for group in self.found for owner in group.owners if self._pieces.brought(owner) is None]
        self._pieces.learn(brought_in(tree, unknown))
        self._note("together", self._keys.together())
        application = self._pieces.brought(APPLICATION) if self._has_application else None
        if application and not any(APPLICATION in entry.owners and entry.also for entry in tree.entries):
            self._note("apart", self._places(application))

    def _make(self, groups: Collection[Group], make: Callable[[Group], LayerBlob | None]) -> None:
        if not groups:
            return
        # One layer is read while another is written out.
        with track("compressing", len(groups)) as advance, ThreadPoolExecutor(_AT_ONCE) as pool:
            for group, made in [(group, pool.submit(make, group)) for group in groups]:
                self.found[group] = made.result()
                advance(1)

    def _pieces_of(self, group: Group) -> dict[str, Piece]:
        """The pieces that a layer can be made of; none where the scripts of one of its packages are to be run."""
        if self._keys.activated(group):
            return {}
        known = [owner for owner in group.owners if self._pieces.brought(owner) is not None]
        return {owner: piece for owner in known if (piece := self._pieces.find(owner))}

    def _layer(self, group: Group, pieces: Mapping[str, Piece], tree: Tree | None) -> LayerBlob | None:
        """A layer of pieces, and of a tree with all else; None where they do not go together, or one is damaged."""
        staged = [owner for owner in group.owners if owner not in pieces]
        entries = owned(tree, staged) if tree else {}
        fresh = brought_in(tree, staged) if tree else {}
        found = [fresh.get(owner) or self._pieces.brought(owner) for owner in group.owners]
        brought = [one for one in found if one is not None]
        if pieces and not go_together(brought):
            return None

        def put(owner: str, left_out: Collection[str], sink: GzipSink) -> None:
            if tree and owner in entries:
                mine = (entry for entry in entries[owner] if entry.path not in left_out)
                write_members(_members(tree, mine), sink, epoch=self._keys.epoch)
            else:
                self._put_piece(pieces[owner], left_out, sink)

        try:
            made, whole = self._written(group, brought, put)
        except DamagedError:
            return None
        for owner, (start, sizes) in whole.items():  # of pieces as well: nobody may want the older layers any more
            self._pieces.remember(owner, made["digest"], start, sizes)
        self._pieces.learn(fresh)
        told = self._told(group, tree, dict(zip(group.owners, brought, strict=True)))
        self._store.select("layer", self._keys.layer(group), made | told)
        self._store.sound(made["digest"])  # whoever uses it next need not hash it
        return _layer(group, made | told)

    def _put_piece(self, piece: Piece, left_out: Collection[str], sink: GzipSink) -> None:
        if left_out:
            names = {f"{self._below}/{path}" for path in left_out}
            for part in without_members(b"".join(map(gunzipped_member, piece.members())), names):
                sink.write(part)
        else:
            for member in piece.members():
                sink.take(member)

    def _written(
        self, group: Group, brought: Sequence[Brought], put: Put
    ) -> tuple[dict[str, Any], dict[str, tuple[int, list[int]]]]:
        """A layer's file; and of each owner of which all is in there, where its gzip members begin, and their sizes."""
        ranges: dict[str, tuple[int, int]] = {}
        seen: set[str] = set()
        with self._store.writer(origin=f"layer {group.name}") as writer, GzipSink(writer) as sink:
            write_members(self._head(group, brought), sink, epoch=self._keys.epoch)
            for owner, one in zip(group.owners, brought, strict=True):
                start = sink.cut()
                left_out = seen & one.files.keys()
                put(owner, left_out, sink)
                if not left_out:
                    ranges[owner] = (start, sink.cut())
                seen |= one.files.keys()
            sink.cut()
            sink.write(TAR_END)
        blob = writer.blob
        trimmed = trimmed_of(brought)
        made = {"digest": blob.digest, "size": blob.size, "diff_id": sink.diff_id, "trimmed": trimmed}
        return made, {owner: (sum(sink.sizes[:start]), sink.sizes[start:end]) for owner, (start, end) in ranges.items()}

    def _head(self, group: Group, brought: Iterable[Brought]) -> Iterator[Member]:
        """The folders, and what all conda packages have."""
        names = [f"{self._below}/{path}" for one in brought for path in one.files]
        if any(owner.startswith(conda_owner("")) for owner in group.owners):
            names.append(f"{self._below}/{HISTORY}")
            yield Member(name=names[-1], mode=0o644, source=b"")
        for folder in folders_above(names):
            yield Member(name=folder)

    def _told(self, group: Group, tree: Tree | None, brought: Mapping[str, Brought]) -> dict[str, Any]:
        """The variables of a layer, and what the user should know; of scripts that were run nothing need be said."""
        activated = self._keys.activated(group)
        variables = variables_of(brought.values())
        notes = notes_of([brought[owner] for owner in group.owners])
        if activated and tree:
            entries = tree.owned_by(activated)
            if scripts := activation_scripts(entries):
                with self._store.scratch("activation") as folder:
                    variables |= activated_variables(tree, scripts, folder)
            notes = [note for note in notes if not any(note in brought[owner].remarks for owner in activated)]
            notes += _other_scripts(activated, tree)
        return {"environment": _rows(variables), "notes": notes}


def _rows(variables: Mapping[str, str]) -> list[list[str]]:
    return [[name, variables[name]] for name in sorted(variables)]


def _other_scripts(activated: Sequence[str], tree: Tree) -> Iterator[str]:
    """What is to be said of scripts that were not run, of packages whose activation scripts were."""
    for owner in activated:
        text = scripts_not_run(entry.path for entry in tree.owned_by([owner]) if not is_activation(entry.path))
        if text:
            yield f"{shown(owner)}: {text}"


def _members(tree: Tree, entries: Iterable[Entry]) -> Iterator[Member]:
    below = tree.prefix.strip("/")
    for entry in entries:
        name = f"{below}/{entry.path}"
        if entry.kind == "link":
            yield Member(name=name, mode=entry.mode, link=entry.target)
        else:
            yield Member(name=name, mode=entry.mode, source=tree.root / entry.path)
