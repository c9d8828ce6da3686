"""The layer of an image that holds what an application wants of its system: folders of its own, configuration files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boxsnake.archive import GZIP_FORMAT, GzipSink, Member, write_tar
from boxsnake.layers.plan import LayerBlob
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
    known = known_system_layer(store, system, user, epoch=epoch)
    if known is not None:
        return known
    with store.writer(origin="layer system") as writer, GzipSink(writer) as sink:
        write_tar(members, sink, epoch=epoch)
    made = {"digest": writer.blob.digest, "size": writer.blob.size, "diff_id": sink.diff_id}
    store.select("system-layer", _key(members, epoch), made)
    return _layer(made)


def known_system_layer(store: Store, system: System, user: tuple[int, int], *, epoch: int) -> LayerBlob | None:
    """The same where the store has it already."""
    made = store.selected("system-layer", _key(list(_members(system, user)), epoch))
    return _layer(made) if made is not None and store.sound(made["digest"]) is not None else None


def _key(members: list[Member], epoch: int) -> dict[str, Any]:
    """Everything that decides the layer's bytes."""
    told = [
        [member.name, member.mode, member.uid, member.gid, _digest(member.source) if member.source is not None else ""]
        for member in members
    ]
    return {"format": 1, "gzip": GZIP_FORMAT, "epoch": epoch, "members": told}


def _digest(content: bytes | Path) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()


def _layer(made: dict[str, Any]) -> LayerBlob:
    return LayerBlob(name="system", media_type=LAYER_GZIP, **made)


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
