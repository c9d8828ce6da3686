"""A conversation with one registry: where it is, who we are to it, and requests that are repeated where that may help.

Authentication is HTTP's Basic scheme, or a token of the server that the registry names (the Distribution project's
"Token Authentication Specification"; for identity tokens its OAuth2 form).
"""

from __future__ import annotations

import base64
import ipaddress
import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from boxsnake.credentials import Credentials, Login
from boxsnake.errors import IntegrityError
from boxsnake.fetch.exchange import (
    LATER,
    MOST_REDIRECTS,
    REDIRECTS,
    Exchange,
    Patience,
    origin,
)
from boxsnake.fetch.wire import Answer
from boxsnake.plain_text import escaped, shortened
from boxsnake.registry.challenge import Challenge, challenges
from boxsnake.registry.logins import RegistryLogin, find_login
from boxsnake.settings import RegistrySettings
from boxsnake.urls import redact, without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.fetch.client import Client

_BAD_REQUEST, _UNAUTHORIZED = 400, 401
_KEEPS_METHOD = frozenset({307, 308})
_LARGEST_TOKEN = 1 << 20
_MOST_WORDS = 300

Content = bytes | Callable[[], Iterable[bytes]] | None
"""What is sent: made anew for each attempt where it does not lie in memory."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is asked for: one repository, whether it is written to, and others of which blobs may be taken."""

    repository: str
    writes: bool = False
    sources: tuple[str, ...] = ()

    @property
    def texts(self) -> list[str]:
        """As token servers want it said."""
        actions = "pull,push" if self.writes else "pull"
        return [
            f"repository:{self.repository}:{actions}",
            *(f"repository:{source}:pull" for source in self.sources),
        ]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request. `fine` are the statuses that its sender understands; `name` is for messages."""

    name: str
    method: str
    url: str
    scope: Scope
    fine: Collection[int] = (200,)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = None
    limit: int = 1 << 20
    """Bytes of the answer that are read."""


class Registry:
    """One registry. For many threads at once."""

    def __init__(
        self,
        name: str,
        settings: RegistrySettings,
        client: Client,
        *,
        credentials: Credentials,
        patience: Patience,
        stop: threading.Event,
    ) -> None:
        self.name = name
        self.client = client
        self.patience = patience
        self.stop = stop
        self.address = f"{scheme(name, settings)}://{name}"
        self._credentials = credentials
        self._authorizations: dict[Scope, str] = {}
        self._is_somebody = False
        self._lock = threading.Lock()

    def end(self) -> None:
        """End what is under way: it is not waited for any more."""
        self.stop.set()
        self.client.hang_up()

    def url(self, repository: str, path: str) -> str:
        """Where something of a repository is."""
        return f"{self.address}/v2/{repository}/{path}"

    def exchange(self, name: str, scope: Scope) -> Exchange:
        """What all attempts of a request share."""
        return Exchange(
            name=name,
            patience=self.patience,
            stop=self.stop,
            meaning=lambda status, sent_login: self._meaning(scope, status, sent_login=sent_login),
            toward="to" if scope.writes else "from",
        )

    def ask(self, asked: Asked) -> Answer:
        """Make a request, as often as may help. Errors: NetworkError, PolicyError, IntegrityError, ResourceError."""
        exchange = self.exchange(asked.name, asked.scope)
        return exchange.attempts(lambda: self.attempt(exchange, asked))

    def attempt(self, exchange: Exchange, asked: Asked) -> Answer:
        """Make a request once, with a login where the registry asks for one. Raises AgainError as well."""
        used = self.authorization(asked.scope)
        answer = self._hops(exchange, asked, used)
        if answer.status == _UNAUTHORIZED and self._authorized(asked.scope, answer, used):
            used = self.authorization(asked.scope)
            answer = self._hops(exchange, asked, used)
        if answer.status in asked.fine:
            return answer
        # A token may be nobody's: it is given out for what everybody may do.
        sent_login = used is not None and self._is_somebody
        words = _words(answer)
        if answer.status == _BAD_REQUEST and words:
            # It speaks as registries do: it is no other service, nor one that wants TLS.
            cause = f"the registry refuses the request (400): {words}"
            raise exchange.fault(answer.url, cause, "Run it again; if this returns, ask who runs it.", status=400)
        raise exchange.refusal(answer.url, answer.status, answer.headers, sent_login=sent_login, words=words)

    def authorization(self, scope: Scope) -> str | None:
        """The header that the registry has last wanted for this."""
        return self._authorizations.get(scope)

    def _hops(self, exchange: Exchange, asked: Asked, authorization: str | None) -> Answer:
        url = asked.url
        for _ in range(MOST_REDIRECTS):
            headers = {"Accept": "application/json", **asked.headers}
            # What opens the registry is no business of another server that it sends us to.
            if authorization is not None and origin(url) == origin(self.address):
                headers["Authorization"] = authorization
            content = asked.content() if callable(asked.content) else asked.content
            with exchange.translated(url):
                answer = self.client.ask(asked.method, url, headers=headers, content=content, limit=asked.limit)
            if answer.status not in REDIRECTS or answer.status in asked.fine:
                return answer
            if asked.method not in {"GET", "HEAD"} and answer.status not in _KEEPS_METHOD:
                return answer
            url = exchange.redirect(url, answer.status, answer.headers.get("Location"))
        raise exchange.fault(url, f"the server answers with more than {MOST_REDIRECTS} redirects", exchange.later)

    # Who we are

    def _authorized(self, scope: Scope, answer: Answer, used: str | None) -> bool:
        """Whether there is another authorization to try now than the one that was refused."""
        with self._lock:
            known = self._authorizations.get(scope)
            if known is not None and known != used:
                return True  # another thread has asked meanwhile
            found = self._new_authorization(scope, challenges(answer.headers.get("WWW-Authenticate", "")))
            if found is None or found == used:
                return False
            self._authorizations[scope] = found
            return True

    def _new_authorization(self, scope: Scope, asked: tuple[Challenge, ...]) -> str | None:
        login = self._login(scope)
        self._is_somebody = login is not None
        for challenge in asked:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return f"Bearer {self._token(scope, challenge, login)}"
        for challenge in asked:
            if challenge.scheme == "basic" and login is not None and login.login is not None:
                return _basic(login.login)
        return None

    def _login(self, scope: Scope) -> RegistryLogin | None:
        found = find_login(self.name, scope.repository)
        if found is None and (login := self._credentials.login(self.url(scope.repository, ""))) is not None:
            found = RegistryLogin(login=login)
        return found

    def _token(self, scope: Scope, challenge: Challenge, login: RegistryLogin | None) -> str:
        realm = challenge.parameters["realm"]
        parts = urlsplit(realm)
        here = urlsplit(self.address)
        is_near = _is_loopback(parts.hostname or "") or parts.hostname == here.hostname
        if parts.scheme != "https" and not (parts.scheme == here.scheme == "http" and is_near):
            cause = f"the registry names {without_credentials(realm)} for logins, which is not encrypted"
            raise IntegrityError(self.name, cause, "Tell who runs the registry.")
        exchange = Exchange(
            name=f"token for {scope.repository}", patience=self.patience, stop=self.stop, meaning=self._token_meaning
        )
        service = {"service": challenge.parameters["service"]} if "service" in challenge.parameters else {}

        def attempt() -> Answer:
            method, url, headers, content = _token_request(realm, service, scope, login)
            with exchange.translated(url):
                answer = self.client.ask(method, url, headers=headers, content=content, limit=_LARGEST_TOKEN)
            if answer.status != 200:
                sent = login is not None
                raise exchange.refusal(url, answer.status, answer.headers, sent_login=sent, words=_words(answer))
            return answer

        return _read_token(exchange, exchange.attempts(attempt))

    # What answers mean

    def _token_meaning(self, status: int, sent_login: bool, /) -> tuple[str, str]:
        if status in {_UNAUTHORIZED, 403}:
            cause = "does not accept the login" if sent_login else "asks for a login"
            return f"the registry's token server {cause} ({status})", self._log_in
        return f"the registry's token server answered {status}", LATER

    @property
    def _log_in(self) -> str:
        return f"Run `docker login {self.name}` or `podman login {self.name}`, or set `credentials` in your settings."

    def _meaning(self, scope: Scope, status: int, *, sent_login: bool) -> tuple[str, str]:
        where = f"{self.name}/{scope.repository}"
        what = "push to" if scope.writes else "pull from"
        if status == _UNAUTHORIZED:
            cause = "does not accept the login (401)" if sent_login else "asks for a login (401)"
            return f"the registry {cause}", self._log_in
        if status == 404 and scope.writes:
            return f"the registry has no {where} (404)", "Make the repository there first, or correct the tag."
        meanings = {
            400: ("the registry refuses the request (400)", self._if_tls),
            403: (
                f"this login, or nobody, may {what} {where} (403)",
                "Log in as somebody who may, or ask who runs it.",
            ),
            404: (
                f"the registry has no such image in {where} (404)",
                "Correct the reference. If the lock holds it at a digest that is gone: `boxsnake lock --upgrade`.",
            ),
            405: ("the registry takes no uploads there (405)", "Correct the tag, or ask who runs the registry."),
            413: ("the registry, or a proxy before it, takes nothing of this size (413)", "Ask who runs it."),
        }
        return meanings.get(status, (f"the registry answered {status}", "Correct the reference, or ask who runs it."))

    @property
    def _if_tls(self) -> str:
        if self.address.startswith("http:"):
            return f'If it speaks TLS, set `insecure = false` or `ca` in [registries."{self.name}"] of your settings.'
        return "Ask who runs it."


def scheme(name: str, settings: RegistrySettings) -> str:
    """Unencrypted where the settings want it, and to this machine where they do not want otherwise."""
    insecure = settings.insecure
    if insecure is None:
        insecure = settings.ca is None and _is_loopback(urlsplit(f"//{name}").hostname or "")
    return "http" if insecure else "https"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _basic(login: Login) -> str:
    return f"Basic {base64.b64encode(f'{login.user}:{login.password}'.encode()).decode('ascii')}"


def _token_request(
    realm: str, service: Mapping[str, str], scope: Scope, login: RegistryLogin | None
) -> tuple[str, str, dict[str, str], bytes | None]:
    """Method, URL, headers and body."""
    if login is not None and login.token is not None:
        form = {**service, "grant_type": "refresh_token", "client_id": "boxsnake", "refresh_token": login.token}
        body = urlencode({**form, "scope": " ".join(scope.texts)}).encode("ascii")
        return "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, body
    query = urlencode([*service.items(), *(("scope", text) for text in scope.texts)])
    headers = {"Authorization": _basic(login.login)} if login is not None and login.login is not None else {}
    return "GET", f"{realm}{'&' if '?' in realm else '?'}{query}", headers, None


def _read_token(exchange: Exchange, answer: Answer) -> str:
    try:
        document = json.loads(answer.body)
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise exchange.fault(answer.url, "the registry's token server gives no token", "Tell who runs the registry.")
    return token


def _words(answer: Answer) -> str:
    """What the registry says is wrong, on one line; "" where it says nothing in the form that is agreed upon."""
    try:
        errors: list[dict[str, Any]] = json.loads(answer.body)["errors"]
        said = "; ".join(f"{error.get('code') or ''} {error.get('message') or ''}".strip() for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        is_text = answer.headers.get("Content-Type", "").startswith("text/plain")
        said = answer.body.decode(errors="replace").strip() if is_text else ""
    return shortened(escaped(redact(said)), _MOST_WORDS)
