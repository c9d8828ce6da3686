"""conda-pack's archive: the environment in a tar that is unpacked anywhere, with `bin/activate` and `bin/conda-unpack`.

conda-pack itself is not called: it packs an environment that was installed in some place, and takes what it finds
there. This one comes out of the relocatable tree, so its bytes depend on the lock alone. `boxsnake.conda_pack` has its
members.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from boxsnake import inventory
from boxsnake.archive import GzipSink, small_gzip_member, write_tar
from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.forecast import SMALL_GZIP, ZSTD, packed
from boxsnake.manifest import Section
from boxsnake.manifest.text import Limits
from boxsnake.needs import Step
from boxsnake.os_packages.versioned_plan import check_target, environment_notes
from boxsnake.plan import expected
from boxsnake.system import SystemPart
from boxsnake.value import dataclass
from boxsnake.wheel_closure import start_command

if TYPE_CHECKING:
    from boxsnake.forecast import Forecast
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_LEVELS = {"tar.gz": 5, "tar.zst": 9}
_HIGHEST_GZIP = 12
# Bytes of zstd's several jobs do not depend on how many threads there are, as long as there are any.
_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class CondaPackOptions(Section):
    """`[boxes.conda-pack]`."""

    compression: Literal["tar.gz", "tar.zst"] = "tar.gz"
    """What the archive is compressed with, and its name ends in: gzip, which every host reads, or zstd."""
    level: Annotated[int, Limits(ge=1, le=19)] | None = None
    """How hard it is compressed: 1 to 12 for tar.gz (left out: 5), 1 to 19 for tar.zst (left out: 9)."""
    prefix: Annotated[str, Limits(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] | None = None
    """The one place where it will be unpacked, as conda-pack's `--dest-prefix`; left out: anywhere."""

    def check_keys(self, given: frozenset[str]) -> None:  # noqa: ARG002 - part of the contract
        """See `Section`."""
        if self.compression == "tar.gz" and (self.level or 1) > _HIGHEST_GZIP:
            raise ValueError(f"the highest level of tar.gz is {_HIGHEST_GZIP}")


class CondaPack:
    """The packager of conda-pack's archives."""

    name = "conda-pack"
    summary = "conda-pack's tarball: unpacked anywhere, activated or not, as Spark and Dask take environments"
    options = CondaPackOptions
    step: Step = "conda"
    moments: frozenset[str] = frozenset()
    system: frozenset[SystemPart] = frozenset()
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, self.name)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        application = plan.application
        return f"{application.name}-{application.version}-{plan.target.platform}.{plan.options.compression}"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        library = "deflate" if plan.options.compression == "tar.gz" else "zstandard"
        return {library: version(library)}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        from boxsnake.conda_pack.members import members, placed_members

        options, title = plan.options, f"{plan.application.name} {plan.application.version}"
        level = options.level or _LEVELS[options.compression]
        with materials.tree(options.prefix) as tree:
            found = placed_members(tree) if options.prefix else members(tree, title, plan.epoch)
            with disk_faults(out), out.open("xb") as stream:
                if options.compression == "tar.gz":
                    with GzipSink(stream, small_gzip_member(level)) as sink:
                        write_tar(found, sink, epoch=plan.epoch)
                else:
                    import zstandard

                    with zstandard.ZstdCompressor(level=level, threads=_THREADS).stream_writer(
                        stream, closefd=False
                    ) as writer:
                        write_tar(found, writer, epoch=plan.epoch)
            return [*tree.notes, *environment_notes(plan, "an archive of conda-pack's")]

    def needs(self, plan: Plan) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        return ("tar", "gzip" if plan.options.compression == "tar.gz" else "zstd")

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        ratio = SMALL_GZIP if plan.options.compression == "tar.gz" else ZSTD
        notes = environment_notes(plan, "an archive of conda-pack's")
        return packed(inventory.environment(plan, materials.store), ratio, notes=notes)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        place, file = plan.options.prefix or "/srv/two words", f"/tmp/{artifact.name}"  # noqa: S108 - in a container of its own
        # Minimal hosts have no zstd; Debian's apt reads what it compresses.
        unzstd = 'if command -v zstd; then zstd -dc "$1"; else /usr/lib/apt/apt-helper cat-file "$1"; fi | tar -xC "$2"'
        is_gzip = plan.options.compression == "tar.gz"
        unpack = ("tar", "-xzf", file, "-C", place) if is_gzip else ("sh", "-c", unzstd, "sh", file, place)
        mend = (f"{place}/bin/conda-unpack",)
        install = (("mkdir", "-p", place), unpack, *(() if plan.options.prefix else (mend, mend)))
        return BootRecipe(
            host=f"debian-{plan.target.debian}",
            copies=((str(artifact), file),),
            install=install,
            python=(f"{place}/bin/python",),
            scripts=f"{place}/bin",
            command=start_command(plan, f"{place}/bin"),
            remove=(("rm", "-rf", place),),
            writes=(place, file),
            remains=(file,),
            expects=expected(plan, conda=True),
            environment=plan.application.environment,
            again=install,
        )


PACKAGER = CondaPack()
