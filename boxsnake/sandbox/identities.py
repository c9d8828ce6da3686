"""Who is who in a sandbox: its users and groups, as numbers of this machine that are nobody's.

Root has any number it likes; an ordinary user has its own for the sandbox's root, and for all others those that
/etc/subuid and /etc/subgid give it, which newuidmap and newgidmap enter (user_namespaces(7), subuid(5)).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from boxsnake.errors import EngineError
from boxsnake.value import dataclass

COUNT = 1 << 16
# Of no user on Debian, Fedora and their kin, and in no range that they give away.
_START = 0x70000000
_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Identities:
    """(number within, number on this machine, how many) of users and of groups. `programs` enter them, if any."""

    users: tuple[tuple[int, int, int], ...]
    groups: tuple[tuple[int, int, int], ...]
    programs: tuple[str, str] | None

    @property
    def root(self) -> tuple[int, int]:
        """The user and group that its root is on this machine."""
        return self.users[0][1], self.groups[0][1]

    def enter(self, pid: int) -> None:
        """Have them hold for a process that is alone in a new namespace of users. Errors: EngineError."""
        if self.programs is None:
            for name, ranges in (("uid_map", self.users), ("gid_map", self.groups)):
                _write(Path(f"/proc/{pid}/{name}"), ranges)
            return
        for program, ranges in zip(self.programs, (self.users, self.groups), strict=True):
            numbers = [str(number) for one in ranges for number in one]
            done = subprocess.run(
                [program, str(pid), *numbers], capture_output=True, text=True, check=False, timeout=_SECONDS
            )
            if done.returncode:
                raise _unable(f"{Path(program).name} failed: {done.stderr.strip()}", _give_numbers())


def identities() -> Identities:
    """Those of sandboxes of this user. Errors: EngineError where there are not enough."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return Identities(users=(_of_root("uid"),), groups=(_of_root("gid"),), programs=None)
    found = {
        name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin") for name in ("newuidmap", "newgidmap")
    }
    users, groups = found["newuidmap"], found["newgidmap"]
    if users is None or groups is None:
        step = "As root: `apt-get install uidmap`, or `dnf install shadow-utils`."
        raise _unable("newuidmap and newgidmap, which give it users, are not installed", step)
    return Identities(
        users=((0, uid, 1), _given(Path("/etc/subuid"), uid)),
        groups=((0, gid, 1), _given(Path("/etc/subgid"), uid)),
        programs=(users, groups),
    )


def _of_root(kind: str) -> tuple[int, int, int]:
    """Numbers of nobody; where root has not so many itself, being in a container, its own."""
    ranges = [tuple(map(int, line.split())) for line in Path(f"/proc/self/{kind}_map").read_text("ascii").splitlines()]
    has = any(start <= _START and start + count >= _START + COUNT for start, _, count in ranges)
    return (0, _START, COUNT) if has else (0, 0, min(COUNT, ranges[0][2]))


def _given(path: Path, uid: int) -> tuple[int, int, int]:
    """The largest range that the file gives the user."""
    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, numbers = line.strip().partition(":")
            first, _, size = numbers.partition(":")
            if name in names and first.isdecimal() and size.isdecimal():
                found.append((int(size), int(first)))
    except OSError:
        pass
    count, start = max(found, default=(0, 0))
    if count < COUNT - 1:
        raise _unable(f"{path} gives this user {count or 'no'} numbers, and {COUNT - 1} are needed", _give_numbers())
    return (1, start, COUNT - 1)


def _give_numbers() -> str:
    return f"As root: `usermod --add-subuids 100000-{99999 + COUNT} --add-subgids 100000-{99999 + COUNT} USER`."


def _write(path: Path, ranges: tuple[tuple[int, int, int], ...]) -> None:
    text = "".join(f"{within} {here} {count}\n" for within, here, count in ranges)
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise _unable(f"the kernel refuses its users: {error.strerror}", "Run outside of this container.") from error


def _unable(cause: str, step: str) -> EngineError:
    return EngineError("sandbox", cause, step)
