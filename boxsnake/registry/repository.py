"""A repository of a registry: its manifests and blobs, read and written by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boxsnake import oci
from boxsnake.credentials import Credentials
from boxsnake.errors import IntegrityError, NetworkError
from boxsnake.fetch.wire import Answer
from boxsnake.registry.conversation import Asked, Registry, Scope
from boxsnake.store import Store
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.progress import Advance

LARGEST_MANIFEST = 4 << 20
"""Bytes. Registries take no larger ones (Distribution Specification, "Pushing Manifests")."""

_OK, _CREATED, _MISSING = 200, 201, 404
_UNAUTHORIZED = 401
_ACCEPT = ", ".join((*oci.MANIFEST_TYPES, *oci.INDEX_TYPES))
_DIGEST_HEADER = "Docker-Content-Digest"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest or an index, as the registry has it."""

    content: bytes
    digest: str
    media_type: str


class Repository:
    """One repository. `sources` are others of the same registry, of which blobs may be taken."""

    def __init__(self, registry: Registry, name: str, *, writes: bool = False, sources: tuple[str, ...] = ()) -> None:
        self.registry = registry
        self.name = name
        self.scope = Scope(repository=name, writes=writes, sources=sources)

    def __str__(self) -> str:
        return f"{self.registry.name}/{self.name}"

    def manifest(self, version: str) -> Manifest:
        """What a tag or digest names. Errors: NetworkError; IntegrityError where it is not what it was said to be."""
        asked = Asked(
            name=f"image {self}:{version}" if ":" not in version else f"image {self}@{version}",
            method="GET",
            url=self.registry.url(self.name, f"manifests/{version}"),
            scope=self.scope,
            headers={"Accept": _ACCEPT},
            limit=LARGEST_MANIFEST,
        )
        answer = self.registry.ask(asked)
        if len(answer.body) > LARGEST_MANIFEST:
            step = "Find out what it is: no manifest is so large."
            raise IntegrityError(asked.name, f"it has more than {LARGEST_MANIFEST} bytes", step)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        document = oci.Document(content=answer.body, media_type=media_type)
        expected = version if ":" in version else answer.headers.get(_DIGEST_HEADER) or document.digest
        if document.digest != expected:
            raise _other_bytes(asked.name, expected, document.digest)
        return Manifest(content=document.content, digest=document.digest, media_type=media_type)

    def has_manifest(self, digest: str) -> bool:
        """Whether it is there, and with it, as registries keep what a manifest names, its blobs."""
        asked = Asked(
            name=f"manifest {digest}",
            method="HEAD",
            url=self.registry.url(self.name, f"manifests/{digest}"),
            scope=self.scope,
            fine=(_OK, _MISSING),
            headers={"Accept": _ACCEPT},
        )
        return self.registry.ask(asked).status == _OK

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether it is there. What answers to everything, such as a network's page for logins, tells other sizes."""
        asked = Asked(
            name=f"blob {digest}",
            method="HEAD",
            url=self.registry.url(self.name, f"blobs/{digest}"),
            scope=self.scope,
            fine=(_OK, _MISSING),
        )
        answer = self.registry.ask(asked)
        return answer.status == _OK and answer.headers.get("Content-Length", str(size)) == str(size)

    def fetch_blob(self, store: Store, digest: str, size: int, advance: Advance) -> None:
        """Bring a blob into the store. Errors: those of `boxsnake.fetch`."""
        from boxsnake.fetch.download import Download, Request

        url = self.registry.url(self.name, f"blobs/{digest}")
        name = f"blob {digest} of {self}"
        with store.writer(digest, origin=name) as writer:

            def download() -> None:
                request = Request(
                    name=name,
                    url=url,
                    size=size,
                    limit=size,
                    html_is_wrong=False,
                    authorization=self.registry.authorization(self.scope),
                )
                exchange = self.registry.exchange(name, self.scope)
                Download(
                    self.registry.client,
                    request,
                    writer,
                    credentials=Credentials(),
                    patience=self.registry.patience,
                    stop=self.registry.stop,
                    advance=advance,
                    meaning=exchange.meaning,
                ).run()

            try:
                download()
            except NetworkError as error:
                if error.data.get("status") != _UNAUTHORIZED:
                    raise
                self.has_blob(digest, size)  # A token may have run out: this gets another.
                download()

    def put_manifest(self, version: str, content: bytes, media_type: str) -> str:
        """Write a manifest under a tag or its digest; its digest. Errors: IntegrityError where it became another."""
        digest = oci.Document(content=content, media_type=media_type).digest
        asked = Asked(
            name=f"manifest {digest}",
            method="PUT",
            url=self.registry.url(self.name, f"manifests/{version}"),
            scope=self.scope,
            fine=(_OK, _CREATED, 202),
            headers={"Content-Type": media_type},
            content=content,
        )
        check_told(self.registry.ask(asked), f"{self}:{version}", digest)
        return digest


def check_told(answer: Answer, name: str, digest: str) -> None:
    """Compare what a registry calls that which it was sent, if it says so. Errors: IntegrityError."""
    told = answer.headers.get(_DIGEST_HEADER) or digest
    if told != digest:
        raise _other_bytes(name, digest, told)


def _other_bytes(name: str, expected: str, found: str) -> IntegrityError:
    cause = f"the registry gives it another digest ({found}) than its bytes have ({expected})"
    if ":" in name and expected == name.rpartition("@")[2]:
        cause = f"the registry sends other bytes (found {found})"
    step = "Do not use it before you know why: the registry, or what is before it, is broken or lies."
    return IntegrityError(name, cause, step, expected=expected, found=found)
