"""Small staged trees for tests of packages that install a tree, and the plans and materials that go with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

from boxsnake.entries import APPLICATION, NOBODY, Entry, Patch, Tree, conda_owner, wheel_owner
from boxsnake.lock import CondaPackage, TargetLock
from boxsnake.packagers import Materials, Packager
from boxsnake.packagers.rpm import PACKAGER, RpmOptions
from boxsnake.plan import Application, Hook, Plan
from boxsnake.relocation import placed
from boxsnake.target import Target

EPOCH = 1577836800
PLACEHOLDER = "/placeholder" + "_" * 180

# Stands for an interpreter: a host of RPMs has one of its own, as dnf needs it.
_PYTHON = '#!/bin/sh\nexec /usr/bin/python3 "$@"\n'


def conda_package(name: str, *depends: str) -> CondaPackage:
    return CondaPackage(
        name=name,
        version="1.0",
        build="0",
        build_number=0,
        subdir="linux-64",
        channel="local",
        url=f"file:///channel/linux-64/{name}-1.0-0.conda",
        sha256="0" * 64,
        size=1,
        depends=depends,
    )


CONDA = (conda_package("python", "zlib >=1.2", "__glibc >=2.17"), conda_package("zlib"), conda_package("libx"))


def files_of(version: str) -> dict[str, tuple[str, str | bytes]]:
    """Owner and content by path; what begins with "->" is a link."""
    text = f"#!/bin/sh\necho app {version}\n"
    return {
        "bin/python": (conda_owner("python"), "->python3"),
        "bin/python3": (conda_owner("python"), _PYTHON),
        "lib/libz.so.1": (conda_owner("zlib"), b"\x7fELF\0zlib"),
        "bin/app": (APPLICATION, text),
        "bin/app-admin": (APPLICATION, text),
        "lib/python3.11/site-packages/app/__init__.py": (APPLICATION, f'VERSION = "{version}"\n'),
        "lib/python3.11/site-packages/app/__pycache__/__init__.cpython-311.pyc": (APPLICATION, b"\0\1\2" * 9),
        "lib/libx.so.1": (conda_owner("libx"), b"\x7fELF\0" + b"x" * 70_000),
        "lib/libx.so": (conda_owner("libx"), "->./libx.so.1"),
        "etc/where.conf": (conda_owner("libx"), f"{PLACEHOLDER}/share\n"),
        "lib/libz.so.2": (conda_owner("zlib"), b"\x7fELF\0" + PLACEHOLDER.encode() + b"/lib\0"),
        "share/libx/up": (conda_owner("libx"), "->../libx/../../lib"),
        "share/libx/dangling": (conda_owner("libx"), "->nowhere/at/all"),
        "share/libx/$HOME [a]*? '\" ü": (conda_owner("libx"), "$(id) ${HOME}\n"),
        f"share/libx/only-in-{version}": (conda_owner("libx"), ""),
        "lib/python3.11/site-packages/dep.py": (wheel_owner("dep"), f"# {'long ' * 40}{version}\n"),
        f"share/{'d' * 90}/{'e' * 90}/{'f' * 90}": (wheel_owner("dep"), "a name longer than ustar's\n"),
    }


def write_tree(root: Path, prefix: str | None, version: str) -> Tree:
    """A tree for a prefix; without one it is relocatable."""
    entries: list[Entry] = []
    patches: list[Patch] = []
    for path, (owner, content) in files_of(version).items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            place.symlink_to(content[2:])
            entries.append(Entry(path=path, kind="link", mode=0o777, owner=owner, target=content[2:]))
            continue
        data = content if isinstance(content, bytes) else content.encode()
        if PLACEHOLDER.encode() in data:
            patch = Patch(path=path, kind="binary" if isinstance(content, bytes) else "text")
            patches.append(patch)
            data = placed(data, patch.kind, PLACEHOLDER, prefix or PLACEHOLDER, {})
        mode = 0o755 if data.startswith(b"#!") else 0o644
        place.write_bytes(data)
        place.chmod(mode)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(Entry(path=path, kind="file", mode=mode, owner=owner, size=len(data), sha256=digest))
    folders = {parent.as_posix() for entry in entries for parent in PurePosixPath(entry.path).parents} - {"."}
    entries += [Entry(path=path, kind="folder", mode=0o755, owner=NOBODY) for path in folders]
    entries.sort()
    for entry in reversed(entries):
        os.utime(root / entry.path, (EPOCH, EPOCH), follow_symlinks=False)
    return Tree(
        root=root,
        prefix=prefix or PLACEHOLDER,
        entries=tuple(entries),
        notes=("a note of the tree",),
        patches=tuple(patches) if prefix is None else (),
    )


class FakeMaterials:
    """Materials that hold a small tree alone, in folders below `folder`."""

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self._version = version
        self._count = 0

    @contextmanager
    def tree(self, prefix: str | None) -> Iterator[Tree]:
        yield write_tree(self._new(), prefix, self._version)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        yield self._new()

    def _new(self) -> Path:
        self._count += 1
        folder = self._folder / f"made-{self._count}"
        folder.mkdir(parents=True)
        return folder


def plan_for(
    version: str = "1.0.0",
    *,
    hooks: tuple[Hook, ...] = (),
    requires: tuple[str, ...] = (),
    options: Mapping[str, Any] | None = None,
    **application: Any,
) -> Plan:
    described = {
        "name": "app",
        "version": version,
        "summary": "An application",
        "console_scripts": ("app", "app-admin"),
    }
    lock = TargetLock(target=Target(name="default"), python="3.11.2", conda=CONDA, wheels=())
    return Plan(
        application=Application(**{**described, **application}),
        lock=lock,
        options=RpmOptions.decoded(options or {}),
        root=Path(),
        epoch=EPOCH,
        requires_rpm=requires,
        hooks=hooks,
    )


def materials_for(plan: Plan, folder: Path) -> Materials:
    """Materials of which only a tree is asked, and room to work in."""
    return cast("Materials", FakeMaterials(folder / "materials", plan.application.version))


def build(plan: Plan, folder: Path, packager: Packager = PACKAGER) -> Path:
    """The plan's package, in `folder`."""
    packager.check(plan)
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / packager.file_name(plan)
    packager.pack(plan, materials_for(plan, folder / f"{out.name}.d"), out)
    return out
