"""Locked packages into the store, from wherever this machine has their archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from boxsnake.credentials import Credentials
from boxsnake.errors import NetworkError
from boxsnake.fetch import Wanted, fetch
from boxsnake.lock import SystemLock, SystemPackage
from boxsnake.store import Store
from boxsnake.system_packages.archives import root_of


def fetched(
    store: Store, system: SystemLock, *, mirrors: Mapping[str, str], credentials: Credentials, offline: bool
) -> Mapping[str, Path]:
    """Local files by the packages' digests (bare hex). Errors: those of `boxsnake.fetch.fetch`.

    A package that its archive has dropped is a NetworkError that names it.
    """
    lacking = {p.archive for p in system.packages if not store.has(f"sha256:{p.sha256}")}
    roots = {name: root_of(name, dict(system.archives), mirrors, system.suite) for name in lacking}
    wanted = [_wanted(package, roots.get(package.archive, "")) for package in system.packages]
    try:
        return fetch(store, wanted, offline=offline, credentials=credentials)
    except NetworkError as error:
        gone = next((p for p in system.packages if error.thing.startswith(f"{p.file_name} ")), None)
        if gone is None or not any(status in error.cause for status in ("(404)", "(410)")):
            raise
        cause = f"the archive {gone.archive} has not got it any more: it keeps the newest version alone"
        step = f"Run `boxsnake lock --upgrade {gone.name}` to lock the version that there is now."
        raise NetworkError(f"{gone.name} {gone.version}", cause, step, **error.data) from None


def _wanted(package: SystemPackage, root: str) -> Wanted:
    return Wanted(
        name=package.file_name,
        url=f"{root}/{quote(package.path)}" if root else "",
        sha256=package.sha256,
        size=package.size,
        kind="file",
    )
