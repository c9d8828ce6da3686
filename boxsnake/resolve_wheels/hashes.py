"""The hashes that requirement files ask for: what was chosen must have one of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from boxsnake.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxsnake.lock import Wheel
    from boxsnake.resolve_wheels.question import Workshop


def check_hashes(wheel: Wheel, allowed: tuple[str, ...], place: str, workshop: Workshop | None = None) -> None:
    """Hold a wheel, or the archive that it was built from, against the hashes that were asked for at `place`.

    Any of them will do, and none asked for is fine. A wheel of an index whose SHA-256 is not among them is fetched
    for its other digests, by means of `workshop`. Errors: IntegrityError.
    """
    origin = wheel.origin
    digest = f"sha256:{wheel.sha256 if origin is None else origin.sha256}"
    if not allowed or digest in allowed:
        return
    if workshop is not None and origin is None and set(allowed) & _other_digests(wheel, allowed, workshop):
        return
    raise IntegrityError(
        wheel.file_name if origin is None else origin.url,
        f"has the digest {digest}, which is not among the hashes at {place}",
        "Add its hash where you trust it, or ask for the version whose hashes are given.",
        allowed=sorted(allowed),
        found=digest,
    )


def _other_digests(wheel: Wheel, wanted: Iterable[str], workshop: Workshop) -> set[str]:
    algorithms = {digest.partition(":")[0] for digest in wanted} & {"sha384", "sha512"}
    if not algorithms:
        return set()
    from boxsnake.fetch import Wanted, fetch

    file = Wanted(name=wheel.file_name, url=wheel.url or "", sha256=wheel.sha256, size=wheel.size, kind="wheel")
    paths = fetch(workshop.store, [file], offline=workshop.offline, credentials=workshop.credentials)
    found = set()
    for algorithm in algorithms:
        with paths[wheel.sha256].open("rb") as stream:
            found.add(f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}")
    return found
