"""Base images: what an image's own layers are put on, from wherever it comes, as layers in the store.

A base is named by one of

    scratch              nothing
    minimal              see `boxsnake.system_packages.minimal_base`, which makes it of packages that a lock holds
    host:NAME            the root file system of one of boxsnake's hosts
    ./folder, /folder    an OCI image layout
    ./file, /file        the tar of a root file system, or what `docker save` writes; compressed or not
    engine:REFERENCE     an image of the container engine, which pulls it where it has not got it
    anything else        an image's reference: pulled from the registry that it names, or that the settings name for
                         those that name none; where neither does, as engine:REFERENCE

and a name that the user's settings map to another (`[bases]`) is that other. What was read once is remembered by its
content: the next time costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from boxsnake.archive import GZIP_FORMAT
from boxsnake.bases.value import Base, decode
from boxsnake.disk import disk_faults
from boxsnake.errors import PackError, ResourceError
from boxsnake.image.base_name import ENGINE, HOST, MINIMAL, SCRATCH, is_local
from boxsnake.lock import BasePin
from boxsnake.progress import track
from boxsnake.reference import Reference, parse
from boxsnake.registry import Registries
from boxsnake.store import Store

__all__ = ["Base", "base_image", "parsed"]

_FORMAT = 2


def base_image(
    store: Store,
    name: str,
    *,
    bases: Mapping[str, str],
    root: Path,
    wanted: tuple[str, str],
    registries: Registries | None = None,
    pin: BasePin | None = None,
    offline: bool = False,
) -> Base:
    """The base of this name, its layers in the store; relative paths are read against `root`.

    The layers are there, and hashed when they are used (`Store.path`): who wants the digest alone need not wait for it.
    `wanted` is the (os, architecture) that it must be for. A reference that has not been mapped to something else is
    held at the digest of `pin`, where that is of the same name. Errors: PackError where the base is of another platform
    or cannot be a base, ResourceError where it is not there (or, when `offline`, would have to be fetched),
    EngineError, NetworkError and IntegrityError.
    """
    meant = bases.get(name, name)
    digest = pin.digest if pin is not None and pin.reference == meant == name else ""
    found = _read(store, meant, root, wanted, registries or Registries(), digest, offline=offline)
    if found.platform is not None and found.platform != wanted:
        step = "Name a base of the target's platform, or map this name to one in your settings ([bases])."
        cause = f"it is for {'/'.join(found.platform)}, and the target needs {'/'.join(wanted)}"
        raise PackError(f"base image {name}", cause, step, base=name, platform="/".join(found.platform))
    return replace(found, name=name, is_reference=meant == name and not is_local(name))


def _read(
    store: Store,
    meant: str,
    root: Path,
    wanted: tuple[str, str],
    registries: Registries,
    digest: str,
    *,
    offline: bool,
) -> Base:
    if meant == SCRATCH:
        return Base(name=meant, digest=SCRATCH)
    if meant == MINIMAL:
        cause = "is made of packages that a lock holds: only a build can make it"
        step = "Name it as `base` in [boxes.image] and build: neither `rebase` nor [bases] of the settings takes it."
        raise PackError(f"base image {meant}", cause, step)
    if meant.startswith(HOST):
        return _from_host(store, meant.removeprefix(HOST), offline=offline)
    if meant.startswith(("/", "./", "../")):
        return _from_path(store, root / meant, wanted)
    if meant.startswith(ENGINE):
        return _from_engine(store, str(parsed(meant.removeprefix(ENGINE))), offline=offline)
    reference = parsed(meant)
    held = reference.pinned(digest) if digest else reference
    there = registries.meant(held)
    if there is None:
        return _from_engine(store, str(replace(held, tag="") if held.digest else held), offline=offline)
    return _from_registry(store, registries, there, wanted, offline=offline)


def parsed(name: str) -> Reference:
    """The reference that a base is named by. Errors: PackError where it is none."""
    try:
        return parse(name)
    except ValueError as error:
        step = f"Name an image, a file or folder (./base.tar), {HOST}NAME or {SCRATCH!r}."
        raise PackError(f"base image {name}", f"is no reference: {error}", step, base=name) from None


# Where a base comes from


def _from_host(store: Store, name: str, *, offline: bool) -> Base:
    from boxsnake import hosts

    host = hosts.load_host(name)
    if host is None:
        known = hosts.load_hosts()
        step = f"There are {', '.join(known)}."
        raise PackError(f"base image {HOST}{name}", "there is no host of this name", step, hosts=list(known))
    if host.image is not None:
        return _from_engine(store, host.image, offline=offline)
    digest = hosts.known_digest(store, host)
    base = _recalled(store, {"rootfs": digest}) if digest else None
    if base is None:
        if digest is None and offline:
            step = "Build on it once without --offline."
            raise ResourceError(f"base image {HOST}{name}", "it has not been built here yet", step, base=name)
        from boxsnake.bases.archived import from_rootfs

        blob = hosts.rootfs(store, host)
        base = _remembered(
            store,
            {"rootfs": blob.digest},
            lambda: from_rootfs(store, f"{HOST}{name}", store.path(blob.digest), blob.digest),
        )
    # Hosts are made for the machine that makes them.
    from boxsnake.processors import own_processor

    return replace(base, platform=("linux", own_processor()))


def _from_path(store: Store, path: Path, wanted: tuple[str, str]) -> Base:
    from boxsnake.bases.archived import from_file, from_layout

    name = f"base image {path}"
    with disk_faults(name):
        if not path.exists():
            raise ResourceError(name, "there is no such file", "Correct the path of the base.")
        if path.is_dir():
            if not (path / "index.json").exists():
                step = "Name the tar of a root file system, what `docker save` writes, or an OCI image layout."
                raise PackError(name, "the folder has no index.json, as an OCI image layout has", step, base=str(path))
            digest = store.digest_of_file(path / "index.json")
            key = {"layout": digest, "platform": list(wanted)}
            return _remembered(store, key, lambda: from_layout(store, path, digest, wanted))
        digest = store.digest_of_file(path)
    return _remembered(store, {"file": digest}, lambda: from_file(store, path, digest))


def _from_registry(
    store: Store, registries: Registries, reference: Reference, wanted: tuple[str, str], *, offline: bool
) -> Base:
    from boxsnake.bases.pulled import image_digest, pull

    told = {"reference": str(reference), "platform": list(wanted)}
    digest = reference.digest
    if offline and not digest:
        digest = (store.selected("base-tag", told) or {}).get("digest", "")
    elif not digest:
        digest = image_digest(registries, reference, wanted)
        store.select("base-tag", told, {"digest": digest})
    key = {"manifest": digest, "platform": list(wanted)}
    if offline and (not digest or _recalled(store, key) is None):
        step = "Build once without --offline, or name a base that is on this machine."
        raise ResourceError(f"base image {reference}", "it is not in the cache", step, base=str(reference))
    return _remembered(store, key, lambda: pull(store, registries, reference.pinned(digest), wanted))


def _from_engine(store: Store, reference: str, *, offline: bool) -> Base:
    from boxsnake.engine import connect

    engine = connect()
    identity = engine.pulled(reference, offline=offline).id

    def save() -> Base:
        from boxsnake.bases.archived import from_docker_archive

        with track(f"taking {reference} from the engine"), store.scratch("base") as folder:
            archive = folder / "image.tar"
            # By its id: the name may have moved on to another image meanwhile.
            engine.save(identity, archive)
            return from_docker_archive(store, reference, archive, identity)

    return _remembered(store, {"image": identity}, save)


# What is remembered


def _remembered(store: Store, key: Mapping[str, object], read: Callable[[], Base]) -> Base:
    base = _recalled(store, key)
    if base is None:
        base = read()
        store.select("base", _whole(key), asdict(base))
    return base


def _recalled(store: Store, key: Mapping[str, object]) -> Base | None:
    known = store.selected("base", _whole(key))
    base = decode(known) if known else None
    return base if base and all(store.has(layer.digest) for layer in base.layers) else None


def _whole(key: Mapping[str, object]) -> Mapping[str, object]:
    return {"format": _FORMAT, "gzip": GZIP_FORMAT, **key}
