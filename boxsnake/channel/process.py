"""Asking the worker process for something."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from boxsnake import child
from boxsnake.errors import PackError, ResourceError

DEADLINE = 6 * 3600.0  # seconds for one recipe: some compile for hours
LOG_LINES = 15


def ask(
    verb: str, request: dict[str, Any], *, thing: str, place: Path, cache: Path, log: Path, path: str = os.defpath
) -> list[Path]:
    """Have a worker do what `boxsnake.channel.worker` calls `verb`; the paths of what it made.

    `place` is a folder for the request and the answer, `path` the PATH of the programs that it runs. Errors: PackError
    about `thing`, with the last lines of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    answer = place / "answer.json"
    answer.unlink(missing_ok=True)
    question = place / "request.json"
    question.write_text(json.dumps({"verb": verb, "answer": str(answer), "log": str(log), **request}))
    # The interpreter's own search path goes along: boxsnake need not be installed where `python -m` looks for it.
    search = os.pathsep.join(entry for entry in sys.path if entry)
    added = {"RATTLER_CACHE_DIR": str(cache / "rattler"), "PATH": path, "PYTHONPATH": search}
    command = [sys.executable, "-P", "-m", "boxsnake.channel.worker", str(question)]
    done = child.run(command, cwd=place, env={**os.environ, **added}, deadline=DEADLINE)
    if done.code != 0 or not answer.is_file():
        _check_patchelf(thing, log)
        raise failed(thing, f"the build {done.why(DEADLINE)}", log)
    return [Path(made) for made in json.loads(answer.read_text())]


def _check_patchelf(thing: str, log: Path) -> None:
    """rattler-build changes the search paths of compiled files with a program that it does not bring along."""
    if log.is_file() and "failed to find `patchelf`" in log.read_text(errors="replace"):
        raise ResourceError(
            "patchelf", f"is not installed; {thing} needs it to make compiled files relocatable", "Install patchelf."
        )


def failed(thing: str, what: str, log: Path) -> PackError:
    """The error for a build that failed, with the end of its log."""
    try:
        lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    listing = "\n".join(f"  {line}" for line in lines[-LOG_LINES:]) or "  (it said nothing)"
    return PackError(thing, f"{what}; its log ends with\n{listing}", f"The whole log is {log}.", log=str(log))
