"""The connection to an engine: its clients for each thread, and what goes wrong on it in boxsnake's own errors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from boxsnake.errors import EngineError, ResourceError
from boxsnake.urls import redact, without_credentials

if TYPE_CHECKING:
    import docker
    import requests

# In seconds, without a sign of life: for an answer, and for work on images or whole file systems.
ANSWER_SECONDS = 60.0
TRANSFER_SECONDS = 600.0


class Connection:
    """An engine's address and how to speak to it. Safe for threads: each has clients of its own."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self.address = without_credentials(address)
        self._address = address
        self._environment = environment
        self._threads = threading.local()
        self._version = "auto"

    def client(self, seconds: float = ANSWER_SECONDS) -> docker.APIClient:
        """Give this thread's client, whose calls take at most so long without a sign of life."""
        clients: dict[float, docker.APIClient] = self._threads.__dict__.setdefault("clients", {})
        if seconds not in clients:
            with self.faults("the container engine"):
                clients[seconds] = new_client(self._address, self._environment, seconds, self._version)
                self._version = clients[seconds].api_version  # which is asked for once
        return clients[seconds]

    def untyped(self, seconds: float = ANSWER_SECONDS) -> Any:
        """Give the same client, for the calls that the SDK's stubs leave without types."""
        return self.client(seconds)

    def url(self, path: str) -> str:
        """The address of an API path, for requests that the SDK does not make as they should be made."""
        client = self.client()
        return f"{client.base_url}/v{client.api_version}{path}"

    @contextlib.contextmanager
    def faults(self, thing: str) -> Iterator[None]:
        """Within the block, the SDK's and the connection's faults become EngineError (or ResourceError: disk full)."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (DockerException, RequestException, HTTPError, ConnectionError, TimeoutError) as error:
            raise translated(error, thing, self.address) from error


def new_client(address: str, environment: Mapping[str, str], seconds: float, version: str = "auto") -> docker.APIClient:
    """Connect anew, with the TLS settings of the environment; the SDK and requests raise what they like.

    `version` is the API's; "auto" asks the engine.
    """
    import docker
    from docker.utils import kwargs_from_env

    settings = kwargs_from_env(environment={**environment, "DOCKER_HOST": address})
    return docker.APIClient(version=version, timeout=seconds, **settings)  # type: ignore[arg-type]  # stubs: int alone


def raise_unless_fine(answer: requests.Response) -> None:
    """Raise the SDK's own error, which bears the engine's words, for a request that was made past the SDK."""
    from docker.errors import create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    try:
        answer.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)


def translated(error: Exception, thing: str, address: str) -> EngineError | ResourceError:
    """What an exception of the libraries means to a user."""
    cause = first_line(error)
    if "no space left on device" in cause.lower() or "disk quota exceeded" in cause.lower():
        step = "Make room for the engine's images and containers (`docker system df`), then run the command again."
        return ResourceError(thing, f"the engine's disk is full: {cause}", step)
    step = f"See whether the engine at {address} is well (`boxsnake doctor`), then run the command again."
    return EngineError(thing, cause, step, address=address)


def first_line(error: Exception) -> str:
    """The most telling part of a library's exception: the engine's own words, else the innermost cause."""
    text = str(getattr(error, "explanation", None) or error) or type(error).__name__
    return redact(printable(text.strip().splitlines()[0] if text.strip() else type(error).__name__))[:500]


def printable(text: str) -> str:
    """An engine's text with its control characters made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
