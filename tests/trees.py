"""Small conda packages and wheels, written by hand, and the locks that name them: what tests of trees are made of."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from boxsnake.bases import Base, base_image
from boxsnake.entries import Tree
from boxsnake.image.layout import LaidOut
from boxsnake.layers.blobs import known_layers, layer_blobs
from boxsnake.layers.keys import LayerKeys
from boxsnake.layers.plan import AS_THEY_ARE, Group, LayerBlob, Treatment
from boxsnake.lock import CondaPackage, Distribution, Noarch, SystemLock, TargetLock, Wheel
from boxsnake.registry import Registries
from boxsnake.stage.staging import stage
from boxsnake.store import Store
from boxsnake.target import Interpreter, Platform, Target

EPOCH = 1577836800
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = f"{MINOR}.{sys.version_info[2]}"
SITE = f"lib/python{MINOR}/site-packages"
PLACEHOLDER = "/" + "/".join(["placehold"] * 12)


@dataclass(frozen=True)
class Link:
    """A symbolic link in a package."""

    target: str


@dataclass(frozen=True)
class Program:
    """An executable file in a package."""

    text: str


@dataclass(frozen=True)
class Folder:
    """A folder that a package lists as one of its own."""


Content = str | bytes | Link | Program | Folder

PYTHON_FILES: dict[str, Content] = {
    # Not a whole Python, which would take seconds: the one that runs the tests stands in for it.
    f"bin/python{MINOR}": Program(f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    "bin/python": Link(f"python{MINOR}"),
    f"lib/python{MINOR}/this_library.py": "VALUE = 1\n",
}


def _tar_zst(members: Mapping[str, Content]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.mtime = 1_700_000_000
            member.mode = 0o755 if isinstance(content, Program) else 0o644
            if isinstance(content, Link):
                member.type, member.linkname = tarfile.SYMTYPE, content.target
                archive.addfile(member)
            elif isinstance(content, Folder):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            else:
                data = _bytes(content)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return zstandard.ZstdCompressor().compress(out.getvalue())


def _bytes(content: Content) -> bytes:
    if isinstance(content, Program):
        return content.text.encode()
    assert isinstance(content, str | bytes)
    return content.encode() if isinstance(content, str) else content


def _path_entry(name: str, content: Content) -> dict[str, Any]:
    if isinstance(content, Link):
        return {"_path": name, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0}
    if isinstance(content, Folder):
        return {"_path": name, "path_type": "directory"}
    data = _bytes(content)
    entry: dict[str, Any] = {"_path": name, "path_type": "hardlink", "size_in_bytes": len(data)}
    entry["sha256"] = hashlib.sha256(data).hexdigest()
    if PLACEHOLDER.encode() in data:
        mode = "binary" if isinstance(content, bytes) else "text"
        entry |= {"file_mode": mode, "prefix_placeholder": PLACEHOLDER}
    return entry


@dataclass
class Workshop:
    """Makes packages in a folder and remembers what it made."""

    folder: Path
    archives: dict[str, Path] = field(default_factory=dict)
    packages: list[CondaPackage] = field(default_factory=list)
    wheels: list[Wheel] = field(default_factory=list)
    application: Wheel | None = None

    def conda(
        self,
        name: str,
        files: Mapping[str, Content],
        *,
        version: str = "1.0",
        depends: Sequence[str] = (),
        noarch: Noarch | None = None,
        entry_points: Sequence[str] = (),
        distribution: bool = False,
        url: str = "https://user:secret@channel.example/t/token-1/main",
    ) -> CondaPackage:
        """Write a `.conda` archive (conda's CEP 3)."""
        subdir = "noarch" if noarch else "linux-64"
        build = "0_cpython" if name == "python" else "0"
        index: dict[str, Any] = {
            "name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends),
            "subdir": subdir, "timestamp": 1_700_000_000_000, "license": "MIT",
        }  # fmt: skip
        index |= {"noarch": noarch} if noarch else {"arch": "x86_64", "platform": "linux"}
        paths = {"paths": [_path_entry(*item) for item in sorted(files.items())], "paths_version": 1}
        info: dict[str, Content] = {"info/index.json": json.dumps(index), "info/paths.json": json.dumps(paths)}
        info["info/files"] = "".join(f"{path}\n" for path in sorted(files))
        if noarch == "python":
            link = {"noarch": {"type": "python", "entry_points": list(entry_points)}, "package_metadata_version": 1}
            info["info/link.json"] = json.dumps(link)
        stem = f"{name}-{version}-{build}"
        path = self.folder / f"{stem}.conda"
        with zipfile.ZipFile(path, "w") as archive:
            for part, data in {
                "metadata.json": b'{"conda_pkg_format_version": 2}',
                f"pkg-{stem}.tar.zst": _tar_zst(files),
                f"info-{stem}.tar.zst": _tar_zst(info),
            }.items():
                archive.writestr(zipfile.ZipInfo(part), data)
        package = CondaPackage(
            name=name,
            version=version,
            build=build,
            build_number=0,
            subdir=subdir,
            channel=url,
            url=f"{url}/{subdir}/{path.name}",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=path.stat().st_size,
            depends=tuple(depends),
            noarch=noarch,
            distributions=(Distribution(name=name, version=version),) if distribution else (),
        )
        self.archives[path.name] = path
        self.packages.append(package)
        return package

    def python(self, files: Mapping[str, Content] | None = None) -> CondaPackage:
        """The package that every environment with wheels needs."""
        return self.conda("python", PYTHON_FILES | dict(files or {}), version=VERSION)

    def wheel(
        self,
        name: str,
        files: Mapping[str, Content],
        *,
        version: str = "1.0",
        entry_points: str = "",
        own: bool = False,
    ) -> Wheel:
        """Write a wheel (PyPA's binary distribution format)."""
        info = f"{name}-{version}.dist-info"
        members: dict[str, Content] = dict(files)
        members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        if entry_points:
            members[f"{info}/entry_points.txt"] = entry_points
        record = "".join(
            f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(_bytes(data)).digest()).rstrip(b'=').decode()},"
            f"{len(_bytes(data))}\n"
            for path, data in members.items()
        )
        members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        path = self.folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                head = zipfile.ZipInfo(member)
                head.external_attr = (0o100755 if isinstance(data, Program) else 0o100644) << 16
                archive.writestr(head, _bytes(data))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        made = Wheel(name=name, version=version, file_name=path.name, sha256=digest, size=size, url=None)
        self.archives[path.name] = path
        if own:
            self.application = made
        else:
            self.wheels.append(made)
        return made

    def lock(self, *, platform: Platform = "linux-64", interpreter: Interpreter = "conda") -> TargetLock:
        """The lock of everything made so far, but for the application."""
        target = Target(name="default", platform=platform, interpreter=interpreter)
        wheels = tuple(sorted(self.wheels, key=lambda wheel: wheel.name))
        return TargetLock(target=target, python=VERSION, conda=tuple(self.packages), wheels=wheels)

    def materials(self, store: Store, lock: TargetLock | None = None) -> Materials:
        """What packagers pack, out of everything made so far."""
        return Materials(self, store, lock or self.lock())

    @contextmanager
    def stage(
        self,
        store: Store,
        *,
        prefix: str | None = "/opt/env",
        lock: TargetLock | None = None,
        treatment: Treatment = AS_THEY_ARE,
    ) -> Iterator[Tree]:
        """Stage everything made so far."""
        conda = {name: path for name, path in self.archives.items() if name.endswith(".conda")}
        wheels = {name: path for name, path in self.archives.items() if name.endswith(".whl")}
        for path in wheels.values():
            store.put_file(path)
        with stage(
            store,
            lock or self.lock(),
            conda=conda,
            wheels=wheels,
            application=self.application,
            prefix=prefix,
            epoch=EPOCH,
            treatment=treatment,
        ) as tree:
            yield tree


@dataclass
class Materials:
    """Materials of a workshop; counts how often a tree was staged."""

    workshop: Workshop
    store: Store
    lock: TargetLock
    staged: int = 0

    def wheels(self, wheels: Sequence[Wheel]) -> Mapping[str, Path]:
        return {wheel.file_name: self.workshop.archives[wheel.file_name] for wheel in wheels}

    def conda(self, packages: Sequence[CondaPackage]) -> Mapping[str, Path]:
        return {package.file_name: self.workshop.archives[package.file_name] for package in packages}

    def tree(self, prefix: str | None, treatment: Treatment = AS_THEY_ARE) -> AbstractContextManager[Tree]:
        self.staged += 1
        return self.workshop.stage(self.store, prefix=prefix, lock=self.lock, treatment=treatment)

    def layers(self, prefix: str, groups: Sequence[Group], treatment: Treatment = AS_THEY_ARE) -> Sequence[LayerBlob]:
        return layer_blobs(
            self.store, groups, self.layer_keys(prefix, treatment), tree=lambda: self.tree(prefix, treatment)
        )

    def known_layers(
        self, prefix: str, groups: Sequence[Group], treatment: Treatment = AS_THEY_ARE
    ) -> Sequence[LayerBlob | None]:
        return known_layers(self.store, groups, self.layer_keys(prefix, treatment))

    def layer_keys(self, prefix: str, treatment: Treatment = AS_THEY_ARE) -> LayerKeys:
        application = self.workshop.application
        return LayerKeys(self.lock, application=application, prefix=prefix, epoch=EPOCH, treatment=treatment)

    def base(self, name: str, platform: tuple[str, str]) -> Base:
        root = self.workshop.folder.parent
        return base_image(self.store, name, bases={}, root=root, wanted=platform, registries=Registries())

    def system_packages(self, system: SystemLock) -> Mapping[str, Path]:
        return {package.sha256: self.workshop.archives[package.file_name] for package in system.packages}

    def scratch(self) -> AbstractContextManager[Path]:
        return self.store.scratch("pack")

    def announce(self, image: LaidOut) -> None:
        pass
