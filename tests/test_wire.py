"""Wires: requests over connections of our own, against a server that says byte for byte what it is told to."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from boxsnake.fetch.client import http_client
from boxsnake.fetch.exchange import Patience
from boxsnake.fetch.wire import Answer, WireError, Wires

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of `says`; `heard` are the connections' requests, by connection."""

    def __init__(self, *says: bytes, reads: bool = True) -> None:
        self._says = list(says)
        self._reads = reads
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard: list[list[bytes]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while self._says:
                line, _ = self._listener.accept()
                self.heard.append([])
                with line:
                    self._converse(line)

    def _converse(self, line: socket.socket) -> None:
        while self._says:
            request = line.recv(65536)
            if not request:
                return
            self.heard[-1].append(request)
            says = self._says.pop(0)
            line.sendall(says)
            if b"Content-Length: 2\r\n" not in says:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires(connect=5.0, stall=0.5, certificates=ssl.create_default_context, headers={"User-Agent": "tests"})
    with closing(made):
        yield made


def ask(wires: Wires, server: Server, content: bytes | None = None, limit: int = 9) -> Answer:
    return wires.ask("GET", f"{server.address}/a b?c=d", headers={}, content=content, limit=limit)


def test_one_connection_takes_all_requests(wires: Wires) -> None:
    with closing(Server(FINE, FINE)) as server:
        assert [ask(wires, server).body, ask(wires, server, b"x").body] == [b"ok", b"ok"]
        ((first, second),) = server.heard
    assert first.startswith(b"GET /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"User-Agent: tests\r\n" in first
    assert b"Content-Length: 1\r\n" in second
    assert second.count(b"Accept-Encoding") <= 1


@pytest.mark.parametrize("more", [b"Connection: close\r\n", b""], ids=["as it says", "unsaid"])
def test_a_closed_connection_is_not_used_again(wires: Wires, more: bytes) -> None:
    # An answer whose length is not 2 is this server's last on its connection.
    closing_answer = b"HTTP/1.1 200 OK\r\n" + more + b"Content-Length: 3\r\n\r\nend"
    with closing(Server(closing_answer, FINE)) as server:
        assert ask(wires, server).body == b"end"
        time.sleep(0.05)  # until the connection's end has come
        assert ask(wires, server).body == b"ok"
        assert len(server.heard) == 2


def test_an_answer_is_read_as_far_as_it_is_wanted(wires: Wires) -> None:
    with closing(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"a" * 99, FINE)) as server:
        assert ask(wires, server, limit=4).body == b"aaaaa"
        assert ask(wires, server).body == b"ok"


def test_a_name_that_is_there_twice_has_both_values(wires: Wires) -> None:
    answer = FINE.replace(b"\r\n\r\n", b"\r\nWWW-Authenticate: Basic\r\nwww-authenticate: Bearer\r\n\r\n")
    with closing(Server(answer)) as server:
        headers = ask(wires, server).headers
    assert headers["WWW-AUTHENTICATE"] == "Basic, Bearer"
    assert headers.get("Location") is None


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "answer"),
        (b"SSH-2.0-server\r\n", "answer"),
        (b"", "answer"),
    ],
    ids=["cut", "cut in a chunk", "no HTTP", "nothing"],
)
def test_what_broke_off_is_told(wires: Wires, says: bytes, kind: str) -> None:
    with closing(Server(says)) as server, pytest.raises(WireError) as caught:
        ask(wires, server)
    assert caught.value.kind == kind


def test_a_silent_server_is_given_up(wires: Wires) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(WireError) as caught:
            wires.ask("GET", url, headers={}, content=None, limit=9)
    assert (caught.value.kind, caught.value.is_late) == ("silence", True)


def test_a_refusal_that_comes_before_all_is_sent_is_heard(wires: Wires) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with closing(Server(refusal)) as server:
        pieces = (b"x" * (1 << 20) for _ in range(64))
        answer = wires.ask(
            "PUT", f"{server.address}/", headers={"Content-Length": str(64 << 20)}, content=pieces, limit=9
        )
    assert answer.status == 413


@pytest.mark.parametrize("url", ["http://[::1/", "http:///path", "ftp://example.org/", "http://example.org:port/"])
def test_what_is_no_url_is_told(wires: Wires, url: str) -> None:
    with pytest.raises(WireError) as caught:
        wires.ask("GET", url, headers={}, content=None, limit=9)
    assert caught.value.kind == "url"


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with closing(Server(FINE, FINE)) as server:
        with http_client(1, Patience()) as client:
            client.ask("GET", f"{server.address}/direct", headers={}, limit=9)
        monkeypatch.setenv("http_proxy", server.address)
        with http_client(1, Patience()) as client:
            assert client.ask("GET", "http://registry.example.org/v2/", headers={}, limit=9).body == b"ok"
    assert [request.split()[1] for (request,) in server.heard] == [b"/direct", b"http://registry.example.org/v2/"]
