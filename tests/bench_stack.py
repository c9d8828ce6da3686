"""Figures of the bench: from nothing running to the first answer, with Redis and PostgreSQL beside the application.

`python -m tests.bench_stack APPLICATION SCRATCH` prints one line of JSON: the least seconds of `boxsnake up`, which
ends when the application has answered its check, and of `boxsnake down`. Images of the services are made before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

RUNS = 3
SERVICES = """
[services.database]
image = "service:postgresql"
environment = {POSTGRES_USER = "hello", POSTGRES_DB = "greetings"}
secrets = ["POSTGRES_PASSWORD"]
"""


def main(application: Path, scratch: Path) -> None:
    """Bring it up and down a few times."""
    folder = scratch / "stack"
    shutil.copytree(application, folder, ignore=shutil.ignore_patterns("dist"))
    manifest = folder / "boxsnake.toml"
    manifest.write_text(manifest.read_text().replace('"redis:7"', '"service:redis"') + SERVICES)
    _run(folder, "build", "image")
    _run(folder, "up")
    _run(folder, "down")
    times = [(_run(folder, "up"), _run(folder, "down")) for _ in range(RUNS)]
    figures = {"up": min(up for up, _ in times), "down": min(down for _, down in times)}
    sys.stdout.write(json.dumps(figures) + "\n")


def _run(folder: Path, *words: str) -> float:
    started = time.perf_counter()
    environment = {**os.environ, "POSTGRES_PASSWORD": "of the bench"}
    command = [sys.executable, "-m", "boxsnake", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
