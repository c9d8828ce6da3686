"""Other people's programs: run in a process group of their own, with a deadline and an environment that is listed."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from boxsnake.errors import ResourceError
from boxsnake.urls import redact
from boxsnake.value import dataclass

# What a program that talks to servers needs of the caller's environment, and nothing else of it.
_PASSED = (
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)
_TAIL = 32_768  # bytes of a program's output that are looked at
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LINES = 20  # and how many of its last lines are shown


is_awaited = threading.Event()
"""Set once anybody has waited for a program: from then on there is time for work that can be done beside others'."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that has ended. `code` is its exit status, negative for a signal, None where the deadline ended it."""

    code: int | None
    output: str
    """The end of what it wrote to both streams, without credentials."""

    @property
    def last_lines(self) -> str:
        """What it said last, for a message."""
        lines = [line.rstrip() for line in self.output.splitlines() if line.strip()]
        return "\n".join(f"  {line}" for line in lines[-_LINES:]) or "  (it said nothing)"

    def why(self, deadline: float) -> str:
        """Why it did not succeed, in a few words."""
        if self.code is None:
            return f"was stopped after {deadline:.0f} s"
        if self.code < 0:
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"ended with status {self.code}"


def environment(folder: Path, **added: str) -> dict[str, str]:
    """A child's whole environment: PATH, certificates and proxies of ours, homes below `folder`, fixed locale and zone.

    `added` comes last and wins.
    """
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    homes = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "home/cache", "XDG_CONFIG_HOME": "home/config"}
    for place in homes.values():
        (folder / place).mkdir(parents=True, exist_ok=True)
    fixed = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", "NO_COLOR": "1"}
    return passed | {name: str(folder / place) for name, place in homes.items()} | fixed | added


def run(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], deadline: float, grace: float = 0.0) -> Finished:
    """Run a program to its end, or to the deadline (seconds), and nothing of it longer.

    It has no input, and its files are made with the umask 022. With `grace`, a program that has to be stopped is first
    interrupted, and given that many seconds to undo what it has done to the system, such as mounts. Raises
    ResourceError where it cannot be started, and where it failed because the disk was full.
    """
    # In memory: on a disk that is full a program could not even say so.
    with os.fdopen(os.memfd_create("output"), "w+b") as output:
        child: subprocess.Popen[bytes] | None = None
        ended = False
        code = 0
        try:
            with _undisturbed():
                child = _started(argv, cwd, env, output)
            ended = _has_ended(child, deadline)
        finally:
            # Its own children too, whichever way this block is left.
            if child is not None:
                code = _end_group(child, grace)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _TAIL))
        finished = Finished(code=code if ended else None, output=redact(output.read().decode("utf-8", "replace")))
    _check_disk(argv[0], finished)
    return finished


def _started(argv: Sequence[str], cwd: Path, env: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        raise ResourceError(
            argv[0], f"cannot be started: {error.strerror}", "Install it, or mend the installation.", program=argv[0]
        ) from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Put off signals that end us: between a program's start and our knowledge of it, it would be nobody's to end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    handled = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _check_disk(program: str, finished: Finished) -> None:
    """A program that ran out of disk has not judged its input: that is this machine's fault and not the package's."""
    # Programs of C and Python say "No space left on device", those of Go "no space left on device"; some break lines.
    if finished.code != 0 and os.strerror(errno.ENOSPC).lower() in " ".join(finished.output.lower().split()):
        name = Path(program).name
        raise ResourceError(
            name,
            f"there was no space left on the disk that it wrote to\n{finished.last_lines}",
            "Free some space, then run it again.",
            program=name,
        )


def found(program: str, package: str) -> str:
    """The path of a program of the system's; ResourceError names the package to install where there is none."""
    path = shutil.which(program)
    if path is None:
        raise ResourceError(program, "is not installed", f"Install {package} and run it again.", program=program)
    return path


_finding = threading.Lock()


def uv_program() -> str:
    """The path of uv's program. Threads may ask at once, which uv's own answer cannot take on Python 3.11."""
    import uv

    with _finding:
        return uv.find_uv_bin()


def _has_ended(child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether it ended in time. It is not reaped yet: as long as it is not, its group's number is nobody else's."""
    handle = os.pidfd_open(child.pid)
    is_awaited.set()
    try:
        return bool(select.select([handle], [], [], deadline)[0])
    finally:
        os.close(handle)


def _end_group(child: subprocess.Popen[bytes], grace: float) -> int:
    if grace and not _has_ended(child, 0):
        child.send_signal(signal.SIGINT)
        _has_ended(child, grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()
