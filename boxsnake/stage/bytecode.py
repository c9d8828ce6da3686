"""Byte-code: every source compiled once, with the target's Python, for every prefix.

All times in a box are one constant, which makes time-stamped `.pyc` files stale: each import would compile again. So
they are unchecked-hash ones (PEP 552), which are valid as they are. Their bytes depend on the source, its path below
the prefix and the Python alone, and are kept in the store by package.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from boxsnake import child
from boxsnake.disk import disk_faults
from boxsnake.entries import Known
from boxsnake.errors import PackError, ResourceError
from boxsnake.lock import TargetLock
from boxsnake.pattern import pattern
from boxsnake.store import Store
from boxsnake.value import dataclass

DEADLINE = 1800.0
"""Seconds that compiling one environment may take."""

FORMAT = 4
"""To be raised whenever the same sources shall give other byte-code."""
_UNIT = 100  # sources that one process compiles: enough of them that starting it costs little
_NONE = "none"
_VERSION = pattern(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources of one owner: paths below the prefix, sorted, and the digest of the package that they come from."""

    owner: str
    digest: str
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A Python that compiles for a target: its program and full version."""

    program: Path
    version: str


def is_compiled(path: str) -> bool:
    """Whether a file, by its path, is one that byte-code is made of: a source, but for those in folders of tests.

    Those are a third of the byte-code of large packages, and no program runs them.
    """
    return path.endswith(".py") and "tests" not in path.split("/")[:-1]


def expected_compiler(lock: TargetLock) -> str:
    """The version of the Python that will compile for this target on this machine, or "none": known without staging."""
    if runs_here(lock):
        return lock.python
    other = _other_python(lock.python_minor)
    return other.version if other else _NONE


def own_compiler(root: Path, lock: TargetLock) -> Compiler | None:
    """The target's own interpreter in a folder that has it, if it starts on this machine."""
    found = compiler_in(root, lock)
    return found if runs_here(lock) and _probe(found.program) is not None else None


def compiler_in(root: Path, lock: TargetLock) -> Compiler:
    """The target's own interpreter in a folder that has it, and that is known to start."""
    return Compiler(program=root / "bin" / f"python{lock.python_minor}", version=lock.python)


def compile_sources(
    store: Store, root: Path, sources: Sequence[Sources], lock: TargetLock, compiler: Compiler | None = None
) -> tuple[list[tuple[str, str]], tuple[str, ...], dict[str, Known]]:
    """Put byte-code beside the sources in the tree: each path that was added with its owner, and notes for the user.

    What is known of the files comes last, so that nobody need read them.

    It is compiled by `compiler`, where one is given, else by the tree's own interpreter or one like it.
    Errors: PackError where the compiling process fails.
    """
    added: list[tuple[str, str]] = []
    known: dict[str, Known] = {}
    missing: list[Sources] = []
    version = expected_compiler(lock)
    for one in sources:
        files = _unpack(store, root, _key(one, version))
        if files is None:
            missing.append(one)
        else:
            added += [(path, one.owner) for path in files]
            known |= files
    if not missing:
        return added, (), known
    compiler, notes = (compiler, ()) if compiler else _choose(root, lock)
    if compiler is None:
        return added, notes, known
    with store.scratch("bytecode") as folder:
        compiled = _compile(compiler, root, missing, folder)
    for one in missing:
        paths = [compiled[path] for path in one.paths if path in compiled]
        added += [(path, one.owner) for path in paths]
        known |= _keep(store, root, _key(one, compiler.version), paths)
    return added, notes, known


def _key(sources: Sources, version: str) -> dict[str, object]:
    # The paths as well: where a noarch package's files go is decided by the Python that it is linked for.
    return {"format": FORMAT, "python": version, "package": sources.digest, "paths": list(sources.paths)}


# Choosing a Python


def _choose(root: Path, lock: TargetLock) -> tuple[Compiler | None, tuple[str, ...]]:
    own = own_compiler(root, lock)
    if own is not None:
        return own, ()
    other = _other_python(lock.python_minor)
    if other is not None:
        return other, (f"byte-code was compiled by this machine's Python {other.version}",)
    minor = lock.python_minor
    return None, (f"no byte-code: the target's Python does not run here, and there is no Python {minor} that does",)


def runs_here(lock: TargetLock) -> bool:
    """Whether programs of the target run on this machine."""
    return sys.platform == "linux" and lock.target.is_linux and os.uname().machine == lock.target.machine


@cache
def _other_python(minor: str) -> Compiler | None:
    """A Python of this minor version on this machine: our own interpreter first, then those of PATH."""
    candidates = [Path(sys.executable)]
    candidates += [Path(folder, f"python{minor}") for folder in os.get_exec_path() if folder]
    for program in dict.fromkeys(candidates):
        found = _probe(program) if shutil.which(program) else None
        if found is not None and found.version.rpartition(".")[0] == minor:
            return found
    return None


def _probe(program: Path) -> Compiler | None:
    """The interpreter with its version, if it starts."""
    script = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    argv = [str(program), "-I", "-S", "-B", "-c", script]
    try:
        done = child.run(argv, cwd=Path("/"), env={"PATH": os.defpath}, deadline=30.0)
    except ResourceError:
        return None
    version = done.output.strip()
    return Compiler(program=program, version=version) if done.code == 0 and _VERSION.fullmatch(version) else None


# Compiling


def _compile(compiler: Compiler, root: Path, sources: Iterable[Sources], folder: Path) -> dict[str, str]:
    """Compile: the `.pyc` of each source that compiles, both as paths below the root."""
    job, result = folder / "job", folder / "result"
    words = [str(root), str(len(os.sched_getaffinity(0)))]
    for unit in _units(sources):
        words += [str(len(unit)), *unit]
    with disk_faults(folder):
        job.write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
    script = Path(__file__).with_name("bytecode_child.py").read_text(encoding="utf-8")
    # Not -I: it would make the interpreter ignore PYTHONHASHSEED.
    argv = [str(compiler.program), "-s", "-S", "-B", "-W", "ignore", "-c", script, str(job), str(result)]
    finished = child.run(argv, cwd=folder, env=child.environment(folder), deadline=DEADLINE)
    try:
        told = [os.fsdecode(word) for word in result.read_bytes().split(b"\0")[:-1]]
    except OSError:
        cause = f"compiling to byte-code {finished.why(DEADLINE)}\n{finished.last_lines}"
        raise PackError(f"Python {compiler.version}", cause, "Run it again; if it returns, report it.") from None
    return dict(zip(told[::2], told[1::2], strict=True))


def _units(sources: Iterable[Sources]) -> list[list[str]]:
    """What is compiled by one process each. A source that two packages bring is compiled once: it is the same file."""
    units: list[list[str]] = []
    seen: set[str] = set()
    for one in sources:
        paths = [path for path in one.paths if path not in seen]
        seen.update(paths)
        units += [paths[start : start + _UNIT] for start in range(0, len(paths), _UNIT)]
    return units


# Keeping: a line of JSON with the paths, sizes and digests of all files, then their bytes


def _keep(store: Store, root: Path, key: Mapping[str, object], paths: Sequence[str]) -> dict[str, Known]:
    contents = {path: (root / path).read_bytes() for path in paths}
    known = {
        path: Known(size=len(content), sha256=hashlib.sha256(content).hexdigest()) for path, content in contents.items()
    }
    index = [[path, one.size, one.sha256] for path, one in known.items()]
    with store.writer(origin="byte-code") as writer:
        writer.write(json.dumps(index).encode() + b"\n")
        for content in contents.values():
            writer.write(content)
    store.select("bytecode", key, {"digest": writer.blob.digest})
    return known


def _unpack(store: Store, root: Path, key: Mapping[str, object]) -> dict[str, Known] | None:
    """Put the kept files of a package into the tree: what is known of each, None where none are kept."""
    selected = store.selected("bytecode", key)
    kept = store.sound(str(selected["digest"])) if selected else None
    if kept is None:
        return None
    known: dict[str, Known] = {}
    with disk_faults(root), kept.open("rb") as stream:
        folder = ""
        for path, size, sha256 in json.loads(stream.readline()):
            parent = path.rpartition("/")[0]
            if parent != folder:
                (root / parent).mkdir(exist_ok=True)
                folder = parent
            (root / path).write_bytes(stream.read(size))
            known[path] = Known(size=size, sha256=sha256)
    return known
