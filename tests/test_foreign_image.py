"""The web example as an image for two processors, of real packages and wheels of both, made on one machine."""

from __future__ import annotations

import json
import struct
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.engine import connect
from boxsnake.image.layout import Layout
from boxsnake.processors import emulated
from tests.test_examples import Application, copy_of

CHANNEL = Path(__file__).parent.parent / "build" / "channel"
MACHINES = {"amd64": 62, "arm64": 183}
"""The numbers of processors in ELF files."""
TARGETS = """
[targets.amd64]
platform = "linux-64"
glibc = "2.36"

[targets.arm64]
platform = "linux-aarch64"
glibc = "2.36"
"""

pytestmark = [pytest.mark.thorough, pytest.mark.channel, pytest.mark.index, pytest.mark.long]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """Locked for both, boxed into one index."""
    assert (CHANNEL / "linux-aarch64" / "repodata.json").is_file(), "run `make thorough` first"
    application = copy_of("hello-web", tmp_path_factory.mktemp("foreign") / "hello-web")
    manifest = application.folder / "boxsnake.toml"
    before, _, rest = manifest.read_text().partition("[targets.default]")
    after = rest[rest.index("# What packages set up") : rest.index("[boxes.image]")]
    # Hosts stand for base images here, and are of this machine's processor: this base is made for any.
    manifest.write_text(f'{before}{TARGETS}\n{after}[boxes.image]\nbase = "minimal"\n')
    application.ask("lock")
    done = application.run("build", "image", "--index")
    assert done.returncode == 0, done.stdout + done.stderr
    return application


def programs_of(archive: Path, layout: Layout, layer: str) -> Iterator[tuple[str, int]]:
    """The ELF files of a layer, with their processors."""
    archive.write_bytes(b"".join(layout.chunks(layer)))
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.isreg() else None
            head = content.read(20) if content else b""
            if head[:4] == b"\x7fELF":
                yield member.name, struct.unpack("<H", head[18:20])[0]


def test_every_program_is_of_its_images_processor(built: Application, tmp_path: Path) -> None:
    layout = Layout(built.folder / "dist" / "hello-web-1.0.0.index.tar")
    assert sorted(image.platform for image in layout.images) == [("linux", "amd64"), ("linux", "arm64")]
    for image in layout.images:
        found = dict(one for layer in image.layers for one in programs_of(tmp_path / "layer", layout, layer.digest))
        assert Counter(found.values()) == {MACHINES[image.platform[1]]: len(found)}
        names = " ".join(found)
        # Conda's interpreter and libraries, the wheels' own modules, the base's C library.
        for part in ("bin/python3.11", "libcrypto.so.3", "_speedups", "setproctitle", "libc.so.6"):
            assert part in names


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_skopeo_takes_each_platforms_image(built: Application, architecture: str) -> None:
    index = f"oci-archive:{built.folder / 'dist' / 'hello-web-1.0.0.index.tar'}"
    command = ["skopeo", "--override-arch", architecture, "inspect", index]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Architecture"] == architecture


@pytest.mark.engine
def test_the_foreign_one_boots_under_an_emulator_or_says_what_it_lacks(built: Application) -> None:
    engine = connect()
    foreign = next(name for name in MACHINES if name != engine.architecture)
    done = built.run("boot", "image", "--target", foreign, "--json")
    (boot,) = json.loads(done.stdout)["boxes"]
    if foreign in emulated() and engine.address.startswith("unix:"):
        assert (done.returncode, boot["verdict"]) == (0, "passed"), boot
        assert boot["steps"][0]["detail"].startswith("emulated: ")
    else:
        assert (done.returncode, boot["verdict"]) == (8, "skipped")
        assert f"without an emulator of {foreign}" in boot["steps"][0]["detail"]
