"""The first process of a sandbox: `python -m boxsnake.sandbox.inside SOCKET`. See `boxsnake.sandbox`.

It leaves this machine's namespaces, makes a root of its own out of an image's layers, and does there what it is asked
to: it runs commands, takes files in, and tells what has changed. When nobody can ask any more, because the one who
could has died, it ends all that runs in the sandbox and clears it away.

All that it needs is imported before it leaves: within, there is nothing of this machine.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxsnake.sandbox import kernel, tree, user
from boxsnake.sandbox.wire import Message, receive, send

_NEW_ROOT = "/tmp/root"  # noqa: S108 - on a mount of its own
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "fd/0"),
    ("stdout", "fd/1"),
    ("stderr", "fd/2"),
    ("ptmx", "pts/ptmx"),
)
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CANNOT_RUN, _NOT_FOUND = 126, 127
_QUIET = kernel.NO_SETUID | kernel.NO_DEVICES


def main(handle: int) -> None:
    """Be the sandbox that the other end of the socket asks for."""
    control = socket.socket(fileno=handle)
    asked = receive(control)
    if asked is None:
        return
    job, files = asked
    try:
        _leave(job, control)
    except OSError as error:
        send(control, {"unable": str(error)})
        return
    pid = os.fork()
    if pid:
        control.close()
        os.waitpid(pid, 0)
        return
    root = tree.identity("root")
    keeper: _Keeper | None = None
    try:
        keeper = _made(job, files, control)
        keeper.serve()
    except (OSError, tree.NotUnpackableError) as error:
        _tell(control, error)
    except Exception:  # noqa: BLE001 - whatever it is, it goes to the one who asked
        _tell(control, OSError(traceback.format_exc()))
    finally:
        if keeper is None or not keeper.kept:
            # A tree that was there before is somebody else's to remove.
            tree.clear(root, ["/tmp"] if job["tree"] else ["/", "/tmp"])  # noqa: S108 - its own


def _made(job: Message, files: Sequence[int], control: socket.socket) -> _Keeper:
    """Make the sandbox, and say that it is there."""
    _make(job, files)
    for file in files:
        os.close(file)
    before = {} if job["tree"] else tree.snapshot()
    if job["read_only"]:
        kernel.restrict("/", kernel.READ_ONLY)
    send(control, {"ready": True})
    return _Keeper(control, before)


def _tell(control: socket.socket, error: Exception) -> None:
    number = error.errno or 0 if isinstance(error, OSError) else None
    with contextlib.suppress(OSError):
        send(control, {"error": str(error), "errno": number})


def _leave(job: Message, control: socket.socket) -> None:
    """Leave this machine's namespaces; somebody outside says who is who in that of users."""
    if job["users"]:
        kernel.unshare(kernel.NEW_USERS)
        send(control, {"left": True})
        if receive(control) is None:
            raise OSError("nobody has said who is who")
        os.setresgid(0, 0, 0)
        os.setgroups([])
        os.setresuid(0, 0, 0)
    kernel.unshare(
        kernel.NEW_MOUNTS
        | kernel.NEW_PROCESSES
        | kernel.NEW_NETWORK
        | kernel.NEW_IPC
        | kernel.NEW_NAMES
        | kernel.NEW_GROUPS_OF_CONTROL
    )


def _make(job: Message, files: Sequence[int]) -> None:
    """Make the root, which lies in the current folder, and enter it."""
    os.umask(0o022)
    kernel.hide_mounts_from_others()
    kernel.mount("tmpfs", "/tmp")  # noqa: S108 - seen by nobody else
    os.mkdir(_NEW_ROOT)  # noqa: PTH102 - one text of many
    kernel.bind("root", _NEW_ROOT)
    for name in (*tree.OWN, "tmp"):
        Path(_NEW_ROOT, name).mkdir(exist_ok=True)
    kernel.bind(job["scratch"], f"{_NEW_ROOT}/tmp", _QUIET)  # noqa: S108 - of the new root
    _mount_the_kernels(job)
    kernel.enter_root(_NEW_ROOT)
    kernel.raise_loopback()
    # As in an engine's containers, any user may listen on any port.
    with contextlib.suppress(OSError):
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0", encoding="utf-8")
    socket.sethostname(job["name"])
    for layer in job["layers"]:
        part = tree.Part(files[layer["file"]], layer["start"], layer["size"])
        tree.unpack(part, layer["diff_id"])
    if not job["tree"]:
        _name_hosts(job["name"])
    Path("/tmp").chmod(0o1777)  # noqa: S108 - the sandbox's own
    for folder, size in job["small"].items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        kernel.mount("tmpfs", folder, options=f"mode=755,size={size}")


def _mount_the_kernels(job: Message) -> None:
    kernel.mount("proc", f"{_NEW_ROOT}/proc", _QUIET | kernel.NO_PROGRAMS)
    # Where it is not to be had, most programs do not miss it.
    with contextlib.suppress(OSError):
        kernel.mount("sysfs", f"{_NEW_ROOT}/sys", _QUIET | kernel.NO_PROGRAMS | kernel.READ_ONLY)
        _show_groups(job["groups"])
    devices = f"{_NEW_ROOT}/dev"
    kernel.mount("tmpfs", devices, kernel.NO_SETUID, "mode=755")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):  # noqa: PTH110 - one text of many
            Path(devices, name).touch()
            kernel.bind(f"/dev/{name}", f"{devices}/{name}")
    for name, target in _DEVICE_LINKS:
        Path(devices, name).symlink_to(target)
    for name, kind, options in (("pts", "devpts", "newinstance,ptmxmode=0666,mode=620"), ("shm", "tmpfs", "mode=1777")):
        Path(devices, name).mkdir()
        kernel.mount(kind, f"{devices}/{name}", kernel.NO_SETUID | kernel.NO_PROGRAMS, options)


def _show_groups(groups: Mapping[str, str]) -> None:
    """Show the sandbox's control groups where programs look for them; "" is the name of version 2's only one."""
    top = f"{_NEW_ROOT}/sys/fs/cgroup"
    if "" in groups:
        kernel.bind(groups[""], top, kernel.READ_ONLY)
    elif groups:
        kernel.mount("tmpfs", top, _QUIET)
        for name, folder in groups.items():
            Path(top, name).mkdir()
            kernel.bind(folder, f"{top}/{name}", kernel.READ_ONLY)


def _name_hosts(name: str) -> None:
    """Write the files about names that an engine would lay over the image's."""
    Path("/etc").mkdir(exist_ok=True)
    for path, text in (("hosts", f"{_HOSTS}127.0.0.1\t{name}\n"), ("hostname", f"{name}\n"), ("resolv.conf", "")):
        there = Path("/etc", path)
        there.unlink(missing_ok=True)
        there.write_text(text, encoding="utf-8")


class _Keeper:
    """The process that all others of a sandbox descend from: it starts them, and reaps those that nobody else does."""

    def __init__(self, control: socket.socket, before: tree.Snapshot) -> None:
        self._control = control
        self._before = before
        self.kept = False
        self._waiting: dict[int, socket.socket] = {}
        """By its process, who wants to know how a command ends."""

    def serve(self) -> None:
        """Do what is asked until nobody can ask any more."""
        woken, waker = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if woken in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(woken, 4096)
                    self._reap()
                if self._control in ready:
                    asked = receive(self._control)
                    if asked is None:
                        break
                    self._begin(*asked)
        self._end_all()

    def _begin(self, message: Message, files: list[int]) -> None:
        if message["do"] == "end":
            self._end_all()
            return
        if message["do"] == "keep":
            self.kept = True
            return
        answer = socket.socket(fileno=files[0])
        verbs: dict[str, Callable[[Message, socket.socket, list[int]], None]] = {
            "execute": _execute,
            "copy": _copy,
            "look": _look,
            "changes": lambda _, to, __: send(to, {"changes": tree.changes(self._before)}),
        }
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            code = 1
            try:
                verbs[message["do"]](message, answer, files[1:])
                code = 0
            except (OSError, tree.NotUnpackableError) as error:
                _tell(answer, error)
            except BaseException:  # noqa: BLE001 - whatever it is, it goes to the one who asked
                _tell(answer, OSError(traceback.format_exc()))
            os._exit(code)
        for file in files[1:]:
            os.close(file)
        if message["do"] == "execute":
            self._waiting[pid] = answer
        else:
            answer.close()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                answer = self._waiting.pop(pid, None)
                if answer is not None:
                    code = os.waitstatus_to_exitcode(status)
                    with contextlib.suppress(OSError):
                        send(answer, {"code": code if code >= 0 else 128 - code})
                    answer.close()

    def _end_all(self) -> None:
        """End every process of the sandbox but this one; who waits for one of them is told."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while self._waiting:
                time.sleep(0.01)
                self._reap()


def _execute(message: Message, _: socket.socket, files: list[int]) -> None:
    """Become a command."""
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for group in files[3:]:
        os.write(group, b"0")
    for target, source in enumerate(files[:3]):
        os.dup2(source, target)
    os.closerange(3, 1 << 16)
    argv, folder = message["argv"], message["folder"]
    try:
        who = user.found(message["user"])
        environment = {"PATH": _PATH, "HOME": who.home} | message["environment"]
        kernel.keep_capabilities(message["capabilities"])
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        os.chdir(folder)
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - running commands is what this is for
    except (OSError, LookupError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        os.write(2, f"cannot run {argv[0]} in {folder}: {why}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN)


def _copy(message: Message, answer: socket.socket, files: list[int]) -> None:
    """Take in a tar."""
    os.makedirs(message["folder"], exist_ok=True)  # noqa: PTH103 - one text of many
    with os.fdopen(files[0], "rb") as stream:
        tree.take_in(stream, message["folder"])
    send(answer, {})


def _look(message: Message, answer: socket.socket, _: list[int]) -> None:
    """Tell what a path is."""
    try:
        mode: Any = os.lstat(message["path"]).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = 0
    send(answer, {"folder": stat.S_ISDIR(mode)})


if __name__ == "__main__":
    main(int(sys.argv[1]))
