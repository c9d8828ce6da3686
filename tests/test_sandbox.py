"""The sandbox: boxes booted without an engine, what runs in it, and that nothing of it is left."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake import hosts
from boxsnake.boot import boot
from boxsnake.boot.in_sandbox import InSandbox
from boxsnake.boot.runtimes import runtime_of
from boxsnake.boot.scenarios import SCENARIOS
from boxsnake.boot_recipe import BuildContext, Check
from boxsnake.container import INSTALLING, Change, Container
from boxsnake.errors import BootError, EngineError, UsageError
from boxsnake.sandbox import control_groups
from boxsnake.store import Store
from tests.somebody import ROOT_ALONE, UID, as_somebody, public_folder
from tests.test_boot_scenarios import BAD, FURTHER, PROGRAM, recipe_of
from tests.test_broken_boxes import BROKEN
from tests.tiny_box import ALIVE, failure, outcomes, recipe_for, write_box

ROOT = Path(__file__).parent.parent
GROUPS = Path("/sys/fs/cgroup")
# Neither an engine nor a program of one.
WITHOUT_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock", "BOXSNAKE_RUNTIME": "sandbox"}
HOST = hosts.load_hosts()["debian-12-python"]


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


@pytest.fixture(scope="module")
def runtime(store: Store) -> InSandbox:
    return InSandbox(store)


@pytest.fixture(scope="module")
def container(runtime: InSandbox, store: Store) -> Iterator[Container]:
    with runtime.host(store, HOST, offline=True) as image, runtime.container(image, capabilities=INSTALLING) as made:
        yield made


def shell(container: Container, script: str, user: str = "", seconds: float = 30) -> str:
    done = container.execute(["sh", "-euc", script], seconds=seconds, user=user)
    assert (done.exit_code, done.ended_by) == (0, ""), done
    return done.output.decode()


# Boots


def test_a_good_box_passes_every_step(runtime: InSandbox, store: Store, tmp_path: Path) -> None:
    checks = [ALIVE, Check(name="who", run=("tiny", "whoami"), expect="10001 /tmp False"), Check(name="port", tcp=8000)]
    report = boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path), "serve"), checks, format="tiny")
    assert report.failure is None, report.failure
    assert {"install", "imports", "check: alive", "writes", "remove", "leftovers"} <= set(outcomes(report))


@pytest.mark.parametrize(
    "name",
    [
        "shared library missing",
        "needs the network",
        "leaks a file outside its prefix",
    ],
)
def test_a_broken_box_is_found_out(runtime: InSandbox, store: Store, tmp_path: Path, name: str) -> None:
    broken = BROKEN[name]
    box = write_box(tmp_path, module=broken.module, install=broken.install)
    recipe = broken.change(recipe_for(box, broken.serve))
    step, detail = failure(boot(runtime, store, tmp_path, recipe, [broken.check], traces=["/build/place"]))
    assert step == broken.step, detail
    assert [words for words in broken.told if words not in detail.partition("\n")[0]] == [], detail


@pytest.mark.parametrize("name", ["limits", "full-disk", "read-only-root"])
def test_a_scenario_finds_a_bad_box_out(runtime: InSandbox, store: Store, tmp_path: Path, name: str) -> None:
    if SCENARIOS[name].limits and runtime.no_limits:
        pytest.skip(runtime.no_limits)
    bad = BAD[name]
    box = write_box(tmp_path, module=PROGRAM.format(trap=bad.trap), install=FURTHER.get(name, ""))
    check = Check(name="c", run=("tiny", *bad.run))
    recipe = bad.change(recipe_of(box))
    step, detail = failure(boot(runtime, store, Path("tiny"), recipe, [check], scenario=SCENARIOS[name]))
    assert step == bad.step, detail
    assert bad.told in detail


def test_what_cannot_be_had_is_not_proven_and_not_passed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError(13, "this user may make no control groups")

    monkeypatch.setattr("boxsnake.sandbox.control_groups.make", refused)
    runtime = InSandbox(store)
    recipe = recipe_for(Path("box"))
    limited = boot(runtime, store, Path("tiny"), recipe, [], scenario=SCENARIOS["limits"])
    context = BuildContext(base=None, platform=("linux", "amd64"))
    built = boot(runtime, store, Path("tiny"), dataclasses.replace(recipe, context=context), [])
    for report, word in ((limited, "may make no control groups"), (built, "takes a container engine")):
        assert report.verdict == "skipped"
        assert report.steps[0].detail.startswith("not proven here: ")
        assert word in report.steps[0].detail


# What runs in it


def test_commands_run_as_whom_they_should_with_no_more_rights_than_they_need(container: Container) -> None:
    assert shell(container, "id -un; id -u; id -g; id -G").split() == ["root", "0", "0", "0"]
    assert shell(container, "id -u; id -G", "54321:54321").split() == ["54321", "54321"]
    assert shell(container, "id -un; id -gn", "games").split() == ["games", "games"]
    assert "NoNewPrivs:\t1" in shell(container, "cat /proc/self/status")
    bounds = "grep CapBnd /proc/self/status"
    assert int(shell(container, bounds).split()[1], 16) == sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 31))
    assert shell(container, "grep CapEff /proc/self/status", "10001:10001").split()[1] == "0" * 16
    absent = container.execute(["true"], seconds=30, user="nobody-knows")
    assert (absent.exit_code, b"there is no user nobody-knows" in absent.errors) == (126, True)


def test_nothing_of_this_machine_is_seen(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "1")
    assert set(shell(container, "env").splitlines()) - {"PWD=/"} == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/root",
    }
    # Its first process, and the two of this command.
    assert len(shell(container, "ls -d /proc/[0-9]*").split()) <= 3
    assert shell(container, "cat /proc/net/dev").count(":") == 1
    assert str(ROOT) not in shell(container, "cat /proc/self/mounts | cut -d' ' -f2")
    assert shell(container, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]


def test_a_port_of_its_own_answers_any_user(container: Container) -> None:
    script = (
        "import socket; s = socket.socket(); s.bind(('localhost', 80)); s.listen();"
        "socket.create_connection(('127.0.0.1', 80)); print(socket.gethostbyname(socket.gethostname()))"
    )
    done = container.execute(["python3", "-c", script], seconds=30, user="10001:10001")
    assert (done.output, done.errors) == (b"127.0.0.1\n", b"")


def test_how_a_command_ends_is_told(container: Container) -> None:
    assert container.execute(["sh", "-c", "exit 7"], seconds=30).exit_code == 7
    assert container.execute(["sh", "-c", "kill -9 $$"], seconds=30).exit_code == 137
    absent = container.execute(["no-such-program"], seconds=30, folder="/tmp")
    assert absent.exit_code == 127
    assert absent.errors == b"cannot run no-such-program in /tmp: No such file or directory\n"
    loud = container.execute(["sh", "-c", "yes | head -c 3000000; echo end >&2"], seconds=30)
    assert (len(loud.output), loud.cut, loud.errors) == (1 << 20, 3_000_000 - (1 << 20), b"end\n")


def test_a_command_that_takes_too_long_is_ended_with_all_others(container: Container) -> None:
    done = container.execute(["sh", "-c", "echo begun; setsid sleep 4000 & sleep 4000"], seconds=0.5)
    assert (done.exit_code, done.ended_by, done.output) == (None, "timeout", b"begun\n")
    assert "4000" not in shell(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_what_goes_on_in_the_background_does_not_hold_its_command_up(container: Container) -> None:
    assert container.execute(["sh", "-c", "sleep 4001 & echo done"], seconds=20).output == b"done\n"
    shell(container, "pid=$(grep -l 4001 /proc/[0-9]*/cmdline | cut -d/ -f3 | head -1); kill $pid")


def test_changes_are_told_as_an_engine_tells_them(runtime: InSandbox, store: Store, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("x")
    with runtime.host(store, HOST, offline=True) as image, runtime.container(image) as container:
        assert container.changes() == ()
        mode = "stat -c '%a %U' /opt /opt/new"
        container.copy(tmp_path / "given", "/opt/new/given")
        assert shell(container, mode).splitlines() == ["755 root", "755 root"]
        shell(container, "rm -r /usr/share/doc; chmod 600 /etc/issue; touch /tmp/passing /dev/shm/passing")
        assert container.changes() == (
            Change(path="/etc/issue", kind="changed"),
            Change(path="/opt", kind="changed"),
            Change(path="/opt/new", kind="added"),
            Change(path="/opt/new/given", kind="added"),
            Change(path="/opt/new/given/file", kind="added"),
            Change(path="/usr/share", kind="changed"),
            Change(path="/usr/share/doc", kind="removed"),
        )
        assert [container.is_folder(path) for path in ("/opt", "/bin", "/no")] == [True, False, False]


# Images


def layer(*members: tuple[str, str | None], uid: int = 0) -> bytes:
    """A layer of files with these texts; of None, folders; of "->x", links to x; of "=x", other names of x."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as out:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.mode, info.uid = 0o755, uid
            if text is None:
                info.type = tarfile.DIRTYPE
            elif text.startswith("->"):
                info.type, info.linkname = tarfile.SYMTYPE, text[2:]
            elif text.startswith("="):
                info.type, info.linkname = tarfile.LNKTYPE, text[1:]
            else:
                info.size = len(text.encode())
            out.addfile(info, io.BytesIO((text or "").encode()))
    return data.getvalue()


def image_of(folder: Path, *layers: bytes, diff_ids: tuple[str, ...] = (), architecture: str = "") -> Path:
    """A docker archive of busybox and these layers."""
    busybox = io.BytesIO()
    with tarfile.open(fileobj=busybox, mode="w") as out:
        out.add("/bin/busybox", "bin/busybox")
    whole = (busybox.getvalue(), *layers)
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(whole):
        (folder / f"{number}.tar").write_bytes(content)
    ids = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in whole]
    config = {
        "config": {"User": "7:7"},
        "rootfs": {"type": "layers", "diff_ids": [*ids[: len(ids) - len(diff_ids)], *diff_ids]},
    }
    config |= {"architecture": architecture} if architecture else {}
    (folder / "config.json").write_text(json.dumps(config))
    manifest = [{"Config": "config.json", "RepoTags": [], "Layers": [f"{number}.tar" for number in range(len(whole))]}]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def busybox(container: Container, *words: str) -> str:
    done = container.execute(["/bin/busybox", *words], seconds=30)
    assert done.exit_code == 0, done
    return done.output.decode()


def test_layers_lie_upon_each_other(runtime: InSandbox, store: Store, tmp_path: Path) -> None:
    image = image_of(
        tmp_path / "image",
        layer(("a", None), ("a/one", "1"), ("a/two", "2"), ("b/c/three", "3"), ("lib", "->b"), ("was", None)),
        layer(("a/.wh.one", ""), ("b/new", "n"), ("b/.wh..wh..opq", ""), ("was", "file"), ("twin", "=a/two")),
        layer(("lib/through", "t"), ("dev/null", "x"), ("etc/hosts", "x"), uid=7),
    )
    with runtime.artifact(store, image) as found, runtime.container(found, read_only=True) as container:
        files = busybox(container, "find", "/a", "/b", "/was", "/twin", "-type", "f").split()
        assert sorted(files) == ["/a/two", "/b/new", "/b/through", "/twin", "/was"]
        assert busybox(container, "cat", "/was", "/twin", "/b/through") == "file2t"
        assert busybox(container, "stat", "-c", "%u %h", "/b/through", "/twin").split() == ["7", "1", "0", "2"]
        assert busybox(container, "id", "-u").strip() == "7"
        assert "localhost" in busybox(container, "cat", "/etc/hosts")
        for path in ("/new", "/a/new"):
            assert b"Read-only" in container.execute(["/bin/busybox", "touch", path], seconds=30).errors
        busybox(container, "touch", "/tmp/new")


def test_a_layer_leads_nowhere_else(runtime: InSandbox, store: Store, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o777)
    image = image_of(tmp_path / "image", layer(("out", f"->{place}")), layer(("out/file", "x")))
    with contextlib.suppress(EngineError), runtime.artifact(store, image) as found, runtime.container(found):
        pass
    assert list(place.iterdir()) == []
    upwards = image_of(tmp_path / "upwards", layer(("../../file", "x")))
    with pytest.raises(BootError, match="leads out of it"), runtime.artifact(store, upwards) as found:
        runtime.container(found).__enter__()


def test_an_image_that_is_damaged_does_not_boot(runtime: InSandbox, store: Store, tmp_path: Path) -> None:
    other = image_of(tmp_path / "other", layer(("a", "1")), diff_ids=(f"sha256:{'0' * 64}",))
    with pytest.raises(BootError, match="has other bytes"), runtime.artifact(store, other) as found:
        runtime.container(found).__enter__()
    cut = image_of(tmp_path / "cut", b"\x1f\x8b\x08" + bytes(40))
    with pytest.raises(BootError, match="cannot be read"), runtime.artifact(store, cut) as found:
        runtime.container(found).__enter__()
    foreign = image_of(tmp_path / "foreign", architecture="s390x")
    with pytest.raises(BootError, match="is for s390x"), runtime.artifact(store, foreign) as found:
        pass


# Nothing is left


def sandboxes_of(pid: int) -> set[Path]:
    """The processes that a run has its sandboxes by, and their control groups."""
    first = [path for path in Path("/proc").glob("[0-9]*") if _parent_of(path) == pid]
    inner = [path for path in Path("/proc").glob("[0-9]*") if _parent_of(path) in [int(one.name) for one in first]]
    return {*first, *inner, *(path for path in GROUPS.glob("*/boxsnake-passing*") if f"-{pid}-" in path.name)}


def _parent_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


RUNNING = """
import sys, time
from pathlib import Path
from boxsnake import hosts
from boxsnake.boot.in_sandbox import InSandbox
from boxsnake.boot.runtimes import runtime_of
from boxsnake.store import Store
store = Store(Path(sys.argv[1]))
runtime = InSandbox(store)
source = Store(Store.default_root())
host = hosts.load_hosts()["debian-12-python"]
with runtime.host(source, host, offline=True) as image, runtime.container(image) as box:
    print(box.folder, flush=True)
    box.execute(["sh", "-c", "sleep 4002 & sleep 4002"], seconds=600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_run_that_was_killed(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", RUNNING, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        assert (folder / "root" / "etc").is_dir()
        running = sandboxes_of(child.pid)
        assert len(running) >= 2
        child.send_signal(number)

    def left() -> list[object]:
        processes = [path for path in running if path.exists() and not path.is_relative_to(GROUPS)]
        # Where something was mounted, an empty folder waits for the next run.
        return [*processes, *(name for _, _, names in os.walk(folder) for name in names)]

    deadline = time.monotonic() + 60
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == []
    # Control groups, which are nothing but names, go with the next run.
    control_groups.reap()
    assert [path for path in running if path.exists()] == []


def test_a_run_that_was_given_up_starts_no_more(store: Store) -> None:
    runtime = InSandbox(store)
    with runtime.host(store, HOST, offline=True) as image, runtime.container(image) as first:
        runtime.abandon()
        with pytest.raises(EngineError, match="by our doing"):
            first.execute(["true"], seconds=30)
        with pytest.raises(EngineError, match="given up"):
            runtime.container(image).__enter__()


def test_a_box_that_fails_is_kept_on_demand(store: Store, tmp_path: Path) -> None:
    own = Store(tmp_path / "store")
    recipe = recipe_for(write_box(tmp_path))
    report = boot(InSandbox(own), store, tmp_path, recipe, [Check(name="c", run=("false",))], keep=True)
    _, detail = failure(report)
    words = detail.rpartition("kept: boxsnake ")[2].split()
    boxsnake = [sys.executable, "-m", "boxsnake"]
    assert "/opt/tiny/pyvenv.cfg" in subprocess.check_output([*boxsnake, *words, "cat", "/box/install.sh"], text=True)
    assert subprocess.run([*boxsnake, *words, "sh", "-c", "exit 9"], check=False).returncode == 9
    subprocess.run([*boxsnake, "enter", "--remove", words[1]], check=True)
    assert not Path(words[1]).exists()
    told = subprocess.run([*boxsnake, *words], check=False, capture_output=True, text=True)
    assert (told.returncode, "there is no sandbox" in told.stderr) == (2, True)


# Who may have it

BOOTING = """
import sys
from pathlib import Path
from boxsnake.boot import boot
from boxsnake.boot.runtimes import runtime_of
from boxsnake.boot_recipe import Check
from boxsnake.store import Store
from tests.tiny_box import ALIVE, recipe_for, write_box
store = Store(Store.default_root())
check = Check(name="who", run=("tiny", "whoami"), expect="10001 /tmp False")
for install in ("", "mkdir -p /etc/theirs; chown 33:33 /etc/theirs; chmod 700 /etc/theirs"):
    folder = Path.home() / f"box{len(install)}"
    recipe = recipe_for(write_box(folder, install=install), "serve")
    report = boot(runtime_of(None, store), store, folder, recipe, [ALIVE, check])
    print(report.verdict, report.failure and report.failure.detail)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@ROOT_ALONE
def test_an_ordinary_user_has_it_too(store: Store, public: Path) -> None:
    theirs = Store(public / "home" / "store")
    blob = theirs.put_file(store.path(hosts.rootfs(store, HOST).digest))
    theirs.select("host", hosts._key(HOST), {"digest": blob.digest, "size": blob.size})
    done = as_somebody(public, "-c", BOOTING, **WITHOUT_ENGINE)
    assert (done.returncode, done.stderr) == (0, "")
    good, bad = done.stdout.splitlines()
    assert good == "passed None"
    assert bad.startswith("failed written outside of the declared paths: /etc/theirs (added)")
    # What belonged to others among their files is gone as well.
    places = [public / "home" / "store" / "v1" / "tmp", Path(f"/dev/shm/boxsnake-{UID}/v1/tmp")]
    assert [path for place in places if place.is_dir() for path in place.rglob("*/root/*")] == []


MAKING = """
import sys
from boxsnake import hosts
from boxsnake.store import Store
print(hosts.rootfs(Store(Store.default_root()), hosts.load_hosts()[sys.argv[1]]).digest)
"""


# The second one extends another, and has packages whose scripts need devices.
@pytest.mark.thorough
@pytest.mark.parametrize("name", ["busybox", "debian-12-python"])
@ROOT_ALONE
def test_an_ordinary_user_makes_the_same_hosts(store: Store, public: Path, name: str) -> None:
    done = as_somebody(public, "-c", MAKING, name, **WITHOUT_ENGINE)
    assert done.stdout.strip() == hosts.rootfs(store, hosts.load_hosts()[name]).digest, done.stderr


@ROOT_ALONE
def test_a_user_without_numbers_is_told_what_to_do(public: Path) -> None:
    (public / "subid").write_text("other:300000:65536\n")
    told = as_somebody(public, "-m", "boxsnake", "doctor", "--json", **WITHOUT_ENGINE)
    (finding,) = (one for one in json.loads(told.stdout)["findings"] if one["name"] == "sandbox")
    assert finding["state"] != "ok"
    assert "gives this user no numbers" in finding["fact"]
    assert "usermod --add-subuids" in finding["remedy"]


@ROOT_ALONE
def test_where_namespaces_are_forbidden_one_error_says_so(tmp_path: Path) -> None:
    script = "import sys; from boxsnake.boot.runtimes import runtime_of; from boxsnake.store import Store\n"
    script += "from boxsnake.errors import EngineError\n"
    script += "try:\n    runtime_of('sandbox', Store(sys.argv[1]))\n"
    script += "except EngineError as error:\n    print(error); sys.exit(error.exit_code)\n"
    script = script.replace("Store(sys.argv[1])", "Store(__import__('pathlib').Path(sys.argv[1]))")
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", script]
    done = subprocess.run([*command, str(tmp_path / "store")], capture_output=True, text=True, check=False)
    assert done.returncode == 11, done.stderr
    assert "may make no namespaces" in done.stdout
    assert "user.max_user_namespaces" in done.stdout


# Which runtime it is


def at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("boxsnake.engine.places.addresses", lambda *_: (f"unix://{address}",))


def test_where_there_is_no_engine_it_is_taken(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, str(tmp_path / "absent.sock"))
    assert runtime_of("auto", store, {}).version.startswith("sandbox on Linux")
    for name in ("docker", "podman"):
        with pytest.raises(EngineError, match=f"{name}: none found"):
            runtime_of(name, store, {})


def test_an_engine_that_does_not_answer_is_not_replaced(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, str(tmp_path / "deaf.sock"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "deaf.sock"))
        with pytest.raises(EngineError, match="does not answer"):
            runtime_of("auto", store, {})
    with pytest.raises(EngineError, match="DOCKER_HOST"):
        runtime_of("auto", store, {"DOCKER_HOST": "unix:///nonexistent"})
    with pytest.raises(UsageError, match="BOXSNAKE_RUNTIME=dokcer"):
        runtime_of(None, store, {"BOXSNAKE_RUNTIME": "dokcer"})


def test_the_command_line_boots_without_an_engine(tmp_path: Path) -> None:
    image_of(tmp_path / "image", layer(("srv/file", "x" * 500_000)))
    shutil.make_archive(str(tmp_path / "image"), "tar", tmp_path / "image")
    command = [sys.executable, "-m", "boxsnake", "boot", "image.tar", "--runtime", "sandbox", "--json"]
    variables = os.environ | {"DOCKER_HOST": "unix:///nonexistent"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
