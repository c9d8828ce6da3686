"""Hosts: clean systems that boxes are booted on, and the base that images are laid on.

What a host is, boxsnake/hosts/files.py tells. Here it is had: either an image of a registry is pulled, or mmdebstrap
puts a Debian together on this machine (boxsnake/hosts/bootstrapped.py) and the store keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxsnake.hosts.files import Bootstrap, Host, load_host, load_hosts
from boxsnake.progress import track
from boxsnake.store import Blob, Store

if TYPE_CHECKING:
    from boxsnake.engine import Engine

__all__ = ["Host", "image_id", "known_digest", "load_host", "load_hosts", "rootfs"]

# Raised when a root file system of the same definition would come out otherwise.
_FORMAT = 1


def rootfs(store: Store, host: Host, *, refresh: bool = False) -> Blob:
    """The tar of the host's root file system, built once and kept in the store, or again on `refresh`.

    Built from the distribution's own package sources of this machine. Errors: ResourceError without mmdebstrap,
    EngineError where an ordinary user has not what it takes, NetworkError where the packages cannot be had, ValueError
    for a host that is an image.
    """
    bootstrap = _bootstrap_of(host)
    key = _key(host)
    blob = None if refresh else _known(store, key)
    if blob is not None:
        return blob
    from boxsnake.hosts import bootstrapped

    base = rootfs(store, bootstrap.base, refresh=refresh) if bootstrap.base else None
    with store.lock(f"host-{host.name}", wait=bootstrapped.LONGEST_BUILD):
        # Another process may have built it while this one waited.
        blob = None if refresh else _known(store, key)
        if blob is None:
            with track(f"building host {host.name}"), store.scratch("host") as folder:
                archive = folder / "rootfs.tar"
                bootstrapped.build(bootstrap, host.name, archive, store.path(base.digest) if base else None)
                blob = store.put_file(archive)
            store.select("host", key, {"digest": blob.digest, "size": blob.size})
    return blob


def known_digest(store: Store, host: Host) -> str | None:
    """The digest of the root file system as it was built last; None where it never was.

    The store may have dropped the bytes since, which others then have: an engine, a base image's layer.
    """
    result = store.selected("host", _key(host))
    return str(result["digest"]) if result else None


def image_id(engine: Engine, store: Store, host: Host, *, offline: bool = False) -> str:
    """The id of the host's image in the engine, which is given it first where it has not got it.

    Errors: those of `rootfs` and of `boxsnake.engine.Engine.pulled`.
    """
    if host.image is not None:
        return engine.pulled(host.image, offline=offline).id
    blob = known_digest(store, host)
    tag = f"boxsnake-host/{host.name}:{blob.removeprefix('sha256:')[:12]}" if blob else ""
    found = engine.image(tag) if tag else None
    # The engine's layer of an imported tar bears the tar's own digest.
    if found is None or found.layers != (blob,):
        built = rootfs(store, host)
        tag = f"boxsnake-host/{host.name}:{built.digest.removeprefix('sha256:')[:12]}"
        with track(f"importing host {host.name}"):
            return engine.import_rootfs(store.path(built.digest), tag)
    return found.id


def _known(store: Store, key: Mapping[str, object]) -> Blob | None:
    result = store.selected("host", key)
    if result is None or store.intact(str(result["digest"])) is None:
        return None
    return Blob(digest=str(result["digest"]), size=int(result["size"]))


def _bootstrap_of(host: Host) -> Bootstrap:
    if host.bootstrap is None:
        raise ValueError(f"host {host.name} is the image {host.image}: it has no root file system of its own")
    return host.bootstrap


def _key(host: Host) -> dict[str, object]:
    """Everything of a definition that decides the tree. What the mirror holds today is not in it: see `refresh`."""
    bootstrap = _bootstrap_of(host)
    return {
        "format": _FORMAT,
        "machine": os.uname().machine,
        "suite": bootstrap.suite,
        "variant": bootstrap.variant,
        "include": sorted(bootstrap.include),
        "setup": [list(script) for script in bootstrap.setup],
        "base": _key(bootstrap.base) if bootstrap.base else None,
    }
