"""Registries of images: the OCI Distribution Specification 1.1, over the HTTP client of `boxsnake.fetch`.

`Registries` is how they are reached on this machine; it opens a `Registry`, which is a conversation with one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import TYPE_CHECKING

from boxsnake.credentials import Credentials
from boxsnake.reference import Reference
from boxsnake.settings import RegistrySettings, Settings
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.fetch.exchange import Patience
    from boxsnake.registry.conversation import Registry

_CONNECTIONS = 6


@dataclass(frozen=True, kw_only=True)
class Registries:
    """How registries are reached: the user's settings, credentials and patience."""

    default: str | None = None
    """The registry of references that name none."""
    settings: Mapping[str, RegistrySettings] = field(default_factory=dict)
    credentials: Credentials = field(default_factory=Credentials)
    """For registries that neither docker's nor podman's files know."""
    patience: Patience | None = None

    @classmethod
    def of(cls, settings: Settings, credentials: Credentials) -> Registries:
        """Those of a user."""
        return cls(default=settings.default_registry, settings=settings.registries, credentials=credentials)

    def meant(self, reference: Reference) -> Reference | None:
        """The reference with its registry; None where it names none, and the settings neither."""
        meant = reference.at(self.default or "")
        return meant if meant.registry else None

    def places(self, reference: Reference) -> list[Reference]:
        """Where an image is looked for, in this order: its registry's mirror, and the registry."""
        mirror = self.settings.get(reference.registry, RegistrySettings()).mirror
        if mirror is None:
            return [reference]
        host, _, path = mirror.strip("/").partition("/")
        repository = f"{path}/{reference.repository}" if path else reference.repository
        there = Reference(registry=host, repository=repository, tag=reference.tag, digest=reference.digest)
        return [there, reference]

    @contextmanager
    def connect(self, registry: str) -> Iterator[Registry]:
        """Open a conversation with one of them, for many threads. Errors: ResourceError."""
        from boxsnake.fetch.client import http_client
        from boxsnake.fetch.exchange import Patience
        from boxsnake.registry.conversation import Registry, scheme

        chosen = self.settings.get(registry, RegistrySettings())
        patience = self.patience or Patience()
        stop = threading.Event()
        is_plain = scheme(registry, chosen) == "http"
        with http_client(_CONNECTIONS, patience, authority=chosen.ca, is_plain=is_plain) as client:
            try:
                yield Registry(registry, chosen, client, credentials=self.credentials, patience=patience, stop=stop)
            finally:
                stop.set()
