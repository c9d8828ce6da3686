"""All formats side by side, as tables for docs/formats.md: `python -m tests.bench_formats [--sizes] [WORD]...`.

WORDs are formats (left out: all) and folders of applications (left out: both examples). A row for each format has the
size that `boxsnake plan` tells beforehand and the true one; the best seconds of building it with packages and byte-code
at hand but no layer; and in the clean host that the format is booted on, the seconds to install it, to start
`--version` first and again, and what it takes on the disk, which of images is nothing beyond them. With --sizes, sizes
alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boxsnake.boot import _started
from boxsnake.boot.box import Box as BootedBox
from boxsnake.boot.in_engine import InEngine
from boxsnake.boxes import Box, Workspace
from boxsnake.cli.workspace import open_workspace
from boxsnake.engine import Engine, connect
from boxsnake.materials import StoreMaterials
from boxsnake.outlook import by_step, outlook
from boxsnake.pack import pack
from boxsnake.packagers import packagers
from boxsnake.store import Store
from tests.bench import BIN, KNOWN_OF_PACKAGES, ROOT, RUNS, compile_own, run

STARTS = 5
FORGOTTEN = KNOWN_OF_PACKAGES
# In the host's own shell: how long it takes there, without what the engine adds.
_TIMED = 'a=$(date +%s%N); "$@" >/dev/null || exit; b=$(date +%s%N); echo $((b - a))'
_HEADINGS = ("format", "about", "size", "off by", "build", "install", "first start", "start", "on disk")


@dataclass(frozen=True, kw_only=True)
class Life:
    """Of one box in its host: seconds, and bytes on the disk beyond those of the clean host."""

    install: float
    first: float
    again: float
    disk: int


def main(arguments: Sequence[str]) -> None:
    """Print a table for each application."""
    compile_own()
    formats = [word for word in arguments if word in packagers()]
    folders = [Path(word).absolute() for word in arguments if word not in {"--sizes", *formats}]
    for folder in folders or [ROOT / "examples" / name for name in ("hello-web", "report")]:
        with _opened(folder) as workspace:
            boxes = [one.box for one in by_step(workspace.candidates(formats)) if one.box]
            foreseen = [outlook(box, box.plan.target, workspace.store, workspace.access).size or 0 for box in boxes]
            sys.stdout.write(f"\n{folder.name}\n\n| {' | '.join(_HEADINGS)} |\n|{'---|' * len(_HEADINGS)}\n")
            for box, about in zip(boxes, foreseen, strict=True):
                _row(workspace, box, about, whole="--sizes" not in arguments)


@contextmanager
def _opened(folder: Path) -> Iterator[Workspace]:
    """A copy of the application, with a copy of the store (of links) that forgets what was ever built."""
    usual = Store.default_root()
    with tempfile.TemporaryDirectory(prefix="boxsnake-bench-", dir=usual.parent) as scratch:
        application, store = Path(scratch) / folder.name, Path(scratch) / "store"
        shutil.copytree(folder, application, ignore=shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__"))
        ignored = shutil.ignore_patterns("tmp", *FORGOTTEN)
        shutil.copytree(usual, store, copy_function=os.link, ignore=ignored)
        os.environ["BOXSNAKE_CACHE_DIR"] = str(store)
        run(BIN / "boxsnake", "lock", cwd=application, environment={"BOXSNAKE_CACHE_DIR": str(store)})
        yield open_workspace(application / "boxsnake.toml")
        del os.environ["BOXSNAKE_CACHE_DIR"]


def _row(workspace: Workspace, box: Box, about: int, *, whole: bool) -> None:
    size = pack(box, workspace.store, workspace.access).size
    cells = [box.packager.name, _mb(about), _mb(size), f"{(about - size) / size:+.0%}"]
    if whole:
        cells.append(f"{min(_build(workspace, box) for _ in range(RUNS)):.1f} s")
        life = _live(connect(), workspace, box)
        cells += [f"{seconds:.2f} s" if seconds else "" for seconds in (life.install, life.first, life.again)]
        cells.append(_mb(life.disk))
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _build(workspace: Workspace, box: Box) -> float:
    for name in FORGOTTEN:
        shutil.rmtree(workspace.store.root / "v1" / "selectors" / name, ignore_errors=True)
    started = time.perf_counter()
    pack(box, workspace.store, workspace.access)
    return time.perf_counter() - started


def _live(engine: Engine, workspace: Workspace, box: Box) -> Life:
    recipe = box.packager.boot(box.plan, box.path)
    started = time.perf_counter()
    with (
        StoreMaterials(workspace.store, box.plan, workspace.access) as materials,
        _started(InEngine(engine), workspace.store, box.path, recipe, materials.base, keep=False, offline=True) as host,
    ):
        # An image's own way onto its host is into the engine.
        install = time.perf_counter() - started
        for source, target in recipe.copies:
            host.container.copy(Path(source), target)
        before = _disk(host)
        # What is run is a part of it; what was installed from is not.
        runs = sum(Path(source).stat().st_size for source, target in recipe.copies if target in host.command)
        if runs:
            install = 0.0
        elif recipe.copies:
            install = sum(_timed(host, command, user="0") for command in recipe.install)
        first, *others = (_timed(host, (*host.command, "--version"), user=host.user) for _ in range(1 + STARTS))
        return Life(install=install, first=first, again=min(others), disk=_disk(host) - before + runs)


def _timed(host: BootedBox, command: Sequence[str], *, user: str) -> float:
    done = host.container.execute(
        ("sh", "-c", _TIMED, "sh", *command), seconds=600, user=user, environment=host.environment
    )
    if done.exit_code != 0:
        sys.exit(f"{' '.join(command)}: {(done.output + done.errors).decode()}")
    return int(done.output) / 1e9


def _disk(host: BootedBox) -> int:
    others = [f"--exclude=/{name}" for name in ("proc", "sys", "dev")]
    done = host.container.execute(("du", "-sk", *others, "/"), seconds=600, user="0")
    return int(done.output.split()[0]) * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
