"""A container of ours: commands in it, files into it, what has changed in it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.container import Change, Finished
from boxsnake.disk import disk_faults
from boxsnake.engine.connection import ANSWER_SECONDS, TRANSFER_SECONDS, Connection, raise_unless_fine
from boxsnake.engine.frames import ERRORS, frames
from boxsnake.errors import EngineError
from boxsnake.tar_stream import tar_stream

if TYPE_CHECKING:
    import docker

# The exit code of a process that was ended by SIGKILL.
_KILLED = 137
# The exit codes by which tini (docker's --init) and catatonit (podman's) say that a program cannot be run.
_CANNOT_RUN = (1, 126, 127)
# The states of podman's containers that have ended, but not yet with an exit code.
_ENDING = ("stopped", "stopping")
# In bytes, of each of the two streams.
_KEPT_OUTPUT = 1 << 20
_LOOK_SECONDS = 5.0
# How long the engine may take to notice that a container ended, where no command can be run to find out.
_SETTLING_SECONDS = 2.0
# In microseconds: the kernel's own period for shares of processors.
_PERIOD = 100_000


class Container:
    """A running container of ours."""

    def __init__(self, connection: Connection, identity: str) -> None:
        self.id = identity
        self.kept = False
        self._connection = connection

    def keep(self) -> str:
        """Have it stay after its block, for people to look into: the command for that."""
        self.kept = True
        return f"docker exec -it {self.id[:12]} sh"

    def execute(
        self,
        command: Sequence[str],
        *,
        seconds: float,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
    ) -> Finished:
        """Run a command to its end. One that takes longer than `seconds` is ended, and the container with it.

        Errors: EngineError where the engine or the container went away for a reason that is not the command's.
        """
        from docker.errors import APIError

        started = time.monotonic()
        client = self._connection.client()
        output, errors = _Tail(), _Tail()
        late = threading.Event()
        with self._connection.faults(f"running {command[0]}"):
            try:
                made = client.exec_create(
                    self.id, list(command), user=user, environment=dict(environment or {}), workdir=folder
                )
                # The API cannot end an exec; it can end the container, which nothing survives.
                alarm = threading.Timer(seconds, self._end, args=[late])
                alarm.start()
                try:
                    exit_code = self._collect(client, made["Id"], seconds, output, errors)
                finally:
                    alarm.cancel()
            except APIError:
                # Engines say in different words that a container does not run.
                never = self._never_ran(client)
                if never is None:
                    raise
                return never
            # The container may have been seen to run for the moment that it took its own command to fail.
            if not late.is_set() and (never := self._never_ran(client)) is not None:
                return never
            ended_by = "timeout" if late.is_set() else self._ended_by(client)
            if exit_code in (None, _KILLED) and not ended_by:
                ended_by = self._killed_by(client)
        return Finished(
            exit_code=None if ended_by == "timeout" else exit_code,
            output=output.kept,
            errors=errors.kept,
            seconds=time.monotonic() - started,
            cut=output.cut + errors.cut,
            ended_by=ended_by,
        )

    def limit(self, *, memory: int, processors: float) -> None:
        """Give it no more than so many bytes of memory, and so many processors (0.5 is half of one), from now on."""
        with self._connection.faults("limiting a container"):
            self._connection.client().update_container(
                self.id,
                mem_limit=memory,
                memswap_limit=memory,
                cpu_period=_PERIOD,
                cpu_quota=int(processors * _PERIOD),
            )

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or a folder to an absolute path, owned by root and readable by all; parents are made."""
        parent = target
        names: list[str] = []
        # A folder that is there keeps its owner and mode, and a link to one stays a link.
        while parent != "/" and (not names or self._mode(parent) is None):
            parent, _, name = parent.rpartition("/")
            parent = parent or "/"
            names.insert(0, name)
        with self._connection.faults(f"copying {source.name} into a container"):
            self._connection.client(TRANSFER_SECONDS).put_archive(self.id, parent, tar_stream(source, "/".join(names)))

    def is_folder(self, path: str) -> bool:
        """Whether a path of the container is a folder (a link to one is not)."""
        # The mode is Go's: its highest bit is the folder's.
        return bool((self._mode(path) or 0) >> 31 & 1)

    def _mode(self, path: str) -> int | None:
        """The mode of a path, links not followed; None where there is nothing."""
        client = self._connection.client()
        with self._connection.faults(f"looking at {path} in a container"):
            url = self._connection.url(f"/containers/{self.id}/archive")
            answer = client.head(url, params={"path": path}, timeout=ANSWER_SECONDS)
            if answer.status_code == 404:
                return None
            raise_unless_fine(answer)
            facts = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        return int(facts["mode"])

    def changes(self) -> tuple[Change, ...]:
        """Every path that differs from the image, sorted."""
        kinds = {0: "changed", 1: "added", 2: "removed"}
        with self._connection.faults("comparing a container with its image"):
            found = self._connection.client(TRANSFER_SECONDS).diff(self.id) or []
        return tuple(sorted(Change(path=entry["Path"], kind=kinds[entry["Kind"]]) for entry in found))

    def export(self, archive: Path) -> None:
        """Write the whole file system, as it is now, as a tar; what is mounted into it is left out."""
        reading = self._connection.faults("reading a container's files")
        with disk_faults(archive), archive.open("wb") as out, reading:
            for chunk in self._connection.client(TRANSFER_SECONDS).export(self.id):
                out.write(chunk)

    def take(self, path: str, archive: Path) -> None:
        """Write a file or a folder as a tar, whose one member at its top has the path's last name."""
        reading = self._connection.faults(f"reading {path} in a container")
        with disk_faults(archive), archive.open("wb") as out, reading:
            chunks, _ = self._connection.client(TRANSFER_SECONDS).get_archive(self.id, path)
            for chunk in chunks:
                out.write(chunk)

    def _end(self, late: threading.Event) -> None:
        late.set()
        with contextlib.suppress(Exception):
            self._connection.client().kill(self.id)

    def _never_ran(self, client: docker.APIClient) -> Finished | None:
        """What the container's own command said where it could not be run; None where it ended otherwise."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while (state := client.inspect_container(self.id)["State"])["Status"] in _ENDING:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if state["Running"] or state["ExitCode"] not in _CANNOT_RUN:
            return None
        said = client.logs(self.id, stream=False, tail=20)
        return Finished(exit_code=state["ExitCode"], output=b"", errors=said, seconds=0.0)

    def _ended_by(self, client: docker.APIClient) -> str:
        """Why the container has ended while a command ran in it: "" where it has not, "memory", or EngineError."""
        state = client.inspect_container(self.id)["State"]
        if state.get("Running"):
            return ""
        if state.get("OOMKilled"):
            return "memory"
        cause = f"it ended with {state.get('ExitCode')} while a command ran in it, and not by our doing"
        raise EngineError("a container", cause, "See the engine's log, then run the command again.", state=state)

    def _killed_by(self, client: docker.APIClient) -> str:
        """Why a command was killed: "memory", "" where somebody in the container did it, or EngineError.

        The engine's own `OOMKilled` speaks of the container's first process alone, and it learns of a container's end
        later than of the end of the commands in it: only a container in which another command runs is known to live.
        """
        from docker.errors import APIError

        counters = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
        deadline = time.monotonic() + _SETTLING_SECONDS
        while time.monotonic() < deadline:
            counted = _Tail()
            # What cannot be run says why in the look at the container's state that follows.
            with contextlib.suppress(APIError):
                made = client.exec_create(self.id, ["cat", *counters])
                self._collect(client, made["Id"], _LOOK_SECONDS, counted, _Tail())
            # Engines send their own words about a command that they could not run the same way.
            words = counted.kept.decode(errors="replace").split()
            if "oom_kill" in words:
                starved = any(word == "oom_kill" and count != "0" for word, count in itertools.pairwise(words))
                return "memory" if starved else ""
            if ended_by := self._ended_by(client):
                return ended_by
            time.sleep(0.05)
        return ""

    def _collect(self, client: docker.APIClient, made: str, seconds: float, output: _Tail, errors: _Tail) -> int | None:
        """Start an exec and read its output to its end: its exit code."""
        _collect(client, self._connection.url(f"/exec/{made}/start"), seconds, output, errors)
        return _exit_code(client, made)


class _Tail:
    """The last bytes of a stream, and how many came before them."""

    def __init__(self) -> None:
        self.kept = b""
        self.cut = 0

    def add(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > 2 * _KEPT_OUTPUT:
            self.trim()

    def trim(self) -> None:
        surplus = max(0, len(self.kept) - _KEPT_OUTPUT)
        self.kept = self.kept[surplus:]
        self.cut += surplus


def _collect(client: docker.APIClient, url: str, seconds: float, output: _Tail, errors: _Tail) -> None:
    """Read an exec's output to its end.

    Not by the SDK: it reads from the bare socket and so loses what has come in together with the HTTP headers.
    """
    waiting = (ANSWER_SECONDS, seconds + ANSWER_SECONDS)
    with client.post(url, json={"Detach": False, "Tty": False}, stream=True, timeout=waiting) as answer:
        raise_unless_fine(answer)
        for kind, data in frames(answer.iter_content(chunk_size=None)):
            (errors if kind == ERRORS else output).add(data)
    output.trim()
    errors.trim()


def _exit_code(client: docker.APIClient, identity: str) -> int | None:
    """The exit code of an exec whose output has ended; the engine notes it a moment later."""
    deadline = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < deadline:
        facts = client.exec_inspect(identity)
        if not facts["Running"] and facts["ExitCode"] is not None:
            return int(facts["ExitCode"])
        time.sleep(0.02)
    return None
