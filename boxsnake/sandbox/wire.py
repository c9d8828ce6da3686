"""How a sandbox is spoken to: requests as JSON with open files, over a socket of one's own; one answer to each."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

_SIZE = struct.Struct(">I")
# What one message may carry (unix(7): SCM_MAX_FD is 253).
MOST_FILES = 250

Message = dict[str, Any]


def send(to: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Send a message. Errors: OSError."""
    data = json.dumps(message).encode()
    data = _SIZE.pack(len(data)) + data
    sent = socket.send_fds(to, [data], list(files)) if files else to.send(data)
    to.sendall(data[sent:])


def receive(of: socket.socket) -> tuple[Message, list[int]] | None:
    """Wait for a message and its files; None where the other side is gone. Errors: OSError."""
    first, files, _, _ = socket.recv_fds(of, _SIZE.size, MOST_FILES)
    head = first + _exactly(of, _SIZE.size - len(first)) if first else b""
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    data = _exactly(of, size)
    if len(data) < size:
        return None
    message: Message = json.loads(data)
    return message, files


def _exactly(of: socket.socket, size: int) -> bytes:
    parts = []
    while size and (data := of.recv(min(size, 1 << 20))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
