"""Requests over HTTP: how long a server is waited for, how often it is asked, what its answers mean.

HTTP semantics are those of RFC 9110 (redirects, Retry-After). What is asked for is known to others: to `download`,
which brings one file, and to `boxsnake.registry`.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar
from urllib.parse import urldefrag, urljoin, urlsplit

from boxsnake.errors import IntegrityError, NetworkError, PolicyError
from boxsnake.fetch.wire import WireError
from boxsnake.urls import USUAL_PORTS, without_credentials
from boxsnake.value import dataclass

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 10
LATER = "Try again later, or use a mirror."

_UNAUTHORIZED, _PROXY_LOGIN, _TOO_MANY = 401, 407, 429
_RETRIED = frozenset({408, 425, _TOO_MANY, 500, 502, 503, 504})
_CONNECT_ATTEMPTS = 3
_SILENT_ATTEMPTS = 2
"""Each has waited long: a server that twice says nothing at all will not the third time."""
_BROKEN = {"answer": "the answer broke off or is no HTTP", "broken": "the connection broke off"}
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


class Exchange:
    """What the requests for one thing have in common: its name in messages, patience, and how answers are read."""

    def __init__(
        self,
        *,
        name: str,
        patience: Patience,
        stop: threading.Event,
        meaning: Meaning,
        toward: Literal["from", "to"] = "from",
    ) -> None:
        self.name = name
        self.patience = patience
        self.stop = stop
        self.meaning = meaning
        self.toward = toward
        self.retries = 0
        self.deadline = 0.0
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
                few = again.attempts if progress() == before else None
                allowed = min(self.patience.attempts, few or self.patience.attempts)
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
        with self.translated(url):
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
        """Turn what clients raise into errors that tell what to do."""
        try:
            yield
        except WireError as error:
            raise self._transport_fault(url, error) from error

    def _transport_fault(self, url: str, error: WireError) -> BaseException:
        certificate = _cause_of(error, ssl.SSLCertVerificationError)
        if certificate is not None:
            return self.fault(
                url,
                f"the server's certificate is not valid ({certificate.verify_message})",
                f"Check the clock of this machine (it says {time.strftime('%Y-%m-%d %H:%M')}), and name your own "
                "certificate authority in SSL_CERT_FILE.",
            )
        if error.kind == "url":
            return self.fault(url, "is no URL", "Correct the URL of the channel or index.")
        if error.kind == "redirect":
            return self.fault(url, "the server redirects to something that is no URL", self.later)
        if proxy := _proxy_variable(url):
            hint = f"{proxy} names the proxy that is used: check it, or put the host in NO_PROXY."
        else:
            hint = self.later
        if error.kind == "proxy":
            login = str(_PROXY_LOGIN) in error.words
            cause = "the proxy asks for a login (407)" if login else "the proxy refuses the connection"
            return self.fault(url, cause, hint)
        if error.kind == "connect":
            step = hint if self.toward == "to" else f"{hint} With --offline only what is in the cache is used."
            return AgainError(self.fault(url, _unreachable(url, error), step), attempts=_CONNECT_ATTEMPTS)
        if error.kind == "silence":
            silent = self.fault(url, f"no bytes for {self.patience.stall:.0f} s", hint)
            return AgainError(silent, attempts=_SILENT_ATTEMPTS)
        return AgainError(self.fault(url, _BROKEN[error.kind], hint))


def joined(url: str, location: str) -> str:
    """Where a Location of an answer from `url` leads. Raises WireError."""
    try:
        return urldefrag(urljoin(url, location)).url
    except ValueError as error:
        raise WireError("redirect", str(error)) from error


def _unreachable(url: str, error: WireError) -> str:
    host = urlsplit(url).hostname or ""
    if _cause_of(error, socket.gaierror):
        return f"the name {host} cannot be resolved"
    found = _cause_of(error, OSError)
    reason = (found.strerror if found is not None else None) or (
        "no answer in time" if error.is_late else "connection failed"
    )
    return f"{host} cannot be reached ({reason})"


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
    import email.utils

    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    usual = USUAL_PORTS.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or usual


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
    import urllib.request

    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    for stem in (f"{parts.scheme}_proxy", "all_proxy"):
        for name in (stem, stem.upper()):
            if os.environ.get(name):
                return name
    return None
