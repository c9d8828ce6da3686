"""A stack before it is started, as values."""

from __future__ import annotations

from boxsnake.boot_recipe import Check
from boxsnake.value import dataclass

LOCAL = "service:"
"""Before the name of a service that is defined here, where an image's reference would stand."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One container of a stack. Others reach it by its name."""

    name: str
    image: str
    """A reference, or "service:<name>"; of the application, what its artifact is called."""
    entrypoint: tuple[str, ...] | None = None
    """None: the image's own."""
    command: tuple[str, ...] | None = None
    user: str = ""
    folder: str = ""
    """The working directory; "" is the image's."""
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    """Names of variables that it is given and that stand nowhere."""
    ports: tuple[int, ...] = ()
    check: tuple[str, ...] = ()
    """A command in it that exits with 0 once it is ready."""
    request: Check | None = None
    """What it answers once it is ready; asked from outside."""
    read_only: bool = False
    capabilities: tuple[str, ...] = ()
    memory: str = ""
    """Such as "512M"; "" is as much as a container may take at most."""
    cpu: float | None = None
    scratch: tuple[tuple[str, str], ...] = ()
    """Folders in memory, and the options that they are mounted with."""
    volumes: tuple[str, ...] = ()
    """Folders that it writes to, and that go with it."""
    mounts: tuple[tuple[str, str], ...] = ()
    """Paths of this machine and where they are seen in it, for reading."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """An application with its services; `id` tells one manifest's from another's of the same name."""

    name: str
    id: str
    environment: str
    application: Unit
    services: tuple[Unit, ...] = ()

    @property
    def units(self) -> tuple[Unit, ...]:
        """In the order in which they are started."""
        return (*self.services, self.application)
