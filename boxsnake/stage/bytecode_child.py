"""Compiles sources with the Python that runs it: given to a target's interpreter as text, and not imported here.

Standard library only, and nothing newer than Python 3.8. Its argument is a JSON file:

    {"root": folder, "units": [[path, ...], ...], "processes": how many at once, "result": file}

Each unit is compiled in a process forked from this one. Up to Python 3.10 marshal's output depends on which objects are
alive in the process, so every unit must start from the same state, whatever was compiled before it and is in the cache
today; for later versions it is a cheap way to use all processors.
"""

from __future__ import annotations

import json
import os
import py_compile
import sys
from importlib.util import cache_from_source


def compile_unit(root: str, paths: list[str]) -> None:
    """Compile sources to unchecked-hash byte-code beside them; what does not compile is left to the import to refuse.

    The name in the code is the path below the root: the import system replaces it by the real one when it loads it.
    """
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for path in paths:
        source = root + "/" + path
        try:
            py_compile.compile(source, cache_from_source(source), path, True, 0, mode)
        except (py_compile.PyCompileError, RecursionError, MemoryError):
            continue


def main(job_file: str) -> None:
    """Compile all units; write the result once every one of them has ended well."""
    with open(job_file, encoding="utf-8") as stream:  # noqa: PTH123
        job = json.load(stream)
    running = 0
    for unit in job["units"]:
        if running == job["processes"]:
            reap()
            running -= 1
        if os.fork() == 0:
            status = 1
            try:
                compile_unit(job["root"], unit)
                status = 0
            finally:
                os._exit(status)
        running += 1
    for _ in range(running):
        reap()
    compiled = {}
    for unit in job["units"]:
        for path in unit:
            target = cache_from_source(path)
            if os.path.exists(job["root"] + "/" + target):  # noqa: PTH110
                compiled[path] = target
    with open(job["result"], "w", encoding="utf-8") as stream:  # noqa: PTH123
        json.dump({"compiled": compiled}, stream)


def reap() -> None:
    """Wait for one unit; one that failed ends everything."""
    if os.wait()[1] != 0:
        sys.exit("a compiling process failed")


main(sys.argv[1])
