"""One image for two platforms, as skopeo and umoci read it; the foreign one is put together without running it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from boxsnake.errors import UsageError
from boxsnake.image.layout import Layout
from boxsnake.image.write import write_index
from boxsnake.lock import TargetLock
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from boxsnake.target import Platform
from tests.trees import EPOCH, MINOR, SITE, Content, Program, Workshop

MACHINES = {"amd64": 62, "arm64": 183}
"""The numbers of processors in ELF files."""
TAGS = ("registry.example.org/team/hello:1.0",)


def program(machine: int) -> bytes:
    """The head of an ELF file."""
    return b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HH", 3, machine)


def packed(folder: Path, platform: Platform, machine: int, store: Store) -> Path:
    """An image for a platform, whose Python is one of that platform and cannot run here."""
    (folder / platform).mkdir()
    workshop = Workshop(folder / platform)
    python = program(machine)
    if machine == MACHINES["amd64"]:
        workshop.python({"lib/native.so": python})
    else:
        files: dict[str, Content] = {f"bin/python{MINOR}": Program("#!/no/such/loader\n"), "lib/native.so": python}
        workshop.python({**files, f"{SITE}/shared.py": "VALUE = 1\n"})
    workshop.wheel("hello", {"hello.py": "VALUE = 1\n"}, own=True)
    lock: TargetLock = workshop.lock(platform=platform)
    application = Application(name="hello", version="1.0", wheel=workshop.application)
    options = ImageOptions(base="scratch", tags=TAGS)
    plan = Plan(application=application, lock=lock, options=options, root=folder, epoch=EPOCH)
    out = folder / f"{platform}.tar"
    PACKAGER.pack(plan, workshop.materials(store, lock), out)
    return out


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of both, unpacked."""
    folder = tmp_path_factory.mktemp("index")
    store = Store(folder / "store")
    artifacts = [packed(folder, "linux-64", 62, store), packed(folder, "linux-aarch64", 183, store)]
    images = [image for artifact in artifacts for image in Layout(artifact).images]
    digest = write_index(store, images, TAGS, folder / "index.tar", epoch=EPOCH)
    again = write_index(store, images[::-1], TAGS, folder / "again.tar", epoch=EPOCH)
    assert digest == again
    assert (folder / "index.tar").read_bytes() == (folder / "again.tar").read_bytes()
    with tarfile.open(folder / "index.tar") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                place = folder / "layout" / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
    return folder / "layout"


def said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_index_has_a_manifest_for_each_platform(index: Path) -> None:
    raw = said("skopeo", "inspect", "--raw", f"oci:{index}:1.0")
    document = json.loads(raw)
    platforms = [(one["platform"]["os"], one["platform"]["architecture"]) for one in document["manifests"]]
    assert platforms == [("linux", "amd64"), ("linux", "arm64")]
    for architecture in MACHINES:
        told = said("skopeo", f"--override-arch={architecture}", "inspect", f"oci:{index}:1.0")
        assert (json.loads(told)["Architecture"], json.loads(told)["Os"]) == (architecture, "linux")
    pushed = index.parent / "copied"
    said("skopeo", "copy", "--quiet", "--all", f"oci:{index}:1.0", f"dir:{pushed}")
    named = [one["digest"].removeprefix("sha256:") for one in document["manifests"]]
    assert all((pushed / f"{name}.manifest.json").is_file() for name in named)


@pytest.mark.parametrize("architecture", MACHINES)
def test_each_image_has_files_of_its_processor_alone(index: Path, tmp_path: Path, architecture: str) -> None:
    said("skopeo", f"--override-arch={architecture}", "copy", "--quiet", f"oci:{index}:1.0", f"oci:{tmp_path}/one:1.0")
    said("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/one:1.0", f"{tmp_path}/bundle")
    root = tmp_path / "bundle" / "rootfs" / "opt" / "env"
    heads = [path.read_bytes()[:20] for path in root.rglob("*") if path.is_file()]
    machines = {head[18:] for head in heads if head.startswith(b"\x7fELF")}
    assert machines == {struct.pack("<H", MACHINES[architecture])}
    # Compiled here, whatever processor it is for.
    (code,) = root.glob("lib/python*/site-packages/__pycache__/hello.*.pyc")
    assert code.read_bytes()[4:8] == b"\1\0\0\0"


def test_all_blobs_have_their_names(index: Path) -> None:
    for blob in (index / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_one_platform_makes_no_index(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (image,) = Layout(packed(tmp_path, "linux-64", 62, store)).images
    for images in ([image], [image, dataclasses.replace(image)], []):
        with pytest.raises(UsageError, match="each of several platforms"):
            write_index(store, images, (), tmp_path / "index.tar", epoch=EPOCH)
    assert not (tmp_path / "index.tar").exists()
