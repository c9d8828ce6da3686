"""The client: what servers are asked by, with the proxies and the certificates that the environment names.

Files come by httpx, which knows proxies and reads on as bytes come. Requests with short answers go over wires of our
own (`boxsnake.fetch.wire`) where no proxy is named.
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from boxsnake import __version__
from boxsnake.errors import ResourceError
from boxsnake.fetch.wire import Answer, WireError, Wires

if TYPE_CHECKING:
    import httpx

    from boxsnake.fetch.exchange import Patience

    Response = httpx.Response
    """What `Client.stream` gives."""

_HEADERS = {"User-Agent": f"boxsnake/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


@contextmanager
def http_client(
    connections: int, patience: Patience, *, authority: Path | None = None, is_plain: bool = False
) -> Iterator[Client]:
    """Open a client for many threads.

    `authority` is a file with certificates that are trusted beside those. Raises ResourceError when they or the proxies
    cannot be used; certificates with `is_plain`, for servers that are not expected to speak TLS, once one does.
    """
    with ExitStack() as stack:
        client = Client(connections, patience, authority, stack)
        if not is_plain:
            client.certificates.load()
        if client.is_proxied:
            client.library.is_closed  # noqa: B018 - what is wrong with the proxies is told at once
        yield client


class Client:
    """What servers are asked by. For many threads at once."""

    def __init__(self, connections: int, patience: Patience, authority: Path | None, stack: ExitStack) -> None:
        self._connections = connections
        self._patience = patience
        self._authority = authority
        self._stack = stack
        self._lock = threading.RLock()
        self._wires = Wires(
            connect=patience.connect, stall=patience.stall, certificates=lambda: self.certificates, headers=_HEADERS
        )
        stack.callback(self._wires.close)

    @cached_property
    def is_proxied(self) -> bool:
        """Whether there is a proxy for anything, as httpx sees it."""
        if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
            # There it looks at nothing else, and importing it takes as long as some requests.
            return False
        import urllib.request

        proxies = urllib.request.getproxies()
        return any(proxies.get(scheme) for scheme in ("http", "https", "all"))

    @cached_property
    def certificates(self) -> _Certificates:
        """What is trusted."""
        with self._lock:
            return self.__dict__.get("certificates") or _Certificates(self._authority)

    @cached_property
    def library(self) -> httpx.Client:
        """The library's client, which takes its time to import. Errors: ResourceError."""
        with self._lock:
            return self.__dict__.get("library") or self._opened()

    def _opened(self) -> httpx.Client:
        import logging

        import httpx

        # It tells its log every URL as it is, with tokens and signatures.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        patience, most = self._patience, self._connections
        try:
            client = httpx.Client(
                verify=self.certificates,
                timeout=httpx.Timeout(patience.stall, connect=patience.connect, pool=None),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
                headers=_HEADERS,
                follow_redirects=False,
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise ResourceError(
                "proxy settings",
                f"a proxy that the environment names cannot be used ({type(error).__name__})",
                "Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: http:// and https:// proxies are supported.",
            ) from error
        return self._stack.enter_context(client)

    def hang_up(self) -> None:
        """End the requests that `ask` waits for, where there is no proxy: they raise WireError."""
        self._wires.hang_up()

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | Iterable[bytes] | None = None
    ) -> Iterator[Response]:
        """Make a request, and have the answer as it comes for the block; follows nothing. Raises WireError."""
        library = self.library
        with _as_wire_errors(), library.stream(method, url, headers=dict(headers), content=content) as response:
            yield response

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | Iterable[bytes] | None = None,
        limit: int,
    ) -> Answer:
        """Make a request and read its answer, of which at most `limit` bytes and one more are kept; follows nothing.

        Raises WireError: to be called within `Exchange.translated`.
        """
        if not self.is_proxied:
            return self._wires.ask(method, url, headers=headers, content=content, limit=limit)
        with self.stream(method, url, headers=headers, content=content) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > limit:
                    break
            head = response.headers
            return Answer(url=url, status=response.status_code, headers=head, body=bytes(body[: limit + 1]))


@contextmanager
def _as_wire_errors() -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.InvalidURL as error:
        raise WireError("url", str(error)) from error
    except httpx.TransportError as error:
        raise _wire_error(error) from error


def _wire_error(error: httpx.TransportError) -> WireError:
    import httpx

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, httpx.InvalidURL):
            return WireError("redirect", str(cause))  # the library has a look at the place of a redirect before we do
        cause = cause.__cause__ or cause.__context__
    words, is_late = str(error), isinstance(error, httpx.TimeoutException)
    if isinstance(error, httpx.ProxyError):
        return WireError("proxy", words)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return WireError("connect", words, is_late=is_late)
    if isinstance(error, httpx.ReadTimeout):
        return WireError("silence", words, is_late=True)
    return WireError("answer" if isinstance(error, httpx.RemoteProtocolError) else "broken", words, is_late=is_late)


class _Certificates(ssl.SSLContext):
    """Trusts what is named, and the system's authorities and certifi's, or those alone of SSL_CERT_FILE or _DIR.

    They are read before the first connection that is encrypted: that takes longer than a small image's push.
    """

    def __new__(cls, authority: Path | None) -> Self:  # noqa: ARG004 - the constructor's arguments
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, authority: Path | None) -> None:
        self._authority = authority
        self._lock = threading.Lock()
        self._are_loaded = False

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        """See `ssl.SSLContext`."""
        self.load()
        return super().wrap_socket(*arguments, **more)

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext`."""
        self.load()
        return super().wrap_bio(*arguments, **more)

    def load(self) -> None:
        """Read the certificates, once. Raises ResourceError."""
        with self._lock:
            if not self._are_loaded:
                self._load_usual()
                self._load_authority()
                self._are_loaded = True

    def _load_usual(self) -> None:
        file, folder = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
        try:
            if file or folder:
                # OpenSSL knows the two variables too, but takes a file that is not there for an empty one.
                self.load_verify_locations(file, folder)
                return
            import certifi

            self.load_default_certs()
            self.load_verify_locations(certifi.where())
        except (OSError, ssl.SSLError) as error:
            raise ResourceError(
                "certificates", f"cannot be read ({type(error).__name__})", "Correct SSL_CERT_FILE or SSL_CERT_DIR."
            ) from error

    def _load_authority(self) -> None:
        if self._authority is None:
            return
        try:
            self.load_verify_locations(self._authority)
        except (OSError, ssl.SSLError) as error:
            step = "Correct `ca` in [registries] of your settings: a file of certificates in PEM format."
            raise ResourceError(str(self._authority), f"cannot be read ({type(error).__name__})", step) from error
