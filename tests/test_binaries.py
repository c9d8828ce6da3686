"""What the ELF files of a box need of its host: read from files that a compiler made, and remembered by digest."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from boxsnake import elf
from boxsnake.binaries import Binaries, Binary, check_floor, known, missing, remember_tree, remember_wheel
from boxsnake.boxes import Box
from boxsnake.credentials import Credentials
from boxsnake.entries import Entry, Tree
from boxsnake.errors import PackError
from boxsnake.lock import TargetLock, Wheel
from boxsnake.materials import Access
from boxsnake.pack import pack
from boxsnake.packagers import packagers
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from boxsnake.target import Platform, Target
from tests.archives import make_wheel, wheel_files

TARGET = Target(name="default", glibc="2.28")
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or sys.platform != "linux", reason="there is no C compiler for Linux here"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libown.so.1, and a program that is linked against it and asks for getrandom, which came with glibc 2.25."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "own.c").write_text("int own(void) { return 7; }\n")
    (folder / "program.c").write_text(
        "#include <sys/random.h>\nint own(void);\n"
        "int main(void) { char some[1]; return own() + (int)getrandom(some, 1, 0); }\n"
    )
    shared = ["cc", "-shared", "-fPIC", "-Wl,-soname,libown.so.1", "-o", "libown.so.1", "own.c"]
    subprocess.run(shared, cwd=folder, check=True)
    subprocess.run(["cc", "-o", "program", "program.c", "./libown.so.1"], cwd=folder, check=True)
    return folder


def platform_of(path: Path) -> Platform:
    found = elf.read(path)
    assert found is not None
    platforms: dict[int, Platform] = {elf.EM_X86_64: "linux-64", elf.EM_AARCH64: "linux-aarch64"}
    return platforms[found.machine]


def tree_of(root: Path, *paths: str) -> Tree:
    entries = [Entry(path=path, kind="file", mode=0o755, owner=f"conda:{path.partition('.')[0]}") for path in paths]
    return Tree(root=root, prefix="/opt/env", entries=tuple(sorted(entries)))


@needs_compiler
def test_a_tree_is_read_once_for_each_package(store: Store, folder: Path) -> None:
    target = dataclasses.replace(TARGET, platform=platform_of(folder / "program"))
    digests = {"conda:libown": "a" * 64, "conda:program": "b" * 64}
    remember_tree(store, tree_of(folder, "libown.so.1", "program"), digests, target)
    program = known(store, "conda:program", "b" * 64, target)
    own = known(store, "conda:libown", "a" * 64, target)
    assert program is not None
    assert own is not None
    assert own.brings == {"libown.so.1"}
    (read,) = program.files
    assert set(read.needs) == {"libown.so.1", "libc.so.6"}
    assert elf.glibc_of(read.version) >= (2, 25)
    assert missing([program, own], (), brings_python=True) == {}
    assert missing([program], (), brings_python=True) == {"libown.so.1": ("program of program",)}
    with pytest.raises(PackError, match=r"program of program: needs GLIBC_2.*and the target has glibc 2.17"):
        check_floor([program, own], dataclasses.replace(target, glibc="2.17"))
    check_floor([program, own], dataclasses.replace(target, glibc="2.99"))
    # The files are gone, and nothing asks for them.
    remember_tree(store, tree_of(folder / "nowhere", "libown.so.1", "program"), digests, target)


@needs_compiler
def test_a_wheel_is_read_whatever_its_tag_says(store: Store, folder: Path, tmp_path: Path) -> None:
    target = dataclasses.replace(TARGET, platform=platform_of(folder / "program"))
    path = tmp_path / "own-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "program", "own/_speed.cpython-311.so")
        archive.writestr("own/broken.so", elf.MAGIC + b"\0" * 9)
        archive.writestr("own/__init__.py", "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert known(store, "wheel:own", sha256, target) is None
    remember_wheel(store, path, sha256, target)
    found = known(store, "wheel:own", sha256, target)
    assert found is not None
    assert [binary.path for binary in found.files] == ["own/_speed.cpython-311.so"]
    with pytest.raises(PackError) as caught:
        check_floor([found], dataclasses.replace(target, glibc="2.17"))
    assert caught.value.thing == "own/_speed.cpython-311.so of own"


@needs_compiler
@pytest.mark.parametrize("wish", ["an old glibc", "every library", "a note"])
def test_a_box_that_its_host_could_not_run_is_not_made(folder: Path, tmp_path: Path, wish: str) -> None:
    store = Store(tmp_path / "store")
    platform = platform_of(folder / "program")
    files = {**wheel_files(), "demo/_speed.so": (folder / "program").read_bytes()}
    archive = make_wheel(tmp_path, files)
    with store.writer(origin="test") as writer:
        writer.write(archive.read_bytes())
    sha256 = writer.blob.digest.removeprefix("sha256:")
    wheel = Wheel(name="demo", version="1.0", file_name=archive.name, sha256=sha256, size=None, url=None)
    target = Target(name="default", platform=platform, glibc="2.17" if wish == "an old glibc" else "2.99")
    packager = packagers()["wheelhouse"]
    plan = Plan(
        application=Application(name="demo", version="1.0", wheel=wheel),
        lock=TargetLock(target=target, python="3.11.2", conda=(), wheels=()),
        options=packager.options(),
        root=tmp_path,
        epoch=0,
        missing_libraries="tell" if wish == "a note" else "refuse",
    )
    box = Box(packager=packager, plan=plan, path=tmp_path / "dist" / packager.file_name(plan))
    access = Access(credentials=Credentials(), offline=True)
    if wish == "a note":
        assert "the host must bring libown.so.1, for _speed.so of demo" in pack(box, store, access).notes
        return
    with pytest.raises(PackError) as caught:
        pack(box, store, access)
    assert caught.value.thing == ("demo/_speed.so of demo" if wish == "an old glibc" else "libown.so.1")
    assert not box.path.exists()


def test_another_platforms_files_need_nothing_here(store: Store, tmp_path: Path) -> None:
    shutil.copy(Path(sys.executable).resolve(), tmp_path / "python")
    foreign: Platform = "linux-aarch64" if platform_of(tmp_path / "python") == "linux-64" else "linux-64"
    target = dataclasses.replace(TARGET, platform=foreign)
    remember_tree(store, tree_of(tmp_path, "python"), {"conda:python": "c" * 64}, target)
    assert known(store, "conda:python", "c" * 64, target) == Binaries(
        owner="conda:python", brings=frozenset(), files=()
    )


def package(*needs: str, version: str = "") -> Binaries:
    return Binaries(
        owner="wheel:dep", brings=frozenset(), files=(Binary(path="dep/_c.so", needs=needs, version=version),)
    )


@pytest.mark.parametrize(
    ("version", "glibc", "passes"),
    [
        ("GLIBC_2.28", "2.28", True),
        ("GLIBC_2.3.4", "2.17", True),
        ("GLIBC_2.4", "2.17", True),
        ("GLIBC_2.34", "2.28", False),
        ("GLIBC_ABI_DT_RELR", "2.35", False),
        ("GLIBC_ABI_DT_RELR", "2.36", True),
        ("", "2.17", True),
    ],
)
def test_versions_are_compared_as_numbers(version: str, glibc: str, passes: bool) -> None:
    target = dataclasses.replace(TARGET, glibc=glibc)
    if passes:
        check_floor([package(version=version)], target)
    else:
        with pytest.raises(PackError, match=r"dep/_c\.so of dep"):
            check_floor([package(version=version)], target)


@pytest.mark.parametrize(
    ("library", "requirement"),
    [
        ("libcrypt.so.1", "libcrypt.so.1()(64bit)"),
        ("libcrypt.so.1", "libxcrypt >= 4"),
        ("libcrypt.so.1", "libcrypt1 (>= 4.1)"),
        ("libX11.so.6", "libx11-6"),
        ("libX11.so.6", "libX11"),
        ("libglib-2.0.so.0", "libglib2.0-0t64 | libglib2.0-dev"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libGL.so.1", "(mesa-libGL or libglvnd-glx)"),
    ],
)
def test_what_is_required_of_the_host_is_not_missing(library: str, requirement: str) -> None:
    boxes = [package(library, "libc.so.6", "ld-linux-x86-64.so.2", "libm.so.6")]
    assert missing(boxes, ("unrelated", "libcrypto"), brings_python=True) == {library: ("_c.so of dep",)}
    assert missing(boxes, (requirement,), brings_python=True) == {}


def test_the_interpreters_own_library_is_the_hosts_where_the_box_has_none() -> None:
    boxes = [package("libpython3.11.so.1.0")]
    assert missing(boxes, (), brings_python=False) == {}
    assert list(missing(boxes, (), brings_python=True)) == ["libpython3.11.so.1.0"]
