"""What is said to an engine and what comes back: over TLS as well, cut off, and from what is no engine."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsnake.engine import Engine, connect, diagnose
from boxsnake.engine.api import LostError
from boxsnake.engine.connection import Connection
from boxsnake.errors import BootError, EngineError, NetworkError, ResourceError
from tests.registry_server import make_certificate

PONG = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"


def answer(content: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), length or len(content), content)


class Server:
    """Answers each request with the next of `answers`, and hangs up; `heard` is what it was sent."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
        self.answers: list[bytes] = []
        self.heard: list[bytes] = []
        self._listener = listener
        self._context = context
        listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with contextlib.suppress(OSError), near:
                    self._answer(self._context.wrap_socket(near, server_side=True) if self._context else near)

    def _answer(self, near: socket.socket) -> None:
        with near:
            said = b""
            while b"\r\n\r\n" not in said:
                said += near.recv(65_536)
            self.heard.append(said)
            near.sendall(PONG if said.startswith(b"GET /_ping") else self.answers.pop(0))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        yield Server(listener)


@pytest.fixture
def engine(server: Server, tmp_path: Path) -> Engine:
    server.answers = []
    return connect({"DOCKER_HOST": f"unix://{tmp_path}/s"}, reap=False)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "hung up"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 200 OK\r\n", "hung up|end of the header|no engine"),
        (answer(b'{"Version": "2', length=99), "hung up in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", "hung up"),
        (answer(b"<html></html>"), "no engine"),
        (answer(b"<h1>It works!</h1>", "404 Not Found"), "It works!"),
        (answer(b'{"message": "no space left on device"}', "500 Oops"), "disk is full"),
    ],
    ids=["nothing", "ssh", "head", "cut", "chunk", "html", "refused", "full"],
)
def test_what_no_engine_answers_is_a_fault_of_the_engine(
    server: Server, engine: Engine, said: bytes, told: str
) -> None:
    server.answers = [said]
    with pytest.raises((EngineError, ResourceError), match=told) as raised:
        assert engine.version
    assert isinstance(raised.value, ResourceError) == (told == "disk is full")


@pytest.mark.parametrize("length", [None, 4096], ids=["whole", "cut"])
def test_a_file_that_did_not_come_whole_is_told(
    server: Server, engine: Engine, tmp_path: Path, length: int | None
) -> None:
    server.answers = [answer(b"x" * 1000, length=length)]
    with contextlib.nullcontext() if length is None else pytest.raises(EngineError, match="in the middle"):
        engine.save("a:1", tmp_path / "archive")
    server.answers = [answer(b"x")]
    with pytest.raises(ResourceError, match="nowhere"):
        engine.save("a:1", tmp_path / "nowhere" / "archive")


def test_an_engine_that_refuses_before_all_is_sent_is_heard(server: Server, engine: Engine) -> None:
    server.answers = [answer(b'{"message": "this is no image"}', "400 Bad Request")]
    with pytest.raises(BootError, match="this is no image"):
        engine.load(bytes(1 << 20) for _ in range(64))


def test_a_fault_of_what_is_sent_is_none_of_the_engine(server: Server, engine: Engine, tmp_path: Path) -> None:
    server.answers = [b""]
    with pytest.raises(ResourceError, match="not-there"):
        engine.load(tmp_path / "not-there.tar")


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_the_registry_s_login_goes_to_the_engine(
    server: Server, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    logins = {"https://index.example.org/v1/": {"auth": base64.b64encode(b"me:word").decode()}} if known else {}
    (tmp_path / "config.json").write_text(json.dumps({"auths": logins}))
    about = answer(b'{"IndexServerAddress": "https://index.example.org/v1/"}')
    server.answers = [about, answer(b'{"status": "done"}\n{"error": "denied"}')]
    with pytest.raises(NetworkError, match="denied"):
        engine.pull("team/base")
    sent = server.heard[-1].decode()
    assert sent.startswith("POST /v1.41/images/create?fromImage=team%2Fbase&tag=latest ")
    found = [line.partition(": ")[2] for line in sent.splitlines() if line.startswith("X-Registry-Auth")]
    assert [json.loads(base64.urlsafe_b64decode(text)) for text in found] == [
        {"username": "me", "password": "word"}
    ] * known


def test_an_engine_behind_tls_is_asked_who_it_is_and_told_who_we_are(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    key, certificate = make_certificate(tmp_path)
    _, other = make_certificate(tmp_path / "other")
    for name, source in (("cert.pem", certificate), ("ca.pem", certificate)):
        shutil.copy(source, tmp_path / name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = Server(listener, context)
        named = {"DOCKER_HOST": f"tcp://localhost:{listener.getsockname()[1]}", "DOCKER_CERT_PATH": str(tmp_path)}
        server.answers = [answer(b'{"Arch": "amd64"}')]
        assert connect(named | {"DOCKER_TLS_VERIFY": "1"}, reap=False).architecture == "amd64"
        shutil.copy(other, tmp_path / "ca.pem")
        (place,) = diagnose(named | {"DOCKER_TLS_VERIFY": "1"})
        assert (place.state, "certificate verify failed" in place.detail) == ("dead", True)
        assert diagnose(named)[0].state == "answers", "nobody is asked who it is"
        assert diagnose({"DOCKER_HOST": named["DOCKER_HOST"]})[0].state == "dead", "it speaks TLS alone"


def test_an_address_of_another_kind_is_refused_with_a_way() -> None:
    (place,) = diagnose({"DOCKER_HOST": "ssh://me@example.org"})
    assert (place.state, "ssh -NL" in place.detail) == ("dead", True)
    with pytest.raises(LostError, match="no kind of address"):
        Connection("carrier-pigeon://x", {}).ping(1)
