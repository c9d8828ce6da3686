"""Packagers: one file for each format.

A module of this package is a format, by its name (with hyphens) and its `PACKAGER`, unless its name begins with an
underscore. The command line, the manifest's schema, the docs table and the contract tests find it by that alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from boxsnake.layers.plan import AS_THEY_ARE
from boxsnake.on_demand import OnDemand

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from boxsnake.bases import Base
    from boxsnake.boot_recipe import BootRecipe
    from boxsnake.entries import Tree
    from boxsnake.forecast import Forecast
    from boxsnake.image.layout import LaidOut
    from boxsnake.layers.plan import Group, LayerBlob, Treatment
    from boxsnake.lock import CondaPackage, SystemLock, Wheel
    from boxsnake.manifest import Section
    from boxsnake.needs import Step
    from boxsnake.plan import Plan
    from boxsnake.store import Store
    from boxsnake.system import SystemPart


class Materials(Protocol):
    """Where a packager gets what it packs. Everything that it hands out was fetched by digest and checked.

    It brings only what is asked for: a format that takes wheels alone stages no tree.
    """

    @property
    def store(self) -> Store:
        """The store, for blobs and selectors of the packager's own."""
        ...

    def wheels(self, wheels: Sequence[Wheel]) -> Mapping[str, Path]:
        """Local paths of wheels by their file names, in one folder under those very names."""
        ...

    def conda(self, packages: Sequence[CondaPackage]) -> Mapping[str, Path]:
        """Local paths of conda archives by their file names, in one folder under those very names."""
        ...

    def tree(self, prefix: str | None, treatment: Treatment = AS_THEY_ARE) -> AbstractContextManager[Tree]:
        """The environment and the application, linked for `prefix`, in a folder that lasts for the block.

        Without a prefix it is relocatable: its `patches` say what is placed when it gets one.
        The packager must not change it. It may lie on another file system than the store's.
        """
        ...

    def layers(self, prefix: str, groups: Sequence[Group], treatment: Treatment = AS_THEY_ARE) -> Sequence[LayerBlob]:
        """One compressed layer for each group of owners, below `prefix`; staged only where the store lacks one."""
        ...

    def known_layers(
        self, prefix: str, groups: Sequence[Group], treatment: Treatment = AS_THEY_ARE
    ) -> Sequence[LayerBlob | None]:
        """The same as far as the store has them; None for those that would have to be made."""
        ...

    def base(self, name: str, platform: tuple[str, str]) -> Base:
        """The base image of this name for an (os, architecture), its layers in the store; settings may map the name."""
        ...

    def system_packages(self, system: SystemLock) -> Mapping[str, Path]:
        """Local files of the packages of the image's distribution, by their digests (bare hex)."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """An empty folder on the store's file system, removed after the block."""
        ...

    def announce(self, image: LaidOut) -> None:
        """Say what an image is, once its layers are in the store: who sends it somewhere may begin with them."""
        ...


class Packager(Protocol):
    """A format: its options, its file name, how it is written, how it is booted."""

    @property
    def name(self) -> str:
        """The format's name, as in `boxsnake build NAME` and `[boxes.NAME]`."""
        ...

    @property
    def summary(self) -> str:
        """What it is and for whom, in one line for `--help` and the docs table."""
        ...

    @property
    def options(self) -> type[Section]:
        """The model of `[boxes.<name>]`. Every option has a default."""
        ...

    @property
    def step(self) -> Step:
        """Where the format stands on the packaging gradient."""
        ...

    @property
    def moments(self) -> frozenset[str]:
        """The hooks that the format runs, such as "post-install"; the user is told of the others."""
        ...

    @property
    def system(self) -> frozenset[SystemPart]:
        """The parts of the manifest's `[system]` that the format brings; the user is told of the others."""
        ...

    @property
    def unfolds(self) -> bool:
        """Whether an artifact that is a tar of one folder is laid out as that folder beside it as well."""
        ...

    def check(self, plan: Plan) -> None:
        """Refuse, before anything is fetched, what the format cannot carry. Errors: PackError."""
        ...

    def file_name(self, plan: Plan) -> str:
        """The artifact's conventional file name."""
        ...

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:
        """JSON values that decide the artifact's bytes and are not in the plan: tool versions, a base's digest."""
        ...

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """Write the artifact to `out`, which does not exist yet; return notes for the user.

        It is a file, or a durable folder that is an OCI image layout.

        Same plan, same bytes. Errors: PackError.
        """
        ...

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """How the artifact is proven to work, and what it `takes`."""
        ...

    def needs(self, plan: Plan) -> Sequence[str]:
        """What the host must have that does not follow from what a box takes, each in a few words for people."""
        ...

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """What it would be made of; nothing is fetched or staged for it where `materials` are offline ones."""
        ...


@cache
def packagers() -> Mapping[str, Packager]:
    """Every format by its name, in alphabetical order. A format's module is imported when it is asked for."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return OnDemand((name.replace("_", "-") for name in modules), _packager)


def box_options() -> Mapping[str, type[Section]]:
    """The model of `[boxes.<format>]` of every format."""
    return OnDemand(packagers(), lambda name: packagers()[name].options)


def _packager(name: str) -> Packager:
    packager: Packager = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").PACKAGER
    return packager
