"""What an application wants of the system that it is installed on, as values: a user, folders, files, services."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from boxsnake.value import dataclass

DirectoryKind = Literal["state", "log", "cache", "run"]
Restart = Literal["no", "on-failure", "always"]
Frequency = Literal["daily", "weekly", "monthly"]

ROOT = "root"

SystemPart = Literal["user", "directories", "files", "units", "logrotate"]
"""The parts of `[system]`, of which a format may take some."""

PARTS: tuple[SystemPart, ...] = ("user", "directories", "files", "units", "logrotate")


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A folder outside the box: where the application keeps what it makes. `mode` holds permission bits only."""

    path: str
    kind: DirectoryKind
    owner: str = ROOT
    group: str = ROOT
    mode: int = 0o755


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A file below /etc that belongs to the host's administrator once it is there."""

    path: str
    source: str
    """Where it lies in the project, relative to the manifest's folder."""
    content: bytes
    owner: str = ROOT
    group: str = ROOT
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One process that systemd starts and watches. Texts are as the user gave them, never yet escaped."""

    name: str
    """The service's whole name without ".service"."""
    command: tuple[str, ...]
    """A program of the box by its name, or any by its absolute path, and its arguments."""
    user: str = ROOT
    environment: tuple[tuple[str, str], ...] = ()
    restart: Restart = "on-failure"
    restart_seconds: int = 5
    stop_seconds: int = 30
    memory: str | None = None
    """The most memory that it may take, as systemd writes it: "512M"."""
    tasks: int | None = None
    open_files: int | None = None
    network: bool = True
    """Whether it waits for the network."""
    capabilities: tuple[str, ...] = ()
    hardening: frozenset[str] = frozenset()
    """The protections that are on, by their keys in the manifest."""


@dataclass(frozen=True, kw_only=True)
class Logrotate:
    """How the `*.log` files of the log folders are rotated."""

    every: Frequency = "weekly"
    keep: int = 8
    max_size: str | None = None
    compress: bool = True


@dataclass(frozen=True, kw_only=True)
class System:
    """All of it; nothing, by default."""

    user: str | None = None
    directories: tuple[Directory, ...] = ()
    files: tuple[ConfigFile, ...] = ()
    units: tuple[Unit, ...] = ()
    logrotate: Logrotate | None = None
    summary: str = field(default="")
    """One line about the application, for those who look at its services."""

    @property
    def parts(self) -> tuple[SystemPart, ...]:
        """The parts that are wanted."""
        return tuple(part for part in PARTS if getattr(self, part))


NOTHING = System()
"""An application that wants nothing of its system."""
