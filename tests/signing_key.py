"""Keys of gpg's that live as long as a test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def gpg_home() -> Iterator[Path]:
    """An empty folder for gpg. Its path is short, as that of the agent's socket must be."""
    folder = Path(tempfile.mkdtemp(prefix="gpg-"))
    folder.chmod(0o700)
    try:
        yield folder
    finally:
        subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def new_key(home: Path, name: str, *arguments: str) -> None:
    """A key of NAME@example.org. Without a passphrase: `--passphrase`, ``""``."""
    generate = ["--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", "1y"]
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments, *generate]
    subprocess.run(command, check=True, capture_output=True)
