"""Containers as those see them who work in one, whatever has started it: commands, files, and what has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from boxsnake.value import dataclass

MEMORY_BYTES = 4 << 30
"""What a container may take, unless it is told otherwise."""

# In bytes, of each of the two streams of a command.
_KEPT_OUTPUT = 1 << 20

INSTALLING = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETUID")
"""What installing as root takes (owners and modes of files), and nothing that reaches beyond the container."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What containers are made of. `layers` are diff ids, lowest first; the rest is its configuration."""

    id: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    user: str
    folder: str


def configured_image(identity: str, layers: Sequence[str], config: Mapping[str, Any]) -> Image:
    """The image with this configuration, as the OCI image specification has it in "config"."""
    pairs = [variable.partition("=") for variable in config.get("Env") or ()]
    return Image(
        id=identity,
        layers=tuple(layers),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        environment=tuple((name, value) for name, _, value in pairs),
        user=config.get("User") or "",
        folder=config.get("WorkingDir") or "/",
    )


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command in a container ended.

    `exit_code` is None where none is known. `ended_by` is "" where it ended by itself, "timeout" where it took too
    long, "memory" where the kernel killed it for want of memory. Output is capped: the end is kept, and `cut` counts
    the bytes left out.
    """

    exit_code: int | None
    output: bytes
    errors: bytes
    seconds: float
    cut: int = 0
    ended_by: str = ""


class Tail:
    """The last bytes of a stream, and how many came before them."""

    def __init__(self) -> None:
        self.kept = b""
        self.cut = 0

    def add(self, data: bytes) -> None:
        """Take what comes next."""
        self.kept += data
        if len(self.kept) > 2 * _KEPT_OUTPUT:
            self.trim()

    def trim(self) -> None:
        """Leave out what is too much."""
        surplus = max(0, len(self.kept) - _KEPT_OUTPUT)
        self.kept = self.kept[surplus:]
        self.cut += surplus


@dataclass(frozen=True, kw_only=True, order=True)
class Change:
    """One path that differs from the container's image: "added", "changed" or "removed"."""

    path: str
    kind: str


class Container(Protocol):
    """A running container of ours."""

    @property
    def id(self) -> str:
        """What names it where it was started."""
        ...

    def execute(
        self,
        command: Sequence[str],
        *,
        seconds: float,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
    ) -> Finished:
        """Run a command to its end. One that takes longer than `seconds` is ended, and the container with it.

        Errors: EngineError where the container went away for a reason that is not the command's.
        """
        ...

    def limit(self, *, memory: int, processors: float) -> None:
        """Give it no more than so many bytes of memory, and so many processors (0.5 is half of one), from now on."""
        ...

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder to an absolute path, owned by root and readable by all; parents are made."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether a path of the container is a folder (a link to one is not)."""
        ...

    def changes(self) -> tuple[Change, ...]:
        """Every path that differs from the image, sorted; what is mounted into it is left out."""
        ...

    def own_changes(self) -> frozenset[Change]:
        """Those that any container of this kind begins with. To be asked before anything is done in it."""
        ...

    def keep(self) -> str:
        """Have it stay after its block, for people to look into: the command for that."""
        ...
