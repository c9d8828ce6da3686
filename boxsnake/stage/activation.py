"""Activation scripts of conda packages, run once while a box is made: the variables that they set, as data.

conda has a shell source `etc/conda/activate.d/*.sh` whenever an environment is entered. A box enters none: what these
scripts would set is found out by `sh` in the staged tree, for packages that the manifest trusts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from boxsnake import child
from boxsnake.entries import Entry, Tree
from boxsnake.errors import PackError
from boxsnake.ingest.conda_scripts import ACTIVATION_SCRIPT
from boxsnake.plain_text import counted

_DEADLINE = 60.0
_SOURCED = 'out=$1; shift; python=$1; shift; for script do . "$script"; done; exec "$python" -ISc "$dump" "$out"'
_DUMP = "import os,sys;open(sys.argv[1],'wb').write(b'\\0'.join(b'%s=%s' % p for p in os.environb.items()))"
# What the shell sets for itself, and what a box has of its own.
_OURS = frozenset({"PATH", "HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_", "dump", "CONDA_SHLVL", "PS1"})


def is_activation(path: str) -> bool:
    """Whether it is a script that is sourced when an environment is entered or left."""
    return bool(ACTIVATION_SCRIPT.fullmatch(path))


def activation_scripts(entries: Sequence[Entry]) -> list[str]:
    """The paths of the scripts among these entries that `sh` can read, sorted as conda has them."""
    return sorted(entry.path for entry in entries if re.fullmatch(r"etc/conda/activate\.d/[^/]+\.sh", entry.path))


def activated(tree: Tree, scripts: Sequence[str], folder: Path) -> dict[str, str]:
    """What the scripts set, in order, with the final prefix for the staging folder; `folder` is for their homes.

    PATH is left as it is: boxes have one of their own. Errors: PackError where a script fails.
    """
    before = child.environment(folder, CONDA_PREFIX=str(tree.root), CONDA_DEFAULT_ENV=tree.prefix, CONDA_SHLVL="1")
    before["PATH"] = f"{tree.root}/bin:{os.defpath}"
    out = folder / "environment"
    argv = ["/bin/sh", "-c", _SOURCED, "sh", str(out), sys.executable, *(str(tree.root / path) for path in scripts)]
    done = child.run(argv, cwd=folder, env=before | {"dump": _DUMP}, deadline=_DEADLINE)
    if done.code != 0 or not out.is_file():
        cause = f"{counted(len(scripts), 'activation script')} ended badly: sh {done.why(_DEADLINE)}\n{done.last_lines}"
        raise PackError(", ".join(scripts), cause, "Take its package out of `activate`.", scripts=list(scripts))
    pairs = (item.partition("=") for item in os.fsdecode(out.read_bytes()).split("\0") if item)
    after = {name: value for name, _, value in pairs}
    return {
        name: value.replace(str(tree.root), tree.prefix)
        for name, value in sorted(after.items())
        if name not in _OURS and before.get(name) != value and "CONDA_BACKUP" not in name
    }
