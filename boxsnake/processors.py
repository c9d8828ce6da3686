"""Processors whose programs run on this machine, as the OCI image specification names them.

Beside its own, those that its kernel has an emulator started for: binfmt_misc, mostly with QEMU.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from boxsnake.target import OCI_ARCHITECTURES

_FOLDER = Path("/proc/sys/fs/binfmt_misc")
_ELF_MACHINE = slice(18, 20)


def own_processor() -> str:
    """The processor of the machine itself."""
    return OCI_ARCHITECTURES.get(os.uname().machine, os.uname().machine)


def emulated(folder: Path = _FOLDER) -> frozenset[str]:
    """The processors whose programs run here, also in containers, as the OCI image specification names them.

    In containers run those alone whose emulator the kernel has opened already (the flag F): they have no file of it.
    """
    from boxsnake.elf import EM_AARCH64, EM_X86_64

    machines = {EM_X86_64: "amd64", EM_AARCH64: "arm64"}
    found = set()
    with contextlib.suppress(OSError):  # the kernel knows nothing of it, or it is not mounted
        for entry in folder.iterdir():
            facts = _facts(entry)
            is_fit = "enabled" in facts and "F" in facts.get("flags:", "") and facts.get("offset") == "0"
            magic = bytes.fromhex(facts.get("magic", "")) if is_fit else b""
            if len(magic) >= _ELF_MACHINE.stop:
                (machine,) = struct.unpack("<H", magic[_ELF_MACHINE])
                found.add(machines.get(machine, ""))
    return frozenset(found - {""})


def _facts(entry: Path) -> dict[str, str]:
    """The lines of an entry (the kernel's Documentation/admin-guide/binfmt-misc.rst), each a word and what follows."""
    try:
        lines = entry.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # such as the files that are there to write to alone
        return {}
    return {word: rest for word, _, rest in (line.partition(" ") for line in lines)}
