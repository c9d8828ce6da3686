"""Figures of the bench: an installer against makeself and against a tar, all of one and the same staged tree.

`python -m tests.bench_installer APPLICATION SCRATCH` prints one line of JSON: for each of "ours", "makeself" and "tar"
its size, and the least seconds by the clock and of CPU of making it ("build") and of installing it ("install"); of ours
also of extracting alone ("extract"), which is all that the others do.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.entries import Tree
from boxsnake.layers.plan import AS_THEY_ARE, Treatment
from boxsnake.materials import StoreMaterials
from boxsnake.packagers.installer import PACKAGER

RUNS = 3
Seconds = tuple[float, float]


def timed(work: Callable[[], object]) -> Seconds:
    """Seconds by the clock, and of CPU of this process and of all that it waited for."""
    before, started = _cpu(), time.perf_counter()
    work()
    return time.perf_counter() - started, _cpu() - before


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class _Staged(StoreMaterials):
    """Materials whose tree is there already: what is measured is what is made of it."""

    staged: Tree

    @contextmanager
    def tree(self, prefix: str | None, treatment: Treatment = AS_THEY_ARE) -> Iterator[Tree]:
        assert prefix is None
        assert treatment == AS_THEY_ARE
        yield self.staged


def main(application: Path, scratch: Path) -> None:
    """Take turns, so that a busy moment hits all."""
    os.chdir(application)
    workspace = open_workspace(None)
    (box,) = workspace.boxes([PACKAGER.name])
    ours, makeself, tar = scratch / "ours.sh", scratch / "makeself.sh", scratch / "tree.tar.gz"
    place = scratch / "placed"
    figures: dict[str, dict[str, list[Seconds]]] = {name: {} for name in ("ours", "makeself", "tar")}

    def measure(name: str, step: str, work: Callable[[], object]) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        figures[name].setdefault(step, []).append(timed(work))

    def run(*command: str | Path) -> Callable[[], object]:
        return lambda: subprocess.run(command, check=True, capture_output=True, cwd=scratch)

    materials = _Staged(workspace.store, box.plan, workspace.access)
    with materials:
        with StoreMaterials.tree(materials, None) as tree:
            materials.staged = tree
            for _ in range(RUNS):
                for made in (ours, makeself, tar):
                    made.unlink(missing_ok=True)
                measure("ours", "build", lambda: PACKAGER.pack(box.plan, materials, ours))
                measure(
                    "makeself", "build", run("makeself", "--nox11", "--sha256", tree.root, makeself, "tree", "true")
                )
                measure("tar", "build", run("tar", "-C", tree.root, "-czf", tar, "."))
        for _ in range(RUNS):
            measure("ours", "install", run("sh", ours, "--yes", "--prefix", place))
            measure("ours", "extract", run("sh", ours, "--extract-only", place / "tree"))
            measure("makeself", "install", run("sh", makeself, "--noexec", "--target", place))
            measure("tar", "install", run("tar", "-C", place, "-xzf", tar))
    files = {"ours": ours, "makeself": makeself, "tar": tar}
    best = {
        name: {step: [min(one[i] for one in runs) for i in range(2)] for step, runs in steps.items()}
        for name, steps in figures.items()
    }
    sizes = {name: path.stat().st_size for name, path in files.items()}
    sys.stdout.write(json.dumps({**best, "bytes": sizes}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
