"""Figures of the bench: what the boot harness takes, beside a bare start of the same image; all boxes on all hosts.

`python -m tests.bench_boot APPLICATION LARGER SCRATCH` prints one line of JSON, in seconds:

- "bare": from `docker run` of the application's image to its first answer;
- "course": the same by the harness, without what it looks at and starts before the application;
- "whole": a whole boot, in a process that runs already; "command": all of `boxsnake boot image`;
- "matrix": `boxsnake boot --host all` for both applications, all formats, hosts that are made already; "boots": how
  many that were, "failed": those that did not pass.

The image and the hosts are in the engine before, for either side. Of what takes turns, each figure is the least.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boxsnake.boot import boot
from boxsnake.boot.box import probe
from boxsnake.boot.image import loaded
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot.proofs import serve_job
from boxsnake.boot.scenarios import Scenario, Trial
from boxsnake.boot_recipe import BootRecipe, Check
from boxsnake.cli.workspace import open_workspace
from boxsnake.engine import connect
from boxsnake.store import Store

RUNS = 5
PORT = 8000


def main(application: Path, larger: Path, scratch: Path) -> None:
    """Build, then boot."""
    figures = _image(application, scratch)
    seconds, boots, failed = 0.0, 0, list[str]()
    for folder in (application, larger):
        _boxsnake(folder, "build", "--output", str(scratch / folder.name))
        whole = ("boot", "--host", "all", "--output", str(scratch / folder.name))
        # The first time makes the hosts.
        _boxsnake(folder, *whole, "--json", may_fail=True)
        seconds += _timed(lambda: _boxsnake(folder, *whole, may_fail=True))  # noqa: B023 - called at once
        reports = json.loads((scratch / folder.name / "boot.json").read_bytes())["boxes"]
        boots += len(reports)
        failed += [
            f"{one['format']} of {folder.name} on {one['host']}" for one in reports if one["verdict"] != "passed"
        ]
    sys.stdout.write(json.dumps({**figures, "matrix": seconds, "boots": boots, "failed": failed}) + "\n")


def _image(application: Path, scratch: Path) -> dict[str, Any]:
    os.chdir(application)
    dist = scratch / "image"
    _boxsnake(application, "build", "image", "--output", str(dist))
    workspace = open_workspace(None, output=dist)
    (box,) = workspace.boxes(["image"])
    engine = connect()
    runtime = InEngine(engine)
    recipe = box.packager.boot(box.plan, box.path)
    checks = tuple(box.plan.checks)
    (first, *_) = (check for check in checks if check.http is not None)

    def booted(recipe: BootRecipe, checks: tuple[Check, ...]) -> None:
        report = boot(runtime, workspace.store, box.path, recipe, checks)
        if report.verdict != "passed":
            sys.exit(f"the image does not boot: {report.failure}")

    with loaded(engine, box.path) as identity:
        sides: dict[str, Callable[[], float]] = {
            "bare": lambda: _bare(identity, first.http or "/"),
            "course": lambda: _course(runtime, workspace.store, box.path, recipe, first),
            "whole": lambda: _timed(lambda: booted(recipe, checks)),
            "command": lambda: _timed(lambda: _boxsnake(application, "boot", "image", "--output", str(dist))),
        }
        times = [{name: side() for name, side in sides.items()} for _ in range(RUNS)]
    return {name: min(one[name] for one in times) for name in sides}


def _course(runtime: InEngine, store: Store, archive: Path, recipe: BootRecipe, check: Check) -> float:
    """Boot with nothing but the application's start and one request: the seconds until that is answered."""
    started, answered = time.perf_counter(), 0.0

    def answers(trial: Trial) -> None:
        nonlocal answered
        facts = probe(trial.box, serve_job(trial.box, [check]), check.timeout)
        # What came after the answer: whether the application stays, its memory, its end.
        answered = time.perf_counter() - (facts["took"] - facts["answers"][0]["seconds"])

    boot(runtime, store, archive, recipe, (), scenario=Scenario(name="answers", proves="it answers", carry_out=answers))
    return answered - started


def _bare(image: str, path: str) -> float:
    """Run the image, ask until it answers, remove it: the seconds until the answer."""
    started = time.perf_counter()
    identity = _docker("run", "--detach", image)
    try:
        address = _docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", identity)
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{address}:{PORT}{path}", timeout=5).close()
                return time.perf_counter() - started
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    finally:
        _docker("rm", "--force", "--volumes", identity)


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _boxsnake(folder: Path, *words: str, may_fail: bool = False) -> None:
    done = subprocess.run([sys.executable, "-m", "boxsnake", *words], cwd=folder, capture_output=True, text=True)
    # Boxes that do not boot are told in the report.
    if done.returncode not in ({0, 10} if may_fail else {0}):
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
