"""Requests over HTTP: the client, how long a server is waited for, how often it is asked, what its answers mean.

HTTP semantics are those of RFC 9110 (redirects, Retry-After). What is asked for is known to others: to `download`,
which brings one file, and to `boxsnake.registry`.
"""

from __future__ import annotations

import email.utils
import ipaddress
import logging
import os
import random
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from boxsnake import __version__
from boxsnake.errors import BoxsnakeError, IntegrityError, NetworkError, PolicyError, ResourceError
from boxsnake.urls import without_credentials

Client = httpx.Client
"""What `http_client` opens; who downloads need not know the library."""
Response = httpx.Response
"""What its `stream` gives."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 10
LATER = "Try again later, or use a mirror."

_UNAUTHORIZED, _PROXY_LOGIN, _TOO_MANY = 401, 407, 429
_RETRIED = frozenset({408, 425, _TOO_MANY, 500, 502, 503, 504})
_CONNECT_ATTEMPTS = 3
# An attempt that brought this much was worth while: the count of attempts begins anew.
_PROGRESS = 1 << 20
_LONGEST_PAUSE = 8.0

_Error = TypeVar("_Error", bound=BaseException)
_Result = TypeVar("_Result")

Meaning = Callable[[int, bool], tuple[str, str]]
"""Cause and next step of a status that another attempt would not change; told whether a login was sent."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for; all in seconds."""

    connect: float = 10.0
    stall: float = 30.0
    """Between two runs of bytes."""
    least_rate: float = 1_000.0
    """Bytes per second, over each `window`."""
    window: float = 30.0
    total: float = 3_600.0
    """For one file, all attempts and pauses in it."""
    attempts: int = 5
    pause: float = 0.5
    """Before the second attempt; doubled for each further one."""
    longest_wait: float = 120.0
    """How long a Retry-After is obeyed; a longer one ends the attempts."""


class StoppedError(Exception):
    """Whoever asked for the download does not want it any more."""


class AgainError(Exception):
    """An attempt failed in a way that another attempt may not."""

    def __init__(self, error: NetworkError, *, wait: float | None = None, attempts: int | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.wait = wait
        self.attempts = attempts


@contextmanager
def http_client(
    connections: int, patience: Patience, *, authority: Path | None = None, is_plain: bool = False
) -> Iterator[Client]:
    """Open a client for many threads, with the proxies and the certificates that the environment names.

    `authority` is a file with certificates that are trusted beside those. Raises ResourceError when they cannot be
    used; with `is_plain`, for servers that are not expected to speak TLS, once one does.
    """
    # httpx tells its log every URL as it is, with tokens and signatures.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    certificates = _Certificates(authority)
    if not is_plain:
        certificates.load()
    try:
        client = httpx.Client(
            verify=certificates,
            timeout=httpx.Timeout(patience.stall, connect=patience.connect, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"User-Agent": f"boxsnake/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
            follow_redirects=False,
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise ResourceError(
            "proxy settings",
            f"a proxy that the environment names cannot be used ({type(error).__name__})",
            "Correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: http:// and https:// proxies are supported.",
        ) from error
    with client:
        yield client


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


@dataclass(kw_only=True)
class Exchange:
    """What the requests for one thing have in common: its name in messages, patience, and how answers are read."""

    name: str
    patience: Patience
    stop: threading.Event
    meaning: Meaning
    toward: Literal["from", "to"] = "from"
    retries: int = 0
    deadline: float = 0.0
    """On the monotonic clock."""

    def attempts(self, attempt: Callable[[], _Result], progress: Callable[[], int] = lambda: 0) -> _Result:
        """Do it until it succeeds, or patience ends. `progress` is the number of bytes that have come through so far.

        Raises what `attempt` does, NetworkError, or StoppedError once `stop` is set.
        """
        self.deadline = time.monotonic() + self.patience.total
        tries = 0
        while True:
            tries += 1
            before = progress()
            try:
                return attempt()
            except AgainError as again:
                if progress() - before >= _PROGRESS:
                    tries = 1
                pause = again.wait if again.wait is not None else self._pause(tries)
                allowed = min(self.patience.attempts, again.attempts or self.patience.attempts)
                if tries >= allowed or time.monotonic() + pause > self.deadline:
                    raise again.error from again.__cause__
                _log.info("%s: %s; trying again in %.1f s", again.error.thing, again.error.cause, pause)
            self.retries += 1
            if self.stop.wait(pause):
                raise StoppedError

    def _pause(self, tries: int) -> float:
        # Not all clients that a failing server turned away should come back in the same instant.
        spread = random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        return float(min(self.patience.pause * 2 ** (tries - 1), _LONGEST_PAUSE) * spread)

    @property
    def later(self) -> str:
        """What can be done about a server that is not well: nothing but it takes what is sent there."""
        return "Try again later, or ask who runs it." if self.toward == "to" else LATER

    def fault(self, url: str, cause: str, next_step: str, **data: object) -> NetworkError:
        """The error of a request."""
        shown = without_credentials(url)
        return NetworkError(f"{self.name} {self.toward} {shown}", cause, next_step, url=shown, **data)

    def refusal(
        self, url: str, status: int, headers: Mapping[str, str], *, sent_login: bool, words: str = ""
    ) -> BaseException:
        """What a status means that is not the wanted one: an AgainError where another attempt may help.

        `words` are the server's own.
        """
        if status in _RETRIED:
            return self._busy(url, status, headers)
        cause, next_step = self.meaning(status, sent_login)
        return self.fault(url, f"{cause}: {words}" if words else cause, next_step, status=status)

    def _busy(self, url: str, status: int, headers: Mapping[str, str]) -> BaseException:
        cause = "the server asks for fewer requests (429)" if status == _TOO_MANY else f"the server answered {status}"
        wait = _retry_after(headers)
        if wait is not None and (wait > self.patience.longest_wait or time.monotonic() + wait > self.deadline):
            when = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
            return self.fault(url, cause, f"It asks to come back in {wait:.0f} s, at {when}.", status=status)
        return AgainError(self.fault(url, cause, self.later, status=status), wait=wait)

    def redirect(self, url: str, status: int, location: str | None) -> str:
        """Where a redirect leads. Errors: NetworkError, PolicyError or IntegrityError where it must not be followed."""
        if not location:
            raise self.fault(url, f"the server answered {status} without a place to go to", self.later)
        target = joined(url, location)
        old, new = urlsplit(url), urlsplit(target)
        shown = without_credentials(target)
        if new.scheme not in ("http", "https") or not new.hostname:
            raise PolicyError(
                self.name,
                f"{without_credentials(url)} redirects to {shown}: only http:// and https:// are followed",
                "Name the right URL, or tell who runs the server.",
            )
        if old.scheme == "https" and new.scheme == "http":
            raise IntegrityError(
                self.name,
                f"{without_credentials(url)} redirects to {shown}, which is not encrypted",
                "Name the https:// URL of the file's real place.",
            )
        if is_inside(new.hostname) and not is_inside(old.hostname or ""):
            raise PolicyError(
                self.name,
                f"{without_credentials(url)} redirects to {shown}, which is this machine or its own network",
                "If that is the file's real place, name its URL directly.",
            )
        return target

    @contextmanager
    def translated(self, url: str) -> Iterator[None]:
        """Turn what the library raises into errors that tell what to do."""
        try:
            yield
        except (BoxsnakeError, StoppedError, AgainError):
            raise
        except httpx.InvalidURL as error:
            raise self.fault(url, "is no URL", "Correct the URL of the channel or index.") from error
        except httpx.TransportError as error:
            raise self._transport_fault(url, error) from error

    def _transport_fault(self, url: str, error: httpx.TransportError) -> BaseException:
        certificate = _cause_of(error, ssl.SSLCertVerificationError)
        if certificate is not None:
            return self.fault(
                url,
                f"the server's certificate is not valid ({certificate.verify_message})",
                f"Check the clock of this machine (it says {time.strftime('%Y-%m-%d %H:%M')}), and name your own "
                "certificate authority in SSL_CERT_FILE.",
            )
        if _cause_of(error, httpx.InvalidURL):  # the library has a look at the place of a redirect before we do
            return self.fault(url, "the server redirects to something that is no URL", self.later)
        if proxy := _proxy_variable(url):
            hint = f"{proxy} names the proxy that is used: check it, or put the host in NO_PROXY."
        else:
            hint = self.later
        if isinstance(error, httpx.ProxyError):
            login = str(_PROXY_LOGIN) in str(error)
            cause = "the proxy asks for a login (407)" if login else "the proxy refuses the connection"
            return self.fault(url, cause, hint)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            step = hint if self.toward == "to" else f"{hint} With --offline only what is in the cache is used."
            return AgainError(self.fault(url, _unreachable(url, error), step), attempts=_CONNECT_ATTEMPTS)
        if isinstance(error, httpx.ReadTimeout):
            return AgainError(self.fault(url, f"no bytes for {self.patience.stall:.0f} s", hint))
        return AgainError(self.fault(url, _broken(error), hint))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A server's answer, whole. `headers` find a name in any case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    client: Client,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | Iterable[bytes] | None = None,
    limit: int,
) -> Answer:
    """Make one request and read its answer, of which at most `limit` bytes and one more are kept; follows nothing.

    Raises what the library does: to be called within `Exchange.translated`.
    """
    with client.stream(method, url, headers=dict(headers), content=content) as response:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > limit:
                break
        return Answer(url=url, status=response.status_code, headers=response.headers, body=bytes(body[: limit + 1]))


def joined(url: str, location: str) -> str:
    """Where a Location of an answer from `url` leads."""
    return str(httpx.URL(url).join(location).copy_with(fragment=None))


def _unreachable(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname or ""
    if _cause_of(error, socket.gaierror):
        return f"the name {host} cannot be resolved"
    found = _cause_of(error, OSError)
    reason = (found.strerror if found is not None else None) or (
        "no answer in time" if isinstance(error, httpx.TimeoutException) else "connection failed"
    )
    return f"{host} cannot be reached ({reason})"


def _broken(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.RemoteProtocolError):
        return "the answer broke off or is no HTTP"
    return "the connection broke off"


def _cause_of(error: BaseException, kind: type[_Error]) -> _Error | None:
    """Find the exception of a kind among those that led to this one."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, kind):
            return current
        current = current.__cause__ or current.__context__
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds the server asks to wait (RFC 9110, 10.2.3), by its own clock where it gives a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    when = _date(value)
    if when is None:
        return None
    now = _date(headers.get("Date", "")) or time.time()
    return max(0.0, when - now)


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL."""
    parts = httpx.URL(url)
    return parts.scheme, parts.host.lower(), parts.port


def is_inside(host: str) -> bool:
    """Whether a host is this machine or a link-local address, as far as its name tells."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _proxy_variable(url: str) -> str | None:
    """Name the variable of the environment that sends this URL through a proxy."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    for stem in (f"{parts.scheme}_proxy", "all_proxy"):
        for name in (stem, stem.upper()):
            if os.environ.get(name):
                return name
    return None
