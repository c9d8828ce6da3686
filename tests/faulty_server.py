"""A web server on this machine which does to a client what servers, proxies and networks do.

Every file is served in one mode; `hits` counts the requests for it and `requests` keeps their headers.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.server
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LOGIN_PAGE = b"<!DOCTYPE html>\n<html><body>Please log in to this network</body></html>"


@dataclass
class FaultyServer:
    """What is served, and what was asked for. Modes are the methods of `Answers`."""

    host: str = "127.0.0.1"
    port: int = 0
    scheme: str = "http"
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, name: str, data: bytes, mode: str = "ok", to: str = "") -> str:
        """Serve bytes under a name in a mode (`to` is where a redirect leads); returns the URL."""
        assert hasattr(Answers, mode.partition(" ")[0])
        self.files[f"/{name}"] = (data, mode)
        self.places[f"/{name}"] = to
        return self.url(name)

    def url(self, name: str, host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}/{name}"

    def headers_of(self, name: str) -> list[dict[str, str]]:
        return [headers for path, headers in self.requests if path == f"/{name}"]


@contextmanager
def faulty_server(certificate: Path | None = None) -> Iterator[FaultyServer]:
    """Run a server until the end of the block, over TLS if a file with key and certificate is given."""
    state = FaultyServer()

    class Handler(Answers):
        server_state = state

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are what is wanted here."""

    with Server((state.host, 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            state.scheme = "https"
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.closing.set()
            server.shutdown()
            thread.join()


class Answers(http.server.BaseHTTPRequestHandler):
    """One method for each mode; a number behind a mode's name is its argument."""

    protocol_version = "HTTP/1.1"
    server_state: FaultyServer

    def do_GET(self) -> None:
        state = self.server_state
        path = self.path
        with state.lock:
            state.hits[path] += 1
            state.requests.append((path, dict(self.headers.items())))
        data, mode = state.files.get(path.partition("?")[0], (b"", "status 404"))
        name, _, argument = mode.partition(" ")
        answer: Callable[..., None] = getattr(self, name)
        with contextlib.suppress(OSError):
            answer(data, *([argument] if argument else []))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Stay silent."""

    def number(self) -> int:
        return self.server_state.hits[self.path]

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """End the connection with a reset and not in good order."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def offset(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    # The modes

    def ok(self, data: bytes) -> None:
        start = self.offset()
        if start:
            self.send(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send(200, data, ETag='"one"')

    def status(self, _data: bytes, status: str) -> None:
        self.send(int(status), b"no")

    def busy_once(self, data: bytes, status: str) -> None:
        """Turn the first request away."""
        if self.number() == 1:
            self.send(int(status), b"", Retry_After="7")
        else:
            self.ok(data)

    def busy_at_date(self, data: bytes) -> None:
        """As `busy_once`, with a date; the server's clock is years behind."""
        now = time.time() - 10**8
        if self.number() == 1:
            self.send_response_only(429)
            self.send_header("Date", email.utils.formatdate(now, usegmt=True))
            self.send_header("Retry-After", email.utils.formatdate(now + 30, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.ok(data)

    def busy_long(self, _data: bytes) -> None:
        self.send(503, b"", Retry_After="86400")

    def flaky(self, data: bytes, every: str) -> None:
        """Answer only each n-th request well."""
        if self.number() % int(every):
            self.send(502, b"")
        else:
            self.ok(data)

    def trunc(self, data: bytes) -> None:
        """Announce all and send half, always."""
        self.send(200, data[: len(data) // 2], length=len(data))
        self.close_connection = True

    def trunc_once(self, data: bytes) -> None:
        if self.number() == 1:
            self.send(200, data[: len(data) // 2], length=len(data), ETag='"one"')
            self.close_connection = True
        else:
            self.ok(data)

    def no_range(self, data: bytes) -> None:
        """As `trunc_once`, from a server that knows no ranges."""
        if self.number() == 1:
            self.trunc(data)
        else:
            self.send(200, data)

    def wrong_range(self, data: bytes) -> None:
        """As `trunc_once`; the second answer is another part than was asked for."""
        if self.number() == 1:
            self.trunc(data)
        elif self.offset():
            self.send(206, data[1:], Content_Range=f"bytes 1-{len(data) - 1}/{len(data)}")
        else:
            self.send(200, data)

    def refused_range(self, data: bytes) -> None:
        if self.number() == 1:
            self.trunc(data)
        elif self.offset():
            self.send(416, b"")
        else:
            self.send(200, data)

    def changing(self, data: bytes) -> None:
        """Another file under the same entity tag after the first half; the locked one on a fresh request."""
        if self.number() == 1:
            self.send(200, bytes(len(data) // 2), length=len(data), ETag='"one"')
            self.close_connection = True
        else:
            self.ok(data)

    def short(self, data: bytes) -> None:
        """Send half and call it all."""
        self.send(200, data[: len(data) // 2])

    def long(self, data: bytes) -> None:
        self.send(200, data * 3)

    def other(self, data: bytes) -> None:
        self.send(200, data[::-1])

    def reset_once(self, data: bytes) -> None:
        if self.number() == 1:
            self.send(200, data[: len(data) // 2], length=len(data))
            self.cut()
        else:
            self.ok(data)

    def stall(self, data: bytes) -> None:
        """Send half and then nothing."""
        self.send(200, data[: len(data) // 2], length=len(data))
        self.server_state.closing.wait()

    def stall_once(self, data: bytes) -> None:
        if self.number() == 1:
            self.stall(data)
        else:
            self.ok(data)

    def slow(self, data: bytes) -> None:
        """Send byte after byte, slowly."""
        self.send(200, b"", length=len(data))
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self.server_state.closing.wait(0.02):
                return

    def redirect(self, _data: bytes, status: str = "302") -> None:
        self.send(int(status), b"", Location=self.server_state.places[self.path])

    def hops(self, _data: bytes) -> None:
        """Redirect for ever, each time to another place."""
        name = f"/hop{len(self.server_state.requests)}"
        self.server_state.files[name] = (b"", "hops")
        self.send(302, b"", Location=name)

    def nowhere(self, _data: bytes) -> None:
        self.send(302, b"")

    def html(self, _data: bytes) -> None:
        self.send(200, LOGIN_PAGE, Content_Type="text/html; charset=utf-8")

    def disguised_html(self, _data: bytes) -> None:
        self.send(200, LOGIN_PAGE, Content_Type="application/octet-stream")

    def bad_chunk(self, _data: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nrubbish\r\n")
        self.close_connection = True

    def old(self, data: bytes) -> None:
        """HTTP/1.0 without a length: the end of the connection is the end of the file, and it comes too early once."""
        part = data[: len(data) // 2] if self.number() == 1 else data
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + part)
        self.close_connection = True

    def junk(self, data: bytes) -> None:
        """More bytes behind the answer than it announces."""
        self.send(200, data + b"HTTP/1.1 200 OK\r\n\r\njunk", length=len(data))
        self.close_connection = True

    def rubbish(self, _data: bytes) -> None:
        self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def login(self, data: bytes) -> None:
        """Give the file to whoever says the password."""
        if "Authorization" in self.headers:
            self.ok(data)
        else:
            self.send(401, b"")
