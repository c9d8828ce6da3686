"""The lock: what was resolved, by digest, for every target of a manifest."""

from boxsnake.lock.codec import LOCK_VERSION, decode, encode
from boxsnake.lock.difference import Change, LockDifference, difference, stale
from boxsnake.lock.pylock import pylock, shared_pylock
from boxsnake.lock.reasons import Reason, names, reasons
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
    "LOCK_VERSION",
    "BasePin",
    "Change",
    "CondaPackage",
    "Distribution",
    "Inputs",
    "Lock",
    "LockDifference",
    "Noarch",
    "Origin",
    "OriginKind",
    "Reason",
    "SystemKind",
    "SystemLock",
    "SystemPackage",
    "TargetLock",
    "Wheel",
    "decode",
    "difference",
    "encode",
    "names",
    "pylock",
    "reasons",
    "shared_pylock",
    "stale",
]
