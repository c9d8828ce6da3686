"""The connection to an engine: requests in its version of the API, and what goes wrong in boxsnake's own errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

from boxsnake.disk import disk_faults
from boxsnake.engine.address import parsed
from boxsnake.engine.api import Answer, Api, LostError, RefusedError, value
from boxsnake.errors import EngineError, ResourceError
from boxsnake.urls import redact, without_credentials

# In seconds, without a sign of life: for an answer, and for work on images or whole file systems.
ANSWER_SECONDS = 60.0
TRANSFER_SECONDS = 600.0


class Connection:
    """An engine's address and how to speak to it. Safe for threads."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self.address = without_credentials(address)
        self._address = address
        self._environment = environment

    @cached_property
    def _api(self) -> Api:
        try:
            return Api(parsed(self._address, self._environment))
        except (OSError, ValueError) as error:
            raise LostError(str(error)) from error

    @cached_property
    def _version(self) -> str:
        """The newest version of the API that the engine speaks, as a path's beginning."""
        return self.ping(ANSWER_SECONDS)

    def ping(self, seconds: float) -> str:
        """Whether an engine answers: what the paths of requests to it begin with. Raises LostError, RefusedError."""
        with self._api.request("GET", "/_ping", seconds=seconds) as answer:
            answer.content()
            version = answer.headers.get("Api-Version", "")
        return f"/v{version}" if version else ""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        data: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
        waiting: float | None = 0,
    ) -> AbstractContextManager[Answer]:
        """See `boxsnake.engine.api.Api.request`."""
        return self._api.request(
            method,
            f"{self._version}{path}",
            query=query,
            body=body,
            data=data,
            headers=headers,
            seconds=seconds,
            waiting=waiting,
        )

    def ask(self, method: str, path: str, *, seconds: float = ANSWER_SECONDS, **sent: Any) -> Any:
        """The value that a request is answered with; None where there is none."""
        with self.request(method, path, seconds=seconds, **sent) as answer:
            content = answer.content()
        # A head that was cut off reads like one without a body.
        if method == "GET" and not content:
            raise LostError("the engine hung up in the middle of its answer")
        return value(content)

    def receive(self, path: str, archive: Path, thing: str, *, query: Mapping[str, object] | None = None) -> None:
        """Write the body of an answer to a file. `thing` is what errors call the work; ResourceError names the file."""
        with (
            disk_faults(archive),
            archive.open("wb") as out,
            self.faults(thing),
            self.request("GET", path, query=query, seconds=TRANSFER_SECONDS) as answer,
        ):
            for chunk in answer.chunks():
                out.write(chunk)

    @contextlib.contextmanager
    def faults(self, thing: str) -> Iterator[None]:
        """Within the block, faults of the engine and the way to it become EngineError (full disk: ResourceError)."""
        try:
            yield
        except (LostError, RefusedError) as error:
            raise translated(str(error), thing, self.address) from error


def translated(words: str, thing: str, address: str) -> EngineError | ResourceError:
    """What an engine's words mean to a user."""
    cause = first_line(words)
    if "no space left on device" in cause.lower() or "disk quota exceeded" in cause.lower():
        step = "Make room for the engine's images and containers (`docker system df`), then run the command again."
        return ResourceError(thing, f"the engine's disk is full: {cause}", step)
    step = f"See whether the engine at {address} is well (`boxsnake doctor`), then run the command again."
    return EngineError(thing, cause, step, address=address)


def first_line(words: str) -> str:
    """The most telling part of an engine's words."""
    lines = words.strip().splitlines()
    return redact(printable(lines[0] if lines else "it does not say why"))[:500]


def printable(text: str) -> str:
    """An engine's text with its control characters made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
