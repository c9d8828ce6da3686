"""Who we are to a registry: from what `docker login` and `podman login` left, and their credential helpers.

The files are docker's `config.json` and podman's `auth.json` (containers-auth.json(5)), which have one form. A helper
`docker-credential-NAME get` reads a server's name and writes a JSON object with Username and Secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from boxsnake.credentials import Login
from boxsnake.errors import ResourceError
from boxsnake.plain_text import escaped, shortened
from boxsnake.value import dataclass

_HELPER_SECONDS = 30.0
_TOKEN_USER = "<token>"  # noqa: S105 - what a helper answers in a user's place


@dataclass(frozen=True, kw_only=True)
class RegistryLogin:
    """A login, or a token that stands for one at the registry's own token server (docker's "identity token")."""

    login: Login | None = None
    token: str | None = field(default=None, repr=False)


def find_login(registry: str, repository: str, environment: Mapping[str, str] | None = None) -> RegistryLogin | None:
    """The login for a repository; None where there is none.

    The first file that knows the registry counts; in it, the longest of registry/path, then the registry itself.
    Errors: ResourceError where a file cannot be read, or a helper is missing or fails.
    """
    variables = os.environ if environment is None else environment
    for path in _files(variables):
        document = _read(path)
        if document and (found := _in_file(document, path, registry, repository, variables)):
            return found
    return None


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where a login may be, the first that counts first."""
    home = environment.get("HOME") or "/nonexistent"
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "containers", "auth.json")
    yield Path(environment.get("XDG_CONFIG_HOME") or Path(home, ".config"), "containers", "auth.json")
    yield Path(environment.get("DOCKER_CONFIG") or Path(home, ".docker"), "config.json")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        # The parser's own words may quote the file, and with it a password.
        step = "Mend it, or log in to the registry again (`docker login`, `podman login`)."
        raise ResourceError(str(path), f"cannot be read as JSON ({type(error).__name__})", step) from None
    return document if isinstance(document, dict) else None


def _in_file(
    document: Mapping[str, Any], path: Path, registry: str, repository: str, environment: Mapping[str, str]
) -> RegistryLogin | None:
    helper = _table(document, "credHelpers").get(registry)
    if isinstance(helper, str) and helper:
        return _asked(helper, registry, environment)
    auths = {server(key): value for key, value in _table(document, "auths").items() if isinstance(value, dict)}
    parts = f"{registry}/{repository}".split("/")
    names = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    entry = next((auths[name] for name in names if name in auths), None)
    if entry and (found := _decoded(entry, path)):
        return found
    store = document.get("credsStore")
    return _asked(store, registry, environment) if isinstance(store, str) and store else None


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def server(key: str) -> str:
    """A key as it names a registry: old clients wrote "https://registry/v1/"."""
    name = key.partition("://")[2] or key
    return name.partition("/")[0] if "://" in key else name.rstrip("/")


def _decoded(entry: Mapping[str, Any], path: Path) -> RegistryLogin | None:
    if isinstance(token := entry.get("identitytoken"), str) and token:
        return RegistryLogin(token=token)
    if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
        return RegistryLogin(login=Login(user=entry["username"], password=entry["password"]))
    if not isinstance(auth := entry.get("auth"), str) or not auth:
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user, colon, password = "", "", ""
    if not colon:
        step = "Log in to the registry again (`docker login`, `podman login`)."
        raise ResourceError(str(path), "holds a login that cannot be read", step)
    return RegistryLogin(login=Login(user=user, password=password.rstrip("\0")))


def _asked(helper: str, registry: str, environment: Mapping[str, str]) -> RegistryLogin | None:
    """What a helper knows; it runs as its user, with all of the user's environment, as keyrings need it."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=registry.encode(),
            env=dict(environment),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        step = "Install it, or take it out of credHelpers and credsStore in docker's config.json."
        raise ResourceError(program, "the helper for registries' logins is not there", step) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        step = f"See why `{program} get` does not answer."
        raise ResourceError(program, f"cannot be asked ({type(error).__name__})", step) from None
    if done.returncode != 0:
        words = shortened(escaped(done.stdout.decode(errors="replace").strip()))
        if "not found" in words:
            return None
        words = words if "{" not in words else "…"  # what looks like the answer itself is not shown
        step = f"See why `{program} get` fails, or log in to {registry} again."
        raise ResourceError(program, f"it ended with status {done.returncode}: {words}", step)
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        step = f"See what `{program} get` answers."
        raise ResourceError(program, "its answer is not the JSON that was expected", step) from None
    if user == _TOKEN_USER:
        return RegistryLogin(token=secret)
    return RegistryLogin(login=Login(user=user, password=secret)) if user or secret else None
