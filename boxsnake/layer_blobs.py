"""Layers in the store: found by what they are made of, and staged only where one is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from boxsnake.archive import GZIP_FORMAT, GzipSink, Member, write_tar
from boxsnake.bytecode import expected_compiler
from boxsnake.conda_url import published
from boxsnake.entries import APPLICATION, Entry, Tree, conda_owner, wheel_owner
from boxsnake.errors import PackError
from boxsnake.layers import AS_THEY_ARE, Group, LayerBlob, Treatment
from boxsnake.lock import TargetLock, Wheel
from boxsnake.oci import LAYER_GZIP
from boxsnake.progress import track
from boxsnake.stage.activation import activated as activated_variables
from boxsnake.stage.activation import activation_scripts, is_activation
from boxsnake.stage.owners import shown
from boxsnake.stage.scrub import scripts_not_run
from boxsnake.store import Store

_VARIABLES = "etc/conda/env_vars.d/"

_AT_ONCE = 2

_FORMAT = 4
"""To be raised whenever the same packages shall give other bytes: the tree, its scrubbing or the tar changed."""


def layer_blobs(
    store: Store,
    groups: Sequence[Group],
    lock: TargetLock,
    *,
    application: Wheel | None,
    prefix: str,
    epoch: int,
    treatment: Treatment = AS_THEY_ARE,
    tree: Callable[[Mapping[Group, LayerBlob | None]], AbstractContextManager[Tree]],
) -> list[LayerBlob]:
    """One compressed layer for each group, in order, whose paths lie below `prefix`.

    A layer is a pure function of its packages' digests, the Python that they are linked for, `prefix`, `epoch` and
    `treatment`. `tree` stages, treated, what those groups are made of that it is told no layer of; it is called once,
    and only if the store lacks a layer. Errors are those of staging, and of `boxsnake.stage.activation`.
    """
    keys = [_key(group, lock, application, prefix, epoch, treatment) for group in groups]
    found = [_known(store, group, key) for group, key in zip(groups, keys, strict=True)]
    missing = [number for number, layer in enumerate(found) if layer is None]
    if missing:
        with (
            tree(dict(zip(groups, found, strict=True))) as staged,
            track("compressing", len(missing)) as advance,
            ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            # One layer is read while another is written out.
            made = {
                number: pool.submit(_make, store, groups[number], keys[number], staged, epoch, treatment)
                for number in missing
            }
            for number, layer in made.items():
                found[number] = layer.result()
                advance(1)
    return [layer for layer in found if layer is not None]


def known_layers(
    store: Store,
    groups: Sequence[Group],
    lock: TargetLock,
    *,
    application: Wheel | None,
    prefix: str,
    epoch: int,
    treatment: Treatment = AS_THEY_ARE,
) -> list[LayerBlob | None]:
    """The layers that `layer_blobs` would not have to make; None for the others."""
    keys = (_key(group, lock, application, prefix, epoch, treatment) for group in groups)
    return [_known(store, group, key) for group, key in zip(groups, keys, strict=True)]


def _key(
    group: Group, lock: TargetLock, application: Wheel | None, prefix: str, epoch: int, treatment: Treatment
) -> dict[str, Any]:
    """Everything that decides a layer's bytes. Where a package came from is told in conda-meta."""
    packages: dict[str, list[str]] = {
        conda_owner(package.name): [package.sha256, *published(package)] for package in lock.conda
    }
    python = packages.get(conda_owner("python"))
    packages |= {wheel_owner(wheel.name): [wheel.sha256] for wheel in lock.wheels_over_conda}
    if application:
        packages[APPLICATION] = [application.sha256]
    return {
        "format": _FORMAT,
        "gzip": GZIP_FORMAT,
        "prefix": prefix,
        "epoch": epoch,
        "platform": lock.target.platform,
        "python": python,
        "compiler": expected_compiler(lock),
        "packages": {owner: packages[owner] for owner in group.owners},
        **_treated(group, treatment),
    }


def _treated(group: Group, treatment: Treatment) -> dict[str, Any]:
    """What of the treatment decides this layer's bytes; nothing where it leaves the layer as it is."""
    # The application itself is never trimmed.
    trims = treatment.trim and set(group.owners) != {APPLICATION}
    found: dict[str, Any] = {"trim": sorted(treatment.trim), "keep": sorted(treatment.keep)} if trims else {}
    activated = _activated(group, treatment)
    return found | ({"activate": activated} if activated else {})


def _activated(group: Group, treatment: Treatment) -> list[str]:
    """The owners in the layer whose activation scripts are run."""
    return sorted({conda_owner(name) for name in treatment.activate} & set(group.owners))


def _known(store: Store, group: Group, key: dict[str, Any]) -> LayerBlob | None:
    known = store.selected("layer", key)
    if known is None or store.sound(known["digest"]) is None:
        return None
    return _layer(group, known)


def _make(store: Store, group: Group, key: dict[str, Any], tree: Tree, epoch: int, treatment: Treatment) -> LayerBlob:
    entries = tree.owned_by(group.owners)
    with store.writer(origin=f"layer {group.name}") as writer, GzipSink(writer) as sink:
        write_tar(_members(tree, entries), sink, epoch=epoch)
    activated = _activated(group, treatment)
    made = {
        "digest": writer.blob.digest,
        "size": writer.blob.size,
        "diff_id": sink.diff_id,
        "environment": _environment(store, tree, entries, activated),
        "notes": _notes(group, tree, activated),
        "trimmed": _trimmed(group, tree),
    }
    store.select("layer", key, made)
    store.sound(writer.blob.digest)  # whoever uses it next need not hash it
    return _layer(group, made)


def _notes(group: Group, tree: Tree, activated: Sequence[str]) -> list[str]:
    """The tree's notes without those about packages of other layers; of scripts that were run nothing need be said."""
    others = {note for owner, note in tree.remarks if owner not in group.owners or owner in activated}
    notes = [note for note in tree.notes if note not in others]
    for owner in activated:
        text = scripts_not_run(entry.path for entry in tree.owned_by([owner]) if not is_activation(entry.path))
        notes += [f"{shown(owner)}: {text}"] if text else []
    return notes


def _trimmed(group: Group, tree: Tree) -> list[list[str | int]]:
    saved: dict[str, int] = {}
    for owner, rule, size in tree.trimmed:
        if owner in group.owners:
            saved[rule] = saved.get(rule, 0) + size
    return [[rule, saved[rule]] for rule in sorted(saved)]


def _layer(group: Group, made: dict[str, Any]) -> LayerBlob:
    return LayerBlob(
        name=group.name,
        digest=made["digest"],
        size=made["size"],
        diff_id=made["diff_id"],
        media_type=LAYER_GZIP,
        environment=tuple((name, value) for name, value in made["environment"]),
        notes=tuple(made["notes"]),
        trimmed=tuple((rule, size) for rule, size in made.get("trimmed", ())),
    )


def _environment(store: Store, tree: Tree, entries: Sequence[Entry], activated: Sequence[str]) -> list[list[str]]:
    """The variables of the packages' files in `etc/conda/env_vars.d`, each a JSON object of texts, and of scripts."""
    found: dict[str, str] = {}
    for entry in entries:
        if entry.path.startswith(_VARIABLES) and entry.path.endswith(".json"):
            try:
                document = json.loads((tree.root / entry.path).read_text(encoding="utf-8"))
                found |= {str(name): str(value) for name, value in document.items()}
            except (ValueError, AttributeError):
                cause = "is not a JSON object of environment variables"
                step = "Take another build or version of its package."
                raise PackError(entry.path, cause, step, path=entry.path, owner=entry.owner) from None
    scripts = activation_scripts(tree.owned_by(activated)) if activated else []
    if scripts:
        with store.scratch("activation") as folder:
            found |= activated_variables(tree, scripts, folder)
    return [[name, found[name]] for name in sorted(found)]


def _members(tree: Tree, entries: Sequence[Entry]) -> Iterator[Member]:
    below = tree.prefix.strip("/")
    for entry in entries:
        name = f"{below}/{entry.path}"
        if entry.kind == "link":
            yield Member(name=name, mode=entry.mode, link=entry.target)
        else:
            yield Member(name=name, mode=entry.mode, source=tree.root / entry.path)
