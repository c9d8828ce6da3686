"""The calls of Linux that containers are made of, as far as Python's standard library lacks them.

All raise OSError. See namespaces(7), user_namespaces(7), mount_namespaces(7), capabilities(7), pivot_root(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Collection
from pathlib import Path

NEW_MOUNTS = 0x00020000
NEW_GROUPS_OF_CONTROL = 0x02000000
NEW_NAMES = 0x04000000
NEW_IPC = 0x08000000
NEW_USERS = 0x10000000
NEW_PROCESSES = 0x20000000
NEW_NETWORK = 0x40000000
"""What `unshare` makes anew for this process; of processes, for its children."""

READ_ONLY = 0x1
NO_SETUID = 0x2
NO_DEVICES = 0x4
NO_PROGRAMS = 0x8
_REMOUNT = 0x20
_BIND = 0x1000
_RECURSIVE = 0x4000
_PRIVATE = 0x40000
_DETACH = 2

_SET_DEATH_SIGNAL = 1
_SET_NO_NEW_PRIVILEGES = 38
_DROP_FROM_BOUNDING_SET = 24
_SET_LOOPBACK_FLAGS, _UP = 0x8914, 0x1
_CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETFCAP": 31,
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for new ones."""
    _call("unshare", flags)


def hide_mounts_from_others() -> None:
    """Have no mount of this namespace seen in another one."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE, None)


def mount(kind: str, target: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system of the kernel's, such as "tmpfs"."""
    _mount(kind, target, kind, flags, options)


def bind(source: str, target: str, flags: int = 0) -> None:
    """Show a file or folder, with what is mounted in it, at another place as well; `flags` hold for it alone."""
    _mount(source, target, None, _BIND | _RECURSIVE, None)
    if flags:
        restrict(target, flags)


def restrict(target: str, flags: int) -> None:
    """Set the flags of a mount, such as `READ_ONLY`; those that it has already stay."""
    has = os.statvfs(target).f_flag
    # Of another user's namespace, what was forbidden there must stay so.
    kept = has & (READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS)
    kept |= sum(flag for told, flag in ((1024, 0x400), (2048, 0x800), (4096, 0x200000)) if has & told)
    _mount(None, target, None, _REMOUNT | _BIND | kept | flags, None)


def enter_root(folder: str) -> None:
    """Make a mount the root of this mount namespace, with nothing of the old one left."""
    os.chdir(folder)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def raise_loopback() -> None:
    """Have this network namespace's own addresses answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SET_LOOPBACK_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends."""
    _call("prctl", _SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def keep_capabilities(kept: Collection[str]) -> None:
    """Give up all capabilities but these, for what is executed from now on; no program can give more."""
    numbers = {_CAPABILITIES[name] for name in kept}
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="utf-8"))
    for number in range(last + 1):
        if number not in numbers:
            _call("prctl", _DROP_FROM_BOUNDING_SET, number, 0, 0, 0)
    _call("prctl", _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _call("mount", words[0], words[1], words[2], ctypes.c_ulong(flags), words[3], about=target)


def _call(name: str, *arguments: object, about: str = "") -> None:
    if getattr(_libc, name)(*arguments) == 0:
        return
    code = ctypes.get_errno()
    raise OSError(code, f"{name}: {os.strerror(code)}", about or None)
