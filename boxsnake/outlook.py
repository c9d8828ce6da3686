"""Outlooks: what each format would give for a target, told before anything is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from boxsnake.boxes import Box, Candidate
from boxsnake.errors import NetworkError, ResourceError
from boxsnake.forecast import Forecast
from boxsnake.materials import Access, StoreMaterials
from boxsnake.needs import STEPS, HostNeeds, host_needs
from boxsnake.pack import Made, notes_beforehand, unchanged
from boxsnake.packagers import Packager
from boxsnake.store import Store
from boxsnake.target import Target
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A box that can be made: what it needs of its host, what it will be, and whether it lies there already.

    `made` is the artifact, where it is what packing now would give. `lacks` is what this machine lacks to make it;
    "" where it has all.
    """

    box: Box
    needs: HostNeeds
    forecast: Forecast
    made: Made | None
    lacks: str

    @property
    def size(self) -> int | None:
        """In bytes; None where the size of a part is not known."""
        if self.made:
            return self.made.size
        return None if any(part.size is None for part in self.forecast.parts) else self.forecast.size

    @property
    def is_predicted(self) -> bool:
        """Whether the size is only about right."""
        return self.made is None and self.forecast.is_predicted

    @property
    def state(self) -> str:
        """Whether it is "there", "to make", or where parts of it must be had before, "to fetch"."""
        if self.made:
            return "there"
        return "to fetch" if any(part.state == "to fetch" for part in self.forecast.parts) else "to make"

    @property
    def notes(self) -> tuple[str, ...]:
        """For the user: of the build where there was one, else what is known beforehand."""
        return self.made.notes if self.made else self.forecast.notes + notes_beforehand(self.box)


def outlook(box: Box, target: Target, store: Store, access: Access) -> Outlook:
    """The outlook of a box on one of its targets. Nothing is fetched, staged or packed for it."""
    plan = box.plan
    (part,) = (part for part in plan.parts if part.target == target)
    takes = box.packager.boot(plan, box.path).takes
    made, lacks = None, ""
    with StoreMaterials(store, plan, replace(access, offline=True)) as materials:
        forecast = box.packager.forecast(plan, materials)
        try:
            made = unchanged(box, materials)
        except (NetworkError, ResourceError) as error:
            # That its base is not there the forecast says.
            lacks = f"{error.thing} {error.cause}" if "program" in error.data else ""
    needs = host_needs(takes, target, part.lock.python_minor, box.packager.needs(plan))
    return Outlook(box=box, needs=needs, forecast=forecast, made=made, lacks=lacks)


def by_step(candidates: Iterable[Candidate]) -> list[Candidate]:
    """In the order of the packaging gradient."""
    return sorted(candidates, key=lambda one: _place(one.packager))


def _place(packager: Packager) -> tuple[int, str]:
    return STEPS.index(packager.step), packager.name
