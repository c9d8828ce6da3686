"""Where a conda package came from, as an artifact may tell it."""

from __future__ import annotations

from boxsnake.lock import CondaPackage
from boxsnake.urls import without_credentials


def published(package: CondaPackage) -> tuple[str, str]:
    """The package's URL and channel without credentials, and without a path of this machine."""
    if package.url.startswith(("https://", "http://")):
        return without_credentials(package.url), without_credentials(package.channel)
    return f"file:///channel/{package.subdir}/{package.file_name}", "file:///channel"
