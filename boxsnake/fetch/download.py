"""One URL over HTTP into a sink: deadlines, retries, resume, redirects, and what a server's answers mean.

HTTP semantics are those of RFC 9110 (Range, If-Range, Retry-After, redirects). Nothing here knows whether the bytes
are the right ones: that is for whoever knows the digest.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from dataclasses import field
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from boxsnake.credentials import Credentials, Login
from boxsnake.errors import IntegrityError, PolicyError
from boxsnake.fetch.exchange import (
    LATER,
    MOST_REDIRECTS,
    REDIRECTS,
    AgainError,
    Exchange,
    Meaning,
    Patience,
    StoppedError,
    origin,
)
from boxsnake.urls import without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.fetch.client import Client, Response
    from boxsnake.progress import Advance

_OK, _PARTIAL, _RANGE_REFUSED = 200, 206, 416
_UNAUTHORIZED, _PROXY_LOGIN = 401, 407
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)


class Sink(Protocol):
    """Where the bytes go; `restart` forgets those that are there."""

    @property
    def size(self) -> int:
        """The number of bytes that are there."""

    def write(self, data: bytes) -> int:
        """Add bytes."""

    def restart(self) -> None:
        """Forget all bytes."""


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
    method: Literal["GET", "HEAD"] = "GET"
    """HEAD brings nothing but the length."""
    authorization: str | None = field(default=None, repr=False)
    """The header's value, where another than that of the credentials is meant; it goes to the URL's server alone."""


class Download:
    """One download with everything that its attempts hand on to each other."""

    def __init__(
        self,
        client: Client,
        request: Request,
        sink: Sink,
        *,
        credentials: Credentials,
        patience: Patience,
        stop: threading.Event,
        advance: Advance,
        meaning: Meaning | None = None,
    ) -> None:
        self._client = client
        self._request = request
        self._sink = sink
        self._credentials = credentials
        self._exchange = Exchange(name=request.name, patience=patience, stop=stop, meaning=meaning or _meaning)
        self._advance = advance
        self._validator: str | None = None
        self.resumed = False
        self.length: int | None = None
        """What a server that was asked by HEAD has said: the file's size in bytes."""

    @property
    def retries(self) -> int:
        """How often another attempt was made."""
        return self._exchange.retries

    def run(self) -> None:
        """Fetch all of it. Raises NetworkError, IntegrityError or PolicyError, or StoppedError once `stop` is set."""
        self._exchange.attempts(self._attempt, lambda: self._sink.size)

    def restart(self) -> None:
        """Forget what has come so far."""
        self._advance(-self._sink.size)
        self._sink.restart()
        self._validator = None
        self.resumed = False

    # One attempt

    def _attempt(self) -> None:
        url, headers = self._first_hop()
        seen = {url}
        while True:
            with (
                self._exchange.translated(url),
                self._client.stream(self._request.method, url, headers=headers) as response,
            ):
                if response.status_code not in REDIRECTS:
                    self._answer(url, response, sent_login="Authorization" in headers)
                    return
                target = self._exchange.redirect(url, response.status_code, response.headers.get("Location"))
            if target in seen or len(seen) > MOST_REDIRECTS:
                what = "a loop of redirects" if target in seen else f"more than {MOST_REDIRECTS} redirects"
                raise self._exchange.fault(url, f"the server answers with {what}", "Tell who runs the server.")
            if origin(target) != origin(url):
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
        if self._request.authorization is not None:
            headers["Authorization"] = self._request.authorization
        elif login is not None:
            pair = base64.b64encode(f"{login.user}:{login.password}".encode())
            headers["Authorization"] = f"Basic {pair.decode('ascii')}"
        if self._sink.size:
            headers["Range"] = f"bytes={self._sink.size}-"
            if self._validator:
                headers["If-Range"] = self._validator
        return url, headers

    def _answer(self, url: str, response: Response, *, sent_login: bool) -> None:
        status = response.status_code
        if status == _RANGE_REFUSED and self._sink.size:
            self.restart()
            raise AgainError(self._exchange.fault(url, "the server refuses to go on where it stopped", LATER), wait=0.0)
        if status not in (_OK, _PARTIAL):
            raise self._exchange.refusal(url, status, response.headers, sent_login=sent_login)
        if self._request.method == "HEAD":
            told = response.headers.get("Content-Length", "")
            self.length = int(told) if told.isascii() and told.isdecimal() else None
            return
        if status == _PARTIAL and not self._goes_on(response):
            self.restart()
            raise AgainError(
                self._exchange.fault(url, "the server sent another part than was asked for", LATER), wait=0.0
            )
        if status == _OK and self._sink.size:
            self.restart()
        self.resumed = self.resumed or status == _PARTIAL
        self._validator = _validator(response)
        self._receive(url, response)
        ends = {"content-length", "transfer-encoding"} & {name.lower() for name in response.headers}
        if not ends and self._sink.size < (self._request.size or 0):
            # Without a length the end of the connection is the end of the answer, whatever ended it.
            raise AgainError(self._exchange.fault(url, "the answer broke off", LATER))

    def _goes_on(self, response: Response) -> bool:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        return found is not None and self._sink.size > 0 and int(found[1]) == self._sink.size

    def _receive(self, url: str, response: Response) -> None:
        most = self._request.size if self._request.size is not None else self._request.limit
        self._refuse_html(url, response.headers.get("Content-Type", ""), b"")
        window_end = time.monotonic() + self._exchange.patience.window
        window_bytes = 0
        for chunk in response.iter_raw():
            if not self._sink.size:
                self._refuse_html(url, "", chunk[:1024])
            if self._sink.size + len(chunk) > most:
                raise self._too_long(url, most)
            self._sink.write(chunk)
            self._advance(len(chunk))
            if self._exchange.stop.is_set():
                raise StoppedError
            window_bytes += len(chunk)
            now = time.monotonic()
            if now > self._exchange.deadline:
                raise self._exchange.fault(url, f"not finished after {self._exchange.patience.total:.0f} s", LATER)
            if now > window_end:
                self._refuse_slow(url, window_bytes)
                window_end, window_bytes = now + self._exchange.patience.window, 0

    def _refuse_slow(self, url: str, received: int) -> None:
        if received < self._exchange.patience.least_rate * self._exchange.patience.window:
            rate = received / self._exchange.patience.window
            raise AgainError(self._exchange.fault(url, f"the server sends only {rate:.0f} bytes a second", LATER))

    def _refuse_html(self, url: str, content_type: str, start: bytes) -> None:
        if self._request.html_is_wrong and (content_type.lower().startswith("text/html") or _HTML.match(start)):
            raise self._exchange.fault(
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


def _meaning(status: int, sent_login: bool, /) -> tuple[str, str]:
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


def _validator(response: Response) -> str | None:
    """What If-Range may hold: a strong entity tag, or the date of the last change (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    date: str | None = response.headers.get("Last-Modified")
    return date if not tag else None
