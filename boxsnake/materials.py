"""Materials: what packagers pack, brought from the store, the network and the staging step when it is asked for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.credentials import Credentials
from boxsnake.entries import APPLICATION, conda_owner, wheel_owner
from boxsnake.errors import IntegrityError, LockError
from boxsnake.image.base_name import MINIMAL
from boxsnake.layers.plan import AS_THEY_ARE, Group, LayerBlob, Treatment
from boxsnake.lock import CondaPackage, SystemLock, Wheel
from boxsnake.plan import Part, Plan
from boxsnake.registry import Registries
from boxsnake.store import Store
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.bases import Base
    from boxsnake.binaries import Binaries
    from boxsnake.entries import Tree
    from boxsnake.fetch import Wanted
    from boxsnake.image.layout import LaidOut
    from boxsnake.layers.keys import LayerKeys
    from boxsnake.target import Target


@dataclass(frozen=True, kw_only=True)
class Access:
    """How what is not in the store is reached."""

    credentials: Credentials
    index: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variables of builds, which name the index; they may hold credentials."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Names of base images, and what the user's settings take instead of them."""
    registries: Registries = field(default_factory=Registries)
    """Where base images are pulled from."""
    mirrors: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where archives of distributions are to be had from here, by their names."""
    offline: bool = False
    """Use nothing that is not in the store."""


class StoreMaterials:
    """The materials of one plan. A context manager: the folders that it hands out last until it is left."""

    def __init__(
        self, store: Store, plan: Plan, access: Access, announce: Callable[[LaidOut], None] | None = None
    ) -> None:
        """`announce` is told of an image when all of its layers are in the store."""
        self.store = store
        self._plan = plan
        self._access = access
        self._announce = announce
        self._folders = ExitStack()
        self._environment: str | None = None
        self._has_environment = False

    def __enter__(self) -> StoreMaterials:
        return self

    def __exit__(self, *raised: object) -> None:
        self._folders.close()

    def wheels(self, wheels: Sequence[Wheel]) -> Mapping[str, Path]:
        """See `boxsnake.packagers.Materials`."""
        from boxsnake.fetch import Wanted

        for wheel in wheels:
            self._build_where_missing(wheel)
        wanted = [Wanted(name=w.file_name, url=w.url or "", sha256=w.sha256, size=w.size, kind="wheel") for w in wheels]
        return self._under_their_names(wanted)

    def conda(self, packages: Sequence[CondaPackage]) -> Mapping[str, Path]:
        """See `boxsnake.packagers.Materials`."""
        from boxsnake.fetch import Wanted

        wanted = [Wanted(name=p.file_name, url=p.url, sha256=p.sha256, size=p.size, kind="conda") for p in packages]
        return self._under_their_names(wanted)

    def tree(self, prefix: str | None, treatment: Treatment = AS_THEY_ARE) -> AbstractContextManager[Tree]:
        """See `boxsnake.packagers.Materials`."""
        return self._tree(prefix, treatment)

    @contextmanager
    def _tree(self, prefix: str | None, treatment: Treatment, *, has_times: bool = True) -> Iterator[Tree]:
        from boxsnake.binaries import remember_tree
        from boxsnake.stage.staging import stage

        plan = self._plan
        self._environment, self._has_environment = prefix, True
        application = plan.application.wheel
        with stage(
            self.store,
            plan.lock,
            conda=self.conda(plan.lock.conda),
            wheels=self.wheels(plan.wheels_over_conda + ((application,) if application else ())),
            application=application,
            prefix=prefix,
            epoch=plan.epoch,
            treatment=treatment,
            has_times=has_times,
        ) as tree:
            remember_tree(self.store, tree, self._digests(), plan.target)
            yield tree

    def layers(self, prefix: str, groups: Sequence[Group], treatment: Treatment = AS_THEY_ARE) -> Sequence[LayerBlob]:
        """See `boxsnake.packagers.Materials`."""
        from boxsnake.layers.blobs import layer_blobs

        self._environment, self._has_environment = prefix, True
        return layer_blobs(
            self.store,
            groups,
            self._layer_keys(prefix, treatment),
            tree=lambda: self._removed_beside(self._tree(prefix, treatment, has_times=False)),
            alone=lambda layer, owners: self._removed_beside(self._alone(owners, prefix, layer, treatment)),
        )

    @contextmanager
    def _alone(
        self, owners: Collection[str], prefix: str, interpreter: LayerBlob, treatment: Treatment
    ) -> Iterator[Tree]:
        """A tree with nothing but these wheels, compiled by the interpreter of that layer."""
        from boxsnake.binaries import remember_tree
        from boxsnake.stage.staging import stage_wheels

        plan = self._plan
        application = plan.application.wheel if APPLICATION in owners else None
        wanted = [wheel for wheel in plan.wheels_over_conda if wheel_owner(wheel.name) in owners]
        digests = {owner: digest for owner, digest in self._digests().items() if owner in owners}
        with stage_wheels(
            self.store,
            plan.lock,
            wheels=self.wheels([*wanted, *([application] if application else [])]),
            application=application,
            layer=interpreter.digest,
            prefix=prefix,
            treatment=treatment,
        ) as tree:
            remember_tree(self.store, tree, digests, plan.target)
            yield tree

    def known_layers(
        self, prefix: str, groups: Sequence[Group], treatment: Treatment = AS_THEY_ARE
    ) -> Sequence[LayerBlob | None]:
        """See `boxsnake.packagers.Materials`."""
        from boxsnake.layers.blobs import known_layers

        return known_layers(self.store, groups, self._layer_keys(prefix, treatment))

    def _layer_keys(self, prefix: str, treatment: Treatment) -> LayerKeys:
        from boxsnake.layers.keys import LayerKeys

        plan = self._plan
        application = plan.application.wheel
        return LayerKeys(plan.lock, application=application, prefix=prefix, epoch=plan.epoch, treatment=treatment)

    def base(self, name: str, platform: tuple[str, str]) -> Base:
        """See `boxsnake.packagers.Materials`."""
        access, system = self._access, self._plan.lock.system
        if name == MINIMAL and system is not None and system.base == MINIMAL:
            from boxsnake.system_packages.minimal_base import minimal_base

            packages = self.system_packages
            return minimal_base(self.store, name, system, packages, platform=platform, epoch=self._plan.epoch)
        from boxsnake.bases import base_image

        return base_image(
            self.store,
            name,
            bases=access.bases,
            root=self._plan.root,
            wanted=platform,
            registries=access.registries,
            pin=self._plan.lock.base,
            offline=access.offline,
        )

    def system_packages(self, system: SystemLock) -> Mapping[str, Path]:
        """See `boxsnake.packagers.Materials`."""
        from boxsnake.system_packages.fetched import fetched

        access = self._access
        return fetched(
            self.store, system, mirrors=access.mirrors, credentials=access.credentials, offline=access.offline
        )

    @property
    def has_environment(self) -> bool:
        """Whether an environment was handed out, as a tree or as layers."""
        return self._has_environment

    def binaries(self) -> Sequence[Binaries]:
        """What the ELF files need of all that was handed out: of the environment, or of the wheels alone.

        Packages that are known by their digests are not read again.
        """
        if not self._has_environment:
            return self.wheel_binaries(self._plan.parts[0])
        found = self._known_binaries()
        if None in found:  # layers that were there without having been read
            with self.tree(self._environment):
                found = self._known_binaries()
        return [binaries for binaries in found if binaries]

    def _known_binaries(self) -> list[Binaries | None]:
        from boxsnake.binaries import known

        return [known(self.store, owner, digest, self._plan.target) for owner, digest in self._digests().items()]

    def wheel_binaries(self, part: Part) -> Sequence[Binaries]:
        """What the ELF files of the wheels of one of the box's targets need."""
        return [self._wheel_binaries(wheel, part.target) for wheel in part.wheels]

    def _wheel_binaries(self, wheel: Wheel, target: Target) -> Binaries:
        from boxsnake.binaries import Binaries, known, remember_wheel

        owner = wheel_owner(wheel.name)
        if (found := known(self.store, owner, wheel.sha256, target)) is None:
            remember_wheel(self.store, self.wheels([wheel])[wheel.file_name], wheel.sha256, target)
            found = known(self.store, owner, wheel.sha256, target)
        return found or Binaries(owner=owner, brings=frozenset(), files=())

    def _digests(self) -> dict[str, str]:
        """The digests of what the environment is made of, by owner."""
        lock, application = self._plan.lock, self._plan.application.wheel
        digests = {conda_owner(package.name): package.sha256 for package in lock.conda}
        digests |= {wheel_owner(wheel.name): wheel.sha256 for wheel in lock.wheels_over_conda}
        return digests | ({APPLICATION: application.sha256} if application else {})

    def scratch(self) -> AbstractContextManager[Path]:
        """See `boxsnake.packagers.Materials`."""
        return self.store.scratch("pack")

    def announce(self, image: LaidOut) -> None:
        """See `boxsnake.packagers.Materials`."""
        if self._announce is not None:
            self._announce(image)

    @contextmanager
    def _removed_beside(self, staged: AbstractContextManager[Tree]) -> Iterator[Tree]:
        """A tree whose removal the block does not wait for: its layers are packed meanwhile."""
        with ExitStack() as stack:
            yield stack.enter_context(staged)
            remover = threading.Thread(target=stack.pop_all().close, name="remove tree")
            self._folders.callback(remover.join)
            remover.start()

    def _under_their_names(self, wanted: Sequence[Wanted]) -> Mapping[str, Path]:
        """The blobs in one folder under the archives' names: tools read facts off those.

        Hard links, as some tools read the name off what a symbolic link leads to.
        """
        from boxsnake.fetch import fetch

        blobs = fetch(self.store, wanted, offline=self._access.offline, credentials=self._access.credentials)
        folder = self._folders.enter_context(self.store.scratch("archives"))
        found: dict[str, Path] = {}
        for item in wanted:
            found[item.name] = folder / item.name
            try:
                found[item.name].hardlink_to(blobs[item.sha256])
            except OSError:  # a file system without hard links, or a blob with as many as it may have
                shutil.copyfile(blobs[item.sha256], found[item.name])
        return found

    def _build_where_missing(self, wheel: Wheel) -> None:
        """A wheel that no index serves is built again from its origin; the lock's digest must come out."""
        digest = f"sha256:{wheel.sha256}"
        if wheel.url is not None or self.store.has(digest):
            return
        if wheel.origin is None:
            cause = "the lock gives neither an URL nor an origin for it"
            raise LockError(wheel.file_name, cause, "Run `boxsnake lock` again.")
        from boxsnake.project import build_wheel, source_of

        built = build_wheel(
            self.store,
            source_of(wheel.origin, self._plan.root),
            python=next(part.lock for part in self._plan.parts if wheel in part.wheels).python_minor,
            environment=self._access.index,
            credentials=self._access.credentials,
            offline=self._access.offline,
        )
        if built.sha256 != wheel.sha256:
            raise IntegrityError(
                wheel.file_name,
                f"built again from {wheel.origin.url}, it has the digest {built.sha256}, the lock says {wheel.sha256}",
                "Its build is not reproducible: keep the store's copy, serve the wheel from an index, or lock again.",
                expected=wheel.sha256,
                found=built.sha256,
            )
