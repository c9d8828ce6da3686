"""The engine: found or missed for a stated reason, containers confined and removed, faults told apart."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake import hosts
from boxsnake.boot import boot
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot_recipe import BootRecipe, Expected
from boxsnake.engine import INSTALLING, Engine, connect, diagnose, places, seccomp, sleeper
from boxsnake.engine.api import RefusedError
from boxsnake.engine.connection import Connection
from boxsnake.engine.owner import OWNER_LABEL, is_leftover
from boxsnake.errors import BootError, EngineError, NetworkError, ResourceError
from boxsnake.store import Store

SOCKET = "/var/run/docker.sock"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return connect()


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


@pytest.fixture(scope="module")
def image(engine: Engine, store: Store) -> str:
    return hosts.image_id(engine, store, hosts.load_hosts()["debian-12-python"])


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def run(engine: Engine, image: str, *command: str, seconds: float = 30, user: str = "") -> tuple[int | None, str]:
    with engine.container(image, sleep=sleeper()) as container:
        ended = container.execute(command, seconds=seconds, user=user)
    return ended.exit_code, (ended.output + ended.errors).decode()


# Finding one


def test_a_dead_docker_host_is_named() -> None:
    with pytest.raises(EngineError, match="DOCKER_HOST unix:///nonexistent") as raised:
        connect({"DOCKER_HOST": "unix:///nonexistent"})
    assert raised.value.exit_code == 11
    assert "unset DOCKER_HOST" in raised.value.next_step


def test_credentials_of_a_docker_host_stay_out() -> None:
    with pytest.raises(EngineError) as raised:
        connect({"DOCKER_HOST": "tcp://user:CANARY@127.0.0.1:1"})
    assert "CANARY" not in f"{raised.value} {raised.value.data}"


@pytest.mark.parametrize(
    ("program", "remedy"),
    [("dockerd", "docker/engine.sh"), ("podman", "podman.socket"), ("", "apt-get install docker.io")],
)
def test_without_any_engine_the_remedy_fits_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, program: str, remedy: str
) -> None:
    monkeypatch.setattr(places, "addresses", lambda *_: ("unix:///nonexistent/a.sock", "unix:///nonexistent/b.sock"))
    monkeypatch.setattr(shutil, "which", lambda name, **_: name if name == program else None)
    with pytest.raises(EngineError, match=r"tried unix:///nonexistent/a.sock, unix:///nonexistent/b.sock") as raised:
        connect({})
    assert remedy in raised.value.next_step


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permission")
@pytest.mark.parametrize("hidden", [False, True], ids=["socket", "folder"])
def test_a_socket_without_permission_is_not_called_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hidden: bool
) -> None:
    address = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        address.chmod(0o600)
        for folder in tmp_path.parents:
            if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
                folder.chmod(0o755)
        tmp_path.chmod(0o700 if hidden else 0o755)
        monkeypatch.setattr(places, "addresses", lambda *_: (f"unix://{address}",))
        with nobody(), pytest.raises(EngineError, match="no permission to use") as raised:
            connect({})
    assert "group of that socket" in raised.value.next_step


@pytest.mark.parametrize("listening", [True, False], ids=["mute", "gone"])
def test_a_socket_that_nobody_answers_is_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listening: bool) -> None:
    monkeypatch.setattr(places, "_PING_SECONDS", 0.3)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        if listening:
            listener.listen()
        (place,) = diagnose({"DOCKER_HOST": f"unix://{tmp_path}/s"})
    assert (place.state, bool(place.detail)) == ("dead", True)


@pytest.mark.engine
def test_the_engine_that_answers_is_diagnosed() -> None:
    assert "answers" in {place.state for place in diagnose({})}


# Containers


@pytest.mark.engine
def test_a_container_is_confined(engine: Engine, image: str) -> None:
    code, text = run(engine, image, "sh", "-c", "grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /sys/class/net")
    assert code == 0
    assert text.split() == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1", "lo"]


NOT_DURABLE = """\
import os
os.sync()
os.fsync(os.pipe()[0])
"""
# Numbers of system calls, those of x86-64 and of others: unshare, clone, clone3, keyctl.
REFUSED = """\
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
unshare, clone, clone3, keyctl = (272, 56, 435, 250) if platform.machine() == "x86_64" else (97, 220, 435, 219)
new_user, child_ends = 0x10000000, 17
for call in (unshare, new_user), (clone, new_user | child_ends, 0, 0, 0, 0), (clone3, 0, 0), (keyctl, 0, 0):
    found = libc.syscall(*call)
    if found == 0:
        os._exit(0)
    print(found, errno.errorcode[ctypes.get_errno()])
"""


@pytest.mark.engine
def test_nothing_in_a_container_waits_for_the_disk(engine: Engine, image: str) -> None:
    # A pipe cannot be made durable, and the kernel would say so.
    assert run(engine, image, "python3", "-c", NOT_DURABLE) == (0, "")


@pytest.mark.engine
def test_a_container_gets_no_other_namespaces_or_keys(engine: Engine, image: str) -> None:
    code, text = run(engine, image, "python3", "-c", REFUSED)
    assert (code, text.splitlines()) == (0, ["-1 EPERM", "-1 EPERM", "-1 ENOSYS", "-1 EPERM"])


@pytest.mark.parametrize(
    ("facts", "takes"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"]}, True),
        ({"SecurityOptions": ["name=seccomp,profile=/etc/house.json"]}, False),
        ({"SecurityOptions": ["name=seccomp,profile=default"], "BuildahVersion": "1.28.2"}, False),
        ({"SecurityOptions": None}, False),
    ],
)
def test_an_engine_keeps_the_filter_that_somebody_has_chosen(facts: dict[str, Any], takes: bool) -> None:
    assert seccomp.takes_filters(facts) is takes


def test_output_exit_code_and_user_are_told(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper()) as container:
        ended = container.execute(["sh", "-c", "id -u; echo no >&2; exit 3"], seconds=30, user="10001:10001")
    assert (ended.exit_code, ended.output, ended.errors, ended.ended_by) == (3, b"10001\n", b"no\n", "")


@pytest.mark.engine
def test_the_end_of_long_output_is_kept(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper()) as container:
        ended = container.execute(["sh", "-c", "yes | head -c 5000000; echo the end"], seconds=30)
    assert ended.output.endswith(b"y\nthe end\n")
    assert ended.cut + len(ended.output) == 5_000_008


@pytest.mark.engine
def test_a_command_that_takes_too_long_is_ended(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper()) as container:
        ended = container.execute(["sleep", "60"], seconds=0.5)
    assert (ended.exit_code, ended.ended_by) == (None, "timeout")


@pytest.mark.engine
def test_want_of_memory_is_told(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper(), memory=64 << 20) as container:
        ended = container.execute(["python3", "-c", "b'x' * (1 << 30)"], seconds=30)
    assert (ended.exit_code, ended.ended_by) == (137, "memory")


@pytest.mark.engine
def test_files_arrive_with_their_parents_readable_by_all(engine: Engine, image: str, tmp_path: Path) -> None:
    (tmp_path / "box" / "in").mkdir(parents=True)
    tool = tmp_path / "box" / "in" / "tool"
    tool.write_text("#!/bin/sh\necho it runs\n")
    tool.chmod(0o700)
    (tmp_path / "box" / "link").symlink_to("in/tool")
    (tmp_path / "box" / f"long-{'n' * 200}").write_bytes(bytes(3_000_000))
    with engine.container(image, sleep=sleeper()) as container:
        container.copy(tmp_path / "box", "/srv/deep/box")
        ended = container.execute(["/srv/deep/box/link"], seconds=30, user="10001")
        sizes = container.execute(["sh", "-c", "stat -c '%s %u %a' /srv/deep/box/long-*"], seconds=30)
        changed = container.changes()
    assert ended.output == b"it runs\n"
    assert sizes.output == b"3000000 0 644\n"
    assert ("/srv/deep/box/in/tool", "added") in {(change.path, change.kind) for change in changed}


@pytest.mark.engine
def test_what_a_container_begins_with_is_what_others_of_its_kind_began_with(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper()) as first, engine.container(image, sleep=sleeper()) as second:
        begun = first.own_changes()
        assert begun == set(second.changes())
        second.execute(["touch", "/srv/new"], seconds=30)
        assert {change.path for change in second.changes()} - {change.path for change in begun} == {"/srv", "/srv/new"}
        assert second.own_changes() == begun


# Whatever an overlay can be told, of files of the image and of files that are new.
ALTER = """\
set -e
cd /srv; mkdir -p new/deep; echo 1 >new/deep/file; ln -s nowhere new/link; mkfifo new/pipe
rm /etc/issue; rm -r /usr/share/doc/libc6; chmod 700 /var/backups; chown 7:7 /etc/hostname-not 2>/dev/null || :
cd /etc; chmod 600 passwd; echo more >>group; touch shells; cp -p profile p; cat p >profile; touch -r p profile; rm p
mv debian_version debian-version; ln login.defs login.defs.2; mv nsswitch.conf n; mv n nsswitch.conf
rm -r skel; mkdir skel; touch skel/.bashrc; rm -r security; echo >security; rm host.conf; mkdir -p host.conf/in
rm -r cron.daily; ln -s /tmp cron.daily; rm -r /usr/share/dpkg; mkdir -p /usr/share/dpkg/a
rm -r /etc/apt; mkdir -p /etc/apt/apt.conf.d; rm -r /var/cache/apt; touch /tmp/unseen
"""


@pytest.mark.engine
def test_what_an_overlays_folders_tell_is_what_the_engine_tells(
    engine: Engine, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = subprocess.run(["docker", "info", "--format", "{{.Driver}}"], capture_output=True, text=True).stdout
    if driver.strip() != "overlay2" or os.geteuid() != 0:
        pytest.skip("needs Docker's overlay2, and root")
    with engine.container(image, sleep=sleeper(), capabilities=INSTALLING) as container:
        ended = container.execute(["sh", "-c", ALTER], seconds=30)
        assert ended.exit_code == 0, ended.errors
        told = container.told_changes()
        assert {change.kind for change in told} == {"added", "changed", "removed"}
        with monkeypatch.context() as patch:
            patch.setattr(container, "told_changes", lambda: pytest.fail("the engine was asked"))
            assert container.changes() == told
        with (
            engine.image_of(container.id) as altered,
            engine.container(altered, sleep=sleeper(), capabilities=INSTALLING) as other,
        ):
            script = (
                "rm -r /srv/new /etc/apt; mkdir -p /srv/new/deep /etc/apt; touch /etc/issue; rm /etc/host.conf/in -r"
            )
            assert other.execute(["sh", "-c", script], seconds=30).exit_code == 0
            assert other.changes() == other.told_changes() != ()


@pytest.mark.engine
def test_a_copy_leaves_the_folders_that_are_there_alone(engine: Engine, image: str, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("x")
    with engine.container(image, sleep=sleeper()) as container:
        # /bin is a link to usr/bin, and root's home a private folder.
        container.copy(tmp_path / "tool", "/bin/tool")
        container.copy(tmp_path / "tool", "/root/tool")
        ended = container.execute(["stat", "-c", "%A %N", "/bin", "/root", "/usr/bin/tool"], seconds=30)
    assert ended.output.decode().splitlines() == [
        "lrwxrwxrwx '/bin' -> 'usr/bin'",
        "drwx------ '/root'",
        "-rw-r--r-- '/usr/bin/tool'",
    ]


@pytest.mark.engine
def test_a_read_only_container_can_write_to_tmp_alone(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper(), read_only=True, user="10001") as container:
        script = "echo 'echo ran' >/tmp/x; chmod +x /tmp/x; sh /tmp/x; echo y >/var/tmp/y"
        ended = container.execute(["sh", "-c", script], seconds=30, user="10001")
    assert (ended.output, b"Read-only file system" in ended.errors) == (b"ran\n", True)


@pytest.mark.engine
def test_an_image_that_lacks_its_command_says_so(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=("/opt/no-such-python",)) as container:
        ended = container.execute(["true"], seconds=30)
    assert ended.exit_code
    assert b"No such file or directory" in ended.errors


@pytest.mark.engine
def test_rubbish_is_not_loaded(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "box.tar").write_bytes(b"rubbish" * 1000)
    with pytest.raises(BootError, match=r"box.tar"):
        engine.load(tmp_path / "box.tar")


@pytest.mark.engine
def test_an_image_that_no_registry_gives(engine: Engine, store: Store) -> None:
    host = hosts.Host(
        name="h",
        title="",
        package_manager="dnf",
        libc="glibc 2.34",
        python=(),
        python_version="",
        image="localhost:1/nothing:1",
        bootstrap=None,
    )
    with pytest.raises(ResourceError, match="has not got it"):
        hosts.image_id(engine, store, host, offline=True)
    with pytest.raises(NetworkError, match="localhost:1/nothing:1"):
        hosts.image_id(engine, store, host)


@pytest.mark.engine
def test_layers_that_the_engine_has_are_counted(engine: Engine, image: str) -> None:
    found = engine.image(image)
    assert found is not None
    assert engine.leading_layers([*found.layers, "sha256:other"]) == len(found.layers)
    assert engine.leading_layers(["sha256:other", *found.layers]) == 0
    assert engine.leading_layers([*found.layers, "sha256:other"], likely=["boxsnake-test/absent:1"]) == len(
        found.layers
    )


def test_a_full_disk_of_the_engine_is_no_verdict() -> None:
    connection = Connection("unix:///nonexistent", {})
    with pytest.raises(ResourceError, match="the engine's disk is full"), connection.faults("loading"):
        raise RefusedError(500, "write /var/lib/x: no space left on device")


# Leaving nothing behind

KILLED = """
import os, signal, sys
from boxsnake.engine import connect, sleeper
engine = connect()
with engine.container(sys.argv[1], sleep=sleeper()) as container:
    print(container.id, flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


@contextlib.contextmanager
def other_run(image: str, fate: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, image, fate], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield child, child.stdout.readline().strip()


def exists(engine: Engine, container: str) -> bool:
    return engine.look(container) is not None


@pytest.mark.engine
def test_what_a_killed_run_left_is_removed_by_the_next_alone(engine: Engine, image: str) -> None:
    with other_run(image, "killed") as (child, left):
        child.wait(30)
        with other_run(image, "lives") as (_, used):
            # The second run has connected after the first one died.
            assert (exists(engine, left), exists(engine, used)) == (False, True)
            assert connect().reap() == 0
            assert exists(engine, used)
    assert not exists(engine, used)


@pytest.mark.engine
def test_what_is_started_from_the_image_of_a_container_is_not_of_its_run(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper()) as container, engine.image_of(container.id) as made:
        started = engine._connection.ask("POST", "/containers/create", body={"Image": made, "Cmd": ["true"]})["Id"]
        try:
            assert started not in engine.containers()
            (listed,) = (one for one in engine._found("/containers/json", OWNER_LABEL) if one["Id"] == started)
            assert not is_leftover(listed | {"State": "exited", "Created": 0})
        finally:
            engine.remove_container(started)


@pytest.mark.engine
def test_an_interrupted_run_leaves_nothing(engine: Engine, image: str) -> None:
    with other_run(image, "lives") as (child, used):
        child.send_signal(signal.SIGINT)
        assert child.wait(30) != 0
    assert not exists(engine, used)


@pytest.mark.engine
def test_an_abandoned_run_ends_at_once(image: str) -> None:
    other = connect()
    with other.container(image, sleep=sleeper()) as container:
        timer = threading.Timer(0.5, other.abandon)
        timer.start()
        with pytest.raises(EngineError):
            container.execute(["sleep", "60"], seconds=60)
        timer.join()
    with pytest.raises(EngineError, match="given up"), other.container(image, sleep=sleeper()):
        pass
    assert other.containers() == ()


@pytest.mark.engine
def test_a_kept_container_outlives_its_run(engine: Engine, image: str) -> None:
    with engine.container(image, sleep=sleeper(), may_keep=True) as container:
        container.keep()
    assert engine.containers() == (container.id,)
    connect()
    assert exists(engine, container.id)
    engine._remove(container.id)


# An engine that goes away


class Proxy:
    """Stands between us and the engine, and hangs up when it hears a certain word."""

    def __init__(self, path: Path, word: bytes) -> None:
        self._word = word
        self._dead = False
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(SOCKET)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=[source, target], daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self._word in data and not self._dead:
                    self.die()
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def die(self) -> None:
        self._dead = True
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@pytest.mark.engine
@pytest.mark.parametrize("word", [b"/archive?path", b"/exec/", b"/changes", b"/start"])
def test_an_engine_that_goes_away_is_no_verdict(
    engine: Engine, store: Store, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: bytes
) -> None:
    assert image
    # As with an engine of another machine, which must be asked for changes.
    monkeypatch.setattr("boxsnake.engine.upper.overlay_of", lambda _: None)
    (tmp_path / "file").write_text("x")
    recipe = BootRecipe(
        host="debian-12-python",
        copies=((str(tmp_path / "file"), "/box/file"),),
        install=(("true",),),
        python=("/usr/bin/python3",),
        scripts=None,
        command=(),
        remove=(),
        writes=(),
        remains=(),
        expects=Expected(distributions=(), conda=(), console_scripts=()),
    )
    proxy = Proxy(tmp_path / "s", word)
    with pytest.raises(EngineError) as raised:
        boot(InEngine(connect({"DOCKER_HOST": f"unix://{tmp_path}/s"})), store, tmp_path, recipe, [])
    assert raised.value.exit_code == 11
    del raised
    gc.collect()
    proxy.die()
    # What could not be removed through the dead engine is ours, and we live: only we may clear it away.
    for listed in engine._found("/containers/json", "boxsnake.owner"):
        if f" {os.getpid()} " in listed["Labels"]["boxsnake.owner"]:
            engine._remove(listed["Id"])
