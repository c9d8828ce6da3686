"""What is in a box, told without installing it; and what two boxes differ in."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxsnake.errors import IntegrityError, ResourceError, UsageError
from boxsnake.inspection import inspect
from boxsnake.inspection.difference import difference
from tests.archives import make_wheel, wheel_files
from tests.small_world import World, small_world
from tests.trees import MINOR, VERSION

BOXES = ("image", "rpm", "deb", "installer", "appimage", "dockerfile", "pex", "wheelhouse")
OF_CONDA = BOXES[:6]
WHEELS = [("python", "demo", "1.0"), ("python", "small", "1.0"), ("python", "tool", "1.0")]


SUFFIXES = {
    "image": "image.tar", "rpm": "rpm", "deb": "deb", "installer": "sh", "appimage": "AppImage",
    "dockerfile": "context.tar", "pex": "pex", "wheelhouse": "wheelhouse.tar",
}  # fmt: skip


def path_of(world: World, box: str) -> Path:
    (found,) = (world.app / "dist").glob(f"small*{SUFFIXES[box]}")
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with small_world(tmp_path_factory.mktemp("world")) as made:
        made.write(image='form = "archive"\n[boxes.dockerfile]\nbase = "scratch"')
        made.done("lock")
        made.done("build", *BOXES)
        yield made


def told(world: World, *arguments: str, code: int = 0) -> Any:
    done = world.run(*arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("words", [("inspect", ""), ("diff", "", "wheelhouse"), ("boot", "")])
def test_an_empty_name_is_not_the_folder_at_hand(world: World, words: tuple[str, ...]) -> None:
    refused = world.run(*words)
    assert (refused.returncode, "an artifact's name: is empty" in refused.stderr) == (2, True)


@pytest.mark.parametrize("box", BOXES)
def test_every_format_tells_what_is_in_it(world: World, box: str) -> None:
    found = inspect(path_of(world, box))
    assert (found.format, found.name) == (box, "small")
    assert found.version.partition("-")[0] in {"1.0", "1.0.0"}
    assert [(one.kind, one.name, one.version) for one in found.packages if one.kind == "python"] == WHEELS
    sizes = [one.size for one in found.packages]
    assert 0 < sum(size for size in sizes if size is not None) <= found.installed_size
    assert None not in sizes
    conda = {one.name: one.version for one in found.packages if one.kind == "conda"}
    assert conda == ({"gem": "1.0", "python": VERSION} if box in OF_CONDA else {})
    # Every file is somebody's, and none is anybody else's as well.
    assert sum(share.size for share in found.shares) == found.installed_size
    assert {(share.kind, share.name) for share in found.shares} - {("", "")} == {
        (one.kind, one.name) for one in found.packages if one.size
    }
    # Pure wheels say of no Python that they are for it.
    assert found.python in ((VERSION,) if box in OF_CONDA else (MINOR, ""))
    assert found.digest == f"sha256:{hashlib.sha256(path_of(world, box).read_bytes()).hexdigest()}"


def test_people_see_packages_layers_and_files(world: World) -> None:
    shown = world.done("inspect", "image", "--files")
    for words in ("layer", "interpreter", "application", "conda packages", "demo", "opt/env/lib/", "starts"):
        assert words in shown


def test_a_lock_is_told_like_a_box(world: World) -> None:
    found = told(world, "inspect", "boxsnake.lock")
    assert (found["format"], found["python"]) == ("lock", VERSION)
    assert {one["name"] for one in found["packages"]} == {"gem", "python", "demo", "tool"}
    refused = world.run("inspect", "boxsnake.lock", "--target", "other")
    assert (refused.returncode, "It has default" in refused.stderr) == (2, True)


@pytest.mark.parametrize("box", [box for box in BOXES if box != "image"])
def test_boxes_of_one_lock_differ_in_nothing(world: World, box: str) -> None:
    made = inspect(path_of(world, box), digests=True)
    found = difference(inspect(path_of(world, "image"), digests=True), made)
    assert (bool(found), found.packages, found.files) == (False, (), ())
    assert found.compared >= 5
    assert not difference(inspect(world.app / "boxsnake.lock"), made)


def test_what_two_boxes_differ_in_is_named_and_exits_with_1(world: World, tmp_path: Path) -> None:
    made = path_of(world, "pex")
    other = tmp_path / "other.pex"
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(other, "w") as new:
        for info in old.infolist():
            if "tool" in info.filename:
                continue
            data = old.read(info)
            new.writestr(info, _changed(data) if "small" in info.filename and data[:2] == b"PK" else data)
    found = told(world, "diff", "wheelhouse", str(other), code=1)
    assert [(one["name"], one["before"]["version"], one["after"]) for one in found["packages"]] == [
        ("tool", "1.0", None)
    ]
    changed = {one["path"]: (one["before"] is None, one["after"] is None) for one in found["files"]}
    assert changed["site:small.py"] == (False, False)
    assert changed["site:more.py"] == (True, False)
    assert {path for path, (_, gone) in changed.items() if gone} == {
        path for path in changed if path.startswith(("site:tool", "site:demo"))
    }
    shown = world.run("diff", "wheelhouse", str(other))
    assert (shown.returncode, "- tool 1.0" in shown.stdout, "~ site:small.py" in shown.stdout) == (
        1,
        True,
        True,
    )
    packages = told(world, "diff", "wheelhouse", str(other), "--packages", code=1)
    assert (len(packages["packages"]), packages["files"]) == (1, [])


def _changed(wheel: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info) + (b"# edited\n" if info.filename == "small.py" else b""))
        new.writestr("more.py", "")
    return out.getvalue()


# Made by others


def tar_of(files: Mapping[str, str | bytes], *, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_a_docker_archive_shows_what_a_container_would_see(tmp_path: Path) -> None:
    status = "Package: dash\nVersion: 1.2\nStatus: install ok installed\nInstalled-Size: 3\n\n"
    gone = "Package: gone\nVersion: 1\nStatus: deinstall ok config-files\n"
    system = 'NAME=x\nPRETTY_NAME="Some System 12"\n'
    files = {
        "var/lib/dpkg/status": status + gone,
        "etc/os-release": system,
        "opt/a": "1",
        "opt/b/c": "2",
        "srv/x/y": "3",
    }
    lower = tar_of(files)
    upper = tar_of({"opt/.wh.a": "", "srv/x/.wh..wh..opq": "", "srv/x/z": "4", ".wh.etc": ""})
    config = {"os": "linux", "architecture": "arm64", "config": {"Cmd": ["run"]}, "rootfs": {"diff_ids": ["", ""]}}
    image = {"Config": "c.json", "RepoTags": ["example.org/team/thing:7"], "Layers": ["l/layer.tar", "u/layer.tar"]}
    archive = tmp_path / "image.tar"
    parts: dict[str, str | bytes] = {
        "c.json": json.dumps(config),
        "l/layer.tar": lower,
        "u/layer.tar": upper,
        "manifest.json": json.dumps([image]),
    }
    archive.write_bytes(tar_of(parts))
    found = inspect(archive)
    assert (found.format, found.name, found.version, found.platform) == ("image", "thing", "7", "linux/arm64")
    assert (found.starts, found.base) == (("run",), "")
    assert [(one.kind, one.name, one.version, one.size) for one in found.packages] == [("deb", "dash", "1.2", 3072)]
    assert set(found.files) == {"var/lib/dpkg/status", "opt/b/c", "srv/x/z"}
    assert [part.size for part in found.parts] == [len(lower), len(upper)]


@pytest.mark.parametrize("compression", ["w9.gzdio", "w6.xzdio", "w3.zstdio"])
def test_an_rpm_that_rpmbuild_made(tmp_path: Path, compression: str) -> None:
    spec = tmp_path / "thing.spec"
    spec.write_text(
        "Name: thing\nEpoch: 2\nVersion: 1.5\nRelease: 3\nSummary: s\nLicense: MIT\nBuildArch: noarch\n"
        "Requires: bash >= 4\n%description\nd\n%install\nmkdir -p %{buildroot}/opt/t\n"
        "printf 12345 >%{buildroot}/opt/t/a; ln %{buildroot}/opt/t/a %{buildroot}/opt/t/b\n"
        "ln -s a %{buildroot}/opt/t/l\n%files\n/opt/t\n"
    )
    options = [f"_topdir {tmp_path}", f"_binary_payload {compression}", "_build_id_links none"]
    command = ["rpmbuild", "-bb", "--quiet", *(word for one in options for word in ("--define", one)), str(spec)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = tmp_path.glob("RPMS/noarch/*.rpm")
    found = inspect(made, digests=True)
    assert (found.name, found.version, found.platform) == ("thing", "2:1.5-3", "noarch")
    assert "bash >= 4" in found.requires
    assert {path: (file.size, file.link) for path, file in found.files.items()} == {
        "opt/t/a": (5, ""), "opt/t/b": (5, ""), "opt/t/l": (0, "a"),
    }  # fmt: skip
    assert found.files["opt/t/a"].sha256 == found.files["opt/t/b"].sha256 != ""


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "none"])
def test_a_deb_that_dpkg_made(tmp_path: Path, compression: str) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: thing\nVersion: 1:2-3\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: d\n"
    (tree / "DEBIAN" / "control").write_text(f"{control}Depends: libc6 (>= 2), bash\n")
    (tree / "opt").mkdir()
    (tree / "opt" / "file").write_text("text")
    made = tmp_path / "thing.deb"
    subprocess.run(["dpkg-deb", f"-Z{compression}", "--build", str(tree), str(made)], check=True, capture_output=True)
    found = inspect(made)
    assert (found.name, found.version, found.requires) == ("thing", "1:2-3", ("bash", "libc6 (>= 2)"))
    assert {path: file.size for path, file in found.files.items()} == {"opt/file": 4}


def test_wheels_archives_and_folders(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, wheel_files())
    found = inspect(wheel)
    assert (found.format, found.name, found.version) == ("wheel", "demo", "1.0")
    house = tmp_path / "house"
    house.mkdir()
    (house / wheel.name).write_bytes(wheel.read_bytes())
    assert (inspect(house).format, len(inspect(house).packages)) == ("wheelhouse", 1)
    assert not difference(inspect(house, digests=True), inspect(wheel, digests=True)).files
    sdist = tmp_path / "sdist.tar.xz"
    sdist.write_bytes(tar_of({"a-1/PKG-INFO": "Name: a\nVersion: 1\nRequires-Python: >=3.9\n"}, mode="w:xz"))
    found = inspect(sdist)
    assert (found.format, found.name, found.version, found.python) == ("sdist", "a", "1", ">=3.9")
    packed = tmp_path / "environment.tar.zst"
    record = json.dumps({"name": "python", "version": "3.12.1", "files": ["bin/python"]})
    tree = tar_of({"./conda-meta/python.json": record, "./bin/python": "12"})
    packed.write_bytes(zstandard.ZstdCompressor().compress(tree))
    found = inspect(packed)
    assert (found.format, found.python, found.packages[0].size) == ("environment", "3.12.1", 2)


def test_vendored_and_bundled_distributions_are_none_of_the_box(tmp_path: Path) -> None:
    site = "opt/x/lib/python3.11/site-packages"
    wheel = make_wheel(tmp_path, wheel_files()).read_bytes()
    about = "Name: {}\nVersion: 1\n"
    files: dict[str, str | bytes] = {
        f"{site}/a-1.dist-info/METADATA": about.format("a"),
        f"{site}/a/_vendor/b-1.dist-info/METADATA": about.format("b"),
        "opt/x/lib/python3.11/ensurepip/_bundled/demo-1.0-py3-none-any.whl": wheel,
    }
    archive = tmp_path / "x.tar"
    archive.write_bytes(tar_of(files))
    found = inspect(archive)
    assert [one.name for one in found.packages] == ["a"]
    assert (found.prefix, found.python) == ("opt/x", "3.11")


def test_what_is_no_box_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("nothing\n")
    with pytest.raises(UsageError, match="nothing that can be looked into"):
        inspect(text)
    with pytest.raises(ResourceError, match="no such file"):
        inspect(tmp_path / "absent")


@pytest.mark.parametrize("box", ["image", "rpm", "deb", "installer", "appimage", "pex"])
def test_a_box_that_is_cut_off_is_damaged(world: World, box: str, tmp_path: Path) -> None:
    whole = path_of(world, box)
    cut = tmp_path / whole.name
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(IntegrityError, match=r"damaged|cut off|no whole"):
        inspect(cut, digests=True)


def test_a_zip_without_its_middle_is_damaged(world: World, tmp_path: Path) -> None:
    whole = path_of(world, "pex")
    data = whole.read_bytes()
    cut = tmp_path / whole.name
    cut.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 999 :])
    with pytest.raises(IntegrityError, match="damaged"):
        inspect(cut, digests=True)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        inspect(tmp_path / "pipe")


def test_a_compressed_tar_with_other_bytes_in_it_is_damaged(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    data = bytearray(gzip.compress(b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256))))
    data[1 << 10 : 1 << 11] = bytes(1 << 10)
    broken.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged"):
        inspect(broken)


def test_a_file_of_an_image_is_of_its_layer_and_package(tmp_path: Path) -> None:
    """The upper layer has a distribution and hides a file of the lower one's Debian package."""
    lower = {
        "var/lib/dpkg/status": b"Package: tool\nStatus: install ok installed\nVersion: 1\nInstalled-Size: 99\n",
        "var/lib/dpkg/info/tool:amd64.list": b"/.\n/bin/tool\n/etc/tool\n",
        "usr/bin/tool": b"12345",
        "etc/tool": b"1",
    }
    upper = {
        "etc/.wh.tool": b"",
        "opt/demo-1.dist-info/METADATA": b"Name: demo\nVersion: 1\n",
        "opt/demo-1.dist-info/RECORD": b"demo.py,,\ndemo-1.dist-info/RECORD,,\ndemo-1.dist-info/METADATA,,\n",
        "opt/demo.py": b"123",
        "opt/__pycache__/demo.cpython-311.pyc": b"1234",
    }
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for name, files in (("lower", lower), ("upper", upper)):
            layer = io.BytesIO()
            with tarfile.open(fileobj=layer, mode="w") as inner:
                for path, content in files.items():
                    add_text(inner, path, content)
            add_text(archive, name, layer.getvalue())
        add_text(archive, "config.json", b"{}")
        add_text(archive, "manifest.json", b'[{"Config": "config.json", "Layers": ["lower", "upper"]}]')
    found = inspect(tmp_path / "image.tar")
    sizes = {(share.part, share.kind, share.name): share.size for share in found.shares}
    dpkg = len(lower["var/lib/dpkg/status"] + lower["var/lib/dpkg/info/tool:amd64.list"])
    metadata = len(upper["opt/demo-1.dist-info/METADATA"] + upper["opt/demo-1.dist-info/RECORD"])
    assert sizes == {
        ("lower", "", ""): dpkg,
        ("lower", "deb", "tool"): 5,
        ("upper", "python", "demo"): 3 + 4 + metadata,
    }


def add_text(archive: tarfile.TarFile, path: str, content: bytes) -> None:
    member = tarfile.TarInfo(path)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_a_tar_that_is_cut_between_members_is_damaged(tmp_path: Path) -> None:
    whole = tar_of({"a": "1", "b": "2"})
    archive = tmp_path / "x.tar"
    archive.write_bytes(whole[: 2 * tarfile.BLOCKSIZE])
    with pytest.raises(IntegrityError, match="no end"):
        inspect(archive)


# Why


def test_why_names_half_size_layer_and_the_way(world: World) -> None:
    (gem,) = told(world, "why", "gem")["reasons"]
    assert (gem["half"], gem["layer"], gem["requires"], gem["required-by"]) == ("conda", "libraries", ["python"], [])
    assert gem["chains"] == [["requires.conda: gem", "gem"]]
    (python,) = told(world, "why", "Python")["reasons"]
    assert (python["required-by"], python["layer"]) == (["gem"], "interpreter")
    assert python["chains"][0] == ["requires.conda: gem", "gem", "python"]
    assert python["size"] > 0
    (demo,) = told(world, "why", "Demo")["reasons"]
    assert (demo["half"], demo["layer"]) == ("wheels", "rest")
    assert "because      requires.pip: demo" in world.done("why", "demo")


def test_why_needs_nothing_of_the_store(world: World, tmp_path: Path) -> None:
    for package in ("gem", "demo"):
        assert f"{package} 1.0" in world.done("why", package, BOXSNAKE_CACHE_DIR=str(tmp_path))


def test_why_suggests_what_may_be_meant(world: World) -> None:
    done = world.run("why", "gems")
    assert (done.returncode, "Did you mean gem?" in done.stderr) == (2, True)
    assert world.run("why", "gem", "--target", "other").returncode == 2
