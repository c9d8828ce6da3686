"""One figure of the bench: ten applications that share numpy and Python, split into packages against RPMs of files.

`bench_split.py APPLICATION SCRATCH` installs both in clean hosts and prints one line of JSON: the bytes of the packages
that a host downloads, and those that it has on its disk then.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from boxsnake.boxes import Workspace
from boxsnake.cli.workspace import open_workspace
from boxsnake.engine import INSTALLING, Container, connect, sleeper
from boxsnake.hosts import image_id, load_hosts
from boxsnake.materials import StoreMaterials
from boxsnake.packagers.rpm import PACKAGER
from boxsnake.plan import Plan

APPLICATIONS = 10


def plans(plan: Plan, *, split: bool) -> Iterator[Plan]:
    """The same application under ten names."""
    options = dataclasses.replace(plan.options, split=split, commands=(), run_checks=False)
    for number in range(APPLICATIONS):
        application = dataclasses.replace(plan.application, name=f"{plan.application.name}-{number}")
        yield dataclasses.replace(plan, application=application, options=options)


def packed(workspace: Workspace, plan: Plan, folder: Path) -> Iterator[Path]:
    """The packages of one application."""
    folder.mkdir()
    out = folder / PACKAGER.file_name(plan)
    with StoreMaterials(workspace.store, plan, workspace.access) as materials:
        PACKAGER.pack(plan, materials, out)
    if not plan.options.split:
        yield out
        return
    subprocess.run(["tar", "-xf", str(out), "-C", str(folder)], check=True)
    yield from sorted(out.with_suffix("").iterdir())


def execute(container: Container, script: str) -> str:
    """What a script in the host says."""
    done = container.execute(("sh", "-c", script), seconds=900)
    if done.exit_code != 0:
        sys.exit(f"{script} left with {done.exit_code}:\n{(done.output + done.errors).decode()[-2000:]}")
    return done.output.decode()


def measure(workspace: Workspace, plan: Plan, scratch: Path, *, split: bool) -> dict[str, int]:
    """Bytes downloaded and on the disk, for a host that gets one application after the other."""
    engine = connect()
    image = image_id(engine, workspace.store, load_hosts()[PACKAGER.host(plan)])
    known: dict[str, int] = {}
    with engine.container(image, sleep=sleeper(), capabilities=INSTALLING) as container:
        for one in plans(plan, split=split):
            made = scratch / one.application.name
            for package in packed(workspace, one, made):
                if package.name not in known:
                    known[package.name] = package.stat().st_size
                    container.copy(package, f"/new/{package.name}")
            execute(container, "rpm -i /new/*.rpm && rm /new/*.rpm")
            shutil.rmtree(made)
        return {"wire": sum(known.values()), "disk": int(execute(container, "du -sB1 /opt").split()[0])}


def main(application: Path, scratch: Path) -> None:
    """Measure one after the other."""
    os.chdir(application)
    workspace = open_workspace(None)
    plan = next(box for box in workspace.boxes(["rpm"])).plan
    figures = {name: measure(workspace, plan, scratch, split=name == "split") for name in ("split", "files")}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
