"""Figures of the bench: an archive of conda-pack's kind against conda-pack itself, of the very same packages.

`python -m tests.bench_conda_pack APPLICATION SCRATCH` prints one line of JSON: the best seconds of writing the archive
of a staged tree ("ours"), of staging it as well ("whole"), and of conda-pack with its defaults in an environment that
has the same conda packages, wheels and byte-code; of each, those by the clock and those of the processor; the sizes;
the seconds of each one's conda-unpack.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.entries import Tree
from boxsnake.layers.plan import AS_THEY_ARE, Treatment
from boxsnake.materials import Access, StoreMaterials
from boxsnake.packagers.conda_pack import PACKAGER
from boxsnake.plan import Plan
from boxsnake.store import Store

RUNS = 3
_INSTALL = """
import asyncio, glob, os, sys, rattler
async def main():
    paths = sorted(glob.glob(sys.argv[1] + "/*"))
    records = [await rattler.RepoDataRecord.from_package_archive(path) for path in paths]
    await rattler.install(records, target_prefix=sys.argv[2], cache_dir=sys.argv[3], show_progress=False)
asyncio.run(main())
os._exit(0)  # rattler's threads may crash at the interpreter's exit
"""
_PEER = "import sys; from conda_pack.cli import main; sys.exit(main())"


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of one call: by the clock, and of the processor, its children's too."""
    started, used = time.perf_counter(), _used()
    work()
    return time.perf_counter() - started, _used() - used


def _used() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Staged(StoreMaterials):
    """Materials whose tree is there already."""

    def __init__(self, store: Store, plan: Plan, access: Access, tree: Tree) -> None:
        super().__init__(store, plan, access)
        self._staged = tree

    @contextmanager
    def tree(self, prefix: str | None, treatment: Treatment = AS_THEY_ARE) -> Iterator[Tree]:
        """The one that was staged before."""
        del prefix, treatment
        yield self._staged


def main(application: Path, scratch: Path) -> None:
    """Take turns, so that a busy moment hits both."""
    os.chdir(application)
    workspace = open_workspace(None)
    (box,) = workspace.boxes([PACKAGER.name])
    plan = replace(box.plan, options=PACKAGER.options())
    mine, peers = scratch / "ours.tar.gz", scratch / "peer.tar.gz"
    figures: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        figures.setdefault(name, []).append(seconds(work))

    with StoreMaterials(workspace.store, plan, workspace.access) as materials, materials.tree(None) as tree:
        staged = Staged(workspace.store, plan, workspace.access, tree)
        environment = _environment(plan, materials, scratch)
        tool = scratch / "tool"
        _run(_uv(), "pip", "install", "--quiet", "--target", tool, "conda-pack")
        for _ in range(RUNS):
            for name, given in (("ours", staged), ("whole", materials)):
                mine.unlink(missing_ok=True)
                timed(name, partial(PACKAGER.pack, plan, given, mine))
            peers.unlink(missing_ok=True)
            command: list[str | Path] = [
                sys.executable,
                "-c",
                _PEER,
                "--quiet",
                "--prefix",
                environment,
                "--output",
                peers,
            ]
            timed("conda-pack", partial(_run, *command, PYTHONPATH=str(tool)))
    for name, archive in (("unpack", mine), ("conda-pack's unpack", peers)):
        for number in range(RUNS):
            folder = scratch / f"{name} {number}"
            folder.mkdir()
            _run("tar", "-xzf", archive, "-C", folder)
            timed(name, partial(_run, folder / "bin" / "python", folder / "bin" / "conda-unpack"))
            shutil.rmtree(folder)
    sizes = {"size": mine.stat().st_size, "conda-pack's size": peers.stat().st_size}
    best = {name: [min(column) for column in zip(*times, strict=True)] for name, times in figures.items()}
    sys.stdout.write(json.dumps(best | sizes) + "\n")


def _environment(plan: Plan, materials: StoreMaterials, scratch: Path) -> Path:
    """The same packages, installed as conda and pip would, with byte-code of all of them."""
    wheels = (*plan.wheels_over_conda, *((plan.application.wheel,) if plan.application.wheel else ()))
    archives, house, environment = scratch / "conda", scratch / "house", scratch / "environment"
    for folder, files in ((archives, materials.conda(plan.lock.conda)), (house, materials.wheels(wheels))):
        folder.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, folder / name)
    _run(sys.executable, "-c", _INSTALL, archives, environment, scratch / "packages")
    python = environment / "bin" / "python"
    _run(_uv(), "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-index", *sorted(house.iterdir()))
    subprocess.run([python, "-m", "compileall", "-q", environment / "lib"], check=False, capture_output=True)
    for record in (environment / "conda-meta").glob("*.json"):
        _own_code(Path(json.loads(record.read_text())["link"]["source"]), environment, plan.lock.python_minor)
    return environment


def _own_code(package: Path, environment: Path, minor: str) -> None:
    """Give a package its byte-code, as those of conda-forge have it: conda-pack leaves out what no package lists."""
    listing = package / "info" / "paths.json"
    document = json.loads(listing.read_text())
    for row in list(document["paths"]):
        path = row["_path"]
        below = f"lib/python{minor}/{path}" if path.startswith("site-packages/") else path
        name = f"{Path(path).stem}.cpython-{minor.replace('.', '')}.pyc"
        code = (environment / below).parent / "__pycache__" / name
        if not path.endswith(".py") or not code.is_file():
            continue
        own = str(Path(path).parent / "__pycache__" / name)
        (package / own).parent.mkdir(exist_ok=True)
        shutil.copyfile(code, package / own)
        document["paths"].append({"_path": own, "path_type": "hardlink"})
    listing.write_text(json.dumps(document))


def _uv() -> Path:
    return Path(sys.executable).parent / "uv"


def _run(*command: str | Path, **variables: str) -> None:
    words = [str(word) for word in command]
    subprocess.run(words, env=os.environ | variables, check=True, capture_output=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
