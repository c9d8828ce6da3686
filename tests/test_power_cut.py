"""Power cuts while a package is upgraded: the disk as it is at some moment, with all that was not written to it lost.

The host's file system lies in a file, and that file on another file system, which is frozen while the file is copied:
so a copy is what the disk held at one moment. A copy of a disk that is being written to would be nothing of the kind,
nor would one that was made after the writers had been stopped: the kernel goes on writing for them. What a disk's own
cache loses is beyond this: file systems order it by their barriers.

BOXSNAKE_POWER_CUTS says how many disks are looked at, for each package manager.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from boxsnake.hosts import load_hosts, rootfs
from boxsnake.store import Store
from tests import deb_trees, rpm_trees

CUTS = int(os.environ.get("BOXSNAKE_POWER_CUTS", "3"))
VERSIONS = ("1.0", "2.0", "3.0")
# The version in use starts, and all of its files are what they were.
IN_USE = 'app && cd /opt/app/current/ && sha256sum --check --quiet "/opt/app/install/$(readlink ../current)/sums"'

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists() or shutil.which("fsfreeze") is None,
    reason="needs root, loop devices and fsfreeze",
)


@dataclass(frozen=True)
class Kind:
    """A package manager: its commands in the host; `{0}` is a version."""

    name: str
    install: str
    repair: str
    verify: str
    build: Callable[[str, Path], Path]


KINDS = (
    Kind(
        name="rpm",
        install="rpm -U --oldpackage --replacepkgs /repo/{0}.package",
        repair="rpm -U --oldpackage --replacepkgs /repo/{0}.package",
        verify="rpm -V app",
        build=lambda version, folder: rpm_trees.build(rpm_trees.plan_for(version), folder),
    ),
    Kind(
        name="dpkg",
        install="dpkg --install /repo/{0}.package",
        repair="dpkg --configure --pending; dpkg --install /repo/{0}.package",
        verify="dpkg --verify app; dpkg --audit",
        build=lambda version, folder: deb_trees.build(deb_trees.plan_for(version), folder),
    ),
)


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def within(host: Path, script: str) -> list[str]:
    command = ["chroot", str(host), "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return [line for line in done.stdout.splitlines() if line.startswith("app ")]


@contextlib.contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    run("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        run("umount", place)
        place.rmdir()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In memory, where there is room."""
    memory = Path("/dev/shm")
    found = Path(tempfile.mkdtemp(prefix="power-cut-", dir=memory if memory.is_dir() else None))
    try:
        yield found
    finally:
        shutil.rmtree(found)


@pytest.fixture(scope="module")
def disk(folder: Path) -> Iterator[Path]:
    """The image of a host's disk, on a file system that can be frozen."""
    outer = folder / "outer.img"
    with outer.open("wb") as stream:
        stream.truncate(3 << 30)
    run("mkfs.ext4", "-q", "-O", "^has_journal", outer)
    store = Store(Store.default_root())
    system = store.path(rootfs(store, load_hosts()["debian-12-rpm"]).digest)
    with mounted(outer, folder / "outer") as place:
        image = place / "disk.img"
        with image.open("wb") as stream:
            stream.truncate(1 << 30)
        run("mkfs.ext4", "-q", image)
        with mounted(image, folder / "new") as host:
            run("tar", "-xf", system, "-C", host, "--exclude=./usr/share/*", "--exclude=./dev/*")
            run("mkdir", "-p", host / "dev", host / "repo", host / "usr/share")
            run("mknod", "-m", "666", host / "dev/null", "c", "1", "3")
            for kind in KINDS:
                for version in VERSIONS:
                    built = kind.build(version, folder / "built")
                    (host / "repo" / kind.name).mkdir(exist_ok=True)
                    shutil.copy(built, host / "repo" / kind.name / f"{version}.package")
        yield image


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_power_cut_leaves_one_whole_version_in_use(kind: Kind, disk: Path, folder: Path) -> None:
    at, chance = f"/repo/{kind.name}", random.Random()  # noqa: S311 - the moment of a power cut
    cuts: list[tuple[Path, str, str]] = []
    with mounted(disk, folder / "host") as host:
        within(host, kind.install.format("1.0").replace("/repo", at))
        run("sync", "-f", host)
        old = "1.0"
        while len(cuts) < CUTS:
            new = chance.choice([version for version in VERSIONS if version != old])
            command = ["chroot", str(host), "sh", "-c", kind.install.format(new).replace("/repo", at)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as writer:
                while writer.poll() is None and len(cuts) < CUTS:
                    time.sleep(chance.uniform(0, 0.3))
                    cuts.append((cut(disk, folder / f"cut-{len(cuts)}.img"), old, new))
            assert writer.returncode == 0
            old = new
    for image, old, new in cuts:
        with mounted(image, folder / "after") as host:
            assert within(host, IN_USE) in ([f"app {old}"], [f"app {new}"])
            within(host, kind.repair.format(new).replace("/repo", at))
            assert within(host, f"{IN_USE} && {kind.verify}") == [f"app {new}"]
        run("e2fsck", "-f", "-n", image)
        image.unlink()


def cut(disk: Path, copy: Path) -> Path:
    """What the disk holds now."""
    run("fsfreeze", "--freeze", disk.parent)
    try:
        run("cp", "--sparse=always", disk, copy)
        run("cmp", disk, copy)  # else somebody writes all the same, and this proves nothing
    finally:
        run("fsfreeze", "--unfreeze", disk.parent)
    return copy
