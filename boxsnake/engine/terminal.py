"""A command in a container that one talks to: its streams are those of this process, with a terminal or without."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from boxsnake.engine import wanted
from boxsnake.engine.api import UPGRADE, LostError, RefusedError
from boxsnake.engine.frames import ERRORS, frames

if TYPE_CHECKING:
    from boxsnake.engine.connection import Connection

Write = Callable[[bytes], object]

_CHUNK = 1 << 16
_RESIZES = (0.1, 0.5, 1.5)


def converse(
    connection: Connection,
    identity: str,
    command: Sequence[str],
    *,
    source: int,
    out: Write,
    errors: Write,
    terminal: bool,
    user: str = "",
    folder: str = "",
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command to its end: its exit code. It reads what the file descriptor `source` gives.

    With `terminal` it has a terminal of its own, as large as this one, and the descriptor, which must be a terminal,
    hands over every key as it is. Errors: EngineError.
    """
    document = wanted.command(command, user=user, folder=folder, environment=environment)
    document |= {"AttachStdin": True, "Tty": terminal}
    with connection.faults(f"running {command[0]}"):
        made = str(connection.ask("POST", f"/containers/{identity}/exec", body=document)["Id"])
        starting = connection.request(
            "POST", f"/exec/{made}/start", body={"Detach": False, "Tty": terminal}, headers=UPGRADE, waiting=None
        )
        with starting as answer:
            ended, tell = os.pipe()
            reader = threading.Thread(target=_read, args=(answer.raw(), out, errors, terminal, tell), daemon=True)
            with _raw(source if terminal else None), _resized(connection, made, terminal=terminal):
                reader.start()
                _write(source, answer.wire, ended)
            reader.join()
            os.close(ended)
            os.close(tell)
        return int(connection.ask("GET", f"/exec/{made}/json")["ExitCode"] or 0)


def _read(stream: Any, out: Write, errors: Write, terminal: bool, tell: int) -> None:
    """Hand over what comes until it ends: bytes of a terminal, or frames of two streams."""
    chunks = iter(lambda: stream.read1(_CHUNK), b"")
    with contextlib.suppress(OSError, ValueError):
        if terminal:
            for data in chunks:
                out(data)
        else:
            for kind, data in frames(chunks):
                (errors if kind == ERRORS else out)(data)
    os.write(tell, b".")


def _write(source: int, wire: socket.socket, ended: int) -> None:
    """Send what is typed, until that or the command ends."""
    waiting = [source, ended]
    while True:
        ready, _, _ = select.select(waiting, [], [])
        if ended in ready:
            return
        data = os.read(source, _CHUNK)
        with contextlib.suppress(OSError):
            if data:
                wire.sendall(data)
            else:
                wire.shutdown(socket.SHUT_WR)
        if not data:
            waiting = [ended]


@contextlib.contextmanager
def _raw(terminal: int | None) -> Iterator[None]:
    """Within the block, a terminal hands over keys as they are, Ctrl-C among them."""
    if terminal is None:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized(connection: Connection, identity: str, *, terminal: bool) -> Iterator[None]:
    """Within the block, the command's terminal is as large as this one."""
    if not terminal:
        yield
        return

    def resize(*_told: object) -> None:
        size = shutil.get_terminal_size()
        with contextlib.suppress(LostError, RefusedError):
            connection.ask("POST", f"/exec/{identity}/resize", query={"h": size.lines, "w": size.columns})

    before = signal.signal(signal.SIGWINCH, resize)
    # Until the command runs, there is no terminal to size.
    for seconds in _RESIZES:
        timer = threading.Timer(seconds, resize)
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
