"""One figure of the bench: a PEX by boxsnake's way against pex's own fastest, of the very same wheels.

`python -m tests.bench_boxes APPLICATION SCRATCH` prints one line of JSON with the least seconds by the clock and of CPU
of each: ours, pex with an empty cache of its own, as ours always has, and pex with a warm one. All write a zip of the
wheels as they are, for a virtual environment at the first run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.materials import StoreMaterials
from boxsnake.packagers.pex import PACKAGER
from tests.bench_installer import Seconds, timed

RUNS = 6


def main(application: Path, scratch: Path) -> None:
    """Take turns, so that a busy moment hits all three."""
    os.chdir(application)
    workspace = open_workspace(None)
    (box,) = workspace.boxes([PACKAGER.name])
    house, root = scratch / "pex-wheels", scratch / "pex-root"
    with StoreMaterials(workspace.store, box.plan, workspace.access) as materials:
        house.mkdir()
        for name, path in materials.wheels(box.plan.wheels).items():
            shutil.copyfile(path, house / name)
        names = [f"{wheel.name}=={wheel.version}" for wheel in box.plan.wheels]
        options = [
            "--no-index",
            "--pre-resolved-dists",
            str(house),
            "--no-pre-install-wheels",
            "--no-compile",
            "--venv",
        ]
        command = [str(Path(sys.executable).parent / "pex"), *options, "--script", box.plan.application.command[0]]

        def ours() -> None:
            out = scratch / "ours.pex"
            out.unlink(missing_ok=True)
            PACKAGER.pack(box.plan, materials, out)

        def theirs() -> None:
            subprocess.run(
                [*command, "-o", str(scratch / "theirs.pex"), *names],
                env=os.environ | {"PEX_ROOT": str(root)},
                check=True,
                capture_output=True,
            )

        figures: dict[str, list[Seconds]] = {"ours": [], "cold": [], "warm": []}
        for _ in range(RUNS):
            figures["ours"].append(timed(ours))
            shutil.rmtree(root, ignore_errors=True)
            figures["cold"].append(timed(theirs))
            figures["warm"].append(timed(theirs))
    best = {name: [min(one[i] for one in times) for i in range(2)] for name, times in figures.items()}
    sys.stdout.write(json.dumps(best) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
