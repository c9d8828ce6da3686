"""A clean host in which a package manager does its work, for tests of packages over their whole life."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from boxsnake.engine.container import Container
from tests.container_shell import Done, Shell


class PackageHost:
    """A started host."""

    environment: Mapping[str, str] = {}

    def __init__(self, container: Container, shell: Shell) -> None:
        self._container = container
        self._shell = shell

    @classmethod
    @contextmanager
    def within(cls, container: Container) -> Iterator[Self]:
        """Have the host of a started container for the block."""
        with Shell.within(container) as shell:
            yield cls(container, shell)

    def run(self, *command: str) -> Done:
        return self._shell.run(command, self.environment)

    def succeeds(self, *command: str) -> str:
        done = self.run(*command)
        assert done.exit_code == 0, done.said
        return done.said

    def sh(self, script: str) -> str:
        return self.succeeds("sh", "-c", script).strip()

    def copy(self, source: Path, target: str) -> None:
        self._container.copy(source, target)

    def kill_at(self, count: int, *command: str, follow: bool = False) -> Done:
        """Run a command of which the process dies instead of its count-th renaming or removing of a file.

        With `follow` that holds for each of the programs that it starts.
        """
        calls = "rename,renameat,renameat2,unlink,unlinkat,rmdir"
        tracer = ("env", "LD_LIBRARY_PATH=/strace", "/strace/strace", "-q", "-o", "/tmp/trace", "-E", "LD_LIBRARY_PATH")
        options = ("-f",) if follow else ()
        injected = f"inject={calls}:signal=KILL:when={count}"
        return self.run(*tracer, *options, "-e", f"trace={calls}", "-e", injected, *command)

    def hold_in_memory(self, folder: str) -> None:
        """Have a folder in memory, where making things durable takes no time. Needs the capability SYS_ADMIN."""
        aside = "/dev/shm/aside"
        mounted = f"mount -t tmpfs -o mode=755 tmpfs {folder}"
        self.sh(f"cp -a {folder} {aside} && {mounted} && cp -a {aside}/. {folder} && rm -r {aside}")

    def empty_opt(self) -> None:
        """Have a new folder for applications, in memory, whatever lies in the old one or is mounted there."""
        self.sh("while umount /opt 2>/dev/null; do :; done; rm -rf /opt/*; mount -t tmpfs -o mode=755 tmpfs /opt")

    def is_clean(self) -> None:
        """Nothing of an application is left."""
        left = self.sh("find /opt -mindepth 1; ls -d /usr/bin/app* 2>/dev/null || true")
        assert left == ""

    def hooks(self) -> list[str]:
        """What the hooks have written down, once."""
        return self.sh("cat /tmp/hooks; rm /tmp/hooks").splitlines()


class RpmHost(PackageHost):
    """One with rpm and dnf."""

    def run(self, *command: str) -> Done:
        done = super().run(*command)
        # Debian's rpm says so each time.
        lines = done.said.splitlines()
        kept = [line for line in lines if "use Alien instead" not in line and "However assuming" not in line]
        return Done(exit_code=done.exit_code, said="\n".join(kept))

    def rpm(self, *arguments: str) -> None:
        self.succeeds("rpm", *arguments)

    def dnf(self, *arguments: str) -> Done:
        return self.run("dnf", "--quiet", "--assumeyes", "--releasever=1", "--setopt=reposdir=/repos", *arguments)


class DebHost(PackageHost):
    """One with dpkg and apt."""

    environment: Mapping[str, str] = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}

    def dpkg(self, *arguments: str) -> str:
        return self.succeeds("dpkg", *arguments)

    def apt(self, *arguments: str) -> Done:
        return self.run("apt-get", "--quiet=2", "--assume-yes", *arguments)
