"""Figures of the bench: a userspace image against bare mksquashfs and against the same tree on the disk.

`python -m tests.bench_appimage APPLICATION SCRATCH` prints one line of JSON. "made" has the least seconds by the clock
and of CPU of making the image that starts by itself ("run") and the one to be mounted ("squashfs") of a staged tree,
and of mksquashfs alone with the options of each. The rest are the least seconds of starting with a handful of imports,
warm, from the disk and from a mount by the kernel, where that can be had, by FUSE, and by the whole file each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.materials import StoreMaterials
from boxsnake.packagers.appimage import PACKAGER
from boxsnake.userspace.image import write_image
from boxsnake.userspace.mounted import write_mounted
from tests.bench_installer import Seconds, timed

RUNS = 3
STARTS = 5
_IMPORTS = "import flask, gunicorn, ssl, sqlite3, json, asyncio"


def main(application: Path, scratch: Path) -> None:
    """Take turns, so that a busy moment hits all."""
    os.chdir(application)
    workspace = open_workspace(None)
    (box,) = workspace.boxes([PACKAGER.name])
    figures: dict[str, list[float]] = {}
    made: dict[str, list[Seconds]] = {}
    with StoreMaterials(workspace.store, box.plan, workspace.access) as materials:
        for kind, prefix in (("run", None), ("squashfs", "/opt/hello-web")):
            with materials.tree(prefix) as tree:
                for _ in range(RUNS):
                    out, bare = scratch / f"box.{kind}", scratch / "bare"
                    for path in (out, bare):
                        path.unlink(missing_ok=True)
                    comp = (
                        ["gzip", "-Xcompression-level", "6"] if prefix is None else ["zstd", "-Xcompression-level", "9"]
                    )
                    command = ["mksquashfs", tree.root, bare, "-quiet", "-no-progress", "-comp", *comp]
                    with materials.scratch() as folder:
                        pack: Callable[[], None]
                        if prefix is None:
                            pack = partial(write_image, box.plan, tree, out, folder, level=6)
                        else:
                            pack = partial(write_mounted, box.plan, tree, out, folder, kind="squashfs")
                        made.setdefault(kind, []).append(timed(pack))
                    alone = partial(subprocess.run, command, check=True, capture_output=True)
                    made.setdefault(f"mksquashfs {kind}", []).append(timed(alone))
    _start(scratch / "box.run", scratch / "home", figures)
    best = {name: [min(one[i] for one in times) for i in range(2)] for name, times in made.items()}
    sys.stdout.write(json.dumps({"made": best, **{name: min(times) for name, times in figures.items()}}) + "\n")


def _start(image: Path, home: Path, figures: dict[str, list[float]]) -> None:
    """Starts with the imports: of what is extracted or mounted already, and of the whole file."""
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    environment = kept | {"HOME": str(home), "BOXSNAKE_RUN": "python"}

    def start(name: str, command: list[str], **variables: str) -> None:
        env = environment | variables
        done = subprocess.run([*command, "-c", _IMPORTS], env=env, capture_output=True, text=True, check=True)
        assert not done.stderr
        figures.setdefault(name, []).append(
            timed(lambda: subprocess.run([*command, "-c", _IMPORTS], env=env, check=True, capture_output=True))[0]
        )

    subprocess.run([image, "-c", ""], env=environment | {"BOXSNAKE_MOUNT": "extract"}, check=True)
    (extracted,) = home.glob(".cache/boxsnake/*/extracted/AppRun")
    mounting = subprocess.Popen([image, "--appimage-mount"], env=environment, stdout=subprocess.PIPE, text=True)
    assert mounting.stdout is not None
    mounted = mounting.stdout.readline().rstrip("\n")
    try:
        for _ in range(STARTS):
            start("disk", [str(extracted)])
            start("mounted", [f"{mounted}/AppRun"])
            for mode in ("extract", "loop", "fuse"):
                start(f"file, {mode}", [str(image)], BOXSNAKE_MOUNT=mode)
    finally:
        mounting.terminate()
        mounting.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
