"""An image's own layers on another base, without building anything.

What comes out is what a build on that base would have made, byte for byte. Refused is what would be another image: one
that boxsnake did not make, another platform, a base whose glibc is older than the image's floor, and layers that were
made by running something in the old base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from boxsnake import oci
from boxsnake.bases import Base
from boxsnake.errors import PackError
from boxsnake.image.floor import check_floor
from boxsnake.image.layout import LaidOut, Layer
from boxsnake.image.own import LABEL, Own, base_annotations, environment_on, labels_on, read_label, without_base
from boxsnake.store import Store
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Rebased:
    """The image on its new base, and those of its layers that are its own. `notes` are for the user."""

    image: LaidOut
    own: tuple[Layer, ...]
    notes: tuple[str, ...] = ()


def own_of(image: LaidOut, name: str) -> Own:
    """What an image has of its own. Errors: PackError where it cannot be put on another base."""
    labels = (image.configuration.get("config") or {}).get("Labels") or {}
    step = "Build it anew, with `base` in [boxes.image]."
    if LABEL not in labels:
        cause = f"it does not tell its own layers from its base's (label {LABEL}): boxsnake did not build it"
        raise PackError(name, cause, step)
    try:
        own = read_label(labels[LABEL])
    except ValueError as error:
        raise PackError(name, f"it cannot be put on another base: {error}", step) from None
    if own.bound:
        cause = f"layers of it were made by running something in its base, and fit no other: {', '.join(own.bound)}"
        raise PackError(name, cause, step, layers=list(own.bound))
    return own


def rebased(store: Store, image: LaidOut, base: Base, *, name: str) -> Rebased:
    """The image on the base, whose layers are in the store. `name` is the image's in messages. Errors: PackError."""
    own = own_of(image, name)
    if base.platform is not None and base.platform != image.platform:
        cause = f"it is for {'/'.join(image.platform)}, and {base.name} for {'/'.join(base.platform)}"
        raise PackError(name, cause, "Name a base of the image's platform.", platform="/".join(base.platform))
    notes = check_floor(store, own.glibc, base, name)
    layers = image.layers
    if own.layers > len(layers):
        raise _inconsistent(name, f"{own.layers} layers of its own, of {len(layers)}")
    kept = layers[len(layers) - own.layers :]
    config = _config(image.configuration, own, base, name)
    manifest = _manifest(image, config, base, kept)
    there = replace(image, manifest=manifest, config=config, variant=base.variant)
    return Rebased(image=there, own=kept, notes=notes)


def _config(old: Mapping[str, Any], own: Own, base: Base, name: str) -> oci.Document:
    run = dict(old["config"])
    before = dict(variable.partition("=")[::2] for variable in run.get("Env") or ())
    try:
        variables = environment_on(base, own.path, {one: before[one] for one in own.environment})
        labels = labels_on(base, {one: run["Labels"][one] for one in own.labels})
        diff_ids = old["rootfs"]["diff_ids"]
        history = _own_history(old["history"], own.layers)
    except (KeyError, IndexError, TypeError) as error:
        raise _inconsistent(name, repr(error)) from None
    run |= {"Env": [f"{one}={text}" for one, text in variables.items()], "Labels": labels}
    document = {key: value for key, value in old.items() if key != "variant"} | {
        "config": run,
        "history": [*oci.history_document(base.history, old["created"]), *history],
        "rootfs": {
            "diff_ids": [*(layer.diff_id for layer in base.layers), *diff_ids[len(diff_ids) - own.layers :]],
            "type": "layers",
        },
    }
    document |= {"variant": base.variant} if base.variant else {}
    return oci.Document(content=oci.canonical(document), media_type=oci.CONFIG)


def _own_history(history: list[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """The steps from that which made the first of the topmost layers on."""
    made = [number for number, step in enumerate(history) if not step.get("empty_layer")]
    return history[made[len(made) - layers] :] if layers else []


def _manifest(image: LaidOut, config: oci.Document, base: Base, own: tuple[Layer, ...]) -> oci.Document:
    return oci.manifest(config, (*base.layers, *own), without_base(image.annotations) | base_annotations(base))


def _inconsistent(name: str, why: str) -> PackError:
    step = "Build it anew: something has changed it since boxsnake made it."
    return PackError(name, f"its label {LABEL} does not fit it: {why}", step)
