"""Small Debian packages, and a key that signs archives of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from boxsnake.publish.signing import Signer, signer


@contextmanager
def signing_key() -> Iterator[Signer]:
    """A key that lasts for the block."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    home.chmod(0o700)
    generate = ["--passphrase", "", "--quick-generate-key", "archive <archive@example.org>", "ed25519", "sign", "1y"]
    try:
        subprocess.run(["gpg", "--homedir", home, "--batch", "--quiet", *generate], check=True, capture_output=True)
        yield signer("archive@example.org", home=home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)


def deb(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    script: str = "",
    files: Mapping[str, bytes | str] | None = None,
    **fields: str,
) -> Path:
    """A package, and its postinst. `files` are contents, or as a text what a symbolic link leads to."""
    tree = folder / f"{name}-{version}"
    said = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "Example <a@example.org>"}
    said |= {field.replace("_", "-"): value for field, value in fields.items()} | {"Description": name}
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text("".join(f"{field}: {value}\n" for field, value in said.items()))
    for path, content in (files or {f"srv/{name}": f"{name} {version}\n".encode()}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (tree / path).symlink_to(content)
        else:
            (tree / path).write_bytes(content)
    if script:
        (tree / "DEBIAN" / "postinst").write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (tree / "DEBIAN" / "postinst").chmod(0o755)
    out = folder / f"{name}_{version}_{said['Architecture']}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, out], check=True, capture_output=True)
    return out
