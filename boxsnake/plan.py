"""The plan: everything that decides the bytes of one box, as values."""

from __future__ import annotations

from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from boxsnake.boot_recipe import BootRules, Check, Expected
from boxsnake.lock import TargetLock, Wheel
from boxsnake.system import System
from boxsnake.target import Target
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Application:
    """The application as every format must describe it; texts are as the user gave them, never yet escaped."""

    name: str
    version: str
    command: tuple[str, ...] = ()
    commands: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Further programs with their arguments, by the names under which they are called."""
    ports: tuple[int, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    summary: str = ""
    description: str = ""
    license: str = ""
    homepage: str = ""
    source_page: str = ""
    """The URL of its source code."""
    documentation: str = ""
    """The URL of its documentation."""
    maintainer: str = ""
    wheel: Wheel | None = None
    """The application's own wheel; None where the box holds requirements alone."""
    console_scripts: tuple[str, ...] = ()
    """The names of the wheel's entry points that become programs."""


@dataclass(frozen=True, kw_only=True)
class Hook:
    """A script of the user's for one moment of the box's life ("post-install"), by its content."""

    moment: str
    file_name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Part:
    """One target of a box that carries wheels alone: its lock, and the application's own wheel for it."""

    lock: TargetLock
    own: Wheel | None

    @property
    def target(self) -> Target:
        """The target of the part's lock."""
        return self.lock.target

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The whole closure and the application's own."""
        return self.lock.wheels + ((self.own,) if self.own else ())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one packager packs: the application, one target's lock, the format's own options."""

    application: Application
    lock: TargetLock
    options: Any
    """The packager's own options model, decoded from `[boxes.<format>]`."""
    root: Path
    """The manifest's folder, against which the options' relative paths are read."""
    epoch: int
    """The one time of everything in the box, in seconds since 1970."""
    requires_rpm: tuple[str, ...] = ()
    requires_deb: tuple[str, ...] = ()
    missing_libraries: Literal["tell", "refuse"] = "tell"
    """What is done about shared libraries that nobody is known to bring."""
    hooks: tuple[Hook, ...] = ()
    system: System = field(default_factory=System)
    """What it wants of the system that it is installed on."""
    checks: tuple[Check, ...] = ()
    boot: BootRules = field(default_factory=BootRules)
    """What is known of a boot."""
    labels: tuple[tuple[str, str], ...] = field(default=())
    revision: str = ""
    """The commit of the application's source, where that is just what it was built from."""
    others: tuple[Part, ...] = ()
    """Further targets that the same box is for; the plan's own comes before them."""

    @property
    def target(self) -> Target:
        """The target of the plan's lock."""
        return self.lock.target

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every target of the box, its own first."""
        return (Part(lock=self.lock, own=self.application.wheel), *self.others)

    def of(self, part: Part) -> Plan:
        """The plan of the same box as one of its targets sees it."""
        return replace(self, application=replace(self.application, wheel=part.own), lock=part.lock, others=())

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The wheels of a box without conda, on its own target: the whole closure and the application's own."""
        return self.parts[0].wheels

    @property
    def wheels_over_conda(self) -> tuple[Wheel, ...]:
        """The wheels that are installed over the conda half, without the application's own."""
        return self.lock.wheels_over_conda


def expected(plan: Plan, *, conda: bool) -> Expected:
    """What a booted box holds: both halves and the application, or with `conda` False all of it as wheels."""
    lock = plan.lock
    own = (plan.application.wheel,) if plan.application.wheel else ()
    wheels = (*plan.wheels_over_conda, *own) if conda else plan.wheels
    distributions = {(wheel.name, wheel.version) for wheel in wheels}
    if conda:
        distributions |= {(found.name, found.version) for found in lock.conda_distributions}
    return Expected(
        distributions=tuple(sorted(distributions)),
        conda=tuple(sorted((package.name, package.version, package.build) for package in lock.conda)) if conda else (),
        console_scripts=plan.application.console_scripts,
        rules=plan.boot,
    )
