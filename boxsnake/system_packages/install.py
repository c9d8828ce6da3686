"""Locked packages onto a base: fetched by digest, installed by the base's own package manager without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from boxsnake import resources
from boxsnake.bases import Base
from boxsnake.container_layers.run import Below, Job, made_layer
from boxsnake.layers.plan import LayerBlob
from boxsnake.lock import SystemLock
from boxsnake.plain_text import counted
from boxsnake.store import Store

_FOLDER = "/tmp/boxsnake-packages"  # noqa: S108 - in a container of ours
_SCRIPTS = {"deb": "install-debs.sh", "rpm": "install-rpms.sh"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def packages_layer(
    store: Store,
    base: Base,
    system: SystemLock,
    archives: Callable[[SystemLock], Mapping[str, Path]],
    *,
    platform: tuple[str, str],
    epoch: int,
) -> LayerBlob | None:
    """The layer of the locked packages, right on the base; None where there are none.

    `archives` brings local files by the packages' digests (bare hex), where the store has no such layer. Errors: its
    own, and those of `boxsnake.container_layers.made_layer`.
    """
    if not system.packages:
        return None
    return made_layer(store, Below(layers=base.layers, platform=platform), install_job(system, archives), epoch=epoch)


def install_job(system: SystemLock, archives: Callable[[SystemLock], Mapping[str, Path]]) -> Job:
    """What installing the packages is, for `boxsnake.container_layers.made_layer`."""
    name = _SCRIPTS[system.kind]
    script = (resources.folder("docker") / name).read_bytes()
    facts = [f"{package.sha256} {package.file_name}" for package in system.packages]
    facts.append(hashlib.sha256(script).hexdigest())
    return Job(
        title=f"installing {counted(len(system.packages), 'package')} on {system.base}",
        layer="system packages",
        command=("/bin/sh", f"{_FOLDER}/{name}"),
        environment=(("HOME", "/root"), ("LC_ALL", "C.UTF-8"), ("PATH", _PATH)),
        files=lambda: {name: script} | _named(system, archives(system)),
        folder=_FOLDER,
        content=hashlib.sha256("\n".join(facts).encode()).hexdigest(),
        step="If the base has changed since they were locked, run `boxsnake lock --upgrade`.",
    )


def _named(system: SystemLock, archives: Mapping[str, Path]) -> dict[str, Path | bytes]:
    return {package.file_name: archives[package.sha256] for package in system.packages}
