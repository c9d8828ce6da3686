"""Requests over connections of our own to servers, which stay open for the next one: HTTP/1.1 without a proxy.

By the standard library's client: a push asks a registry for a few hundred bytes at a time, and importing the library
that knows proxies takes longer than all of it.
"""

from __future__ import annotations

import http.client
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import quote, urlsplit

from boxsnake.urls import USUAL_PORTS
from boxsnake.value import dataclass

if TYPE_CHECKING:
    import ssl

# What may stand in a path and query as it is.
_PLAIN = "!#$%&'()*+,/:;=?@[]~"

Place = tuple[str, str, int]
"""Scheme, host and port of a server."""


class WireError(Exception):
    """A request that did not come through; what has failed is its cause.

    `kind` is where: in the URL, that of a redirect, on the way to the server or to a proxy, or after a connection was
    there: silence for too long, an answer that is no HTTP or broke off, a connection that broke.
    """

    def __init__(
        self,
        kind: Literal["url", "redirect", "connect", "proxy", "silence", "answer", "broken"],
        words: str = "",
        *,
        is_late: bool = False,
    ) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words
        self.is_late = is_late
        """Whether time ran out."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A server's answer, whole. `headers` find a name in any case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Headers(Mapping[str, str]):
    """Those of an answer; a name that is there several times has its values with commas between them (RFC 9110)."""

    def __init__(self, message: http.client.HTTPMessage) -> None:
        self._message = message

    def __getitem__(self, name: str) -> str:
        found = self._message.get_all(name)
        if found is None:
            raise KeyError(name)
        return ", ".join(found)

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): None for name in self._message})

    def __len__(self) -> int:
        return len({name.lower() for name in self._message})


class Wires:
    """Connections to any servers. For many threads: each request has one for itself."""

    def __init__(
        self,
        *,
        connect: float,
        stall: float,
        certificates: Callable[[], ssl.SSLContext],
        headers: Mapping[str, str],
    ) -> None:
        """Seconds to wait for a connection, and for each run of bytes; what is sent with each request."""
        self._connect = connect
        self._stall = stall
        self._certificates = certificates
        self._headers = headers
        self._idle: dict[Place, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._is_over = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            for wires in self._idle.values():
                for wire in wires:
                    wire.close()
            self._idle.clear()

    def hang_up(self) -> None:
        """End all requests that wait for a server, and those that come: they raise WireError."""
        with self._lock:
            self._is_over = True
            for wire in self._busy:
                _cut(wire)

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | Iterable[bytes] | None,
        limit: int,
    ) -> Answer:
        """Make a request and read its answer, of which at most `limit` bytes and one more are kept; follows nothing.

        Raises WireError, and what `content` does.
        """
        place, target = _parsed(url)
        with self._busy_wire(place) as wire:
            response = _asked(wire, method, target, {**self._headers, **headers}, content)
            with _broken(), response:
                body = _read(response, limit)
                if not response.isclosed() or response.will_close:
                    wire.close()
                return Answer(url=url, status=response.status, headers=Headers(response.headers), body=body)

    @contextmanager
    def _busy_wire(self, place: Place) -> Iterator[http.client.HTTPConnection]:
        """A connection for one request; the next one has it where it is left open."""
        wire = self._wire(place)
        with self._lock:
            self._busy.add(wire)
            if self._is_over:
                _cut(wire)
        try:
            yield wire
        except BaseException:
            wire.close()
            raise
        finally:
            with self._lock:
                self._busy.discard(wire)
                if wire.sock is not None:
                    self._idle.setdefault(place, []).append(wire)

    def _wire(self, place: Place) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                idle = self._idle.get(place)
                wire = idle.pop() if idle else None
            if wire is None:
                return self._dialled(place)
            # A server that has closed it, or has something to say that nobody asked for, is not asked by it.
            if wire.sock is not None and not select.select([wire.sock], [], [], 0)[0]:
                return wire
            wire.close()

    def _dialled(self, place: Place) -> http.client.HTTPConnection:
        scheme, host, port = place
        wire = (http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection)(host, port)
        try:
            wire.sock = self._connected(place)
        except (OSError, UnicodeError) as error:
            raise WireError("connect", str(error), is_late=isinstance(error, TimeoutError)) from error
        return wire

    def _connected(self, place: Place) -> socket.socket:
        scheme, host, port = place
        # For a name that is text, the codec of international ones would be imported, though it has none such.
        name = cast("str", host.encode("ascii")) if host.isascii() else host
        found = socket.create_connection((name, port), self._connect)
        try:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "https":
                found = self._certificates().wrap_socket(found, server_hostname=host)
            found.settimeout(self._stall)
        except BaseException:
            found.close()
            raise
        return found


def _cut(wire: http.client.HTTPConnection) -> None:
    """End what waits at a connection. To close it would not wake who reads from it."""
    sock = wire.sock  # None once the library has closed it
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _parsed(url: str) -> tuple[Place, str]:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
        place = (scheme, host or "", port or USUAL_PORTS[scheme])
    except (ValueError, KeyError) as error:
        raise WireError("url", str(error)) from error
    if not host:
        raise WireError("url", "it has no host")
    target = parts._replace(scheme="", netloc="", fragment="").geturl()
    return place, quote(target if target.startswith("/") else f"/{target}", safe=_PLAIN)


def _asked(
    wire: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    content: bytes | Iterable[bytes] | None,
) -> http.client.HTTPResponse:
    """Send a request, and read the head of its answer."""
    pieces: Iterable[bytes] = [content] if isinstance(content, bytes) else content or ()
    sized = {"Content-Length": str(len(content))} if isinstance(content, bytes) else {}
    with _broken():
        wire.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**sized, **headers}.items():
            wire.putheader(name, value)
        wire.endheaders()
    try:
        for piece in pieces:
            with _broken():
                wire.send(piece)
    except WireError as error:
        # A server that refuses what it is sent says so, and hangs up.
        if not error.is_late:
            with suppress(WireError), _broken():
                return wire.getresponse()
        raise WireError("broken", error.words, is_late=error.is_late) from error
    with _broken():
        return wire.getresponse()


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    # Asked for a number of bytes, the library does not say that the answer broke off before its length.
    if response.length is not None and response.length <= limit:
        return response.read()
    return response.read(limit + 1)


@contextmanager
def _broken() -> Iterator[None]:
    """Within the block, which does nothing but speak to the server, what is lost becomes WireError."""
    try:
        yield
    except TimeoutError as error:
        raise WireError("silence", str(error), is_late=True) from error
    except http.client.HTTPException as error:
        raise WireError("answer", str(error)) from error
    except OSError as error:
        raise WireError("broken", str(error)) from error
