"""Where a user's files of a kind lie (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Ours for what can be made again. It is no absolute path where nobody knows the user's home."""
    return _folder("XDG_CACHE_HOME", "~/.cache")


def settings_folder() -> Path:
    """Ours for settings. It is no absolute path where nobody knows the user's home."""
    return _folder("XDG_CONFIG_HOME", "~/.config")


def _folder(variable: str, usual: str) -> Path:
    # The specification has relative paths ignored.
    named = Path(os.environ.get(variable, ""))
    return (named if named.is_absolute() else Path(os.path.expanduser(usual))) / "boxsnake"  # noqa: PTH111 - never fails
