"""An engine's address, as DOCKER_HOST has it, and a socket to it."""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from boxsnake.value import dataclass

if TYPE_CHECKING:
    import ssl

_PORT, _TLS_PORT = 2375, 2376


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an engine listens: the `path` of a socket, or a host and a port; `tls` for those that are encrypted."""

    path: str = ""
    host: str = "localhost"
    port: int = _PORT
    tls: ssl.SSLContext | None = None
    authorization: str = ""
    """The header for an address with a user and password in it."""

    @property
    def name(self) -> str:
        """What an HTTP request calls it."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def dial(self, seconds: float) -> socket.socket:
        """Open a socket, each step of which may take so long. Errors: OSError, of which those of TLS are some."""
        if not self.path:
            bare = socket.create_connection((self.host, self.port), seconds)
            return self._encrypted(bare) if self.tls else bare
        opened = socket.socket(socket.AF_UNIX)
        try:
            opened.settimeout(seconds)
            opened.connect(self.path)
        except BaseException:
            opened.close()
            raise
        return opened

    def _encrypted(self, bare: socket.socket) -> socket.socket:
        try:
            return self.tls.wrap_socket(bare, server_hostname=self.host) if self.tls else bare
        except BaseException:
            bare.close()
            raise


def parsed(address: str, environment: Mapping[str, str]) -> Address:
    """What DOCKER_HOST (unix://PATH, tcp://HOST:PORT) says, with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.

    Errors: ValueError where it is of another kind, OSError where a certificate cannot be read.
    """
    scheme, _, rest = address.partition("://")
    if scheme in {"unix", "http+unix"}:
        return Address(path=rest)
    if scheme not in {"tcp", "http", "https"}:
        told = f"{scheme}:// is no kind of address that is known here; there are unix://PATH and tcp://HOST:PORT"
        raise ValueError(f"{told} (for ssh: `ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST` makes the first)")
    parts = urlsplit(address)
    tls = _tls(environment, is_wanted=scheme == "https")
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return Address(
        host=parts.hostname or "localhost",
        port=parts.port or (_TLS_PORT if tls else _PORT),
        tls=tls,
        authorization=f"Basic {base64.b64encode(login.encode()).decode()}" if parts.username else "",
    )


def _tls(environment: Mapping[str, str], *, is_wanted: bool) -> ssl.SSLContext | None:
    """As docker's own client: encrypted where either variable says so, and whose it is asked by the first alone."""
    is_verified = bool(environment.get("DOCKER_TLS_VERIFY"))
    named = environment.get("DOCKER_CERT_PATH")
    if not (named or is_verified or is_wanted):
        return None
    import ssl

    folder = Path(named or Path(environment.get("HOME") or "/nonexistent", ".docker"))
    authority, certificate, key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
    context = ssl.create_default_context(cafile=str(authority) if named or authority.exists() else None)
    if not is_verified and named:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if named or certificate.exists():
        context.load_cert_chain(certificate, key)
    return context
