"""One blob into a repository: not at all where it is there, from another repository where that has it, else in chunks.

An upload that was cut goes on where the registry says that it has got to; where it cannot tell, or takes no chunks, the
blob is sent once more in one piece (Distribution Specification, "Pushing blobs").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

from boxsnake.errors import IntegrityError, NetworkError
from boxsnake.fetch.exchange import AgainError, Exchange, StoppedError, joined
from boxsnake.fetch.wire import Answer
from boxsnake.image.layout import Images
from boxsnake.registry.conversation import Asked, Content, Registry
from boxsnake.registry.repository import Repository, check_told
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.progress import Advance

CHUNK = 32 << 20
"""Bytes that are sent by one request; what is not larger goes in one piece."""

_CREATED, _ACCEPTED, _NO_CONTENT = 201, 202, 204
_BAD = 400
# What a registry answers that does not know the upload any more, or takes no chunks.
_ANEW = frozenset({_BAD, 404, 405, 411, 416, 501})

Outcome = Literal["there", "mounted", "uploaded"]


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A blob and where its bytes are."""

    layout: Images
    digest: str
    size: int


def begin_upload(repository: Repository) -> str:
    """A place for a blob that is yet to come. Errors: NetworkError."""
    name = f"upload to {repository}"
    exchange = repository.registry.exchange(name, repository.scope)
    url = repository.registry.url(repository.name, "blobs/uploads/")
    asked = Asked(name=name, method="POST", url=url, scope=repository.scope, fine=(_ACCEPTED,), content=b"")
    return exchange.attempts(
        lambda: _place_of(repository.registry, exchange, repository.registry.attempt(exchange, asked))
    )


def cancel_upload(repository: Repository, place: str) -> None:
    """Give a place back that was not needed. Errors: NetworkError."""
    name = f"upload to {repository}"
    asked = Asked(
        name=name, method="DELETE", url=place, scope=repository.scope, fine=(_NO_CONTENT, _ACCEPTED, 200, 404)
    )
    repository.registry.ask(asked)


def _place_of(registry: Registry, exchange: Exchange, answer: Answer) -> str:
    """Where the registry wants the next bytes."""
    location = answer.headers.get("Location")
    with exchange.translated(answer.url):
        target = urlsplit(joined(answer.url, location or ""))
    here = urlsplit(registry.address)
    if location and target.netloc == here.netloc:
        # Behind a proxy that speaks TLS for it, a registry may take itself for unencrypted.
        target = target._replace(scheme=here.scheme)
    return exchange.redirect(answer.url, answer.status, urlunsplit(target) if location else None)


class Upload:
    """One blob on its way.

    `source` is another repository of the same registry that may have it; one that `is_new` is sent without asking
    whether it is there. Of the `places`, which `begin_upload` gave, it takes one if it needs one.
    """

    def __init__(
        self,
        repository: Repository,
        parcel: Parcel,
        advance: Advance,
        *,
        source: str | None = None,
        is_new: bool = False,
        places: list[str] | None = None,
    ) -> None:
        self._repository = repository
        self._registry = repository.registry
        self._parcel = parcel
        self._advance = advance
        self._source = source
        self._is_new = is_new
        self._places = [] if places is None else places
        self._exchange = self._registry.exchange(f"blob {parcel.digest}", repository.scope)
        self._place: str | None = None
        self._offset = 0
        self._doubtful = False
        self._whole = parcel.size <= CHUNK
        self._hash = hashlib.sha256()
        self._hashed = 0

    def run(self) -> Outcome:
        """Do it. Errors: NetworkError, IntegrityError where the bytes are not the digest's, ResourceError."""
        return self._exchange.attempts(self._attempt, lambda: self._offset)

    def _attempt(self) -> Outcome:
        if self._doubtful and self._whole:
            self._place = None  # what goes in one piece goes again as a whole, if it did not arrive
        if self._place is None:
            is_asked = self._doubtful or not self._is_new
            if is_asked and self._repository.has_blob(self._parcel.digest, self._parcel.size):
                return "uploaded" if self._doubtful else "there"
            if self._begin() == "mounted":
                return "mounted"
        try:
            if self._doubtful and not self._whole:
                self._find_out()
            self._send()
        except AgainError:
            self._doubtful = True
            raise
        except NetworkError as error:
            if error.data.get("status") not in _ANEW:
                raise
            self._whole = True
            self._place, self._offset = None, 0
            raise AgainError(error, wait=0.0) from error
        return "uploaded"

    def _begin(self) -> Outcome | None:
        if not self._source:
            with suppress(IndexError):  # other blobs take them as well
                self._place = self._places.pop()
                return None
        query = {"mount": self._parcel.digest, "from": self._source} if self._source else {}
        url = self._registry.url(self._repository.name, "blobs/uploads/")
        answer = self._ask("POST", f"{url}?{urlencode(query)}" if query else url, (_CREATED, _ACCEPTED), b"")
        if answer.status == _CREATED:
            return "mounted"
        self._move(answer)
        return None

    def _find_out(self) -> None:
        """How much of it the registry has."""
        answer = self._ask("GET", self._known_place, (_NO_CONTENT, 200), None)
        self._offset = _received(answer)
        self._move(answer, optional=True)
        self._doubtful = False

    def _send(self) -> None:
        if not self._whole:
            while self._offset < self._parcel.size:
                self._send_chunk(min(CHUNK, self._parcel.size - self._offset))
        self._finish()

    def _send_chunk(self, size: int) -> None:
        start = self._offset
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{start}-{start + size - 1}",
        }
        answer = self._ask(
            "PATCH", self._known_place, (_ACCEPTED, _NO_CONTENT), lambda: self._bytes(start, size), headers
        )
        self._move(answer)
        received = _received(answer) if "Range" in answer.headers else start + size
        if not start < received <= start + size:
            cause = f"the registry says that it has {received} bytes after {start + size} were sent"
            raise self._exchange.fault(self._known_place, cause, self._exchange.later, status=_BAD)
        self._advance(received - start)
        self._offset = received

    def _finish(self) -> None:
        """Close it: with all bytes where it goes in one piece, with none where they are there."""
        place = self._known_place
        url = f"{place}{'&' if urlsplit(place).query else '?'}{urlencode({'digest': self._parcel.digest})}"
        size = self._parcel.size if self._whole else 0
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        if not self._whole:
            self._check()
        try:
            content = (lambda: self._bytes(0, size)) if size else b""
            answer = self._ask("PUT", url, (_CREATED, _NO_CONTENT), content, headers)
        except NetworkError as error:
            self._check()
            if error.data.get("status") == _BAD and "DIGEST" in error.cause:
                cause = f"the registry says that other bytes came than were sent ({error.cause})"
                step = "Push again; if this returns, find out what changes them on the way."
                raise IntegrityError(self._exchange.name, cause, step, digest=self._parcel.digest) from error
            raise
        self._check()
        check_told(answer, self._exchange.name, self._parcel.digest)
        if self._whole:
            self._advance(size)

    def _ask(
        self, method: str, url: str, fine: tuple[int, ...], content: Content, headers: dict[str, str] | None = None
    ) -> Answer:
        asked = Asked(
            name=self._exchange.name,
            method=method,
            url=url,
            scope=self._repository.scope,
            fine=fine,
            headers=headers or {},
            content=content,
        )
        return self._registry.attempt(self._exchange, asked)

    @property
    def _known_place(self) -> str:
        if self._place is None:
            raise RuntimeError("the upload has not begun")
        return self._place

    def _move(self, answer: Answer, *, optional: bool = False) -> None:
        """Go on where the registry wants it."""
        if not optional or answer.headers.get("Location"):
            self._place = _place_of(self._registry, self._exchange, answer)

    # The bytes, each hashed once however often it is sent

    def _bytes(self, start: int, size: int) -> Iterator[bytes]:
        at = start
        for chunk in self._parcel.layout.chunks(self._parcel.digest, start, size):
            if self._registry.stop.is_set():
                raise StoppedError
            if at <= self._hashed < at + len(chunk):
                self._hash.update(memoryview(chunk)[self._hashed - at :])
                self._hashed = at + len(chunk)
            at += len(chunk)
            yield chunk

    def _check(self) -> None:
        found = f"sha256:{self._hash.hexdigest()}"
        if self._hashed == self._parcel.size and found != self._parcel.digest:
            step = "Build or copy it again."
            cause = f"its blob {self._parcel.digest} has other bytes (found {found})"
            raise IntegrityError(self._parcel.layout.name, cause, step, digest=self._parcel.digest)


def _received(answer: Answer) -> int:
    """How many bytes a registry has, by its Range header; "0-0" is none or one, and is taken for none."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
    last = int(match[1]) if match else 0
    return last + 1 if last else 0
