"""Who we are to which server: from netrc, the environment and the user's settings, and never shown.

Locks, artifacts and messages hold URLs without credentials; here they are found again when a request is made.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from boxsnake.pattern import pattern
from boxsnake.urls import USUAL_PORTS, without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_log = logging.getLogger(__name__)

# Anaconda-style channel tokens: what stands before them, the token, and the channel.
_TOKEN = pattern(r"(?P<before>.*?)/t/(?P<token>[^/]+)(?P<channel>/.*|)")
_VARIABLE = pattern(r"BOXSNAKE_INDEX_(?P<name>[A-Z0-9_]+)_URL")


@dataclass(frozen=True, kw_only=True)
class Login:
    """User and password for HTTP's Basic scheme (RFC 7617)."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(…)"


@dataclass(frozen=True, kw_only=True)
class _Grant:
    """What opens the URLs below a prefix: a login, or a channel token and the path that it is put behind."""

    origin: tuple[str, str, int]
    path: str
    login: Login | None = None
    token: str | None = None
    before: str = ""

    def covers(self, origin: tuple[str, str, int], path: str) -> bool:
        return origin == self.origin and f"{path}/".startswith(f"{self.path}/")


class Credentials:
    """A set of credentials, each for the URLs of one server or below one of its folders; the longest prefix counts."""

    def __init__(self, grants: Iterable[_Grant] = (), netrc_file: Path | None = None) -> None:
        self._grants = tuple(sorted(grants, key=lambda grant: len(grant.path), reverse=True))
        self._netrc_file = netrc_file
        self._hosts: dict[str, Login] | None = None

    def __repr__(self) -> str:
        return f"Credentials(for {len(self._grants)} places, netrc: {self._netrc_file})"

    @classmethod
    def from_environment(
        cls,
        settings: Mapping[str, str] | None = None,
        *,
        urls: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        netrc_file: Path | None = None,
    ) -> Credentials:
        """Collect what there is.

        - `settings`: URL prefix → "user:password", or a channel token (a value without a colon);
        - `BOXSNAKE_INDEX_<NAME>_URL` with `_USERNAME` and `_PASSWORD`, or with `_TOKEN`;
        - `urls`: index and channel URLs which carry their credentials in themselves;
        - a netrc file: `$NETRC`, else `~/.netrc`. Its `default` entry is not used, as it would go to any server.
        """
        env = os.environ if env is None else env
        grants = [_from_setting(prefix, secret) for prefix, secret in (settings or {}).items()]
        grants += [grant for name in sorted(env) if (grant := _from_variables(name, env))]
        grants += [grant for url in urls for grant in _from_url(url)]
        if netrc_file is None:
            netrc_file = Path(env["NETRC"]) if env.get("NETRC") else Path(env.get("HOME") or "/nonexistent", ".netrc")
        return cls(grants, netrc_file)

    def login(self, url: str) -> Login | None:
        """Find the login for a URL, if there is one."""
        origin, path = _place(url)
        for grant in self._grants:
            if grant.login is not None and grant.covers(origin, path):
                return grant.login
        return self._from_netrc().get(origin[1])

    def with_token(self, url: str) -> str:
        """Put the channel token back in the URL that it was taken from."""
        parts = urlsplit(url)
        origin, path = _place(url)
        for grant in self._grants:
            if grant.token is not None and grant.covers(origin, path) and path.startswith(grant.before):
                marked = f"{grant.before}/t/{grant.token}{path[len(grant.before) :]}"
                return urlunsplit((parts.scheme, parts.netloc, marked, parts.query, parts.fragment))
        return url

    def _from_netrc(self) -> Mapping[str, Login]:
        if self._hosts is None:
            self._hosts = _read_netrc(self._netrc_file)
        return self._hosts


def _read_netrc(path: Path | None) -> dict[str, Login]:
    if path is None or not path.is_file():
        return {}
    import netrc

    try:
        hosts = netrc.netrc(path).hosts
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        # The parser's text may hold the word that it stumbled over, which may be a password.
        line = f", line {error.lineno}" if isinstance(error, netrc.NetrcParseError) and error.lineno else ""
        _log.warning("%s%s: cannot be read and is left out", path, line)
        return {}
    return {
        host.lower(): Login(user=user or account or "", password=password or "")
        for host, (user, account, password) in hosts.items()
        if host != "default"
    }


def _from_setting(prefix: str, secret: str) -> _Grant:
    user, colon, password = secret.partition(":")
    if colon:
        return _grant(prefix, login=Login(user=user, password=password))
    return _grant(prefix, token=secret)


def _from_variables(name: str, env: Mapping[str, str]) -> _Grant | None:
    if not (match := _VARIABLE.fullmatch(name)):
        return None
    stem = f"BOXSNAKE_INDEX_{match['name']}_"
    if token := env.get(f"{stem}TOKEN"):
        return _grant(env[name], token=token)
    if f"{stem}USERNAME" in env or f"{stem}PASSWORD" in env:
        login = Login(user=env.get(f"{stem}USERNAME", ""), password=env.get(f"{stem}PASSWORD", ""))
        return _grant(env[name], login=login)
    return None


def _from_url(url: str) -> list[_Grant]:
    """Take the credentials that a URL carries: a login opens the whole server, as files often lie beside the index."""
    parts = urlsplit(url)
    found: list[_Grant] = []
    if parts.username or parts.password:
        login = Login(user=unquote(parts.username or ""), password=unquote(parts.password or ""))
        found.append(_grant(urlunsplit((parts.scheme, parts.netloc, "", "", "")), login=login))
    if match := _TOKEN.fullmatch(parts.path):
        found.append(_grant(without_credentials(url), token=match["token"], before=match["before"]))
    return found


def _grant(prefix: str, *, login: Login | None = None, token: str | None = None, before: str = "") -> _Grant:
    origin, path = _place(prefix)
    return _Grant(origin=origin, path=path.rstrip("/"), login=login, token=token, before=before)


def _place(url: str) -> tuple[tuple[str, str, int], str]:
    """Scheme, host and port of a URL, and its path."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return (parts.scheme, (parts.hostname or "").lower(), port or USUAL_PORTS.get(parts.scheme, 0)), parts.path
