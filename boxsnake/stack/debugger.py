"""debugpy in a box that has none: fetched from the index for the box's Python, and mounted beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from boxsnake import child
from boxsnake.errors import NetworkError
from boxsnake.store import Store
from boxsnake.target import Target

PORT = 5678
PLACE = "/opt/debugpy"
"""Where it is seen in the container."""

_SECONDS = 300.0


def fetch(store: Store, folder: Path, target: Target, python: str, index: Mapping[str, str], *, offline: bool) -> Path:
    """Put it below a folder: where it lies. Errors: NetworkError."""
    place = folder / "debugpy"
    argv = [child.uv_program(), "pip", "install", "--no-config", "--color=never", "--quiet", "--target", str(place)]
    argv += ["--python-version", python, "--python-platform", target.uv_platform, "--only-binary", ":all:", "debugpy"]
    argv += ["--offline"] if offline else []
    environment = child.environment(folder, UV_CACHE_DIR=str(store.cache_folder("uv")), **index)
    done = child.run(argv, cwd=folder, env=environment, deadline=_SECONDS)
    if done.code != 0:
        step = "See that the package index can be reached, or run without --debug."
        raise NetworkError("debugpy", f"cannot be had: uv {done.why(_SECONDS)}\n{done.last_lines}", step)
    return place


def command(python: tuple[str, ...], program: tuple[str, ...]) -> tuple[str, ...]:
    """What starts a Python program of the box with a debugger that listens, and does not wait for anybody."""
    listen = ("-Xfrozen_modules=off", "-m", "debugpy", "--listen", f"0.0.0.0:{PORT}")
    # A program that is the interpreter itself brings what it runs as arguments.
    return (*python, *listen, *(program[1:] if program[:1] == python[:1] else program))
