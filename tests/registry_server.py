"""Debian's docker-registry on this machine, with and without logins and TLS; and a proxy that breaks what goes through.

The registry's own token server is a test's: it gives out JSON Web Tokens (RFC 7519) that openssl signs.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

USER, PASSWORD = "user", "c4n4ry-7f3a9d"
# What htpasswd -B writes for them.
HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuueNxKT8y0bFjrurn14hV5Mvxgf7fArq.\n"
IDENTITY = "1d3nt1ty-t0k3n"
SERVICE = "the registry"

_PATIENCE = 20.0


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A key, and a certificate of it for localhost that is its own authority."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command.split(), *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


@contextmanager
def docker_registry(
    folder: Path, *, auth: str = "", tls: tuple[Path, Path] | None = None, deletes: bool = False
) -> Iterator[str]:
    """Run one until the end of the block: its host and port. `auth` is the section of its configuration."""
    config = folder / "config.yml"
    encrypted = f"  tls: {{key: {tls[0]}, certificate: {tls[1]}}}\n" if tls else ""
    config.write_text(
        "version: 0.1\nlog: {level: info}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: {str(deletes).lower()}}}}}\n"
        f"http:\n  addr: 127.0.0.1:0\n{encrypted}{auth}"
    )
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(["docker-registry", "serve", config], stdout=out, stderr=subprocess.STDOUT)
    try:
        yield f"{'localhost' if tls else '127.0.0.1'}:{_port_of(log, process)}"
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _port_of(log: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"no registry: {log.read_text()}")


def basic_auth(folder: Path) -> str:
    """The section that wants the login."""
    (folder / "htpasswd").write_text(HTPASSWD)
    return f"auth:\n  htpasswd: {{realm: tests, path: {folder / 'htpasswd'}}}\n"


@dataclass
class TokenServer:
    """What was asked for: the scopes of each token, and who asked."""

    realm: str
    auth: str
    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    lifetime: int = 300
    """Seconds."""


@contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    """A token server for a registry with `auth` in its configuration; it knows the login and the identity token."""
    key, certificate = make_certificate(folder)
    state: TokenServer

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(parse_qsl(urlsplit(self.path).query))

        def do_POST(self) -> None:
            self.answer(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))

        def answer(self, asked: list[tuple[str, str]]) -> None:
            scopes = [scope for name, text in asked if name == "scope" for scope in text.split(" ")]
            who = self.headers.get("Authorization") or dict(asked).get("refresh_token", "")
            login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if who and who not in {f"Basic {login}", IDENTITY}:
                self.send_error(401)
                return
            state.asked.append((who, scopes))
            granted = scopes if who else [scope for scope in scopes if scope.endswith(":pull")]
            body = json.dumps({"token": _token(key, certificate, granted, state.lifetime)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        realm = f"http://127.0.0.1:{server.server_address[1]}/token"
        section = (
            f"auth:\n  token: {{realm: '{realm}', service: {SERVICE}, issuer: tests, rootcertbundle: {certificate}}}\n"
        )
        state = TokenServer(realm=realm, auth=section)
        yield state
        server.shutdown()


def _token(key: Path, certificate: Path, scopes: list[str], lifetime: int) -> str:
    der = subprocess.run(["openssl", "x509", "-in", certificate, "-outform", "DER"], check=True, capture_output=True)
    now = int(time.time())
    access = [
        {"type": kind, "name": name, "actions": actions.split(",")}
        for kind, name, actions in (scope.split(":") for scope in scopes)
    ]
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der.stdout).decode()]}
    claims = {
        "iss": "tests",
        "aud": SERVICE,
        "sub": USER,
        "nbf": now - 5,
        "iat": now,
        "exp": now + lifetime,
        "jti": "1",
    }
    signed = ".".join(map(_plain, (json.dumps(header).encode(), json.dumps(claims | {"access": access}).encode())))
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(command, input=signed.encode(), check=True, capture_output=True).stdout
    return f"{signed}.{_plain(signature)}"


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True)
class Request:
    """One request on its way to the registry."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Proxy:
    """A proxy before a registry. `fault` may answer a request itself, or cut the connection; it is asked for each."""

    address: str
    fault: Callable[[Request, int], tuple[int, dict[str, str], bytes] | str | None] | None = None
    requests: list[Request] = field(default_factory=list)

    def count(self, method: str, part: str = "") -> int:
        """How many requests there were by this method, with this in their path."""
        return sum(request.method == method and part in request.path for request in self.requests)


class _Through(http.server.BaseHTTPRequestHandler):
    state: Proxy
    registry: str
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        with self.lock:
            self.state.requests.append(request)
            fault = self.state.fault(request, len(self.state.requests)) if self.state.fault else None
        if fault == "cut":
            self.cut()
        elif fault == "half":
            self.half(request)
        elif fault == "cut after":
            self.forward(request)
            self.cut()
        elif isinstance(fault, tuple):
            self.send(*fault)
        else:
            self.send(*self.forward(request))

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def forward(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        try:
            return self.answer(request)
        except (OSError, http.client.HTTPException) as error:
            # Said, as a connection that is closed would tell nobody whose fault it is.
            return 502, {}, f"the registry itself: {error!r}".encode()

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection(self.registry, timeout=_PATIENCE)) as connection:
            # The registry names itself as this proxy was named, so that it goes on through it.
            connection.request(request.method, request.path, body=request.body, headers=request.headers)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name not in ("Date", "Transfer-Encoding")}
            return answer.status, headers, answer.read()

    def half(self, request: Request) -> None:
        with socket.create_connection(("127.0.0.1", int(self.registry.rpartition(":")[2])), timeout=_PATIENCE) as there:
            lines = [f"{request.method} {request.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in request.headers.items()]
            there.sendall("\r\n".join([*lines, "", ""]).encode() + request.body[: len(request.body) // 2])
            time.sleep(0.1)
        self.cut()

    def send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        with suppress(OSError):
            self.send_response(status)
            length = {} if "Content-Length" in headers else {"Content-Length": str(len(data))}
            for name, value in (headers | length).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def faulty_proxy(registry: str) -> Iterator[Proxy]:
    """Stand before a registry until the end of the block.

    A fault is an answer (status, headers, body) in place of the registry's; "cut" (nothing goes through); "cut after"
    (it goes through, and the answer does not come back); or "half" (half of what is sent goes through).
    """
    state = Proxy(address="")
    handler = type("Handler", (_Through,), {"state": state, "registry": registry, "lock": threading.Lock()})

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """Connections that are cut are what is wanted here."""

    with Server(("127.0.0.1", 0), handler) as server:
        state.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield state
        server.shutdown()
