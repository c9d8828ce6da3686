"""An interpreter for boxes that have none: as much of the one that runs boxsnake as the harness's programs take.

It brings its own loader and C library, so it runs wherever the kernel does: on hosts with another C library, and in
images that hold one program and nothing else. It is lent, not installed: the box's own programs are never run by it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TypedDict

from boxsnake import elf
from boxsnake.disk import disk_faults, publish_tree
from boxsnake.errors import ResourceError
from boxsnake.store import Store

PLACE = "/tmp/.boxsnake-python"  # noqa: S108 - in a container of its own
"""Where it is seen in a container."""

_SECONDS = 60.0
# What probe.py, files.py, asking.py and elf.py import, at once or when they come to it; then what all of that took.
_LISTING = """\
import __future__
import contextlib, csv, dataclasses, email.message, email.parser
import encodings.ascii, encodings.idna, encodings.latin_1, encodings.utf_8
import fnmatch, functools, http.client, importlib.metadata, importlib.util, json, os, pathlib, platform, re
import selectors, signal
import socket, stat, stringprep, struct, subprocess, threading, time, traceback, types, typing, zipfile
import sys
files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as stream:
    mapped = {line.split(maxsplit=5)[5].strip() for line in stream if len(line.split(maxsplit=5)) > 5}
facts = {
    "files": sorted(path for path in files if path),
    "mapped": sorted(path for path in mapped if path.startswith("/") and ".so" in path),
    "program": os.path.realpath(sys.executable),
    "prefix": os.path.realpath(sys.base_prefix),
    "name": "python%d.%d" % sys.version_info[:2],
}
print(json.dumps(facts))
"""


class _Facts(TypedDict):
    """What `_LISTING` tells."""

    files: list[str]
    mapped: list[str]
    program: str
    prefix: str
    name: str


def lent_python(store: Store) -> tuple[Path, tuple[str, ...]]:
    """Its folder on this machine, to be seen at `PLACE`, and what starts it there.

    Made once and kept in the store's caches. Errors: ResourceError where this interpreter cannot be copied so.
    """
    folder, command = _made(store.cache_folder("lent-python"))
    return folder, command


@cache
def _made(cache_folder: Path) -> tuple[Path, tuple[str, ...]]:
    facts = _facts()
    stamp = f"{_LISTING}{Path(facts['program']).stat().st_mtime_ns}"
    final = cache_folder / f"{facts['name']}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    with disk_faults(final):
        if not final.is_dir():
            temporary = final.with_name(f".{final.name}-{id(facts):x}")
            shutil.rmtree(temporary, ignore_errors=True)
            _lay_out(facts, temporary)
            publish_tree(temporary, final)
    program = f"{PLACE}/bin/{facts['name']}"
    loader = next((f"{PLACE}/libs/{path.name}" for path in (final / "libs").iterdir() if _is_loader(path.name)), "")
    start = (loader, "--library-path", f"{PLACE}/libs", program) if loader else (program,)
    return final, (*start, "-IS")


def _facts() -> _Facts:
    python = getattr(sys, "_base_executable", None) or sys.executable
    done = subprocess.run(
        [python, "-ISc", _LISTING], capture_output=True, text=True, timeout=_SECONDS, check=False, env={}
    )
    if done.returncode != 0:
        cause = f"cannot be lent to a box that has no Python: {done.stderr.strip().splitlines()[-1:]}"
        raise ResourceError(python, cause, "Run boxsnake with an ordinary Python of this system.")
    facts: _Facts = json.loads(done.stdout)
    return facts


def _lay_out(facts: _Facts, folder: Path) -> None:
    prefix, name = Path(facts["prefix"]), facts["name"]
    (folder / "bin").mkdir(parents=True)
    (folder / "libs").mkdir()
    shutil.copyfile(facts["program"], folder / "bin" / name)
    (folder / "bin" / name).chmod(0o755)
    modules = [path for path in facts["files"] if Path(path).is_relative_to(prefix)]
    for module in modules:
        there = folder / Path(module).relative_to(prefix)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, there)
    # Without this folder Python says on each start that it has not found it.
    (folder / sys.platlibdir / name / "lib-dynload").mkdir(parents=True, exist_ok=True)
    mapped = [path for text in facts["mapped"] if text not in modules and (path := Path(text)).is_file()]
    wanted = {name for path in [facts["program"], *facts["mapped"]] for name in _needed(Path(path))}
    for path in mapped:
        # By the name that it is asked for: what is mapped is the file that a link of that name leads to.
        known = next((name for name in wanted if path.name.startswith(f"{name}.")), path.name)
        shutil.copyfile(path, folder / "libs" / known)
        (folder / "libs" / known).chmod(0o755)


def _needed(path: Path) -> tuple[str, ...]:
    image = elf.read(path)
    return image.needed if image else ()


def _is_loader(name: str) -> bool:
    return name.startswith(("ld-linux", "ld-musl", "ld64.so", "ld.so"))
