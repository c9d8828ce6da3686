"""Boots in a container engine: hosts are imported into it, images loaded, contexts built, and all of it removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from boxsnake import hosts
from boxsnake.boot.context import built
from boxsnake.boot.image import loaded
from boxsnake.boot.runtime import BaseOf
from boxsnake.boot_recipe import BuildContext
from boxsnake.container import MEMORY_BYTES, Container, Image
from boxsnake.engine import Engine, sleeper
from boxsnake.processors import emulated
from boxsnake.store import Store


@dataclass(frozen=True)
class InEngine:
    """An engine as the `Runtime` of boots."""

    engine: Engine

    @property
    def version(self) -> str:
        """See `Runtime`."""
        return self.engine.version

    @property
    def architecture(self) -> str:
        """See `Runtime`."""
        return self.engine.architecture

    @property
    def no_limits(self) -> str:
        """See `Runtime`."""
        return self.engine.no_limits

    @property
    def no_builds(self) -> str:
        """See `Runtime`."""
        return ""

    @cached_property
    def emulated(self) -> frozenset[str]:
        """See `Runtime`; of an engine elsewhere, nobody knows."""
        return emulated() if self.engine.address.startswith("unix:") else frozenset()

    def has(self, host: hosts.Host) -> bool:
        """See `Runtime`."""
        return host.image is None or self.engine.image(host.image) is not None

    @contextlib.contextmanager
    def host(self, store: Store, host: hosts.Host, *, offline: bool) -> Iterator[Image]:
        """See `Runtime`."""
        yield self.engine.existing(hosts.image_id(self.engine, store, host, offline=offline))

    @contextlib.contextmanager
    def artifact(self, store: Store, artifact: Path) -> Iterator[Image]:  # noqa: ARG002 - others may want the store
        """See `Runtime`."""
        with loaded(self.engine, artifact) as identity:
            yield self.engine.existing(identity)

    def image(self, name: str) -> Image | None:
        """See `Runtime`."""
        return self.engine.image(name)

    @contextlib.contextmanager
    def built(self, store: Store, archive: Path, context: BuildContext, base_of: BaseOf) -> Iterator[Image]:
        """See `Runtime`."""
        with built(self.engine, store, archive, context, base_of) as identity:
            yield self.engine.existing(identity)

    @contextlib.contextmanager
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
        room: int = 0,  # noqa: ARG002 - an engine's containers are on its disk
        may_keep: bool = False,
        mounts: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Container]:
        """See `Runtime`."""
        with self.engine.container(
            image.id,
            sleep=sleeper(python),
            user=user,
            environment=environment,
            read_only=read_only,
            small=small,
            capabilities=capabilities,
            memory=memory,
            may_keep=may_keep,
            mounts=mounts,
        ) as container:
            yield container

    @contextlib.contextmanager
    def image_of(self, container: Container) -> Iterator[Image]:
        """See `Runtime`."""
        with self.engine.image_of(container.id) as identity:
            yield self.engine.existing(identity)

    def abandon(self) -> None:
        """See `Runtime`."""
        self.engine.abandon()
