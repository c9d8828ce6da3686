"""What an image would be made of: its base and its layers, with what of them is in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxsnake.entries import APPLICATION, conda_owner, wheel_owner
from boxsnake.errors import NetworkError, ResourceError
from boxsnake.forecast import Forecast, Part, predicted
from boxsnake.image.contents import base_name, base_of, groups_of, hints, treatment_of
from boxsnake.layers import Group, LayerBlob
from boxsnake.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxsnake.packagers import Materials
    from boxsnake.packagers.image import ImageOptions


def forecast_of(plan: Plan, materials: Materials) -> Forecast:
    """The forecast of an image. Nothing is fetched or staged for it where `materials` are offline ones."""
    options: ImageOptions = plan.options
    groups = groups_of(plan)
    known = materials.known_layers(options.prefix, groups, treatment_of(plan))
    packages = _packages(plan)
    layers = [_part(group, layer, packages) for group, layer in zip(groups, known, strict=True)]
    notes = sorted({note for layer in known if layer for note in layer.notes})
    # The application stays on top.
    own = len(layers) - (plan.application.wheel is not None)
    layers[own:own] = _system_parts(plan)
    notes += hints(plan, [layer for layer in known if layer])
    return Forecast(parts=(*_base_parts(plan, materials), *layers), notes=tuple(notes))


def _system_parts(plan: Plan) -> list[Part]:
    """The folders and configuration files of `[system]`; nearly nothing, and made anew each time."""
    system = plan.system
    contents = tuple(sorted([folder.path for folder in system.directories] + [file.path for file in system.files]))
    size = sum(len(file.content) for file in system.files)
    return [Part(name="system", contents=contents, size=size, state="to make", is_predicted=True)] if contents else []


def _base_parts(plan: Plan, materials: Materials) -> list[Part]:
    name = base_name(plan)
    try:
        base = base_of(plan, materials)
    except (NetworkError, ResourceError):
        return [Part(name="base", contents=(name,), size=None, state="to fetch")]
    if not base.layers:
        return []
    size = sum(layer.size for layer in base.layers)
    return [Part(name="base", contents=(name,), size=size, state="there")]


def _packages(plan: Plan) -> Mapping[str, tuple[str, int | None]]:
    """What each owner is called, and the size of its archive."""
    found: dict[str, tuple[str, int | None]] = {
        conda_owner(package.name): (f"{package.name} {package.version}", package.size) for package in plan.lock.conda
    }
    found |= {
        wheel_owner(wheel.name): (f"{wheel.name} {wheel.version}", wheel.size) for wheel in plan.lock.wheels_over_conda
    }
    own = plan.application.wheel
    return found | ({APPLICATION: (f"{own.name} {own.version}", own.size)} if own else {})


def _part(group: Group, layer: LayerBlob | None, packages: Mapping[str, tuple[str, int | None]]) -> Part:
    contents = tuple(packages[owner][0] for owner in group.owners)
    if layer is not None:
        return Part(name=group.name, contents=contents, size=layer.size, state="there")
    sizes = [packages[owner][1] for owner in group.owners]
    known = [size for size in sizes if size is not None]
    size = predicted(sum(known)) if len(known) == len(sizes) else None
    return Part(name=group.name, contents=contents, size=size, state="to make", is_predicted=True)
