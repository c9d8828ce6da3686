"""The artifact that is a build context: the engine builds the image from it that is booted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.bases import Base
from boxsnake.boot.runtime import BaseOf
from boxsnake.boot_recipe import BuildContext
from boxsnake.disk import disk_faults
from boxsnake.engine import Engine, passing_name
from boxsnake.image.load import load
from boxsnake.store import Store
from boxsnake.tar_stream import retold


@contextlib.contextmanager
def built(engine: Engine, store: Store, archive: Path, context: BuildContext, base_of: BaseOf) -> Iterator[str]:
    """Have the image of a context in the engine for the block: its id. `base_of` finds base images.

    Errors: BootError where the engine cannot build it, and those of `base_of`.
    """
    name = passing_name("built")
    with contextlib.ExitStack() as stack:
        arguments = {}
        if context.base is not None:
            base = base_of(context.base, context.platform)
            arguments["BASE"] = passing_name("base")
            stack.callback(engine.remove_image, arguments["BASE"])
            _give_base(engine, store, base, context.platform, arguments["BASE"])
        stack.callback(engine.remove_image, name)
        parts = retold(archive, lambda member: (member.name.partition("/")[2], member.size))
        yield engine.build(parts, name, arguments=arguments, thing=str(archive))


def _give_base(engine: Engine, store: Store, base: Base, platform: tuple[str, str], tag: str) -> None:
    """Name the base in the engine, whatever it came from."""
    config = oci.config(
        base.layers, base.runtime, platform=platform, epoch=0, history=base.history, variant=base.variant
    )
    members = [
        file_member("manifest.json", oci.docker_manifest(config, base.layers, (tag,))),
        file_member(oci.blob_path(config.digest), config.content),
        *(file_member(oci.blob_path(layer.digest), store.path(layer.digest)) for layer in base.layers),
    ]
    with store.scratch("base") as folder:
        archive = folder / "base.tar"
        with disk_faults(archive), archive.open("xb", buffering=0) as stream:
            write_tar(members, stream, epoch=0)
        load(engine, archive)
