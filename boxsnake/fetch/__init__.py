"""Fetching: files by digest into the store, each one once, checked before it counts as present."""

from __future__ import annotations

import queue
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from boxsnake.credentials import Credentials
from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError, NetworkError, PolicyError, ResourceError
from boxsnake.progress import track
from boxsnake.urls import without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boxsnake.fetch.client import Client
    from boxsnake.fetch.exchange import Patience
    from boxsnake.progress import Advance
    from boxsnake.store import Store

# httpx takes its own command line along where rich is installed, which costs as much again as all the rest of it: None
# says that it is not there.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # what typeshed does not know sys.modules to hold

# A file whose size nobody has told may be this large, in bytes: it keeps a wrong server from filling the disk.
_LARGEST = 16 << 30
# How long threads get, in seconds, to notice that they are not wanted any more; a silent server may hold them longer.
_FAREWELL = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One file to fetch.

    `name` is its file name, `url` an http(s):// or file:// URL without credentials or a plain path, `sha256` bare hex,
    `size` in bytes. `kind` decides which check it has to pass before it counts as present; a "file" and a "sdist" are
    held to their digest alone, as a sdist is checked where it is unpacked.
    """

    name: str
    url: str
    sha256: str
    size: int | None
    kind: Literal["wheel", "conda", "sdist", "file"]

    @property
    def digest(self) -> str:
        """The store's name for it."""
        return f"sha256:{self.sha256}"

    @property
    def local(self) -> Path | None:
        """The path, where it is no URL of a server."""
        parts = urlsplit(self.url)
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        return None if "://" in self.url else Path(self.url)


def fetch(
    store: Store,
    wanted: Sequence[Wanted],
    *,
    offline: bool = False,
    credentials: Credentials | None = None,
    jobs: int = 8,
    patience: Patience | None = None,
) -> dict[str, Path]:
    """Bring the files into the store: bare SHA-256 → verified path.

    What is there already is hashed and not fetched; what has changed there is fetched again. With `offline`, no server
    is asked. Raises NetworkError (a server; or, offline, everything that is missing), IntegrityError (other bytes than
    those that were locked, or an archive that is not safe), PolicyError and ResourceError.
    """
    unique = list({item.sha256: item for item in wanted}.values())
    for item in unique:
        if not _SHA256.fullmatch(item.sha256):
            raise PolicyError(item.name, "no SHA-256 is known for it", "Lock again: every file needs its SHA-256.")
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(unique)))) as pool:
        present = list(pool.map(lambda item: _present(store, item), unique))
    found = {item.sha256: path for item, path in zip(unique, present, strict=True) if path is not None}
    missing = [item for item in unique if item.sha256 not in found]
    if offline:
        _refuse_remote([item for item in missing if item.local is None])
    if missing:
        sizes = [item.size for item in missing]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        with track("fetch", total) as advance:
            found |= _fetch_all(store, missing, credentials or Credentials.from_environment(), jobs, patience, advance)
    for item in unique:
        _check_size(item, found[item.sha256])
    return {item.sha256: found[item.sha256] for item in unique}


def fetch_bytes(
    url: str,
    *,
    limit: int,
    credentials: Credentials | None = None,
    patience: Patience | None = None,
    html: bool = False,
) -> bytes:
    """Get a small document of at most `limit` bytes; an HTML page only where `html` says that it is one.

    Raises NetworkError, IntegrityError (longer than the limit), PolicyError, ResourceError.
    """
    from boxsnake.fetch.client import http_client
    from boxsnake.fetch.download import Download, Request
    from boxsnake.fetch.exchange import Patience

    patience = patience or Patience()
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "document"
    sink = _Memory()
    with http_client(1, patience) as client:
        Download(
            client,
            Request(name=name, url=url, size=None, limit=limit, html_is_wrong=not html),
            sink,
            credentials=credentials or Credentials.from_environment(),
            patience=patience,
            stop=threading.Event(),
            advance=lambda _: None,
        ).run()
    return bytes(sink.data)


class _Memory:
    """A sink for small documents."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def restart(self) -> None:
        self.data.clear()


def _refuse_remote(missing: Sequence[Wanted]) -> None:
    if not missing:
        return
    listing = "\n".join(f"  {item.name} from {without_credentials(item.url)}" for item in missing)
    count = "1 file is" if len(missing) == 1 else f"{len(missing)} files are"
    raise NetworkError(
        "offline",
        f"{count} not in the cache\n{listing}",
        "Run the command once without --offline, or copy a cache that has them.",
        missing=[{"name": item.name, "url": without_credentials(item.url), "sha256": item.sha256} for item in missing],
    )


def _check_size(item: Wanted, path: Path) -> None:
    with disk_faults(path):
        size = path.stat().st_size
    if item.size is not None and size != item.size:
        # The bytes are the right ones; what is wrong is the index or the lock that speaks of them.
        raise IntegrityError(
            f"{item.name} from {without_credentials(item.url)}",
            f"has {size} bytes, and {item.size} are locked for the same SHA-256",
            "Lock again; if that does not help, tell who runs the index.",
        )


def _present(store: Store, item: Wanted) -> Path | None:
    """Find the file in the store; a file that fails its check is put aside there."""
    path = store.intact(item.digest)
    if path is not None:
        _ingest(store, item)
    return path


def _ingest(store: Store, item: Wanted) -> None:
    """Have the archive checked, unless that has been done: what fails leaves the store."""
    try:
        agrees = _check_of(store, item)
    except (IntegrityError, PolicyError) as error:
        evidence = store.quarantine(item.digest)
        error.data.update(evidence=str(evidence) if evidence else None, url=without_credentials(item.url))
        raise
    agrees(item.name)


def _check_of(store: Store, item: Wanted) -> Callable[[str], None]:
    """Check the archive itself; give what compares it with its file name, which is no fault of the bytes."""
    if item.kind == "wheel":
        from boxsnake.ingest import wheel as ingest_wheel

        wheel = ingest_wheel.wheel_facts(store, item.sha256)
        return lambda name: ingest_wheel.agree(wheel, name)
    if item.kind == "conda":
        from boxsnake.ingest import conda as ingest_conda

        package = ingest_conda.conda_facts(store, item.sha256)
        return lambda name: ingest_conda.agree(package, name)
    return lambda _: None


def _fetch_all(
    store: Store,
    missing: Sequence[Wanted],
    credentials: Credentials,
    jobs: int,
    patience: Patience | None,
    advance: Advance,
) -> dict[str, Path]:
    if all(item.local is not None for item in missing):
        return _in_threads(missing, jobs, lambda item, _: _once(store, item, 60.0, lambda: _copy(store, item, advance)))
    from boxsnake.fetch.client import http_client
    from boxsnake.fetch.exchange import Patience

    patience = patience or Patience()
    with http_client(jobs, patience) as client:

        def one(item: Wanted, stop: threading.Event) -> Path:
            def get() -> None:
                if item.local is not None:
                    _copy(store, item, advance)
                else:
                    _download(store, item, client, credentials, patience, stop, advance)

            return _once(store, item, patience.total, get)

        return _in_threads(missing, jobs, one)


def _once(store: Store, item: Wanted, wait: float, get: Callable[[], None]) -> Path:
    """Get a file unless another thread or process has just done so."""
    with store.lock(f"fetch-{item.sha256}", wait):
        path = _present(store, item)
        if path is None:
            get()
            _ingest(store, item)
            path = store.path(item.digest)
        return path


def _copy(store: Store, item: Wanted, advance: Advance) -> None:
    local = item.local
    if local is None or not local.is_file():
        raise ResourceError(
            str(local),
            "the index or the lock names this file, but it is not there",
            "Index the channel, or lock again.",
        )
    blob = store.put_file(local, expected=item.digest)
    advance(blob.size)


def _download(
    store: Store,
    item: Wanted,
    client: Client,
    credentials: Credentials,
    patience: Patience,
    stop: threading.Event,
    advance: Advance,
) -> None:
    from boxsnake.fetch.download import Download, Request

    with store.writer(item.digest, origin=f"{item.name} from {without_credentials(item.url)}") as writer:
        request = Request(name=item.name, url=item.url, size=item.size, limit=_LARGEST)
        download = Download(
            client, request, writer, credentials=credentials, patience=patience, stop=stop, advance=advance
        )
        download.run()
        if writer.digest != item.digest and download.resumed:
            # The file changed on the server between the parts: the parts are right, their sum is not.
            download.restart()
            download.run()


def _in_threads(items: Sequence[Wanted], jobs: int, work: Callable[[Wanted, threading.Event], Path]) -> dict[str, Path]:
    """Run `work` for every item; after the first error the rest is stopped and that error raised.

    The threads are daemons, so that an interrupt need not wait for a server that says nothing.
    """
    todo: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Wanted, Path | BaseException]] = queue.SimpleQueue()
    stop = threading.Event()
    # The largest first: what takes longest should not be what is begun last.
    for item in sorted(items, key=lambda item: -(item.size or 0)):
        todo.put(item)

    def run() -> None:
        while not stop.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                with disk_faults(item.name):
                    done.put((item, work(item, stop)))
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                done.put((item, error))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(max(1, min(jobs, len(items))))]
    for thread in threads:
        thread.start()
    found: dict[str, Path] = {}
    try:
        while len(found) < len(items):
            item, result = done.get()
            if isinstance(result, BaseException):
                raise result
            found[item.sha256] = result
    finally:
        stop.set()
        give_up = time.monotonic() + _FAREWELL
        for thread in threads:
            thread.join(timeout=max(0.0, give_up - time.monotonic()))
    return found
