"""The artifact that is a build context: the engine builds the image from it that is booted."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from boxsnake import oci
from boxsnake.archive import file_member, write_tar
from boxsnake.bases import Base, base_image
from boxsnake.boot_recipe import BuildContext
from boxsnake.disk import disk_faults
from boxsnake.engine import Engine
from boxsnake.image.load import load
from boxsnake.store import Store
from boxsnake.tar_stream import retold


@contextlib.contextmanager
def built(
    engine: Engine, store: Store, archive: Path, context: BuildContext, *, bases: Mapping[str, str], offline: bool
) -> Iterator[str]:
    """Have the image of a context in the engine for the block: its id. `bases` are those of the user's settings.

    Errors: BootError where the engine cannot build it, and those of `boxsnake.bases.base_image`.
    """
    name = f"boxsnake-boot/{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        arguments = {}
        if context.base is not None:
            base = base_image(
                store, context.base, bases=bases, root=Path(context.root), wanted=context.platform, offline=offline
            )
            arguments["BASE"] = f"{name}:base"
            stack.callback(engine.remove_image, arguments["BASE"])
            _give_base(engine, store, base, context.platform, arguments["BASE"])
        stack.callback(engine.remove_image, f"{name}:built")
        parts = retold(archive, lambda member: (member.name.partition("/")[2], member.size))
        yield engine.build(parts, f"{name}:built", arguments=arguments, thing=str(archive))


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
