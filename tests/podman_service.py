"""A podman with storage of its own, which listens."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# As docs/images.md has it for machines that may not raise limits, and storage that may lie in a container's own files.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
events_logger = "none"
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


@dataclass(frozen=True)
class Podman:
    """Its program, the environment that leads to its storage, and where it listens."""

    program: str
    environment: dict[str, str]
    address: str


@contextlib.contextmanager
def podman_service(folder: Path) -> Iterator[Podman]:
    """Run one until the end of the block."""
    program = shutil.which("podman")
    assert program, "podman is missing: apt-get install podman catatonit"
    (folder / "containers.conf").write_text(CONTAINERS)
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
    own = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    environment = {**os.environ, **{name: str(folder / file) for name, file in own.items()}}
    address = f"unix://{folder}/podman.sock"
    with (folder / "log").open("wb") as log:
        command = [program, "system", "service", "--time", "0", address]
        service = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while not (folder / "podman.sock").exists():
                assert service.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            yield Podman(program, environment, address)
        finally:
            service.terminate()
            service.wait()
            _unmount(folder)


def _unmount(folder: Path) -> None:
    """Undo the mount of the storage on itself, which podman leaves: nobody could remove the folder."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed(places):
        if Path(place).is_relative_to(folder):
            subprocess.run(["umount", place], check=True)
