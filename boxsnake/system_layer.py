"""The layer of an image that holds what an application wants of its system: folders of its own, configuration files."""

from __future__ import annotations

from collections.abc import Iterator

from boxsnake.archive import GzipSink, Member, write_tar
from boxsnake.layers import LayerBlob
from boxsnake.oci import LAYER_GZIP
from boxsnake.store import Store
from boxsnake.system import ROOT, System


def system_layer(store: Store, system: System, user: tuple[int, int], *, epoch: int) -> LayerBlob | None:
    """The layer, in the store; None where nothing is wanted.

    What belongs to the system's user belongs to `user`, a uid and gid: images name nobody. An engine gives a volume
    that it makes at one of the folders the folder's owner and mode.
    """
    members = list(_members(system, user))
    if not members:
        return None
    with store.writer(origin="layer system") as writer, GzipSink(writer) as sink:
        write_tar(members, sink, epoch=epoch)
    return LayerBlob(
        name="system",
        digest=writer.blob.digest,
        size=writer.blob.size,
        diff_id=sink.diff_id,
        media_type=LAYER_GZIP,
        environment=(),
        notes=(),
    )


def _members(system: System, user: tuple[int, int]) -> Iterator[Member]:
    uid, gid = user
    for folder in system.directories:
        yield Member(
            name=folder.path.lstrip("/"),
            mode=folder.mode,
            uid=0 if folder.owner == ROOT else uid,
            gid=0 if folder.group == ROOT else gid,
        )
    for file in system.files:
        yield Member(
            name=file.path.lstrip("/"),
            mode=file.mode,
            source=file.content,
            uid=0 if file.owner == ROOT else uid,
            gid=0 if file.group == ROOT else gid,
        )
