"""What a boot needs of whatever runs containers on this machine: images to make them of, and the containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from boxsnake.bases import Base
from boxsnake.boot_recipe import BuildContext
from boxsnake.container import MEMORY_BYTES, Container, Image
from boxsnake.hosts import Host
from boxsnake.store import Store

BaseOf = Callable[[str, tuple[str, str]], Base]
"""What finds the base image of a name, for an (os, architecture), its layers in the store."""


class Runtime(Protocol):
    """Whatever goes wrong between us and it is an EngineError, never a verdict about a box. Safe for threads."""

    @property
    def version(self) -> str:
        """Its name and version, for people."""
        ...

    @property
    def architecture(self) -> str:
        """The processor of its containers, as the OCI image specification names it ("amd64", "arm64")."""
        ...

    @property
    def no_limits(self) -> str:
        """Why the memory and the processors of its containers cannot be limited, as a sentence; "" where they can."""
        ...

    @property
    def no_builds(self) -> str:
        """Why it builds no contexts, as a sentence; "" where it does."""
        ...

    @property
    def emulated(self) -> frozenset[str]:
        """Further processors, whose programs an emulator runs in its containers."""
        ...

    def has(self, host: Host) -> bool:
        """Whether a host can be made here, or is here already: nothing need be pulled for it."""
        ...

    def host(self, store: Store, host: Host, *, offline: bool) -> AbstractContextManager[Image]:
        """Have a clean system for the block. Errors: those of `hosts.rootfs`, NetworkError where it is not pulled."""
        ...

    def artifact(self, store: Store, artifact: Path) -> AbstractContextManager[Image]:
        """Have the image that an artifact is for the block. Errors: BootError where it is none."""
        ...

    def image(self, name: str) -> Image | None:
        """The image of that name, where this has images by name and this one among them."""
        ...

    def built(
        self, store: Store, archive: Path, context: BuildContext, base_of: BaseOf
    ) -> AbstractContextManager[Image]:
        """Have the image of a build context for the block. Errors: BootError where it does not build."""
        ...

    def container(
        self,
        image: Image,
        *,
        python: Sequence[str] = (),
        user: str = "",
        environment: Mapping[str, str] | None = None,
        read_only: bool = False,
        small: Mapping[str, int] | None = None,
        capabilities: Sequence[str] = (),
        memory: int = MEMORY_BYTES,
        room: int = 0,
        may_keep: bool = False,
        mounts: Sequence[tuple[str, str]] = (),
    ) -> AbstractContextManager[Container]:
        """Have a container to run commands in, without network, for the block, or longer with `Container.keep`.

        `python` starts the image's own Python where it need not have another program to last by. `small` are folders
        in memory with their sizes in bytes, for trying what happens when a disk is full. `capabilities` are those of
        its root, none by default. `memory` is what it may take, and none of its files counts for that where it is less
        than usual; `room` is how many bytes its files will take beside the image's. `may_keep` tells that it may be
        kept. `mounts` are folders of this machine and where they are seen, for reading. Its /tmp is outside of
        `Container.changes`.

        Errors: EngineError; BootError where the image cannot be run.
        """
        ...

    def image_of(self, container: Container) -> AbstractContextManager[Image]:
        """Have an image of a container's files, as they are now, for the block."""
        ...

    def abandon(self) -> None:
        """Remove all containers of this run and start no more: other threads that work in one get an EngineError."""
        ...
