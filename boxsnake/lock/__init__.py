"""The lock: what was resolved, by digest, for every target of a manifest.

Its values are here; what reads, writes, compares and explains it are modules of their own.
"""

from boxsnake.lock.system import SystemKind, SystemLock, SystemPackage
from boxsnake.lock.values import (
    BasePin,
    CondaPackage,
    Distribution,
    Inputs,
    Lock,
    Noarch,
    Origin,
    OriginKind,
    TargetLock,
    Wheel,
)

__all__ = [
    "BasePin",
    "CondaPackage",
    "Distribution",
    "Inputs",
    "Lock",
    "Noarch",
    "Origin",
    "OriginKind",
    "SystemKind",
    "SystemLock",
    "SystemPackage",
    "TargetLock",
    "Wheel",
]
