"""What a conda platform is called elsewhere."""

from __future__ import annotations

import platform

from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of one platform's processor."""

    debian: str
    """Its packages' architecture."""
    triplet: str
    """The folder of its libraries, in Debian's multiarch."""
    machine: str
    """As wheels and the kernel name it."""


PLATFORMS = {
    "linux-64": Names(debian="amd64", triplet="x86_64-linux-gnu", machine="x86_64"),
    "linux-aarch64": Names(debian="arm64", triplet="aarch64-linux-gnu", machine="aarch64"),
}
"""The platforms that recipes are built for."""


def own_platform() -> str:
    """The platform of this machine; linux-64 where recipes cannot be built for its own."""
    own = (name for name, names in PLATFORMS.items() if names.machine == platform.machine())
    return next(own, "linux-64")
