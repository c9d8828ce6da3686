"""Boots in sandboxes, where there is no container engine; see `boxsnake.sandbox`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from boxsnake import hosts
from boxsnake.boot.runtime import BaseOf
from boxsnake.boot_recipe import BuildContext
from boxsnake.container import MEMORY_BYTES, Container, Image, configured_image
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import BootError, EngineError
from boxsnake.hosts import Host
from boxsnake.image.docker_archive import read_archive
from boxsnake.processors import own_processor
from boxsnake.sandbox import control_groups, kept
from boxsnake.sandbox.identities import Identities, identities
from boxsnake.sandbox.running import LayerFile, RunningSandbox, Start
from boxsnake.stage.place import folder_for
from boxsnake.store import Store

_TREE = "tree:"
# How many times its bytes a layer takes when it is unpacked, as a rule.
_RATIO = 4
# Files in memory count as memory of who has written them.
_MOST_IN_MEMORY = MEMORY_BYTES // 2


class InSandbox:
    """Sandboxes as the `Runtime` of boots. `store` has room for their files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[str, RunningSandbox] = {}
        self._layers: dict[str, tuple[LayerFile, ...]] = {}
        self._lock = threading.Lock()
        self._is_abandoned = False
        control_groups.reap()

    def check(self) -> None:
        """See that sandboxes can be had here, by starting one with nothing in it. Errors: EngineError."""
        image = self._image("nothing", (), {})
        with self.container(image):
            pass

    @property
    def version(self) -> str:
        """See `Runtime`."""
        return f"sandbox on Linux {platform.release()}"

    @property
    def architecture(self) -> str:
        """See `Runtime`."""
        return own_processor()

    @property
    def emulated(self) -> frozenset[str]:
        """See `Runtime`; it reads images of its own processor alone."""
        return frozenset()

    @cached_property
    def no_limits(self) -> str:
        """See `Runtime`."""
        try:
            control_groups.make().remove()
        except OSError as error:
            return f"the sandbox cannot limit memory and processors here: {error.strerror}"
        return ""

    @property
    def no_builds(self) -> str:
        """See `Runtime`."""
        return "the sandbox builds no contexts, which takes a container engine"

    def has(self, host: Host) -> bool:
        """See `Runtime`."""
        return host.image is None

    @contextlib.contextmanager
    def host(self, store: Store, host: Host, *, offline: bool) -> Iterator[Image]:  # noqa: ARG002 - nothing is pulled
        """See `Runtime`."""
        if host.image is not None:
            cause = f"is the image {host.image} of a registry, and the sandbox takes none from there"
            raise EngineError(f"host {host.name}", cause, "Boot on it in a container engine, or name another host.")
        blob = hosts.rootfs(store, host)
        path = store.path(blob.digest)
        # The store has compared its bytes.
        layer = LayerFile(path=path, start=0, size=blob.size, diff_id="")
        yield self._image(f"host:{host.name}", [layer], {})

    @contextlib.contextmanager
    def artifact(self, store: Store, artifact: Path) -> Iterator[Image]:  # noqa: ARG002 - read where it lies
        """See `Runtime`."""
        found = read_archive(artifact)
        places = [found.places[name] for name in found.files]
        layers = [
            LayerFile(path=place.path, start=place.offset, size=place.size, diff_id=diff_id)
            for place, diff_id in zip(places, found.diff_ids, strict=True)
        ]
        config = json.loads(found.config)
        theirs = config.get("architecture", self.architecture)
        if theirs != self.architecture:
            raise BootError(
                str(artifact), f"is for {theirs}, and this machine is {self.architecture}", "Boot it there."
            )
        yield self._image(found.id, layers, config.get("config") or {})

    def image(self, name: str) -> Image | None:  # noqa: ARG002 - it has none by name
        """See `Runtime`."""
        return None

    def built(
        self,
        store: Store,  # noqa: ARG002 - what is asked for is refused
        archive: Path,
        context: BuildContext,  # noqa: ARG002
        base_of: BaseOf,  # noqa: ARG002
    ) -> AbstractContextManager[Image]:
        """See `Runtime`."""
        raise EngineError(str(archive), self.no_builds, "Boot it with --runtime docker, or podman.")

    @contextlib.contextmanager
    def container(
        self,
        image: Image,
        *,
        python: Sequence[str] = (),  # noqa: ARG002 - a sandbox lasts by itself
        user: str = "",
        environment: Mapping[str, str] | None = None,
        read_only: bool = False,
        small: Mapping[str, int] | None = None,
        capabilities: Sequence[str] = (),
        memory: int = MEMORY_BYTES,
        room: int = 0,
        may_keep: bool = False,
        mounts: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Container]:
        """See `Runtime`. What an engine mounts is copied."""
        with contextlib.ExitStack() as stack:
            room = room if memory >= MEMORY_BYTES else MEMORY_BYTES
            folder, scratch, is_tree = self._place(stack, image, room, may_keep=may_keep)
            groups = _groups(stack, memory)
            start = Start(
                folder=folder,
                scratch=scratch,
                tree=is_tree,
                name=f"sandbox-{secrets.token_hex(4)}",
                layers=self._layers.get(image.id, ()),
                identities=self._identities,
                environment=dict(image.environment) | dict(environment or {}),
                capabilities=tuple(capabilities),
                groups=groups,
                user=user or image.user,
                read_only=read_only,
                small=dict(small or {}),
            )
            sandbox = RunningSandbox(start)
            stack.callback(self._end, sandbox, is_own=may_keep)
            with self._lock:
                if self._is_abandoned:
                    raise EngineError("sandbox", "the run was given up", "Run the command again.")
                self._running[sandbox.id] = sandbox
            for source, target in mounts:
                sandbox.copy(Path(source), target)
            yield sandbox

    @contextlib.contextmanager
    def image_of(self, container: Container) -> Iterator[Image]:
        """See `Runtime`: the very tree of the container, which must be used for nothing else meanwhile."""
        folder = self._running[container.id].folder
        yield configured_image(f"{_TREE}{folder}", (), {})

    def abandon(self) -> None:
        """See `Runtime`."""
        with self._lock:
            self._is_abandoned = True
            left = list(self._running.values())
        for sandbox in left:
            sandbox.end()

    @cached_property
    def _identities(self) -> Identities:
        return identities()

    def _image(self, identity: str, layers: Sequence[LayerFile], config: Mapping[str, Any]) -> Image:
        self._layers[identity] = tuple(layers)
        return configured_image(identity, (), config)

    def _end(self, sandbox: RunningSandbox, *, is_own: bool) -> None:
        """`is_own`: its folder is not removed by another."""
        sandbox.end()
        if is_own and not sandbox.kept:
            remove_tree(sandbox.folder)
        with self._lock:
            self._running.pop(sandbox.id, None)

    def _place(self, stack: contextlib.ExitStack, image: Image, room: int, *, may_keep: bool) -> tuple[Path, str, bool]:
        """Where a container of the image lies, what its /tmp is called there, and whether its root is there already."""
        if image.id.startswith(_TREE):
            folder = Path(image.id.removeprefix(_TREE))
            scratch = f"tmp-{secrets.token_hex(4)}"
            self._make_folder(folder / scratch, 0o777)
            return folder, scratch, True
        if may_keep:
            folder = kept.make(self._store)
        else:
            size = room + _RATIO * sum(layer.size for layer in self._layers[image.id])
            place = (
                folder_for(self._store, size, "sandbox") if size < _MOST_IN_MEMORY else self._store.scratch("sandbox")
            )
            folder = stack.enter_context(place)
        self._give(folder)
        self._make_folder(folder / "root", 0o755)
        self._make_folder(folder / "tmp", 0o777)
        return folder, "tmp", False

    def _make_folder(self, folder: Path, mode: int) -> None:
        with disk_faults(folder):
            folder.mkdir()
            folder.chmod(mode)
            self._give(folder)

    def _give(self, folder: Path) -> None:
        """Have a folder belong to the sandboxes' root."""
        if os.geteuid() == 0:
            os.chown(folder, *self._identities.root)


def _groups(stack: contextlib.ExitStack, memory: int) -> control_groups.ControlGroups | None:
    """Control groups with the limits of any container, where they are to be had."""
    try:
        groups = control_groups.make()
        stack.callback(groups.remove)
        groups.limit(memory=memory)
    except OSError:
        return None
    return groups
