"""What the whole of it survives: secrets, kills, odd surroundings, hostile texts. Every case runs the command line."""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from boxsnake.disk import remove_tree
from boxsnake.image.layout import Layout
from boxsnake.store import Store
from tests.small_world import CANARY, FORMATS, World, contents, small_world
from tests.thorough import thorough

pytestmark = pytest.mark.long

ZSTD, GZIP, RPM = b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"\xed\xab\xee\xdb"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with small_world(tmp_path) as made:
        yield made


def inside(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Some bytes, and all that is packed in them."""
    yield name, data
    if data.startswith(RPM):
        yield from inside(data[data.index(ZSTD) :], f"{name}:payload")
    elif data.startswith(ZSTD):
        yield from inside(zstandard.ZstdDecompressor().decompressobj().decompress(data), f"{name}:zstd")
    elif data.startswith(GZIP):
        yield from inside(gzip.decompress(data), f"{name}:gzip")
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from inside(archive.read(member), f"{name}:{member}")
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as members:
            for info in members:
                stream = members.extractfile(info) if info.isfile() else None
                if stream is not None:
                    yield from inside(stream.read(), f"{name}:{info.name}")


def holders(needle: bytes, *places: Path) -> list[str]:
    """The names of all files below some places that hold some bytes, packed or not."""
    files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
    plain = [path for path in files if path.is_file() and not path.is_symlink()]
    return sorted({name for path in plain for name, data in inside(path.read_bytes(), str(path)) if needle in data})


def test_the_search_for_bytes_finds_them_however_packed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(CANARY)
        archive.addfile(info, io.BytesIO(CANARY.encode()))
    with zipfile.ZipFile(tmp_path / "zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("layer.gz", gzip.compress(buffer.getvalue()))
    (tmp_path / "rpm").write_bytes(RPM + b"head" + zstandard.compress(b"x" + CANARY.encode()))
    (tmp_path / "other").write_bytes(b"nothing")
    found = holders(CANARY.encode(), tmp_path)
    assert {Path(name).name for name in found} >= {"rpm:payload:zstd", "zip:layer.gz:gzip", "zip:layer.gz:gzip:file"}


# Secrets


@contextlib.contextmanager
def command_lines() -> Iterator[set[bytes]]:
    """The command lines of all processes that are seen while the block runs."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(place.read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


@pytest.mark.parametrize("way", ["in URLs", *thorough("netrc")])
def test_no_secret_is_in_any_byte(world: World, way: str) -> None:
    variables = {}
    if way == "netrc":
        netrc = world.folder / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
        variables = {"NETRC": str(netrc)}
        world.write(login="", channel=f"http://user:{CANARY}@{world.address}/closed/channel")
    with command_lines() as seen:
        said = [world.done("lock", **variables), world.done("build", "--json", **variables)]
    assert any(b"compile" in line for line in seen)
    assert any(b"boxsnake.stage.link" in line for line in seen)
    assert sorted(box["format"] for box in json.loads(said[1])["boxes"]) == sorted(FORMATS)
    assert not [line for line in seen if CANARY.encode() in line]
    assert CANARY not in "".join(said)
    assert holders(CANARY.encode(), world.app / "boxsnake.lock", world.app / "dist", world.store) == []


@pytest.mark.parametrize(
    "broken", ["/files/tool", *thorough("/simple/demo", "/channel/linux-64/repodata", "linux-64/python-3")]
)
def test_no_secret_is_in_what_is_said_of_a_failure(world: World, broken: str) -> None:
    command = "build" if "files" in broken or "python" in broken else "lock"
    if command == "build":
        world.done("lock")
    world.broken.add(broken)
    for arguments in ([command], [command, "--json"]):
        done = world.run(*arguments)
        assert done.returncode == 6, done.stderr
        assert world.address in done.stderr
        assert CANARY not in done.stdout + done.stderr


def test_no_secret_is_in_a_traceback(world: World) -> None:
    code = (
        "import sys, boxsnake.resolve, boxsnake.cli\n"
        "def fail(asked, **rest): raise ValueError(f'{asked} {rest} {asked.index.variables()}')\n"
        "boxsnake.resolve.resolve = fail\n"
        "boxsnake.cli.main(['lock'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=world.app, env=world.environment({}), capture_output=True, text=True
    )
    assert done.returncode == 70
    assert world.address in done.stderr
    assert CANARY not in done.stderr


# Other programs' caches


def wheel_digest(world: World, name: str) -> str:
    document = tomllib.loads((world.app / "boxsnake.lock").read_text())
    (found,) = [package for package in document["targets"][0]["wheels"]["packages"] if package["name"] == name]
    digest: str = found["wheels"][0]["hashes"]["sha256"]
    return digest


def test_a_byte_flipped_in_uvs_cache_is_noticed(world: World) -> None:
    world.done("lock")
    good = (world.app / "boxsnake.lock").read_bytes()
    digest = bytes.fromhex(wheel_digest(world, "tool"))
    spoilt = 0
    for path in (world.store / "v1" / "caches" / "uv").rglob("*"):
        if path.is_file() and digest in (data := path.read_bytes()):
            path.write_bytes(data.replace(digest, bytes([digest[0] ^ 1]) + digest[1:]))
            spoilt += 1
    assert spoilt
    (world.app / "boxsnake.lock").unlink()
    world.done("lock")
    assert (world.app / "boxsnake.lock").read_bytes() != good
    done = world.run("build", "wheelhouse")
    assert done.returncode == 7
    assert "not those that were locked" in done.stderr
    assert list((world.app / "dist").glob("*")) == []
    world.done("lock", "--upgrade")
    assert (world.app / "boxsnake.lock").read_bytes() == good
    world.done("build", "wheelhouse")


def test_clean_takes_other_programs_caches_too(world: World) -> None:
    world.done("lock")
    before = json.loads(world.done("cache", "size", "--json"))
    assert before["caches"] == 2
    assert before["cache_bytes"] > 0
    world.done("cache", "clean")
    assert json.loads(world.done("cache", "size", "--json"))["total_bytes"] == 0
    assert [path.name for path in world.store.iterdir()] == ["v1"]
    world.done("lock")


# Kills


def parents() -> dict[int, int]:
    """Every process that runs, and which one started it; what has ended and was not waited for runs no more."""
    found: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = place.read_text().rpartition(")")[2].split()
            if words[0] != "Z":
                found[int(place.parent.name)] = int(words[1])
    return found


def family(root: int) -> set[int]:
    """A process and all that it started, directly or not."""
    known = parents()
    found = {root}
    while more := {child for child, parent in known.items() if parent in found} - found:
        found |= more
    return found & known.keys()


def ends(processes: set[int], seconds: float = 5.0) -> bool:
    """Whether processes end within that time."""
    limit = time.monotonic() + seconds
    while processes & parents().keys():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def left_behind(world: World) -> list[str]:
    """What should have been temporary: beside artifacts and lock, and in the store."""
    found = [*world.app.glob(".boxsnake-*"), *(world.app / "dist").glob(".*")]
    return [str(path) for path in (*found, *(world.store / "v1" / "tmp").glob("*"))]


@pytest.mark.parametrize("kills", [3, *thorough(30)])
def test_a_kill_at_any_time_does_no_harm(world: World, kills: int) -> None:
    started = time.monotonic()
    world.done("lock")
    world.done("build")
    seconds = time.monotonic() - started
    lock, good = (world.app / "boxsnake.lock").read_bytes(), world.digests()
    chance = random.Random(7)  # noqa: S311 - the same times in every run
    ended = set()
    for _ in range(kills):
        remove_tree(world.app / "dist")
        # A store that is cold, or as the last kill left it.
        if chance.random() < 0.4:
            remove_tree(world.store)
            (world.app / "boxsnake.lock").unlink(missing_ok=True)
        command = "build" if (world.app / "boxsnake.lock").exists() else "lock"
        process = world.start(command)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.2, seconds * 0.6))
        orphans = family(process.pid) - {process.pid}
        process.kill()
        ended.add(process.wait())
        assert ends(orphans, 20)
        assert Store(world.store).verify().bad == ()
        found = world.digests() if (world.app / "dist").is_dir() else {}
        assert found.items() <= good.items()
    assert -signal.SIGKILL in ended
    world.done("lock")
    world.done("build")
    assert (world.app / "boxsnake.lock").read_bytes() == lock
    assert world.digests() == good
    world.done("build")
    assert "checked" in world.done("cache", "verify", "--json")
    assert left_behind(world) == []


@pytest.mark.parametrize("count", [3, *thorough(8)])
def test_many_builds_at_once_share_a_cold_store(world: World, count: int) -> None:
    world.done("lock")
    remove_tree(world.store)
    formats = [name for name in FORMATS if name != "pex"]  # which takes as long as all others
    processes = [world.start("build", *formats, "--output", f"dist-{number}") for number in range(count)]
    assert [process.wait() for process in processes] == [0] * count
    first, *others = [world.digests(f"dist-{number}") for number in range(count)]
    assert len(first) == len(formats)
    assert all(other == first for other in others)
    assert Store(world.store).verify().bad == ()


def test_builds_of_one_artifact_at_once_end_well(world: World) -> None:
    world.done("lock")
    processes = [world.start("build", "image", "wheelhouse") for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    good = world.digests()
    world.done("build", "image", "wheelhouse", "--output", "other")
    assert world.digests("other") == good
    assert left_behind(world) == []


@pytest.mark.parametrize("number", [signal.SIGINT, *thorough(signal.SIGTERM, signal.SIGHUP)])
def test_a_signal_leaves_no_program_running(world: World, number: signal.Signals) -> None:
    backend, project, asked = world.app / "backend.py", world.app / "pyproject.toml", world.folder / "asked"
    backend.write_text(f"import time\nopen({str(asked)!r}, 'w').close()\ntime.sleep(60)\n{backend.read_text()}")
    project.write_text(project.read_text().replace("dependencies = []", 'dynamic = ["dependencies"]'))
    process = world.start("lock")
    while not asked.exists():
        assert process.poll() is None
        time.sleep(0.01)
    processes = family(process.pid)
    assert len(processes) >= 3  # boxsnake, uv, the build
    process.send_signal(number)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in {130, 143}
    assert ends(processes)
    assert left_behind(world) == []


def test_who_interrupts_its_start_sees_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    command = [sys.executable, "-m", "boxsnake", "build"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


# Surroundings

SHELL = ("sh", "-c")
EVIL = os.pathsep.join(["evil", *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
SURROUNDINGS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "place": (
        ("unshare", "--uts", *SHELL, 'umask 000 && hostname other.example && exec "$@"', "-"),
        {"TZ": ":bad/zone", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    ),
    # A user whom nobody knows, who has no home and no other groups.
    "nobody": (
        ("unshare", "--user", "--map-user=12345", "--map-group=12345", "env", "-u", "HOME", "-u", "USER"),
        {"BOXSNAKE_CACHE_DIR": ""},
    ),
    "python": (
        (*SHELL, 'ulimit -n 256 && ulimit -s 1024 && exec "$@"', "-", "taskset", "-c", "0"),
        {"PYTHONOPTIMIZE": "2", "PYTHONPATH": EVIL, "PYTHONWARNINGS": "error", "PYTHONHASHSEED": "9"},
    ),
    "nothing": ((), {"PATH": "/nonexistent", "TMPDIR": "/nonexistent", "HOME": "/nonexistent"}),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which everything has been locked and built once."""
    with small_world(tmp_path_factory.mktemp("model")) as made:
        made.done("lock")
        made.done("build")
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="other users and host names need root")
@pytest.mark.parametrize("name", ["python", *thorough(*sorted(SURROUNDINGS.keys() - {"python"}))])
def test_surroundings_change_no_byte(model: World, tmp_path: Path, name: str) -> None:
    before, variables = SURROUNDINGS[name]
    if name == "nobody" and subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("there are no user namespaces here")
    app = tmp_path / "app"
    shutil.copytree(model.app, app, ignore=shutil.ignore_patterns("dist*"))
    world = dataclasses.replace(model, app=app, store=tmp_path / "store")
    (app / "evil").mkdir()
    for module in ("small", "demo", "sitecustomize"):
        (app / "evil" / f"{module}.py").write_text("import sys\nsys.dont_write_bytecode = True\n")
    variables = {"TMPDIR": str(tmp_path), **variables}
    lock = (app / "boxsnake.lock").read_bytes()
    (app / "boxsnake.lock").unlink()
    world.done("lock", before=before, **variables)
    world.done("build", "image", "pex", "wheelhouse", before=before, **variables)
    assert (app / "boxsnake.lock").read_bytes() == lock
    good = model.digests()
    assert world.digests().items() <= good.items()
    assert len(world.digests()) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("box", [*FORMATS, "wheelhouse folder", "installer"])
def test_the_disk_that_is_full_is_named(model: World, tmp_path: Path, box: str) -> None:
    box, _, there_is_room_for_the_tar = box.partition(" ")
    tar = (model.app / "dist" / "small-1.0.wheelhouse.tar").stat().st_size if there_is_room_for_the_tar else 0
    app, disk = tmp_path / "app", tmp_path / "disk"
    shutil.copytree(model.app, app, ignore=shutil.ignore_patterns("dist*"))
    if box not in FORMATS:
        with (app / "boxsnake.toml").open("a") as manifest:
            manifest.write(f"[boxes.{box}]\n")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={8192 + tar}", "tmpfs", disk], check=True)
    try:
        done = dataclasses.replace(model, app=app).run("build", box, "--output", str(disk / "dist"))
        assert (done.returncode, "space" in done.stderr) == (8, True), done.stderr
        assert str(disk) in done.stderr or "the disk that it wrote to" in done.stderr
        assert not list((disk / "dist").iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_current_folder_that_is_gone_is_named(model: World, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    before = (*SHELL, 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', str(gone))
    done = model.run("build", "--manifest", str(model.app / "boxsnake.toml"), before=before)
    assert done.returncode == 8
    assert "current folder" in done.stderr


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", *thorough("<&-", ">&-", "2>&-")])
def test_a_closed_stream_does_no_harm(model: World, closed: str) -> None:
    done = model.run("build", "wheelhouse", "--output", "streams", before=(*SHELL, f'exec "$@" {closed}', "-"))
    assert done.returncode == 0, done.stderr
    name = "small-1.0.wheelhouse.tar"
    assert model.digests("streams")[name] == model.digests()[name]
    shutil.rmtree(model.app / "streams")


def test_a_folder_with_an_odd_name_changes_no_byte(model: World, tmp_path: Path) -> None:
    app = tmp_path / os.fsdecode(b"-a\nb %c\xff $(touch x)")
    shutil.copytree(model.app, app, ignore=shutil.ignore_patterns("dist*"))
    world = dataclasses.replace(model, app=app)
    world.done("build")
    assert world.digests() == model.digests()
    assert not list(app.rglob("x"))


# Hostile texts


def hostile(marker: Path) -> str:
    """One line that does something wherever a text is run, expanded or split instead of carried."""
    touch = f"touch {marker}"
    return (
        f"%({touch}) %{{lua:os.execute('{touch}')}} %%n %define x $({touch}) `{touch}` ${{HOME}} $$ ; {touch} & "
        f"\"q\" 'q' \\\\ \\n <b>&amp; {{name}} {{0}} #! é \u2603"
    )


@pytest.fixture(scope="module")
def spiteful(model: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str, Path]:
    """The model's application with hostile texts in every field, built; the text, and the file that must not be."""
    folder = tmp_path_factory.mktemp("spiteful")
    world = dataclasses.replace(model, app=folder / "app")
    marker = folder / "marker"
    text = hostile(marker)
    toml = json.dumps(text)
    lines = json.dumps(f"{text}\n%post\n{text}\n.\n")
    world.write(
        app=f"summary = {toml}\ndescription = {lines}\nlicense = {toml}\n"
        f"homepage = {toml}\nmaintainer = {toml}\nenvironment = {{ WORDS = {toml} }}",
        image=f"environment = {{ MORE = {toml} }}\nlabels = {{ label = {toml} }}",
    )
    manifest = world.app / "boxsnake.toml"
    manifest.write_text(manifest.read_text().replace('"-m", "small"]', f'"-m", "small", {toml}]'))
    world.done("lock")
    world.done("build")
    return world, text, marker


def test_hostile_texts_are_literal_in_an_image(spiteful: tuple[World, str, Path]) -> None:
    world, text, marker = spiteful
    (image,) = Layout(world.app / "dist" / "small-1.0.image").images
    config = image.configuration["config"]
    assert config["Labels"]["label"] == text
    assert config["Labels"]["org.opencontainers.image.description"] == text
    assert {f"WORDS={text}", f"MORE={text}"} <= {*config["Env"]}
    assert (config["Entrypoint"] + config["Cmd"])[-1] == text
    assert not marker.exists()


def test_hostile_texts_are_literal_in_an_rpm(spiteful: tuple[World, str, Path]) -> None:
    world, text, marker = spiteful
    (package,) = (world.app / "dist").glob("*.rpm")
    for tag in ("SUMMARY", "LICENSE", "URL", "PACKAGER"):
        asked = ["rpm", "-qp", "--qf", f"%{{{tag}}}", str(package)]
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == text
    listing = subprocess.run(["rpm", "-qip", "--scripts", str(package)], capture_output=True, text=True, check=True)
    assert listing.stdout.count(text) >= 5
    assert not marker.exists()


def test_hostile_texts_are_literal_in_a_pex(spiteful: tuple[World, str, Path], tmp_path: Path) -> None:
    world, text, marker = spiteful
    pex = world.app / "dist" / "small-1.0.pex"
    variables = {**os.environ, "PEX_ROOT": str(tmp_path / "root")}
    done = subprocess.run([sys.executable, pex, "more"], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[text, "more"], text]
    assert not marker.exists()


def test_hostile_texts_are_literal_in_a_wheelhouse(spiteful: tuple[World, str, Path], tmp_path: Path) -> None:
    world, text, marker = spiteful
    house = world.app / "dist" / "small-1.0.wheelhouse"
    assert text in (house / "README.md").read_text(encoding="utf-8")
    command = ["sh", str(house / "install.sh"), "--python", sys.executable, str(tmp_path / "env")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = tmp_path / "env" / "bin" / "python"
    said = subprocess.run([program, "-m", "small", text], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == [[text], None]
    assert not marker.exists()


def test_harmful_metadata_of_a_wheel_is_refused_or_shown_as_text(model: World, tmp_path: Path) -> None:
    world = dataclasses.replace(model, app=tmp_path / "app")
    world.write()
    backend = world.app / "backend.py"
    harmful = "Summary: a\x1b]0;title\x07 \u202e b"
    backend.write_text(backend.read_text().replace("Version: 1.0\\n", f"Version: 1.0\\n{harmful}\\n"))
    world.done("lock")
    for form in FORMATS:
        done = world.run("build", form)
        assert done.returncode in {0, 9}, done.stderr
        assert not set(done.stdout + done.stderr) & {"\x1b", "\x07", "\u202e"}
    readme = (world.app / "dist" / "small-1.0.wheelhouse" / "README.md").read_text(encoding="utf-8")
    assert not set(readme) & {"\x1b", "\x07", "\u202e"}


# What leaks into an artifact


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """All that is in the artifacts of the first example, built where every name is one that is nowhere else."""
    folder = tmp_path_factory.mktemp("l34k-folder") / "hello-web"
    ignored = shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__")
    shutil.copytree(Path(__file__).parent.parent / "examples" / "hello-web", folder, ignore=ignored)
    variables = {**os.environ, "USER": "l34k-user", "LOGNAME": "l34k-user"}
    before = ("unshare", "--uts", *SHELL, 'hostname l34k-host && exec "$@"', "-") if os.geteuid() == 0 else ()
    for command in (["lock"], ["build", *FORMATS]):
        full = [*before, sys.executable, "-m", "boxsnake", *command]
        done = subprocess.run(full, cwd=folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    artifacts = sorted(path for path in (folder / "dist").iterdir() if path.is_file() or path.suffix == ".image")
    assert len(artifacts) == len(FORMATS)
    return [found for path in artifacts for name, data in contents(path) for found in inside(data, name)]


@pytest.mark.channel
@pytest.mark.index
def test_no_name_of_this_machine_is_in_an_artifact(hello: list[tuple[str, bytes]]) -> None:
    folders = (Store.default_root(), Path(__file__).parent.parent, Path(sys.prefix), Path(tempfile.gettempdir(), "pyt"))
    # A folder right below the root is a word like any other ("/src"): only where it is meant can be told.
    names = ["l34k", *(str(folder) for folder in folders if len(folder.parts) > 2)]
    assert [(name, place) for place, data in hello for name in names if name.encode() in data] == []


def times_in(place: str, data: bytes, near: int) -> Iterator[int]:
    """The times that some bytes hold in their format's own fields; of those in digits, the ones near a time."""
    if data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as members:
            yield from (int(info.mtime) for info in members)
    elif data.startswith(GZIP):
        yield int.from_bytes(data[4:8], "little")
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (calendar.timegm((*info.date_time, 0, 0, 0)) for info in archive.infolist())
    elif place.endswith(".pyc") and not data[4] & 1:
        yield int.from_bytes(data[8:12], "little")
    elif data.startswith(b"070701"):
        # A cpio archive (newc): the mode, then five fields of eight hexadecimal digits, the time the third of them.
        yield from (int(found, 16) for found in re.findall(rb"07070[12].{40}([0-9a-fA-F]{8})", data, re.DOTALL))
    yield from (int(found) for found in re.findall(str(near)[:4].encode() + rb"[0-9]{6}(?![0-9])", data))


def test_times_are_found_in_every_format() -> None:
    near = 1_600_000_000
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.mtime = near
        archive.addfile(info)
    for place, data in (
        ("x.tar", buffer.getvalue()),
        ("x.gz", gzip.compress(b"", mtime=near)),
        ("x.pyc", bytes(8) + near.to_bytes(4, "little")),
        ("x.cpio", b"070701" + b"0" * 40 + b"%08x" % near + b"0" * 56),
        ("x", b"at 1600000000."),
    ):
        assert [*times_in(place, data, near)] == [near]


@pytest.mark.channel
@pytest.mark.index
def test_no_time_of_today_is_in_an_artifact(hello: list[tuple[str, bytes]]) -> None:
    now, day = int(time.time()), 86_400
    days = [time.gmtime(now + days * day) for days in (-1, 0, 1)]
    texts = [time.strftime(form, one).encode() for one in days for form in ("%Y-%m-%d", "%Y%m%d")]
    assert [(text, place) for place, data in hello for text in texts if text in data] == []
    assert [
        place for place, data in hello if any(abs(found - now) < 2 * day for found in times_in(place, data, now))
    ] == []
    (package,) = [data for place, data in hello if place.endswith(".rpm")]
    asked = ["rpm", "-qp", "--qf", "%{BUILDTIME} %{SIGPGP:pgpsig} [%{FILEMTIMES} ]", "-"]
    told = subprocess.run(asked, input=package, capture_output=True, check=True).stdout
    found = [int(word) for word in told.split() if word.isdigit()]
    assert found
    assert max(found) < now - 2 * day
