"""Services' images: those of registries, and local ones that are made of Debian packages.

A local service is a file `<name>.toml` of boxsnake's `docker/services`, or of the folder that `hosts` in the settings
names: a host's definition (see `boxsnake.hosts.files`) with one more table:

    [service]
    command = ["redis-server"]         # what is started
    user = "redis"
    check = ["redis-cli", "ping"]      # what exits with 0 once it is ready
    ports = [6379]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from boxsnake import resources, settings
from boxsnake.engine import Engine
from boxsnake.errors import Fault, ManifestError, UsageError
from boxsnake.hosts import image_id, load_hosts
from boxsnake.manifest import Section
from boxsnake.manifest.text import Command, Ports, Word
from boxsnake.stack.value import LOCAL, Unit
from boxsnake.store import Store
from boxsnake.value import dataclass

# What images of registries need to take their own user and make their folders; nothing reaches beyond the container.
_TAKING_A_USER = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")


@dataclass(frozen=True, kw_only=True)
class _ServiceTable(Section):
    command: Command = ()
    user: Word | None = None
    check: Command = ()
    ports: Ports = ()


def prepared(engine: Engine, store: Store, unit: Unit, instead: Mapping[str, str], *, offline: bool) -> Unit:
    """The service with its image in the engine, by its id; `instead` are the settings' own for images by name.

    What the manifest leaves out, a local service's definition says. Errors: UsageError, ManifestError, and those of
    making or pulling the image.
    """
    name = instead.get(unit.image, unit.image)
    if name.startswith(LOCAL):
        return _local(engine, store, unit, name.removeprefix(LOCAL), offline=offline)
    return replace(unit, image=engine.pulled(name, offline=offline).id, capabilities=_TAKING_A_USER)


def _local(engine: Engine, store: Store, unit: Unit, name: str, *, offline: bool) -> Unit:
    own = settings.load().hosts
    services = [resources.folder("docker") / "services", *([own] if own else [])]
    files = {path.stem: path for folder in services for path in sorted(folder.glob("*.toml"))}
    table = _table(files[name]) if name in files else None
    if table is None:
        there = ", ".join(f"{LOCAL}{stem}" for stem, path in sorted(files.items()) if _table(path) is not None)
        raise UsageError(f"service {unit.name}", f"there is no {LOCAL}{name}", f"There are {there}.")
    hosts = load_hosts([resources.folder("docker") / "hosts", *services])
    identity = image_id(engine, store, hosts[name], offline=offline)
    return replace(
        unit,
        image=identity,
        entrypoint=(),
        command=unit.command or table.command or None,
        user=unit.user or table.user or "",
        check=unit.check or table.check,
        ports=unit.ports or table.ports,
    )


def _table(path: Path) -> _ServiceTable | None:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("service")
        return None if found is None else _ServiceTable.decoded(found)
    except (OSError, ValueError) as error:
        fault = Fault(source=path.name, line=0, key="service", message=str(error).splitlines()[0])
        raise ManifestError(str(path), (fault,)) from None
