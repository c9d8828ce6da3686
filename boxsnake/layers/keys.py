"""What decides the bytes of layers, and of the parts that they are made of: the keys that the store has them by."""

from __future__ import annotations

from typing import Any

from boxsnake.archive import GZIP_FORMAT
from boxsnake.conda_url import published
from boxsnake.entries import APPLICATION, conda_owner, wheel_owner
from boxsnake.layers.plan import Group, Treatment
from boxsnake.lock import TargetLock, Wheel
from boxsnake.stage.bytecode import FORMAT as BYTECODE_FORMAT
from boxsnake.stage.bytecode import expected_compiler

_FORMAT = 7
"""To be raised whenever the same packages shall give other bytes: the tree, its scrubbing or the tar changed."""


class LayerKeys:
    """The keys of one environment that is linked for a prefix, with the application; `epoch` is its files' time."""

    def __init__(
        self, lock: TargetLock, *, application: Wheel | None, prefix: str, epoch: int, treatment: Treatment
    ) -> None:
        # Where a package came from is told in conda-meta.
        packages: dict[str, list[str]] = {
            conda_owner(package.name): [package.sha256, *published(package)] for package in lock.conda
        }
        python = packages.get(conda_owner("python"))
        packages |= {wheel_owner(wheel.name): [wheel.sha256] for wheel in lock.wheels_over_conda}
        self.environment = tuple(sorted(packages))
        """The owners of all but the application."""
        if application:
            packages[APPLICATION] = [application.sha256]
        self.prefix = prefix
        self.epoch = epoch
        self._packages = packages
        self._treatment = treatment
        self._common = {
            "format": _FORMAT,
            "gzip": GZIP_FORMAT,
            "prefix": prefix,
            "epoch": epoch,
            "platform": lock.target.platform,
            "python": python,
            "compiler": expected_compiler(lock),
            "byte-code": BYTECODE_FORMAT,
        }

    @property
    def looks_across(self) -> bool:
        """Whether what becomes of a package's files is decided by what else is there: folders with tests are."""
        return "tests" in self._treatment.trim

    def layer(self, group: Group) -> dict[str, Any]:
        """Of a layer: everything that decides its bytes, and what is told of it."""
        activated = self.activated(group)
        return self._key(group.owners) | ({"activate": activated} if activated else {})

    def piece(self, owner: str) -> dict[str, Any]:
        """Of what one owner has of a layer, whatever else is in that."""
        return self._key((owner,))

    def together(self) -> dict[str, Any]:
        """Of everything but the application."""
        return self._key(self.environment)

    def activated(self, group: Group) -> list[str]:
        """The owners in the layer whose activation scripts are run."""
        return sorted({conda_owner(name) for name in self._treatment.activate} & set(group.owners))

    def _key(self, owners: tuple[str, ...]) -> dict[str, Any]:
        key: dict[str, Any] = self._common | {"packages": {owner: self._packages[owner] for owner in owners}}
        # The application itself is never trimmed.
        if self._treatment.trim and set(owners) != {APPLICATION}:
            key |= {"trim": sorted(self._treatment.trim), "keep": sorted(self._treatment.keep)}
        return key
