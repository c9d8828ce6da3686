"""Runs a program as root of a namespace of users: `python -m boxsnake.sandbox.as_root PROGRAM ARGUMENT...`.

For an ordinary user and programs that put systems together: they may mount, and have files belong to anybody, among
numbers that are nobody's on this machine. The network is this machine's. It ends when this process does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import boxsnake
from boxsnake.errors import EngineError
from boxsnake.sandbox import kernel
from boxsnake.sandbox.identities import identities

_ENTERED = b"!"
_CANNOT_RUN = 126


def main(argv: Sequence[str]) -> int:
    """Run it to its end: its exit code."""
    pid = os.getpid()
    try:
        found = identities()
        asked, told = os.pipe()
        helper = os.fork()
        if helper == 0:
            # Who is to be who is said from outside.
            os.read(asked, 1)
            try:
                found.enter(pid)
            except EngineError as error:
                sys.stderr.write(f"{error}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        kernel.unshare(kernel.NEW_USERS)
        os.write(told, _ENTERED)
        if os.waitpid(helper, 0)[1]:
            return _CANNOT_RUN
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)
        kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_PROCESSES)
    except (OSError, EngineError) as error:
        sys.stderr.write(f"cannot be root of a namespace: {error}\n")
        return _CANNOT_RUN
    inner = os.fork()
    if inner == 0:
        _become(argv)
    signal.signal(signal.SIGINT, lambda number, _: os.kill(inner, number))
    return os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])


def _become(argv: Sequence[str]) -> None:
    try:
        kernel.die_with_parent()
        kernel.hide_mounts_from_others()
        kernel.mount("proc", "/proc")
        os.environ.pop("PYTHONPATH", None)
        os.execvp(argv[0], list(argv))  # noqa: S606 - what this is for
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error}\n")
        sys.stderr.flush()
        os._exit(_CANNOT_RUN)


def command(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """How a program is run so, and the variables that this takes. Errors: EngineError where it cannot be."""
    identities()
    search = [*(path for path in sys.path if path), str(Path(boxsnake.__file__).parent.parent)]
    variables = {"PYTHONPATH": os.pathsep.join(search)}
    return [sys.executable, "-S", "-P", "-m", "boxsnake.sandbox.as_root", *argv], variables


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
