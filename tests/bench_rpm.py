"""One figure of the bench: an RPM by boxsnake's own way against rpmbuild, of one and the same staged tree.

`bench_rpm.py APPLICATION SCRATCH` prints one line of JSON with the best seconds of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boxsnake.cli.workspace import open_workspace
from boxsnake.entries import Tree
from boxsnake.materials import StoreMaterials
from boxsnake.packagers.rpm import PACKAGER

RUNS = 3
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


def main(application: Path, scratch: Path) -> None:
    """Take turns, and keep the best of each."""
    os.chdir(application)
    workspace = open_workspace(None)
    box = next(box for box in workspace.boxes(["rpm"]))
    spec = scratch / "bench.spec"
    spec.write_text(SPEC)
    ours, theirs = [], []
    with StoreMaterials(workspace.store, box.plan, workspace.access) as materials:
        prefix = f"/opt/{box.plan.application.name}/{box.plan.application.version}-{box.plan.options.release}"
        with materials.tree(prefix) as tree:
            for turn in range(RUNS):
                started = time.perf_counter()
                PACKAGER.pack(box.plan, Staged(materials, tree), scratch / f"bench-{turn}.rpm")  # type: ignore[arg-type]
                ours.append(time.perf_counter() - started)
                started = time.perf_counter()
                variables = os.environ | {"TREE": str(tree.root), "PREFIX": prefix}
                # On the tree's own file system, so that the peer has nothing to copy.
                top = f"_topdir {tree.root.parent}/rpmbuild-{turn}"
                command = ["rpmbuild", "-bb", "--quiet", "--define", top, str(spec)]
                subprocess.run(command, env=variables, capture_output=True, check=True)
                theirs.append(time.perf_counter() - started)
    sys.stdout.write(json.dumps({"ours": min(ours), "rpmbuild": min(theirs)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
