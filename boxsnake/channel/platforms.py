"""What a conda platform is called elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of one platform's processor."""

    debian: str
    wheel: str


PLATFORMS = {
    "linux-64": Names(debian="amd64", wheel="x86_64"),
    "linux-aarch64": Names(debian="arm64", wheel="aarch64"),
}
