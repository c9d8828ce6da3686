"""Counts visits in Redis, where there is one: REDIS_HOST names it, or REDIS_HOST with a port behind a colon."""

from __future__ import annotations

import os
import socket

_COMMAND = b"INCR visits\r\n"
_SECONDS = 2.0


def count() -> int | None:
    """One visit more: how many there were; None without a Redis. Errors: OSError where it does not answer."""
    place = os.environ.get("REDIS_HOST")
    if not place:
        return None
    host, _, port = place.partition(":")
    # One command and one number for an answer take no client library.
    with socket.create_connection((host, int(port or 6379)), _SECONDS) as connection:
        connection.sendall(_COMMAND)
        answer = connection.makefile("rb").readline()
    if not answer.startswith(b":"):
        raise ConnectionError(answer.decode("utf-8", "replace").strip())
    return int(answer[1:])
