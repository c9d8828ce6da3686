"""Compiles sources with the Python that runs it: given to a target's interpreter as text, and not imported here.

Standard library only, and nothing newer than Python 3.8. Its arguments are a file with the job, and one for the result.
The job is the folder that all paths are below and how many processes may run at once, then for each unit how many
sources it has, and these; the result, each source that has byte-code now and the path of that. What is listed ends with
NUL, which no path has in it.

After an edit a few sources are compiled, and whoever made it waits for that: so nothing is imported that would take
longer than they do, such as `importlib.util`, `json` and `py_compile`.

Each unit is compiled in a process forked from this one. Up to Python 3.10 marshal's output depends on which objects are
alive in the process, so every unit must start from the same state, whatever was compiled before it and is in the cache
today; for later versions it is a cheap way to use all processors. Where there is one unit, this process is what
another would be.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
from importlib import _bootstrap_external

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

UNCHECKED_HASH = 1
"""The flags of PEP 552 for byte-code that tells the hash of its source, and is valid whatever that is now."""


def compile_unit(root: str, paths: list[str]) -> None:
    """Compile sources to unchecked-hash byte-code beside them; what does not compile is left to the import to refuse.

    The name in the code is the path below the root: the import system replaces it by the real one when it loads it.
    """
    for path in paths:
        with open(root + "/" + path, "rb") as stream:  # noqa: PTH123
            source = stream.read()
        try:
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        except Exception:  # noqa: BLE001, S112 - whatever is wrong with a source, it has no byte-code
            continue
        write(_bootstrap_external.cache_from_source(root + "/" + path), byte_code(source, code))


def byte_code(source: bytes, code: CodeType) -> bytes:
    """The content of a `.pyc` (PEP 552)."""
    magic: bytes = _bootstrap_external.MAGIC_NUMBER
    hashed = _imp.source_hash(int.from_bytes(magic, "little"), source)
    return magic + UNCHECKED_HASH.to_bytes(4, "little") + hashed + marshal.dumps(code)


def write(path: str, content: bytes) -> None:
    """Write a file; one that is there may have other names, under which it stays as it is."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108
    with open(path, "xb") as stream:  # noqa: PTH123
        stream.write(content)


def main(job_file: str, result_file: str) -> None:
    """Compile all units; write the result once every one of them has ended well."""
    with open(job_file, "rb") as stream:  # noqa: PTH123
        job = [os.fsdecode(word) for word in stream.read().split(b"\0")[:-1]]
    root, most = job[0], int(job[1])
    units = []
    start = 2
    while start < len(job):
        end = start + 1 + int(job[start])
        units.append(job[start + 1 : end])
        start = end
    if len(units) == 1:
        compile_unit(root, units[0])
    else:
        compile_side_by_side(root, units, most)
    pairs = [(path, _bootstrap_external.cache_from_source(path)) for unit in units for path in unit]
    words = [word for pair in pairs if os.path.exists(root + "/" + pair[1]) for word in pair]  # noqa: PTH110
    with open(result_file + ".part", "wb") as stream:  # noqa: PTH123
        stream.write(b"".join(os.fsencode(word) + b"\0" for word in words))
    os.rename(result_file + ".part", result_file)  # noqa: PTH104 - a result is whole, or not there


def compile_side_by_side(root: str, units: list[list[str]], most: int) -> None:
    """Compile each unit in a process of its own, so many at once."""
    running = 0
    for unit in units:
        if running == most:
            reap()
            running -= 1
        if os.fork() == 0:
            status = 1
            try:
                compile_unit(root, unit)
                status = 0
            finally:
                os._exit(status)
        running += 1
    for _ in range(running):
        reap()


def reap() -> None:
    """Wait for one unit; one that failed ends everything."""
    if os.wait()[1] != 0:
        sys.exit("a compiling process failed")


main(sys.argv[1], sys.argv[2])
