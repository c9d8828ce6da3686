"""What an image is made of: a base, and the layers that are put on it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from boxsnake.container_layers.hooks import FIRST, MOMENTS, hook_job
from boxsnake.image.base_name import MINIMAL, base_for
from boxsnake.image.configuration import platform_of, runtime
from boxsnake.image.floor import check_floor
from boxsnake.layers.plan import Group, LayerBlob, Treatment, group
from boxsnake.plan import Hook, Plan
from boxsnake.store import Store
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.bases import Base
    from boxsnake.container_layers.run import Job
    from boxsnake.packagers import Materials
    from boxsnake.packagers.image import ImageOptions


_OF_MKL = frozenset({"mkl", "mkl-service", "intel-openmp"})


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A base and the layers on it, lowest first, all of them in the store; `notes` are for the user."""

    base: Base
    layers: tuple[LayerBlob, ...]
    notes: tuple[str, ...]


def contents(plan: Plan, materials: Materials) -> Contents:
    """All of it; an environment is staged only where the store lacks a layer."""
    options: ImageOptions = plan.options
    with ThreadPoolExecutor(1) as beside:
        # Hashing it takes a while, and so does staging, which waits for other processes.
        waited_for = beside.submit(_verified_base, plan, materials)
        layers = materials.layers(options.prefix, groups_of(plan), treatment_of(plan))
        base = waited_for.result()
    name = f"image for {plan.target.name}"
    without = check_floor(materials.store, plan.target.glibc or "", base, name)
    system, notes = wanted_layer(plan, materials.store)
    # The application stays on top: of all layers it changes most often.
    own = len(layers) - (plan.application.wheel is not None)
    layers = [*layers[:own], *system, *layers[own:]]
    packages = _packages(plan, materials, base)
    layers = [*packages, *_with_hooks(plan, materials.store, base, packages, layers)]
    said = sorted({note for layer in (*base.layers, *layers) for note in layer.notes})
    return Contents(base=base, layers=tuple(layers), notes=(*said, *without, *notes, *hints(plan, layers)))


def hints(plan: Plan, layers: Sequence[LayerBlob]) -> list[str]:
    """What the user may want to know: what trimming has saved, what else could be, and what the base cannot bring."""
    saved: dict[str, int] = {}
    for layer in layers:
        for rule, size in layer.trimmed:
            saved[rule] = saved.get(rule, 0) + size
    found = [f"trimmed {', '.join(f'{rule} {_mb(saved[rule])}' for rule in sorted(saved))}"] if saved else []
    mkl = sum(package.size for package in plan.lock.conda if package.name in _OF_MKL)
    if mkl:
        way = 'require "nomkl", or "libblas=*=*openblas" where the channel is conda-forge, for OpenBLAS instead'
        found.append(f"MKL weighs {_mb(mkl)} as archives: {way}")
    return [*found, *_not_brought(plan)]


def _not_brought(plan: Plan) -> list[str]:
    """What a base's distribution should bring, where the base is of none that was asked for it."""
    if plan.lock.system is not None:
        return []
    asked = {"requires.deb": plan.requires_deb, "requires.rpm": plan.requires_rpm}
    return [
        f"{key} ({', '.join(lines)}) is not in the image: its base has no such package manager"
        for key, lines in asked.items()
        if lines
    ]


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _packages(plan: Plan, materials: Materials, base: Base) -> Sequence[LayerBlob]:
    """The layer of the packages of the base's own distribution, where some are locked."""
    system = plan.lock.system
    if system is None or system.base == MINIMAL:
        return ()
    from boxsnake.system_packages.install import packages_layer

    layer = packages_layer(
        materials.store, base, system, materials.system_packages, platform=platform_of(plan), epoch=plan.epoch
    )
    return (layer,) if layer else ()


def _with_hooks(
    plan: Plan, store: Store, base: Base, packages: Sequence[LayerBlob], layers: Sequence[LayerBlob]
) -> list[LayerBlob]:
    """The layers with those of the hooks: pre-install's goes below them, post-install's on top."""
    found = list(layers)
    jobs = hook_jobs(plan, base, layers)
    if not jobs:
        return found
    from boxsnake.container_layers.run import Below, made_layer

    for hook, job in jobs:
        first = hook.moment == FIRST
        below = Below(layers=(*base.layers, *packages, *(() if first else found)), platform=platform_of(plan))
        layer = made_layer(store, below, job, epoch=plan.epoch, twice=plan.options.verify_hooks)
        place = 0 if first else len(found)
        found[place:place] = [layer] if layer else []
    return found


def hook_jobs(plan: Plan, base: Base, layers: Sequence[LayerBlob]) -> list[tuple[Hook, Job]]:
    """The hooks of an image, in the order in which they are run."""
    hooks = sorted((hook for hook in plan.hooks if hook.moment in MOMENTS), key=lambda hook: hook.moment != FIRST)
    if not hooks:
        return []
    environment = runtime(plan, base, layers).environment
    return [(hook, hook_job(hook, plan.application, plan.options.prefix, environment)) for hook in hooks]


def treatment_of(plan: Plan) -> Treatment:
    """What is done to packages on their way into layers."""
    options: ImageOptions = plan.options
    activate = tuple(name.lower() for name in options.activate)
    return Treatment(trim=options.trim, keep=options.trim_keep, activate=activate)


def groups_of(plan: Plan) -> tuple[Group, ...]:
    """The owners that share a layer, in the order of the layers."""
    options: ImageOptions = plan.options
    return group(plan.lock, application=plan.application.wheel is not None, budget=options.budget, own=options.own)


def base_of(plan: Plan, materials: Materials) -> Base:
    """The base; its layers are in the store, where nobody has looked yet whether they are whole."""
    return materials.base(base_name(plan), platform_of(plan))


def base_name(plan: Plan) -> str:
    """What the base is called in the manifest, or would be."""
    return base_for(plan.options.base, plan.target)


def _verified_base(plan: Plan, materials: Materials) -> Base:
    base = base_of(plan, materials)
    if all(materials.store.sound(layer.digest) for layer in base.layers):
        return base
    # What is damaged has been put aside now, and is read again from where it came.
    return base_of(plan, materials)


def wanted_layer(plan: Plan, store: Store) -> tuple[Sequence[LayerBlob], Sequence[str]]:
    """The layer of `[system]`, where it wants one; a note where its owner cannot be known."""
    if not plan.system.directories and not plan.system.files:
        return (), ()
    user = user_by_number(plan)
    if user is None:
        name = plan.options.user.partition(":")[0]
        return (), [f"no folders and files of [system] are made for a user by name ({name}): give `user` numbers"]
    from boxsnake.layers.system import system_layer

    layer = system_layer(store, plan.system, user, epoch=plan.epoch)
    return ([layer] if layer else []), ()


def user_by_number(plan: Plan) -> tuple[int, int] | None:
    """The uid and gid of the image's processes; None where they have names alone."""
    uid, _, gid = plan.options.user.partition(":")
    return (int(uid), int(gid or 0)) if f"{uid}{gid or 0}".isdecimal() else None
