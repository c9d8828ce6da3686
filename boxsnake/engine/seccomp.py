"""Which system calls containers may use that are thrown away: what makes files durable is answered and not done.

A package manager has each file and each change of its database written to the disk before it goes on, and that takes
longer than all else that it does, while everything that waits for the disk on this machine waits as well. Nothing of
it is wanted where no file outlasts the container: what is read is what was written, durable or not.

An engine takes such a filter in place of its own, so this one also refuses what an engine's would, as far as dropped
capabilities do not. (seccomp(2), and Docker's format of such filters.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

_SYNCING = ("fdatasync", "fsync", "sync", "sync_file_range", "syncfs")
# Ways into the kernel that no capability guards: keys of other containers, other processes' memory, and parts of the
# kernel that have had more than their share of faults.
_UNGUARDED = (
    "add_key",
    "bpf",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kcmp",
    "keyctl",
    "perf_event_open",
    "process_vm_readv",
    "process_vm_writev",
    "request_key",
    "unshare",
    "userfaultfd",
)
_EPERM, _ENOSYS = 1, 38
_NEW_USER = 0x10000000
# The machine's own system calls, and those of its older kinds of programs.
_ARCHITECTURES = {
    "X86_64": ("X86", "X32"),
    "AARCH64": ("ARM",),
    "PPC64LE": (),
    "S390X": ("S390",),
}


@cache
def not_durable(capabilities: Sequence[str]) -> str:
    """The filter of a container whose root has these capabilities, as an engine takes it."""
    rules = [_answered(_SYNCING, 0)]
    if "SYS_ADMIN" not in capabilities:
        rules += [
            _answered(_UNGUARDED, _EPERM),
            # A user namespace gives back every capability. What clone3 is asked for lies where no filter can look.
            {**_answered(("clone",), _EPERM), "args": [_has_flag(0, _NEW_USER)]},
            _answered(("clone3",), _ENOSYS),
        ]
    kinds = [
        {"architecture": f"SCMP_ARCH_{name}", "subArchitectures": [f"SCMP_ARCH_{other}" for other in others]}
        for name, others in _ARCHITECTURES.items()
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "archMap": kinds, "syscalls": rules})


def takes_filters(facts: Mapping[str, Any]) -> bool:
    """Whether an engine that says this of itself (`GET /info`) takes a filter by its text, in place of its own default.

    One that somebody has chosen for all containers is theirs to keep. podman wants a file of its machine.
    """
    defaults = {"name=seccomp,profile=default", "name=seccomp,profile=builtin"}
    return not defaults.isdisjoint(facts.get("SecurityOptions") or ()) and "BuildahVersion" not in facts


def _answered(names: Sequence[str], number: int) -> dict[str, Any]:
    """Calls that are not carried out, but answered with an error number; 0 is success."""
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": number}


def _has_flag(index: int, flag: int) -> dict[str, Any]:
    return {"index": index, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
