"""PEX files, run and read; they share a cache, as all of a user's do."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    """A cache for as long as these tests run: what pex finds out about interpreters takes it seconds."""
    return tempfile.TemporaryDirectory(prefix="pex-root-")


def run(pex: Path, *arguments: str, **env: str) -> str:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PEX_ROOT": _root().name, **env}
    done = subprocess.run(
        [str(pex), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def info_of(pex: Path) -> dict[str, Any]:
    with zipfile.ZipFile(pex) as archive:
        found: dict[str, Any] = json.loads(archive.read("PEX-INFO"))
    return found
