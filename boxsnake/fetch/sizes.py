"""Sizes of files that an index does not tell, asked of their servers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from boxsnake.credentials import Credentials
from boxsnake.errors import BoxsnakeError
from boxsnake.fetch import Wanted
from boxsnake.fetch.client import Client, http_client
from boxsnake.fetch.download import Download, Request
from boxsnake.fetch.exchange import Patience
from boxsnake.store import Store

_AT_ONCE = 8
_KIND = "size"


def sizes(store: Store, wanted: Sequence[Wanted], *, credentials: Credentials, offline: bool) -> dict[str, int]:
    """The sizes in bytes by bare SHA-256, of those files whose servers tell them.

    What was told once is remembered. A server that tells nothing is no error: who needs the size does without.
    """
    found: dict[str, int] = {}
    unknown = []
    for item in wanted:
        size = _here(store, item)
        if size is None:
            unknown.append(item)
        else:
            found[item.sha256] = size
    if unknown and not offline:
        found |= _asked(store, unknown, credentials)
    return found


def _here(store: Store, item: Wanted) -> int | None:
    known = store.selected(_KIND, {"sha256": item.sha256})
    if known is not None:
        return int(known["size"])
    path = store.intact(item.digest) if store.has(item.digest) else item.local
    return path.stat().st_size if path is not None and path.is_file() else None


def _asked(store: Store, items: Sequence[Wanted], credentials: Credentials) -> dict[str, int]:
    patience = Patience(connect=5.0, stall=5.0, attempts=2, total=20.0)
    with http_client(_AT_ONCE, patience) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        lengths = list(pool.map(lambda item: _length(client, item, credentials, patience), items))
    told = {item.sha256: size for item, size in zip(items, lengths, strict=True) if size is not None}
    for sha256, size in told.items():
        store.select(_KIND, {"sha256": sha256}, {"size": size})
    return told


def _length(client: Client, item: Wanted, credentials: Credentials, patience: Patience) -> int | None:
    request = Request(name=item.name, url=item.url, size=None, limit=0, method="HEAD")
    download = Download(
        client,
        request,
        _Nothing(),
        credentials=credentials,
        patience=patience,
        stop=threading.Event(),
        advance=lambda _: None,
    )
    try:
        download.run()
    except BoxsnakeError:
        return None
    return download.length


class _Nothing:
    """A sink that nothing comes to."""

    size = 0

    def write(self, data: bytes) -> int:
        return len(data)

    def restart(self) -> None:
        pass
