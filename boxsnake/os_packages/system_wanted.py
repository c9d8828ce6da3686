"""What the manifest's `[system]` comes to for one application: every default filled in, every file read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from boxsnake.errors import Fault, ManifestError
from boxsnake.manifest import FileTable, Manifest, UnitTable
from boxsnake.manifest.section import key_of
from boxsnake.plan import Application
from boxsnake.system import ROOT, ConfigFile, Directory, Logrotate, System, Unit


def system_wanted(manifest: Manifest, root: Path, application: Application) -> System:
    """The values behind `[system]`; files are read from `root`, the manifest's folder. Errors: ManifestError."""
    table = manifest.system
    directories = []
    for directory in table.directories:
        owner, group = _owner(directory.owner or table.user or ROOT)
        path, mode = directory.path_of(application.name), int(directory.mode, 8)
        directories.append(Directory(path=path, kind=directory.kind, owner=owner, group=group, mode=mode))
    rotation = table.logrotate
    return System(
        user=table.user,
        directories=tuple(directories),
        files=tuple(_file(number, file, root) for number, file in enumerate(table.files)),
        units=tuple(_unit(name, unit, table.user, application) for name, unit in sorted(table.units.items())),
        logrotate=Logrotate(**asdict(rotation)) if rotation else None,
        summary=application.summary,
    )


def _file(number: int, table: FileTable, root: Path) -> ConfigFile:
    path = root / table.source
    if not path.is_file():
        key = f"system.files[{number}].source"
        raise ManifestError("manifest", (Fault(source="manifest", line=0, key=key, message=f"no file {table.source}"),))
    owner, group = _owner(table.owner)
    return ConfigFile(
        path=table.path,
        source=table.source,
        content=path.read_bytes(),
        owner=owner,
        group=group,
        mode=int(table.mode, 8),
    )


def _unit(name: str, table: UnitTable, user: str | None, application: Application) -> Unit:
    return Unit(
        name=name if name == application.name else f"{application.name}-{name}",
        command=table.command or application.command,
        user=table.user or user or ROOT,
        environment=tuple(sorted((dict(application.environment) | table.environment).items())),
        restart=table.restart,
        restart_seconds=table.restart_seconds,
        stop_seconds=table.stop_seconds,
        memory=table.memory,
        tasks=table.tasks,
        open_files=table.open_files,
        network=table.network,
        capabilities=table.capabilities,
        hardening=frozenset(key_of(name) for name, on in asdict(table.hardening).items() if on),
    )


def _owner(text: str) -> tuple[str, str]:
    """The user and the group of "user" or "user:group"."""
    user, _, group = text.partition(":")
    return user, group or user
