"""Figures of the bench: the page of two hundred boots.

`python -m tests.bench_report SCRATCH` prints one line of JSON: the page's "bytes", the seconds that writing it takes
("written"), and by how many seconds a browser draws it later than an empty page, from its start to a picture ("drawn").
Half of the boots have failed, each with a log of a megabyte.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from boxsnake.boot_report.difference import changes
from boxsnake.report_page import render
from tests.boot_reports import large

RUNS = 5


def main(scratch: Path) -> None:
    """Write both pages, then draw them in turns."""
    made = large(failing=100, log="a line of a log, of which there are many\n" * 25_000)
    made = dataclasses.replace(made, changes=changes(large(failing=10), made, against="the report before"))
    page, empty = scratch / "boot.html", scratch / "empty.html"
    started = time.perf_counter()
    text = render(made).encode()
    written = time.perf_counter() - started
    page.write_bytes(text)
    empty.write_text("<!DOCTYPE html><title>empty</title>")
    pairs = [(_drawn(page), _drawn(empty)) for _ in range(RUNS)]
    drawn = min(pair[0] for pair in pairs) - min(pair[1] for pair in pairs)
    sys.stdout.write(json.dumps({"bytes": len(text), "written": written, "drawn": drawn}) + "\n")


def _drawn(page: Path) -> float:
    """Seconds from a browser's start to its end, with a picture of the page."""
    with tempfile.TemporaryDirectory(dir=page.parent) as folder:
        command = [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
            "--window-size=1280,1000", f"--screenshot={folder}/page.png", f"file://{page}",
        ]  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
