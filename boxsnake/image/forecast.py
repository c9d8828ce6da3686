"""What an image would be made of: its base and its layers, with what of them is in the store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boxsnake.bases.value import Base
from boxsnake.container_layers.hooks import FIRST
from boxsnake.container_layers.run import Below, Job, known_layer
from boxsnake.errors import NetworkError, ResourceError
from boxsnake.forecast import GZIP, Archive, Forecast, Part, part_of
from boxsnake.image.base_name import MINIMAL
from boxsnake.image.configuration import platform_of
from boxsnake.image.contents import (
    base_name,
    base_of,
    groups_of,
    hints,
    hook_jobs,
    treatment_of,
    user_by_number,
    wanted_layer,
)
from boxsnake.inventory import environment
from boxsnake.layers.plan import Group, LayerBlob
from boxsnake.layers.system import known_system_layer
from boxsnake.plan import Plan
from boxsnake.system_packages.install import install_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boxsnake.packagers import Materials
    from boxsnake.packagers.image import ImageOptions
    from boxsnake.store import Store


def forecast_of(plan: Plan, materials: Materials, *, with_base: bool = True) -> Forecast:
    """The forecast of an image; of what is put on its base, where that does not travel with it.

    Nothing is fetched or staged for it where `materials` are offline ones.
    """
    options: ImageOptions = plan.options
    groups = groups_of(plan)
    known = materials.known_layers(options.prefix, groups, treatment_of(plan))
    archives = {archive.owner: archive for archive in environment(plan, materials.store)}
    layers = [_part(group, layer, archives) for group, layer in zip(groups, known, strict=True)]
    notes = sorted({note for layer in known if layer for note in layer.notes})
    # The application stays on top.
    own = len(layers) - (plan.application.wheel is not None)
    layers[own:own] = _system_parts(plan, materials.store)
    notes += hints(plan, [layer for layer in known if layer])
    base = _base(plan, materials)
    below, above = _run_parts(plan, materials, base, known)
    of_base = _base_parts(plan, base)
    if not with_base:
        of_base = [replace(part, size=0) for part in of_base]
    parts = (*of_base, *below, *layers, *above)
    return Forecast(parts=parts, notes=tuple(notes))


def _run_parts(
    plan: Plan, materials: Materials, base: Base | None, known: Sequence[LayerBlob | None]
) -> tuple[list[Part], list[Part]]:
    """What programs make, below the environment and on top of all: system packages and hooks."""
    there = [layer for layer in known if layer] if all(known) else None
    if there is not None:
        own = len(there) - (plan.application.wheel is not None)
        there[own:own] = wanted_layer(plan, materials.store)[0]
    below: list[Part] = []
    above: list[Part] = []
    under: Sequence[LayerBlob] | None = base.layers if base else None
    if (system := plan.lock.system) is not None and system.base != MINIMAL and system.packages:
        names = tuple(f"{package.name} {package.version}" for package in system.packages)
        size = round(sum(package.size for package in system.packages) * GZIP.conda)
        job = install_job(system, materials.system_packages)
        under = _run_part(
            plan, materials, job, under, Part(name=job.layer, contents=names, size=size, state="to make"), below
        )
    for hook, job in hook_jobs(plan, base or Base(name="", digest=""), there or ()):
        part = Part(name=job.layer, contents=(hook.file_name,), size=None, state="to make")
        if hook.moment == FIRST:
            under = _run_part(plan, materials, job, under if there is not None else None, part, below)
        else:
            stacked = None if under is None or there is None else (*under, *there)
            _run_part(plan, materials, job, stacked, part, above)
    return below, above


def _run_part(
    plan: Plan,
    materials: Materials,
    job: Job,
    under: Sequence[LayerBlob] | None,
    part: Part,
    parts: list[Part],
) -> Sequence[LayerBlob] | None:
    """Add the part, as it is known to be or as it is given; the layers with its own on top, None where not known."""
    known = None
    if under is not None:
        below = Below(layers=tuple(under), platform=platform_of(plan))
        twice = plan.options.verify_hooks and part.size is None
        known = known_layer(materials.store, below, job, epoch=plan.epoch, twice=twice)
    if known is None:
        parts.append(replace(part, is_predicted=True))
        return None
    parts += [replace(part, size=layer.size, state="there") for layer in known]
    return (*(under or ()), *known)


def _system_parts(plan: Plan, store: Store) -> list[Part]:
    """The folders and configuration files of `[system]`."""
    system = plan.system
    contents = tuple(sorted([folder.path for folder in system.directories] + [file.path for file in system.files]))
    user = user_by_number(plan)
    if not contents or user is None:
        return []
    if (known := known_system_layer(store, system, user, epoch=plan.epoch)) is not None:
        return [Part(name="system", contents=contents, size=known.size, state="there")]
    size = sum(len(file.content) for file in system.files)
    return [Part(name="system", contents=contents, size=size, state="to make", is_predicted=True)]


def _base(plan: Plan, materials: Materials) -> Base | None:
    """The base; None where it would have to be fetched."""
    try:
        return base_of(plan, materials)
    except (NetworkError, ResourceError):
        return None


def _base_parts(plan: Plan, base: Base | None) -> list[Part]:
    name = base_name(plan)
    if base is None:
        return [Part(name="base", contents=(name,), size=None, state="to fetch")]
    if not base.layers:
        return []
    size = sum(layer.size for layer in base.layers)
    return [Part(name="base", contents=(name,), size=size, state="there")]


def _part(group: Group, layer: LayerBlob | None, archives: Mapping[str, Archive]) -> Part:
    part = part_of(group.name, [archives[owner] for owner in group.owners], GZIP)
    return part if layer is None else replace(part, size=layer.size, state="there", is_predicted=False)
