"""What the bench's peer, docker build, works with: the same packages, and the same base in the engine.

`bench_context.py APPLICATION SCRATCH` fills SCRATCH/context and prints the names of the base images as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.engine import connect
from boxsnake.hosts import image_id, load_hosts
from boxsnake.materials import StoreMaterials
from boxsnake.pack import pack, unfolded

BASES = {"base": "debian-12", "python": "debian-12-python"}


def main(application: Path, scratch: Path) -> None:
    """Lay the packages out, and import the hosts' root file systems into the engine, unless they are there."""
    os.chdir(application)
    workspace = open_workspace(None)
    context = scratch / "context"
    (context / "conda").mkdir(parents=True)
    (house,) = workspace.boxes(["wheelhouse"])
    pack(house, workspace.store, workspace.access)
    # With times of their own: the peer's builder takes a file of the same size and time for the one of an earlier run.
    shutil.copytree(unfolded(house.path), context / "house", copy_function=shutil.copyfile)
    with StoreMaterials(workspace.store, house.plan, workspace.access) as materials:
        for name, path in materials.conda(house.plan.lock.conda).items():
            shutil.copyfile(path, context / "conda" / name)
    engine = connect()
    names = {}
    for key, host in BASES.items():
        names[key] = f"boxsnake-bench/{host}:1"
        engine.tag(image_id(engine, workspace.store, load_hosts()[host]), names[key])
    sys.stdout.write(json.dumps(names) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
