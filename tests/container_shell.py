"""A shell that stays in a container: commands start at once in it, and by the engine after a tenth of a second."""

from __future__ import annotations

import shlex
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from boxsnake.engine.container import Container

SECONDS = 300
# Where a command's complaints lie until it has ended; no test looks there.
ERRORS = "/dev/shm/said"


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said: its output, then its errors."""

    exit_code: int
    said: str


class Shell:
    """Commands of a container's root, each with an empty input and in the folder `/`."""

    def __init__(self, identity: str) -> None:
        self._container = identity
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def within(cls, container: Container) -> Iterator[Self]:
        """Have one for the block."""
        shell = cls(container.id)
        try:
            yield shell
        finally:
            shell.close()

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> Done:
        """Run one to its end. Where something kills all that has started it, it ends as the shell does."""
        mark = f"--{uuid.uuid4().hex}"
        words = [f"{name}={value}" for name, value in environment.items()]
        line = shlex.join(["env", *words, *command] if words else list(command))
        process = self._started()
        assert process.stdin
        assert process.stdout
        late = threading.Timer(SECONDS, process.kill)
        late.start()
        try:
            process.stdin.write(
                f"( {line} ) </dev/null 2>{ERRORS}; c=$?; cat {ERRORS}; echo; echo {mark} $c\n".encode()
            )
            process.stdin.flush()
            said = b""
            for part in process.stdout:
                if part.startswith(mark.encode()):
                    return Done(int(part.split()[1]), said.removesuffix(b"\n").decode())
                said += part
        finally:
            late.cancel()
        self.close()
        return Done(process.returncode, (said + self._errors()).decode())

    def close(self) -> None:
        """End it, if it runs; the next command starts another."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                assert stream
                stream.close()
            self._process.wait()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = ["docker", "exec", "--interactive", self._container, "sh"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _errors(self) -> bytes:
        return subprocess.run(["docker", "exec", self._container, "cat", ERRORS], capture_output=True).stdout
