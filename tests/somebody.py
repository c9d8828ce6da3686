"""An ordinary user: of this machine as it is seen from mounts of its own, so that nothing of it is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UID = 12345

ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")

# A user with numbers to give away, and this checkout and its Python where anybody may go.
_BECOME = """
set -eu
cd "$1"; shift
mkdir -p repo python home
{ cat /etc/passwd; echo "boxer:x:$ID:$ID::$PWD/home:/bin/sh"; } >passwd
{ cat /etc/group; echo "boxer:x:$ID:"; } >group
[ -e subid ] || echo boxer:300000:65536 >subid
chown -R "$ID:$ID" home
mount --bind "$REPO" repo
mount --bind "$PREFIX" python
mount --bind passwd /etc/passwd
mount --bind group /etc/group
mount --bind subid /etc/subuid
mount --bind subid /etc/subgid
export HOME="$PWD/home" PYTHONPATH="$PWD/repo:$PWD/$SITE" BOXSNAKE_CACHE_DIR="$PWD/home/store"
export BOXSNAKE_CONFIG="$PWD/home/none.toml"; : >home/none.toml
exec setpriv --reuid "$ID" --regid "$ID" --init-groups "$PWD/python/bin/$NAME" "$@"
"""


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that anybody may reach, and where `as_somebody` makes a home."""
    folder = Path("/var/tmp") / f"boxsnake-{os.urandom(6).hex()}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_somebody(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with these arguments as an ordinary user, whose home is in the folder."""
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "REPO": str(ROOT),
        "PREFIX": sys.base_prefix,
        "SITE": f"repo/{site.relative_to(ROOT)}",
        "NAME": f"python{sys.version_info[0]}.{sys.version_info[1]}",
        "ID": str(UID),
        **variables,
    }
    # What it leaves running ends with it, as podman's helpers would not.
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        _BECOME,
        "sh",
        str(folder),
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
