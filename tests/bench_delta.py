"""Figures of the bench: the delta of an installer and of a userspace image, one package of which is another version.

`bench_delta.py APPLICATION SCRATCH` prints one line of JSON: for each format the sizes of the whole file, of the delta,
and of what zstd makes of the files as they are; the seconds of making the delta, and of applying it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PACKAGE = "werkzeug"
FORMATS = ("installer", "appimage")
_BOXSNAKE = Path(sys.executable).parent / "boxsnake"


def main(application: Path, scratch: Path) -> None:
    """Build the box with the newest version of a package, and with the one before it."""
    new, old = scratch / "new", scratch / "old"
    for folder in (new, old):
        shutil.copytree(application, folder, ignore=shutil.ignore_patterns("dist"))
    _boxsnake("lock", cwd=new)
    locked = (new / "boxsnake.lock").read_text(encoding="utf-8")
    found = re.search(rf'name = "{PACKAGE}"\nversion = "([^"]+)"', locked)
    assert found, f"the lock has no {PACKAGE}"
    manifest = old / "boxsnake.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("pip = [", f'pip = ["{PACKAGE} <{found[1]}", ', 1), encoding="utf-8")
    _boxsnake("lock", cwd=old)
    figures = {name: _figures(name, old, new, scratch) for name in FORMATS}
    sys.stdout.write(json.dumps(figures) + "\n")


def _figures(name: str, old: Path, new: Path, scratch: Path) -> dict[str, Any]:
    before, after = (folder / _boxsnake("build", name, cwd=folder)["boxes"][0]["path"] for folder in (old, new))
    delta, again, plain = scratch / f"{name}.delta", scratch / f"{name}.again", scratch / f"{name}.zst"
    started = time.perf_counter()
    made = _boxsnake("delta", str(before), str(after), "-o", str(delta), cwd=scratch)
    between = time.perf_counter()
    _boxsnake("patch", str(before), str(delta), "-o", str(again), cwd=scratch)
    ended = time.perf_counter()
    assert again.read_bytes() == after.read_bytes()
    zstd = ["zstd", "-q", "-9", "--long=27", f"--patch-from={before}", str(after), "-o", str(plain)]
    subprocess.run(zstd, check=True)
    return {
        "size": after.stat().st_size,
        "delta": made["size"],
        "zstd": plain.stat().st_size,
        "making": between - started,
        "applying": ended - between,
    }


def _boxsnake(*arguments: str, cwd: Path) -> Any:
    command = [str(_BOXSNAKE), *arguments, "--json"]
    return json.loads(subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
