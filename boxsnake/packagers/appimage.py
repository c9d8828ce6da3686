"""A userspace image: one executable file with interpreter, libraries and application in a squashfs.

<name>-<version>-<machine>.AppImage
    a script for any sh        mounts or extracts what follows, and starts the application
    the seed                   as much of the Python as it takes to do so where the host has no tool for it
    a squashfs                 AppRun, the environment, and what must be placed for its prefix

With another `kind`, a file system for an administrator to mount, in a tar of one folder with units of systemd.

`boxsnake.userspace` has its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from boxsnake import inventory
from boxsnake.boot_recipe import BootRecipe
from boxsnake.errors import PackError
from boxsnake.forecast import PLAIN, SMALL_GZIP, ZSTD, Ratio, packed
from boxsnake.manifest import Section
from boxsnake.manifest.text import Limits
from boxsnake.needs import Step
from boxsnake.os_packages.versioned_plan import check_target
from boxsnake.plan import expected
from boxsnake.self_placing import USERSPACE_CACHES, userspace_recipe
from boxsnake.system import SystemPart
from boxsnake.userspace.mounted import KERNELS, out_name, tool_version, write_mounted
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.entries import Tree
    from boxsnake.forecast import Forecast
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_SEED = 3_900_000
"""What a file that starts by itself carries to read itself, about, in bytes."""
_RATIOS = {"run": SMALL_GZIP, "squashfs": ZSTD, "erofs": Ratio(conda=1.5, wheels=1.2, code=0.8), "iso": PLAIN}


@dataclass(frozen=True, kw_only=True)
class AppImageOptions(Section):
    """`[boxes.appimage]`."""

    kind: Literal["run", "squashfs", "erofs", "iso"] = "run"
    """One file that starts ("run"), or a file system of this kind to be mounted at `prefix`, with units of systemd."""
    prefix: Annotated[str, Limits(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] | None = None
    """Where a file system that is not for running by itself is mounted; left out: `/opt/<name>`."""
    level: Annotated[int, Limits(ge=1, le=9)] = 6
    """How hard gzip compresses: 1 is fastest, 9 smallest."""


class AppImage:
    """The packager of userspace images."""

    name = "appimage"
    summary = "one executable file with its own interpreter, mounted or extracted where it is started"
    options = AppImageOptions
    step: Step = "userspace image"
    moments: frozenset[str] = frozenset()
    system: frozenset[SystemPart] = frozenset()
    unfolds = True

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, self.name)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        kind = plan.options.kind
        if kind != "run":
            return f"{out_name(plan, kind)}.tar"
        return f"{plan.application.name}-{plan.application.version}-{plan.target.machine}.AppImage"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:
        """See `boxsnake.packagers.Packager`."""
        from boxsnake.userspace.image import version

        with materials.scratch() as scratch:
            if plan.options.kind != "run":
                return {"tool": tool_version(plan.options.kind, scratch)}
            return {"mksquashfs": version(scratch)}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        from boxsnake.userspace.image import write_image

        kind = plan.options.kind
        prefix = None if kind == "run" else plan.options.prefix or f"/opt/{plan.application.name}"
        with materials.tree(prefix) as tree, materials.scratch() as scratch:
            _check_program(plan, tree)
            if kind != "run":
                write_mounted(plan, tree, out, scratch, kind=kind)
                return tree.notes
            write_image(plan, tree, out, scratch, level=plan.options.level)
            return tree.notes

    def needs(self, plan: Plan) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        kind = plan.options.kind
        if kind != "run":
            return (f"{KERNELS[kind]} in the kernel",)
        return ("a cache folder", "root or squashfuse, else it extracts")

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        archives = inventory.environment(plan, materials.store)
        kind = plan.options.kind
        return packed(archives, _RATIOS[kind], own=_SEED if kind == "run" else 0)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        folder = f"/opt/{plan.application.name}"
        recipe = userspace_recipe(
            artifact, folder, host=f"debian-{plan.target.debian}", expects=expected(plan, conda=True)
        )
        return replace(
            recipe,
            takes="shell" if plan.options.kind == "run" else "mount",
            command=recipe.command if plan.application.command else (),
            writes=(folder, *USERSPACE_CACHES),
        )


def _check_program(plan: Plan, tree: Tree) -> None:
    """Errors: PackError where what the file starts is not in it."""
    program = next(iter(plan.application.command), "/")
    if not program.startswith("/") and f"bin/{program}" not in {entry.path for entry in tree.entries}:
        step = "Correct `command` in [app], or require what brings it."
        raise PackError(f"app.command: {program}", "is no program of the environment", step, program=program)


PACKAGER = AppImage()
