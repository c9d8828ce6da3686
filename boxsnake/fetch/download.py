"""One URL over HTTP into a sink: deadlines, retries, resume, redirects, and what a server's answers mean.

HTTP semantics are those of RFC 9110 (Range, If-Range, Retry-After, redirects). Nothing here knows whether the bytes
are the right ones: that is for whoever knows the digest.
"""

from __future__ import annotations

import base64
import email.utils
import ipaddress
import logging
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from boxsnake import __version__
from boxsnake.credentials import Credentials, Login
from boxsnake.errors import BoxsnakeError, IntegrityError, NetworkError, PolicyError, ResourceError
from boxsnake.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxsnake.progress import Advance

Client = httpx.Client
"""What `http_client` opens; who downloads need not know the library."""

_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OK, _PARTIAL, _RANGE_REFUSED = 200, 206, 416
_UNAUTHORIZED, _PROXY_LOGIN, _TOO_MANY, _UNAVAILABLE = 401, 407, 429, 503
_RETRIED = frozenset({408, 425, _TOO_MANY, 500, 502, _UNAVAILABLE, 504})
_CONNECT_ATTEMPTS = 3
# An attempt that brought this much was worth while: the count of attempts begins anew.
_PROGRESS = 1 << 20
_LONGEST_PAUSE = 8.0
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)

_Error = TypeVar("_Error", bound=BaseException)

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


class Sink(Protocol):
    """Where the bytes go; `restart` forgets those that are there."""

    @property
    def size(self) -> int:
        """The number of bytes that are there."""

    def write(self, data: bytes) -> int:
        """Add bytes."""

    def restart(self) -> None:
        """Forget all bytes."""


class StoppedError(Exception):
    """Whoever asked for the download does not want it any more."""


class _AgainError(Exception):
    """An attempt failed in a way that another attempt may not."""

    def __init__(self, error: NetworkError, *, wait: float | None = None, attempts: int | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.wait = wait
        self.attempts = attempts


@contextmanager
def http_client(connections: int, patience: Patience) -> Iterator[httpx.Client]:
    """Open a client for many threads, with the proxies and the certificates that the environment names.

    Raises ResourceError when those cannot be used.
    """
    # httpx tells its log every URL as it is, with tokens and signatures.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        client = httpx.Client(
            verify=_certificates(),
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


def _certificates() -> ssl.SSLContext:
    """Trust the system's authorities and certifi's, or those alone that SSL_CERT_FILE or SSL_CERT_DIR names."""
    file, folder = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    try:
        if file or folder:
            # OpenSSL knows the two variables too, but takes a file that is not there for an empty one.
            return ssl.create_default_context(cafile=file, capath=folder)
        import certifi

        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
    except (OSError, ssl.SSLError) as error:
        raise ResourceError(
            "certificates", f"cannot be read ({type(error).__name__})", "Correct SSL_CERT_FILE or SSL_CERT_DIR."
        ) from error
    return context


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for: a name for messages, where it is, and the size in bytes where it is known.

    More than `size` bytes, or than `limit` where the size is not known, are refused while they come in.
    """

    name: str
    url: str
    size: int | None
    limit: int
    html_is_wrong: bool = True


class Download:
    """One download with everything that its attempts hand on to each other."""

    def __init__(
        self,
        client: httpx.Client,
        request: Request,
        sink: Sink,
        *,
        credentials: Credentials,
        patience: Patience,
        stop: threading.Event,
        advance: Advance,
    ) -> None:
        self._client = client
        self._request = request
        self._sink = sink
        self._credentials = credentials
        self._patience = patience
        self._stop = stop
        self._advance = advance
        self._validator: str | None = None
        self._deadline = 0.0
        self.retries = 0
        self.resumed = False

    def run(self) -> None:
        """Fetch all of it. Raises NetworkError, IntegrityError or PolicyError, or StoppedError once `stop` is set."""
        self._deadline = time.monotonic() + self._patience.total
        tries = 0
        while True:
            tries += 1
            before = self._sink.size
            try:
                self._attempt()
                return
            except _AgainError as again:
                if self._sink.size - before >= _PROGRESS:
                    tries = 1
                pause = again.wait if again.wait is not None else self._pause(tries)
                allowed = min(self._patience.attempts, again.attempts or self._patience.attempts)
                if tries >= allowed or time.monotonic() + pause > self._deadline:
                    raise again.error from again.__cause__
                _log.info("%s: %s; trying again in %.1f s", again.error.thing, again.error.cause, pause)
            self.retries += 1
            if self._stop.wait(pause):
                raise StoppedError

    def restart(self) -> None:
        """Forget what has come so far."""
        self._advance(-self._sink.size)
        self._sink.restart()
        self._validator = None
        self.resumed = False

    def _pause(self, tries: int) -> float:
        # Not all clients that a failing server turned away should come back in the same instant.
        spread = random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        return float(min(self._patience.pause * 2 ** (tries - 1), _LONGEST_PAUSE) * spread)

    # One attempt

    def _attempt(self) -> None:
        url, headers = self._first_hop()
        seen = {url}
        while True:
            with self._translated(url), self._client.stream("GET", url, headers=headers) as response:
                if response.status_code not in _REDIRECTS:
                    self._answer(url, response, sent_login="Authorization" in headers)
                    return
                target = self._redirect(url, response)
            if target in seen or len(seen) > _MOST_REDIRECTS:
                what = "a loop of redirects" if target in seen else f"more than {_MOST_REDIRECTS} redirects"
                raise self._fault(url, f"the server answers with {what}", "Tell who runs the server.")
            if _origin(target) != _origin(url):
                # What opens one server is no business of another, not even on the way back.
                headers.pop("Authorization", None)
            seen.add(target)
            url = target

    def _first_hop(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self._credentials.with_token(self._request.url))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PolicyError(
                self._request.name,
                f"{without_credentials(self._request.url)} is not an http:// or https:// URL",
                "Correct the URL of the channel or index.",
            )
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
        headers = {}
        login = self._credentials.login(url)
        if login is None and (parts.username or parts.password):
            login = Login(user=unquote(parts.username or ""), password=unquote(parts.password or ""))
        if login is not None:
            pair = base64.b64encode(f"{login.user}:{login.password}".encode())
            headers["Authorization"] = f"Basic {pair.decode('ascii')}"
        if self._sink.size:
            headers["Range"] = f"bytes={self._sink.size}-"
            if self._validator:
                headers["If-Range"] = self._validator
        return url, headers

    def _redirect(self, url: str, response: httpx.Response) -> str:
        location = response.headers.get("Location")
        if not location:
            raise self._fault(url, f"the server answered {response.status_code} without a place to go to", _LATER)
        target = str(httpx.URL(url).join(location).copy_with(fragment=None))
        old, new = urlsplit(url), urlsplit(target)
        shown = without_credentials(target)
        if new.scheme not in ("http", "https") or not new.hostname:
            raise PolicyError(
                self._request.name,
                f"{without_credentials(url)} redirects to {shown}: only http:// and https:// are followed",
                "Name the right URL, or tell who runs the server.",
            )
        if old.scheme == "https" and new.scheme == "http":
            raise IntegrityError(
                self._request.name,
                f"{without_credentials(url)} redirects to {shown}, which is not encrypted",
                "Name the https:// URL of the file's real place.",
            )
        if _is_inside(new.hostname) and not _is_inside(old.hostname or ""):
            raise PolicyError(
                self._request.name,
                f"{without_credentials(url)} redirects to {shown}, which is this machine or its own network",
                "If that is the file's real place, name its URL directly.",
            )
        return target

    def _answer(self, url: str, response: httpx.Response, *, sent_login: bool) -> None:
        status = response.status_code
        if status == _RANGE_REFUSED and self._sink.size:
            self.restart()
            raise _AgainError(self._fault(url, "the server refuses to go on where it stopped", _LATER), wait=0.0)
        if status not in (_OK, _PARTIAL):
            self._refused(url, response, sent_login=sent_login)
        if status == _PARTIAL and not self._goes_on(response):
            self.restart()
            raise _AgainError(self._fault(url, "the server sent another part than was asked for", _LATER), wait=0.0)
        if status == _OK and self._sink.size:
            self.restart()
        self.resumed = self.resumed or status == _PARTIAL
        self._validator = _validator(response)
        self._receive(url, response)
        told = {"content-length", "transfer-encoding"} & {name.lower() for name in response.headers}
        if not told and self._sink.size < (self._request.size or 0):
            # Without a length the end of the connection is the end of the answer, whatever ended it.
            raise _AgainError(self._fault(url, "the answer broke off", _LATER))

    def _goes_on(self, response: httpx.Response) -> bool:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        return found is not None and self._sink.size > 0 and int(found[1]) == self._sink.size

    def _receive(self, url: str, response: httpx.Response) -> None:
        most = self._request.size if self._request.size is not None else self._request.limit
        self._refuse_html(url, response.headers.get("Content-Type", ""), b"")
        window_end = time.monotonic() + self._patience.window
        window_bytes = 0
        for chunk in response.iter_raw():
            if not self._sink.size:
                self._refuse_html(url, "", chunk[:1024])
            if self._sink.size + len(chunk) > most:
                raise self._too_long(url, most)
            self._sink.write(chunk)
            self._advance(len(chunk))
            if self._stop.is_set():
                raise StoppedError
            window_bytes += len(chunk)
            now = time.monotonic()
            if now > self._deadline:
                raise self._fault(url, f"not finished after {self._patience.total:.0f} s", _LATER)
            if now > window_end:
                self._refuse_slow(url, window_bytes)
                window_end, window_bytes = now + self._patience.window, 0

    def _refuse_slow(self, url: str, received: int) -> None:
        if received < self._patience.least_rate * self._patience.window:
            rate = received / self._patience.window
            raise _AgainError(self._fault(url, f"the server sends only {rate:.0f} bytes a second", _LATER))

    def _refuse_html(self, url: str, content_type: str, start: bytes) -> None:
        if self._request.html_is_wrong and (content_type.lower().startswith("text/html") or _HTML.match(start)):
            raise self._fault(
                url,
                "the answer is a page for a browser (HTML) and not the file",
                "Look at the URL in a browser: it may be the login of a proxy or of the network.",
            )

    def _too_long(self, url: str, most: int) -> IntegrityError:
        return IntegrityError(
            self._request.name,
            f"{without_credentials(url)} sends more than the {most} bytes that it should have",
            "The server has another file than the one that was locked: find out why before you lock it anew.",
            url=without_credentials(url),
            size=most,
        )

    # What went wrong

    def _fault(self, url: str, cause: str, next_step: str, **data: object) -> NetworkError:
        shown = without_credentials(url)
        return NetworkError(f"{self._request.name} from {shown}", cause, next_step, url=shown, **data)

    def _refused(self, url: str, response: httpx.Response, *, sent_login: bool) -> None:
        status = response.status_code
        if status in _RETRIED:
            raise self._busy(url, response)
        cause, next_step = _meaning(status, sent_login=sent_login)
        raise self._fault(url, cause, next_step, status=status)

    def _busy(self, url: str, response: httpx.Response) -> BaseException:
        status = response.status_code
        cause = "the server asks for fewer requests (429)" if status == _TOO_MANY else f"the server answered {status}"
        wait = _retry_after(response)
        if wait is not None and (wait > self._patience.longest_wait or time.monotonic() + wait > self._deadline):
            when = time.strftime("%H:%M:%S", time.localtime(time.time() + wait))
            return self._fault(url, cause, f"It asks to come back in {wait:.0f} s, at {when}.", status=status)
        return _AgainError(self._fault(url, cause, _LATER, status=status), wait=wait)

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        try:
            yield
        except (BoxsnakeError, StoppedError, _AgainError):
            raise
        except httpx.InvalidURL as error:
            raise self._fault(url, "is no URL", "Correct the URL of the channel or index.") from error
        except httpx.TransportError as error:
            raise self._transport_fault(url, error) from error

    def _transport_fault(self, url: str, error: httpx.TransportError) -> BaseException:
        certificate = _cause_of(error, ssl.SSLCertVerificationError)
        if certificate is not None:
            return self._fault(
                url,
                f"the server's certificate is not valid ({certificate.verify_message})",
                f"Check the clock of this machine (it says {time.strftime('%Y-%m-%d %H:%M')}), and name your own "
                "certificate authority in SSL_CERT_FILE.",
            )
        if _cause_of(error, httpx.InvalidURL):  # the library has a look at the place of a redirect before we do
            return self._fault(url, "the server redirects to something that is no URL", _LATER)
        if proxy := _proxy_variable(url):
            hint = f"{proxy} names the proxy that is used: check it, or put the host in NO_PROXY."
        else:
            hint = _LATER
        if isinstance(error, httpx.ProxyError):
            login = str(_PROXY_LOGIN) in str(error)
            cause = "the proxy asks for a login (407)" if login else "the proxy refuses the connection"
            return self._fault(url, cause, hint)
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return _AgainError(self._fault(url, *_unreachable(url, error, hint)), attempts=_CONNECT_ATTEMPTS)
        if isinstance(error, httpx.ReadTimeout):
            return _AgainError(self._fault(url, f"no bytes for {self._patience.stall:.0f} s", hint))
        return _AgainError(self._fault(url, _broken(error), hint))


_LATER = "Try again later, or use a mirror."


def _meaning(status: int, *, sent_login: bool) -> tuple[str, str]:
    """Cause and next step of an answer that another attempt would not change."""
    if status == _UNAUTHORIZED:
        cause = "the server does not accept the login (401)" if sent_login else "the server asks for a login (401)"
        return cause, "Put user and password in ~/.netrc or in `credentials` of your settings."
    meanings = {
        403: ("this login, or nobody, may have the file (403)", "Ask who runs the server, or use another mirror."),
        404: (
            "the index names the file, but the server has not got it (404)",
            "The mirror may be half up to date: try again later, use another mirror, or lock again.",
        ),
        _PROXY_LOGIN: ("the proxy asks for a login (407)", "Put user and password in HTTPS_PROXY or HTTP_PROXY."),
        410: ("the file was there and has been removed for good (410)", "Lock again to get another version."),
        451: ("the server withholds the file (451: legal reasons, or quarantine)", "Lock another version."),
    }
    return meanings.get(status, (f"the server answered {status}", "Check the URL of the channel or index."))


def _unreachable(url: str, error: Exception, hint: str) -> tuple[str, str]:
    host = urlsplit(url).hostname or ""
    offline = f"{hint} With --offline only what is in the cache is used."
    if _cause_of(error, socket.gaierror):
        return f"the name {host} cannot be resolved", offline
    found = _cause_of(error, OSError)
    reason = (found.strerror if found is not None else None) or (
        "no answer in time" if isinstance(error, httpx.TimeoutException) else "connection failed"
    )
    return f"{host} cannot be reached ({reason})", offline


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


def _retry_after(response: httpx.Response) -> float | None:
    """How many seconds the server asks to wait (RFC 9110, 10.2.3), by its own clock where it gives a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    when = _date(value)
    if when is None:
        return None
    now = _date(response.headers.get("Date", "")) or time.time()
    return max(0.0, when - now)


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _validator(response: httpx.Response) -> str | None:
    """What If-Range may hold: a strong entity tag, or the date of the last change (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    date: str | None = response.headers.get("Last-Modified")
    return date if not tag else None


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = httpx.URL(url)
    return parts.scheme, parts.host.lower(), parts.port


def _is_inside(host: str) -> bool:
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
