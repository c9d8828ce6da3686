"""Wheels from the package index through pip's own client, for recipes' sources."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from boxsnake import child
from boxsnake.channel.fetched import Fetched, sha256_of
from boxsnake.channel.platforms import PLATFORMS
from boxsnake.errors import NetworkError

DEADLINE = 1800.0  # seconds for one call of pip
OLDEST_GLIBC, NEWEST_GLIBC = 5, 39  # minor versions of manylinux tags: the package says which glibc it needs


def wheels(requirements: Sequence[str], python: str, platform: str, folder: Path) -> dict[str, tuple[Fetched, Path]]:
    """Fetch the wheel of each requirement for a version of Python (`3.11`), without its dependencies.

    Requirements are lines of a requirements file, with or without hashes. Errors: NetworkError.
    """
    # pip demands hashes of all of a file's requirements as soon as one has them
    with_hash = [requirement for requirement in requirements if "--hash" in requirement]
    without = [requirement for requirement in requirements if "--hash" not in requirement]
    for number, group in enumerate((with_hash, without)):
        if group:
            file = folder / f"requirements-{number}.txt"
            file.write_text("".join(f"{requirement}\n" for requirement in group))
            _download(file, python, platform, folder)
    return _found(requirements, folder)


def _download(file: Path, python: str, platform: str, folder: Path) -> None:
    processor = PLATFORMS[platform].machine
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    tags += [f"manylinux2014_{processor}", f"manylinux2010_{processor}", f"manylinux1_{processor}"]
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--implementation=cp", f"--python-version={python}", f"--dest={folder}", f"--requirement={file}"]
    command += [f"--platform={tag}" for tag in tags]
    done = child.run(command, cwd=folder, env={**os.environ, "LC_ALL": "C.UTF-8"}, deadline=DEADLINE)
    if done.code != 0:
        names = ", ".join(line.split()[0] for line in file.read_text().splitlines())
        cause = f"pip {done.why(DEADLINE)}:\n{done.last_lines}"
        raise NetworkError(names, cause, "Look at the recipes' sources, pip's configuration and the network.")


def _found(requirements: Sequence[str], folder: Path) -> dict[str, tuple[Fetched, Path]]:
    from packaging.utils import canonicalize_name, parse_wheel_filename

    paths = {parse_wheel_filename(path.name)[0]: path for path in folder.glob("*.whl")}
    found = {}
    for requirement in requirements:
        name = canonicalize_name(re.split(r"[^\w.-]", requirement.strip())[0])
        path = paths[name]
        version = str(parse_wheel_filename(path.name)[1])
        fetched = Fetched(kind="pip", name=name, version=version, file=path.name, sha256=sha256_of(path))
        found[requirement] = fetched, path
    return found


def _pip() -> list[str]:
    """The running Python's pip; where it has none (an environment made by uv), the one that uv fetches and runs."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [child.uv_program(), "tool", "run", "--quiet", "pip"]
