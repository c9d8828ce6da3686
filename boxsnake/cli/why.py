"""`boxsnake why`: why a package is in the lock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.options import about_manifest
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boxsnake.cli.console import Console
    from boxsnake.lock import Lock, TargetLock
    from boxsnake.lock.reasons import Reason
    from boxsnake.manifest import Manifest
    from boxsnake.store import Store

_WHERE = {
    "conda": "conda half",
    "wheels": "wheel half",
    "both": "conda half; boxes without conda carry the wheel",
    "system": "packages of the base's distribution",
}


@click.command(
    epilog="Sizes are those of archives, as the lock or the store tells them. Nothing is fetched or built, and "
    "a lock that is stale is asked all the same."
)
@click.argument("package")
@about_manifest
@click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context, package: str, manifest: Path | None, targets: tuple[str, ...], as_json: bool
) -> None:
    """Tell why PACKAGE is in the lock: who requires it, in which half, how big, in which of an image's layers."""
    from boxsnake.lock.reasons import reasons
    from boxsnake.lock_file import path_of_lock, read
    from boxsnake.manifest_file import load
    from boxsnake.store import Store

    console = console_of(context, as_json=as_json)
    store = Store(Store.default_root())
    loaded = load(manifest, store=store)
    lock = read(path_of_lock(loaded))
    chosen = _targets(lock, targets)
    found = [(target, _sized(reason, store)) for target in chosen for reason in reasons(target, lock.inputs, package)]
    if not found:
        raise _unknown(package, chosen)
    layers = {target.target.name: _layers(loaded.manifest, target) for target in chosen}
    for target, reason in found:
        _say(console, reason, layers[target.target.name], target.target.name if len(lock.targets) > 1 else "")
    console.result(lambda: {"reasons": [_facts(target, one, layers[target.target.name]) for target, one in found]})


def _sized(reason: Reason, store: Store) -> Reason:
    """With the size of what was fetched, where the index has told none."""
    from dataclasses import replace

    digest = f"sha256:{reason.sha256}"
    if reason.size is not None or not store.has(digest):
        return reason
    return replace(reason, size=store.path(digest).stat().st_size)


def _targets(lock: Lock, wanted: Sequence[str]) -> list[TargetLock]:
    from boxsnake.errors import UsageError

    known = {target.target.name: target for target in lock.targets}
    for name in wanted:
        if name not in known:
            raise UsageError(f"target {name}", "the lock has no such target", f"It has {', '.join(known)}.")
    return [target for name, target in known.items() if not wanted or name in wanted]


def _unknown(package: str, chosen: Sequence[TargetLock]) -> Exception:
    import difflib

    from boxsnake.errors import UsageError
    from boxsnake.lock.reasons import names

    known = sorted({name for target in chosen for name in names(target)})
    near = difflib.get_close_matches(package.lower(), known, n=3)
    step = f"Did you mean {' or '.join(near)}?" if near else "`boxsnake inspect boxsnake.lock` lists what is in it."
    return UsageError(package, "is not in the lock", step, near=near)


def _layers(manifest: Manifest, target: TargetLock) -> Mapping[str, str]:
    """The name of the image's layer by the owner of its files; of nobody where the manifest makes no image."""
    from boxsnake.layers.plan import group
    from boxsnake.packagers.image import PACKAGER

    if PACKAGER.name not in manifest.boxes:
        return {}
    options: Any = manifest.boxes[PACKAGER.name] or PACKAGER.options()
    groups = group(target, application=True, budget=options.budget, own=options.own)
    return {owner: one.name for one in groups for owner in one.owners}


def _layer_of(reason: Reason, layers: Mapping[str, str]) -> str:
    if reason.half == "system":
        return "packages of the base"
    return layers.get(reason.owner, "")


def _say(console: Console, reason: Reason, layers: Mapping[str, str], target: str) -> None:
    size = "of unknown size" if reason.size is None else human_size(reason.size)
    console.say(f"{reason.name} {reason.version}{f' ({target})' if target else ''}: {_WHERE[reason.half]}, {size}")
    if layer := _layer_of(reason, layers):
        console.say(f"  layer        {layer}")
    if set(reason.brings) - {reason.name}:
        console.say(f"  brings       {', '.join(reason.brings)}")
    if reason.required_by:
        console.say(f"  required by  {', '.join(reason.required_by)}")
    if reason.requires:
        console.say(f"  requires     {', '.join(reason.requires)}")
    for number, chain in enumerate(reason.chains):
        console.say(f"  {'' if number else 'because':<12} {' -> '.join(chain)}")
    if not reason.chains:
        console.say("  because      it came with what else was locked: nothing that was asked for leads to it")


def _facts(target: TargetLock, reason: Reason, layers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "target": target.target.name,
        "name": reason.name,
        "version": reason.version,
        "half": reason.half,
        "size": reason.size,
        "layer": _layer_of(reason, layers) or None,
        "brings": list(reason.brings),
        "required-by": list(reason.required_by),
        "requires": list(reason.requires),
        "chains": [list(chain) for chain in reason.chains],
    }
