"""Figures of the bench: what an operator waits for, in a clean host, with both payloads of examples/report.

`bench_install.py SCRATCH` takes SCRATCH/rpmbuild.rpm, the same tree packed by rpmbuild, and prints one line of JSON:
for each payload and step, the best seconds and the least seconds of CPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from boxsnake.engine import INSTALLING, connect, sleeper
from boxsnake.engine.container import Container
from boxsnake.hosts import image_id, load_hosts
from boxsnake.store import Store
from tests.lifecycle import REPORT, VERSIONS, build, sources

RUNS = 3
CONTROL = "/opt/report/bin/report-ctl"
# In the host's own Python: seconds, and seconds of CPU of the command and all that it started.
TIMED = """\
import os, subprocess, sys, time
before, started = os.times(), time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
elapsed, after = time.perf_counter() - started, os.times()
sys.exit(done.stdout + done.stderr) if done.returncode else print(elapsed, sum(after[2:4]) - sum(before[2:4]))
"""
Seconds = tuple[float, float]


def timed(host: Container, *command: str) -> Seconds:
    """One command in the host; its failure ends the bench."""
    done = host.execute(["python3", "-c", TIMED, *command], seconds=600)
    if done.exit_code != 0:
        sys.exit(f"{' '.join(command)}: {(done.output + done.errors).decode()}")
    elapsed, cpu = done.output.split()
    return float(elapsed), float(cpu)


def life(host: Container, payload: str) -> dict[str, Seconds]:
    """Each step of a life once."""
    first, second = f"/packages/{payload}-1.0.0.rpm", f"/packages/{payload}-2.0.0.rpm"
    steps = {
        "install": ("rpm", "-i", first),
        "verify": ("rpm", "-V", "report"),
        "selfcheck": (CONTROL, "selfcheck"),
        "upgrade": ("rpm", "-U", second),
        "rollback": (CONTROL, "rollback"),
        "switch": (CONTROL, "rollback", "2.0.0-1"),
        "erase": ("rpm", "-e", "report"),
    }
    return {name: timed(host, *command) for name, command in steps.items()}


def main(scratch: Path) -> None:
    """Take turns, and keep the best of each."""
    found = sources(REPORT, scratch, VERSIONS[:2])
    packages = scratch / "packages"
    packages.mkdir()
    (scratch / "rpmbuild.rpm").rename(packages / "rpmbuild.rpm")
    for payload in ("files", "archives"):
        for version, source in found.items():
            (made,) = build(source, "rpm", f'payload = "{payload}"')
            made.rename(packages / f"{payload}-{version}.rpm")
    engine = connect()
    image = image_id(engine, Store(Store.default_root()), load_hosts()["debian-12-rpm"])
    runs: dict[str, list[dict[str, Seconds]]] = {"files": [], "archives": [], "rpmbuild": []}
    with engine.container(image, sleep=sleeper(), capabilities=INSTALLING) as host:
        host.copy(packages, "/packages")
        for _ in range(RUNS):
            for payload in ("files", "archives"):
                runs[payload].append(life(host, payload))
            runs["rpmbuild"].append({"install": timed(host, "rpm", "-i", "/packages/rpmbuild.rpm")})
            timed(host, "rpm", "-e", "bench")
    best = {
        name: {step: [min(one[step][i] for one in lives) for i in range(2)] for step in lives[0]}
        for name, lives in runs.items()
    }
    sizes = {path.name: path.stat().st_size for path in packages.iterdir()}
    sys.stdout.write(json.dumps({**best, "bytes": sizes}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
