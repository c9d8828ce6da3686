"""A running sandbox, from outside: its first process, and what is asked of it."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import boxsnake
from boxsnake.container import Change, Finished, Tail
from boxsnake.errors import BootError, EngineError, ResourceError
from boxsnake.sandbox.control_groups import ControlGroups
from boxsnake.sandbox.identities import Identities
from boxsnake.sandbox.wire import Message, receive, send
from boxsnake.tar_stream import tar_stream
from boxsnake.value import dataclass

_START_SECONDS = 300.0
_ANSWER_SECONDS = 600.0
_END_SECONDS = 60.0
# How long output may still come when its command has ended: what it has started may hold the other end.
_REST_SECONDS = 0.5
_KILLED = 137
ALLOW = (
    "As root, allow them (`sysctl -w user.max_user_namespaces=15000`; on Debian before 11 "
    "kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or use an engine."
)
"""The next step where the kernel forbids namespaces."""


@dataclass(frozen=True, kw_only=True)
class LayerFile:
    """Where a layer lies, as a tar or gzip of one: a part of a file. `diff_id` is the tar's digest, or ""."""

    path: Path
    start: int
    size: int
    diff_id: str


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a sandbox is started. `folder` has its `root` and its `scratch`, both empty; with `tree`, the root is not."""

    folder: Path
    name: str
    layers: tuple[LayerFile, ...]
    identities: Identities
    environment: Mapping[str, str]
    capabilities: tuple[str, ...]
    groups: ControlGroups | None
    user: str = ""
    read_only: bool = False
    small: Mapping[str, int]
    tree: bool = False
    scratch: str = "tmp"


class RunningSandbox:
    """A sandbox that runs: see `boxsnake.container.Container`."""

    def __init__(self, start: Start) -> None:
        self.id = start.name
        self.folder = start.folder
        self.kept = False
        self._start = start
        self._sending = threading.Lock()
        self._process, self._control = _spawned(start.folder)
        try:
            self._make()
        except BaseException:
            self.end()
            raise

    def _make(self) -> None:
        start = self._start
        with contextlib.ExitStack() as stack:
            opened: dict[Path, int] = {}
            for layer in start.layers:
                if layer.path not in opened:
                    stream = stack.enter_context(layer.path.open("rb"))
                    opened[layer.path] = stream.fileno()
            places = list(opened)
            job = {
                "users": True,
                "name": start.name,
                "read_only": start.read_only,
                "small": dict(start.small),
                "tree": start.tree,
                "scratch": start.scratch,
                "groups": {
                    name: str(folder) for name, folder in (start.groups.folders if start.groups else {}).items()
                },
                "layers": [
                    {
                        "file": places.index(layer.path),
                        "start": layer.start,
                        "size": layer.size,
                        "diff_id": layer.diff_id,
                    }
                    for layer in start.layers
                ],
            }
            self._submit(job, list(opened.values()))
        left = self._answer(self._control, _START_SECONDS)
        if "left" in left:
            start.identities.enter(self._process.pid)
            self._submit({"identities": True})
            left = self._answer(self._control, _START_SECONDS)

    def execute(
        self,
        command: Sequence[str],
        *,
        seconds: float,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
    ) -> Finished:
        """See `Container`."""
        started = time.monotonic()
        output, errors = Tail(), Tail()
        before = self._killed()
        message = self._command(command, user=user, environment=environment or {}, folder=folder)
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        # What unpacks and copies is in no group: files in memory would count as the box's.
        groups = self._start.groups.open() if self._start.groups is not None else []
        given = [os.open(os.devnull, os.O_RDONLY), out_end, err_end, *groups]
        try:
            answer = self._asked(message, given)
        finally:
            for theirs in given:
                os.close(theirs)
        with answer:
            late, ended = _heard(answer, {out: output, err: errors}, started + seconds, self._end_all)
        if ended is None:
            raise self._gone(f"while `{command[0]}` ran in it")
        output.trim()
        errors.trim()
        code = ended["code"]
        starved = code == _KILLED and self._killed() > before
        return Finished(
            exit_code=None if late else code,
            output=output.kept,
            errors=errors.kept,
            seconds=time.monotonic() - started,
            cut=output.cut + errors.cut,
            ended_by="timeout" if late else "memory" if starved else "",
        )

    def converse(self, command: Sequence[str], streams: Sequence[int]) -> int:
        """Run a command with these for its input, output and errors: its exit code."""
        message = self._command(command, user="", environment={"TERM": os.environ.get("TERM", "dumb")}, folder="/")
        with self._asked(message, streams) as answer:
            received = receive(answer)
        if received is None:
            raise self._gone(f"while `{command[0]}` ran in it")
        return int(received[0]["code"])

    def limit(self, *, memory: int, processors: float) -> None:
        """See `Container`."""
        if self._start.groups is None:
            raise EngineError("sandbox", "it has no control groups to limit it by", "Boot it in a container engine.")
        self._start.groups.limit(memory=memory, processors=processors)

    def copy(self, source: Path, target: str) -> None:
        """See `Container`."""
        folder, _, name = target.rpartition("/")
        taken, given = os.pipe()
        try:
            answer = self._asked({"do": "copy", "folder": folder or "/"}, [taken])
        finally:
            os.close(taken)
        with answer:
            _pour(tar_stream(source, name), given)
            self._answer(answer, _ANSWER_SECONDS)

    def is_folder(self, path: str) -> bool:
        """See `Container`."""
        with self._asked({"do": "look", "path": path}) as answer:
            return bool(self._answer(answer, _ANSWER_SECONDS)["folder"])

    def changes(self) -> tuple[Change, ...]:
        """See `Container`."""
        with self._asked({"do": "changes"}) as answer:
            found = self._answer(answer, _ANSWER_SECONDS)["changes"]
        return tuple(Change(path=path, kind=kind) for path, kind in found)

    def own_changes(self) -> frozenset[Change]:
        """See `Container`."""
        return frozenset(self.changes())

    def keep(self) -> str:
        """See `Container`."""
        self._submit({"do": "keep"})
        self.kept = True
        return f"boxsnake enter {self.folder}"

    def end(self) -> None:
        """End it with all that runs in it, and wait until it has cleared itself away."""
        with self._sending:
            self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _command(self, words: Sequence[str], *, user: str, environment: Mapping[str, str], folder: str) -> Message:
        return {
            "do": "execute",
            "argv": list(words),
            "user": user or self._start.user,
            "environment": {**self._start.environment, **environment},
            "capabilities": list(self._start.capabilities),
            "folder": folder,
        }

    def _end_all(self) -> None:
        with contextlib.suppress(EngineError):
            self._submit({"do": "end"})

    def _killed(self) -> int:
        try:
            return self._start.groups.killed() if self._start.groups is not None else 0
        except OSError:
            return 0

    def _asked(self, message: Message, files: Sequence[int] = ()) -> socket.socket:
        """Ask for something: the socket on which its answer comes."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unless_sent:
            unless_sent.enter_context(ours)
            self._submit(message, [theirs.fileno(), *files])
            unless_sent.pop_all()
        return ours

    def _submit(self, message: Message, files: Sequence[int] = ()) -> None:
        with self._sending:
            try:
                send(self._control, message, files)
            except OSError as error:
                raise self._gone("before it was asked") from error

    def _answer(self, of: socket.socket, seconds: float) -> Message:
        of.settimeout(seconds)
        try:
            found = receive(of)
        except TimeoutError:
            raise EngineError("sandbox", f"it has not answered for {seconds:.0f} s", "Run the command again.") from None
        except OSError:
            found = None
        if found is None:
            raise self._gone("before it answered")
        message = found[0]
        if "unable" in message:
            raise EngineError("sandbox", f"this user may make no namespaces here ({message['unable']})", ALLOW)
        if "error" in message:
            raise _fault(message)
        return message

    def _gone(self, when: str) -> EngineError:
        cause = f"it ended {when}, and not by our doing"
        return EngineError("sandbox", cause, "See the kernel's log (dmesg), then run the command again.")


def _fault(message: Message) -> EngineError | ResourceError | BootError:
    """What went wrong within, as an error: what a layer holds is the image's fault, all else the machine's."""
    words, number = str(message["error"]), message["errno"]
    if number in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            "sandbox", f"there is no room for its files: {words}", "Free some space, then run it again."
        )
    if number is None:
        return BootError("image", words, "Build it again; if that fails as well, report it.")
    return EngineError("sandbox", words, "`boxsnake doctor` tells what this machine lacks for it.")


def _spawned(folder: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The first process of a sandbox, which waits to be told what to be."""
    ours, theirs = socket.socketpair()
    search = [*(path for path in sys.path if path), str(Path(boxsnake.__file__).parent.parent)]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(search)}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "boxsnake.sandbox.inside", str(theirs.fileno())],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return process, ours


def _pour(chunks: Iterable[bytes], pipe: int) -> None:
    """Write to a pipe, and close it. One whose reader has gone is fine: it tells why by itself."""
    with os.fdopen(pipe, "wb", buffering=0) as out, contextlib.suppress(BrokenPipeError):
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[out.write(rest) :]


def _heard(
    answer: socket.socket, streams: Mapping[int, Tail], deadline: float, end: Callable[[], None]
) -> tuple[bool, Message | None]:
    """Hear a command to its end, which is brought about at the deadline: whether it was, and what was answered."""
    late, ended, over = False, None, None
    with selectors.DefaultSelector() as selector:
        selector.register(answer, selectors.EVENT_READ)
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        try:
            while selector.get_map():
                limit = over if over is not None else deadline
                for key, _ in selector.select(max(0.0, limit - time.monotonic())):
                    if key.fileobj is answer:
                        selector.unregister(answer)
                        received = receive(answer)
                        ended = received[0] if received else None
                        over = time.monotonic() + _REST_SECONDS
                    elif data := os.read(key.fd, 1 << 16):
                        streams[key.fd].add(data)
                    else:
                        selector.unregister(key.fd)
                if time.monotonic() >= limit:
                    if over is not None:
                        break
                    end()
                    late, deadline = True, time.monotonic() + _END_SECONDS
        finally:
            for stream in streams:
                os.close(stream)
    return late, ended
