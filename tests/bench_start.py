"""Figures of the bench: how long files that carry an application take to start it.

`python -m tests.bench_start APPLICATION SCRATCH` prints one line of JSON: for our PEX, a zipapp by shiv of the same
wheels and the userspace image in each of its modes, the least seconds of its `--version` for a user who has never run
it ("first"), with what the first run left, but nothing of that in memory ("cold"), and again ("warm"; "cpu" are the
seconds of CPU of that). "disk" is the extracted image by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from boxsnake.boxes import Workspace
from boxsnake.cli.workspace import open_workspace
from boxsnake.materials import StoreMaterials
from boxsnake.pack import pack
from tests.bench_installer import Seconds, timed

FIRST, COLD, WARM = 2, 3, 5


def main(application: Path, scratch: Path) -> None:
    """Make them, then start each."""
    os.chdir(application)
    workspace = open_workspace(None, output=scratch / "dist")
    made = {}
    for box in workspace.boxes(["pex", "appimage"]):
        pack(box, workspace.store, workspace.access)
        made[box.packager.name] = box.path
    zipapp, booted = _shiv(workspace, scratch), _sh_boot(workspace)
    figures: dict[str, dict[str, float]] = {}
    python = sysconfig.get_path("stdlib")
    kinds: dict[str, tuple[Path, dict[str, str]]] = {"pex": (made["pex"], {}), "pex, sh-boot": (booted, {})}
    kinds["shiv"] = (zipapp, {})
    for mode in ("loop", "fuse", "extract"):
        kinds[f"appimage, {mode}"] = (made["appimage"], {"BOXSNAKE_MOUNT": mode})
    for name, (file, variables) in kinds.items():
        command = [str(file), "--version"]
        firsts, home, environment = [], scratch, {}
        for _ in range(FIRST):
            # Each of its own: the last one may still be unmounting what it started from.
            home = Path(tempfile.mkdtemp(dir=scratch))
            environment = {"PATH": os.environ["PATH"], "HOME": str(home)} | variables
            firsts.append(_start(command, environment)[0])
        figures[name] = {"first": min(firsts), **_again(command, environment, [file, home, Path(python)])}
        if name == "appimage, extract":
            (there,) = home.glob(".cache/boxsnake/*/extracted/AppRun")
            figures["disk"] = _again([str(there), "--version"], environment, [home])
    sys.stdout.write(json.dumps(figures) + "\n")


def _sh_boot(workspace: Workspace) -> Path:
    """The PEX with `sh-boot`."""
    (box,) = workspace.boxes(["pex"])
    options = replace(box.plan.options, sh_boot=True)
    path = box.path.with_name("sh-boot.pex")
    pack(replace(box, plan=replace(box.plan, options=options), path=path), workspace.store, workspace.access)
    return path


def _shiv(workspace: Workspace, scratch: Path) -> Path:
    """A zipapp of the wheels that the PEX has."""
    tools, house, made = scratch / "shiv", scratch / "shiv-wheels", scratch / "shiv.pyz"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tools))
    subprocess.run([*pip, "shiv"], check=True)
    (box,) = workspace.boxes(["pex"])
    house.mkdir()
    with StoreMaterials(workspace.store, box.plan, workspace.access) as materials:
        for name, path in materials.wheels(box.plan.wheels).items():
            shutil.copyfile(path, house / name)
    names = [f"{wheel.name}=={wheel.version}" for wheel in box.plan.wheels]
    options = ["--console-script", box.plan.application.command[0], "--output-file", str(made), "--no-index"]
    command = [sys.executable, "-m", "shiv.cli", *options, "--no-deps", "--find-links", str(house), *names]
    environment = os.environ | {"PYTHONPATH": str(tools)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return made


def _again(command: Sequence[str], environment: Mapping[str, str], read: Sequence[Path]) -> dict[str, float]:
    colds = []
    for _ in range(COLD):
        _forget(read)
        colds.append(_start(command, environment)[0])
    warm = [_start(command, environment) for _ in range(WARM)]
    return {"cold": min(colds), "warm": min(one[0] for one in warm), "cpu": min(one[1] for one in warm)}


def _start(command: Sequence[str], environment: Mapping[str, str]) -> Seconds:
    return timed(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))


def _forget(paths: Sequence[Path]) -> None:
    """Have the kernel drop what it holds of these files, as far as no process has it mapped."""
    os.sync()
    for path in paths:
        for file in (found for found in [path, *path.rglob("*")] if found.is_file() and not found.is_symlink()):
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
