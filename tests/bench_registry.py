"""From an edit of one line to the pushed image: boxsnake against docker build and docker push, on one registry here.

`python -m tests.bench_registry SCRATCH` prints the times of all turns in seconds as JSON. The peer is tuned: its
dependencies and the application's build backend are installed in a base image, its context is the application's source
alone, and it makes one layer. It installs the application ("installed"), as boxsnake does, so that its program and
metadata are there and are those of this version; "copied" is the least that one could do, a copy of the source over an
installed one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

from boxsnake.cli.workspace import open_workspace
from boxsnake.engine import connect
from boxsnake.hosts import image_id, load_hosts
from boxsnake.pack import pack, unfolded
from tests import bench
from tests.bench import ROOT
from tests.registry_server import docker_registry

TURNS = 15
"""Single ones differ by half: the median of a few is no measure."""

BASE = "boxsnake-bench/debian-12-python:1"
DEPENDENCIES = "boxsnake-bench/report-dependencies:1"

INSTALLED = """
FROM {base}
COPY house /house
RUN python3 -m venv /opt/env && /opt/env/bin/python -m pip install --quiet --no-index --no-deps --require-hashes \
    --find-links /house/wheels -r /house/requirements.txt && rm -rf /house
COPY backend /backend
RUN /opt/env/bin/python -m pip install --quiet --no-index --find-links /backend hatchling
ENTRYPOINT ["/opt/env/bin/python", "-m", "report.cli"]
"""
PEERS = {
    "installed": """
FROM {base}
COPY . /src
RUN /opt/env/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation /src
""",
    "copied": """
FROM {base}
COPY src/report /opt/env/lib/python3.11/site-packages/report
""",
}


def run(*command: str | Path, cwd: Path) -> None:
    """A command; its failure ends the bench."""
    bench.run(*command, cwd=cwd, environment={"DOCKER_BUILDKIT": "1"})


def boxsnake(*arguments: str, cwd: Path) -> None:
    """Our own command line."""
    bench.boxsnake(*arguments, cwd=cwd)


def docker() -> str:
    """Debian's own client, which has BuildKit built in; a newer one on PATH may lack its plug-in."""
    return shutil.which("docker", path=f"/usr/bin{os.pathsep}{os.environ['PATH']}") or "docker"


def prepared(scratch: Path, registry: str) -> Path:
    """The example, locked, in a folder of its own, and the peer's image with its dependencies in the engine."""
    application = scratch / "report"
    ignored = shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__")
    shutil.copytree(ROOT / "examples" / "report", application, ignore=ignored)
    manifest = application / "boxsnake.toml"
    text = manifest.read_text().replace("[boxes.image]", f'[boxes.image]\ntags = ["{registry}/report:ours"]')
    manifest.write_text(text)
    for name, text in PEERS.items():
        (application / f"Dockerfile.{name}").write_text(text.format(base=DEPENDENCIES))
    (application / ".dockerignore").write_text("*\n!src\n!pyproject.toml\n!README.md\n")
    boxsnake("lock", cwd=application)
    workspace = open_workspace(manifest)
    (house,) = workspace.boxes(["wheelhouse"])
    pack(house, workspace.store, workspace.access)
    context = scratch / "dependencies"
    # With times of their own: the peer's builder takes a file of the same size and time for the one of an earlier run.
    shutil.copytree(unfolded(house.path), context / "house", copy_function=shutil.copyfile)
    (context / "Dockerfile").write_text(INSTALLED.format(base=BASE))
    run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", context / "backend", "hatchling", cwd=scratch)
    engine = connect()
    engine.tag(image_id(engine, workspace.store, load_hosts()["debian-12-python"]), BASE)
    run(docker(), "build", "--quiet", "--tag", DEPENDENCIES, ".", cwd=context)
    return application


def in_turns(works: Mapping[str, Callable[[], None]], edit: Callable[[], None]) -> dict[str, list[float]]:
    """The times of each, taken in turns, each after an edit; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(TURNS + 1):
        for name, work in works.items():
            edit()
            started = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - started)
    return times


def main(scratch: Path) -> None:
    """Measure, once everything but the edit is pushed."""
    with docker_registry(scratch) as registry:
        application = prepared(scratch, registry)
        source = application / "src" / "report" / "cli.py"
        text = source.read_text()

        def edit() -> None:
            # A line that no earlier run has written: the peer's builder remembers for weeks what it has built.
            source.write_text(f"{text}# {uuid4()}\n")

        def ours() -> None:
            boxsnake("build", "image", "--push", cwd=application)

        def peer(name: str) -> None:
            tag = f"{registry}/report:{name}"
            run(docker(), "build", "--quiet", "--file", f"Dockerfile.{name}", "--tag", tag, ".", cwd=application)
            run(docker(), "push", "--quiet", tag, cwd=application)

        works: dict[str, Callable[[], None]] = {
            "ours": ours,
            "installed": partial(peer, "installed"),
            "copied": partial(peer, "copied"),
        }
        try:
            sys.stdout.write(json.dumps(in_turns(works, edit)) + "\n")
        finally:
            # Of each turn, an image without a tag is left.
            left = bench.run(docker(), "images", "--quiet", "--no-trunc", f"{registry}/report", cwd=scratch).split()
            if left:
                run(docker(), "rmi", "--force", *dict.fromkeys(left), cwd=scratch)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
