"""The limits of a sandbox: control groups of the kernel, version 1 or 2, below the one that this process is in.

An ordinary user has none to write to, as a rule: a sandbox is then without limits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from boxsnake.engine.owner import is_leftover_name, passing_name
from boxsnake.value import dataclass

_TOP = Path("/sys/fs/cgroup")
_PERIOD = 100_000  # microseconds: the kernel's own, for shares of processors
_PROCESSES = 1024
_REMOVAL_SECONDS = 2.0
_WANTED = ("memory", "cpu", "pids")


@dataclass(frozen=True, kw_only=True)
class ControlGroups:
    """The folder of each controller's group; version 2 has one group for all, whose name is ""."""

    folders: Mapping[str, Path]

    def limit(self, *, memory: int | None = None, processors: float | None = None) -> None:
        """Set limits, of memory in bytes. Errors: OSError."""
        if memory is not None and "" in self.folders:
            self._write("", "memory.max", str(memory))
            with contextlib.suppress(OSError):  # a kernel without swap has no such file
                self._write("", "memory.swap.max", "0")
        elif memory is not None:
            self._write("memory", "memory.limit_in_bytes", str(memory))
            with contextlib.suppress(OSError):
                self._write("memory", "memory.memsw.limit_in_bytes", str(memory))
        if processors is not None and "" in self.folders:
            self._write("", "cpu.max", f"{int(processors * _PERIOD)} {_PERIOD}")
        elif processors is not None:
            self._write("cpu", "cpu.cfs_period_us", str(_PERIOD))
            self._write("cpu", "cpu.cfs_quota_us", str(int(processors * _PERIOD)))

    def open(self) -> list[int]:
        """Files, which the caller closes, to which a process writes "0" to be put in. Errors: OSError."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders.values()]

    def killed(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        folder = self.folders.get("") or self.folders["memory"]
        words = (folder / ("memory.events" if "" in self.folders else "memory.oom_control")).read_text("ascii").split()
        return int(words[words.index("oom_kill") + 1])

    def remove(self) -> None:
        """Remove them; the kernel lets go of them a moment after their last process."""
        deadline = time.monotonic() + _REMOVAL_SECONDS
        for folder in self.folders.values():
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.01)

    def _write(self, name: str, file: str, text: str) -> None:
        (self.folders[name] / file).write_text(text, encoding="ascii")


def make() -> ControlGroups:
    """New groups of nobody else's. Errors: OSError where this user may make none."""
    own = passing_name("sandbox").replace("/", ".")
    folders: dict[str, Path] = {}
    try:
        for name, above in _above().items():
            folder = above / own
            folder.mkdir()
            folders[name] = folder
        groups = ControlGroups(folders=folders)
        if "" in folders:
            (folders[""] / "memory.max").stat()
            (folders[""] / "cpu.max").stat()
            (folders[""] / "pids.max").write_text(str(_PROCESSES), encoding="ascii")
        else:
            (folders["pids"] / "pids.max").write_text(str(_PROCESSES), encoding="ascii")
    except OSError:
        ControlGroups(folders=folders).remove()
        raise
    return groups


def reap() -> None:
    """Remove the groups of runs that were killed."""
    with contextlib.suppress(OSError):
        for above in _above().values():
            for folder in above.iterdir():
                if is_leftover_name(folder.name.replace(".", "/", 1)):
                    with contextlib.suppress(OSError):
                        folder.rmdir()


def _above() -> dict[str, Path]:
    """Where groups are made, by the names of controllers. Errors: OSError where they are not all there."""
    paths = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            paths[name] = path
    if all(name in paths for name in _WANTED):
        return {name: _writable([_folder(_TOP / name, paths[name])]) for name in _WANTED}
    own = _folder(_TOP, paths[""])
    # Only a group without processes of its own hands limits down, which some group above this one mostly is.
    lines = [own, *(folder for folder in own.parents if folder.is_relative_to(_TOP))]
    return {"": _writable([folder for folder in lines if set(_WANTED) <= _handed_down(folder)])}


def _folder(top: Path, path: str) -> Path:
    """The folder of a group; in a container it is the top, whatever its path says."""
    folder = top / path.strip("/")
    return folder if folder.is_dir() else top


def _handed_down(folder: Path) -> set[str]:
    return set((folder / "cgroup.subtree_control").read_text(encoding="ascii").split())


def _writable(folders: Sequence[Path]) -> Path:
    for folder in folders:
        if os.access(folder, os.W_OK):
            return folder
    raise PermissionError(errno.EACCES, "this user may make no control groups")
