"""The Engine API, which Docker and podman's socket speak: HTTP requests, their answers, and raw streams after them.

A connection is opened for each request: on the sockets that engines listen at it costs nothing, and none can have been
closed meanwhile. Whatever goes wrong is one of two exceptions, so that reading a file that is sent, or writing one that
is received, is never taken for a fault of the engine.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from boxsnake.engine.address import Address

_CHUNK = 1 << 20
_MOST_WORDS = 1 << 16
_BAD = 400
UPGRADE: Mapping[str, str] = {"Connection": "Upgrade", "Upgrade": "tcp"}
"""The headers of a request after which both sides send bytes as they like."""


class LostError(Exception):
    """The engine is not there, does not answer in time, hangs up, or is no engine. The cause is the system's error."""


class RefusedError(Exception):
    """The engine's answer is that it does not do it: an HTTP status, and its own words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


class Answer:
    """An answer whose head has come; its body is read once."""

    def __init__(self, response: http.client.HTTPResponse, wire: socket.socket) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.wire = wire

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes. Raises LostError where the engine hangs up in the middle."""
        response = self._response
        while True:
            with losing():
                chunk = response.read1(_CHUNK)
            if not chunk:
                break
            yield chunk
        if response.length:
            raise LostError("the engine hung up in the middle of its answer")

    def content(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def told(self) -> Iterator[dict[str, Any]]:
        """The objects that long work tells of itself, one in a line."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (_object(line) for line in lines if line.strip())
        if rest.strip():
            yield _object(rest)

    def raw(self) -> IO[bytes]:
        """What comes after the head, of an answer to `UPGRADE`."""
        return self._response.fp


class Api:
    """An engine at an address. For many threads at once."""

    def __init__(self, address: Address) -> None:
        self._address = address

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        data: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float,
        waiting: float | None = 0,
    ) -> Iterator[Answer]:
        """Ask, and have the answer for the block. `body` is sent as JSON, `data` as it is.

        The engine may take `seconds` without a sign of life; for what comes after the answer's head, `waiting` where
        that is not 0 (None: for ever). Raises LostError, RefusedError, and what `data` raises.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        sent = {"Host": self._address.name}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self._address.authorization:
            sent["Authorization"] = self._address.authorization
        with contextlib.closing(_Wire(self._address, seconds)) as wire:
            response = _sent(wire, method, target, {**sent, **(headers or {})}, _pieces(body, data))
            with contextlib.closing(response):
                answer = Answer(response, wire.line)
                if answer.status >= _BAD:
                    raise _refusal(answer)
                if waiting != 0:
                    wire.line.settimeout(waiting)
                yield answer


class _Wire(http.client.HTTPConnection):
    def __init__(self, address: Address, seconds: float) -> None:
        super().__init__("localhost")
        self._address = address
        self._seconds = seconds
        self.line: socket.socket

    def connect(self) -> None:
        self.sock = self.line = self._address.dial(self._seconds)


def _pieces(body: object, data: Iterable[bytes] | None) -> bytes | Iterable[bytes] | None:
    return data if body is None else json.dumps(body).encode()


def _sent(
    wire: _Wire, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
) -> http.client.HTTPResponse:
    """Send a request, and read the head of its answer."""
    length = len(body) if isinstance(body, bytes) else None
    with losing():
        wire.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            wire.putheader(name, value)
        if body is None:
            wire.putheader("Content-Length", "0")
        elif length is None:
            wire.putheader("Transfer-Encoding", "chunked")
        else:
            wire.putheader("Content-Length", str(length))
        wire.endheaders(body if isinstance(body, bytes) else None)
    if body is not None and not isinstance(body, bytes):
        return _answered(wire, body)
    with losing():
        return wire.getresponse()


def _answered(wire: _Wire, data: Iterable[bytes]) -> http.client.HTTPResponse:
    """Send data in HTTP's chunks, and read the head of the answer, which may come before all of them are sent."""
    try:
        for chunk in data:
            if chunk:
                with losing():
                    wire.line.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        with losing():
            wire.line.sendall(b"0\r\n\r\n")
    except LostError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise
        # An engine that refuses what it is sent says so, and hangs up.
        with contextlib.suppress(LostError), losing():
            response = wire.getresponse()
            if response.status >= _BAD:
                return response
        raise
    with losing():
        return wire.getresponse()


@contextlib.contextmanager
def losing() -> Iterator[None]:
    """Within the block, which does nothing but speak to the engine, what is lost becomes LostError."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
            raise LostError("the engine hung up without an answer, or in the middle of it") from error
        raise LostError(str(error) or type(error).__name__) from error


def value(content: bytes) -> Any:
    """The value of an answer's JSON; None where there is none. Raises LostError where it is no JSON."""
    try:
        return json.loads(content) if content.strip() else None
    except ValueError as error:
        raise LostError("what answers is no engine: its answer is not JSON") from error


def _object(line: bytes) -> dict[str, Any]:
    found = value(line)
    return found if isinstance(found, dict) else {}


def _refusal(answer: Answer) -> RefusedError:
    content = answer.content()[:_MOST_WORDS]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return RefusedError(answer.status, str(json.loads(content)["message"]))
    return RefusedError(answer.status, content.decode("utf-8", "replace").strip() or f"HTTP status {answer.status}")
