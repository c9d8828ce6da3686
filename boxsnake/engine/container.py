"""A container of ours: commands in it, files into it, what has changed in it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from boxsnake.container import Change, Finished, Tail
from boxsnake.engine import upper, wanted
from boxsnake.engine.api import LostError, RefusedError
from boxsnake.engine.connection import ANSWER_SECONDS, TRANSFER_SECONDS, Connection
from boxsnake.engine.frames import ERRORS, frames
from boxsnake.engine.launch import spoken
from boxsnake.errors import EngineError
from boxsnake.tar_stream import tar_stream

_MISSING = 404
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

    def __init__(
        self,
        connection: Connection,
        identity: str,
        *,
        begun: dict[object, frozenset[Change]] | None = None,
        kind: object = "",
    ) -> None:
        self.id = identity
        self.kept = False
        self._connection = connection
        # What containers of each kind begin with, for all containers of an engine.
        self._begun = {} if begun is None else begun
        self._kind = kind

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
        started = time.monotonic()
        output, errors = Tail(), Tail()
        late = threading.Event()
        with self._connection.faults(f"running {command[0]}"):
            try:
                made = self._made(wanted.command(command, user=user, folder=folder, environment=environment))
                # The API cannot end an exec; it can end the container, which nothing survives.
                alarm = threading.Timer(seconds, self._end, args=[late])
                alarm.start()
                try:
                    exit_code = self._collect(made, seconds, output, errors)
                finally:
                    alarm.cancel()
                ended_by = "timeout" if late.is_set() else self._why(exit_code)
            except (RefusedError, EngineError):
                # Engines say in different words that a container does not run, and may have seen it run for the moment
                # that it took its own command to fail.
                never = self._never_ran()
                if never is None:
                    raise
                return never
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
            limits = {"Memory": memory, "MemorySwap": memory}
            limits |= {"CpuPeriod": _PERIOD, "CpuQuota": int(processors * _PERIOD)}
            self._connection.ask("POST", f"/containers/{self.id}/update", body=limits)

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
            self._connection.ask(
                "PUT",
                f"/containers/{self.id}/archive",
                query={"path": parent},
                data=tar_stream(source, "/".join(names)),
                seconds=TRANSFER_SECONDS,
            )

    def is_folder(self, path: str) -> bool:
        """Whether a path of the container is a folder (a link to one is not)."""
        # The mode is Go's: its highest bit is the folder's.
        return bool((self._mode(path) or 0) >> 31 & 1)

    def _mode(self, path: str) -> int | None:
        """The mode of a path, links not followed; None where there is nothing."""
        with self._connection.faults(f"looking at {path} in a container"):
            try:
                asked = self._connection.request("HEAD", f"/containers/{self.id}/archive", query={"path": path})
                with asked as answer:
                    facts = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
            except RefusedError as error:
                if error.status == _MISSING:
                    return None
                raise
        return int(facts["mode"])

    def changes(self) -> tuple[Change, ...]:
        """Every path that differs from the image, sorted."""
        with contextlib.suppress(upper.UnreadableError):
            if self._overlay is not None:
                return upper.read_changes(self._overlay)
        return self.told_changes()

    @cached_property
    def _overlay(self) -> upper.Overlay | None:
        with self._connection.faults("looking at a container"):
            return upper.overlay_of(self._connection.ask("GET", f"/containers/{self.id}/json"))

    def told_changes(self) -> tuple[Change, ...]:
        """The same as the engine tells it, which compares whole file systems."""
        kinds = {0: "changed", 1: "added", 2: "removed"}
        with self._connection.faults("comparing a container with its image"):
            found = self._connection.ask("GET", f"/containers/{self.id}/changes", seconds=TRANSFER_SECONDS) or []
        return tuple(sorted(Change(path=entry["Path"], kind=kinds[entry["Kind"]]) for entry in found))

    def own_changes(self) -> frozenset[Change]:
        """See `boxsnake.container.Container`. The engine compares whole file systems, and is asked once for a kind."""
        if self._kind not in self._begun:
            self._begun[self._kind] = frozenset(self.changes())
        return self._begun[self._kind]

    def export(self, archive: Path) -> None:
        """Write the whole file system, as it is now, as a tar; what is mounted into it is left out."""
        self._connection.receive(f"/containers/{self.id}/export", archive, "reading a container's files")

    def take(self, path: str, archive: Path) -> None:
        """Write a file or a folder as a tar, whose one member at its top has the path's last name."""
        thing = f"reading {path} in a container"
        self._connection.receive(f"/containers/{self.id}/archive", archive, thing, query={"path": path})

    def _end(self, late: threading.Event) -> None:
        late.set()
        with contextlib.suppress(LostError, RefusedError):
            self._connection.ask("POST", f"/containers/{self.id}/kill")

    def _why(self, exit_code: int | None) -> str:
        """What ended a command, as `Finished.ended_by` has it. Errors: EngineError."""
        ended_by = self._ended_by()
        return self._killed_by() if exit_code in (None, _KILLED) and not ended_by else ended_by

    def _never_ran(self) -> Finished | None:
        """What the container's own command said where it could not be run; None where it ended otherwise."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while (state := self._state())["Status"] in _ENDING:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if state["Running"] or state["ExitCode"] not in _CANNOT_RUN:
            return None
        said = b"".join(spoken(self._connection, self.id, follow=False, tail=20))
        return Finished(exit_code=state["ExitCode"], output=b"", errors=said, seconds=0.0)

    def _ended_by(self) -> str:
        """Why the container has ended while a command ran in it: "" where it has not, "memory", or EngineError."""
        state = self._state()
        if state.get("Running"):
            return ""
        if state.get("OOMKilled"):
            return "memory"
        cause = f"it ended with {state.get('ExitCode')} while a command ran in it, and not by our doing"
        raise EngineError("a container", cause, "See the engine's log, then run the command again.", state=state)

    def _killed_by(self) -> str:
        """Why a command was killed: "memory", "" where somebody in the container did it, or EngineError.

        The engine's own `OOMKilled` speaks of the container's first process alone, and it learns of a container's end
        later than of the end of the commands in it: only a container in which another command runs is known to live.
        """
        counters = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
        deadline = time.monotonic() + _SETTLING_SECONDS
        while time.monotonic() < deadline:
            counted = Tail()
            # What cannot be run says why in the look at the container's state that follows.
            with contextlib.suppress(RefusedError):
                self._collect(self._made(wanted.command(["cat", *counters])), _LOOK_SECONDS, counted, Tail())
            # Engines send their own words about a command that they could not run the same way.
            words = counted.kept.decode(errors="replace").split()
            if "oom_kill" in words:
                starved = any(word == "oom_kill" and count != "0" for word, count in itertools.pairwise(words))
                return "memory" if starved else ""
            if ended_by := self._ended_by():
                return ended_by
            time.sleep(0.05)
        return ""

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._connection.ask("GET", f"/containers/{self.id}/json")["State"]
        return state

    def _made(self, command: Mapping[str, object]) -> str:
        """Make an exec, without starting it: its id."""
        return str(self._connection.ask("POST", f"/containers/{self.id}/exec", body=command)["Id"])

    def _collect(self, identity: str, seconds: float, output: Tail, errors: Tail) -> int | None:
        """Start an exec and read its output to its end: its exit code."""
        answering = self._connection.request(
            "POST",
            f"/exec/{identity}/start",
            body={"Detach": False, "Tty": False},
            waiting=seconds + ANSWER_SECONDS,
        )
        with answering as answer:
            for kind, data in frames(answer.chunks()):
                (errors if kind == ERRORS else output).add(data)
        output.trim()
        errors.trim()
        return _exit_code(self._connection, identity)


def _exit_code(connection: Connection, identity: str) -> int | None:
    """The exit code of an exec whose output has ended; the engine notes it a moment later."""
    deadline = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < deadline:
        facts = connection.ask("GET", f"/exec/{identity}/json")
        if not facts["Running"] and facts["ExitCode"] is not None:
            return int(facts["ExitCode"])
        time.sleep(0.02)
    return None
