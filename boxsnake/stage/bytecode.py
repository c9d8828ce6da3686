"""Byte-code: every source compiled once, with the target's Python, for every prefix.

All times in a box are one constant, which makes time-stamped `.pyc` files stale: each import would compile again. So
they are unchecked-hash ones (PEP 552), which are valid as they are. Their bytes depend on the source, its path below
the prefix and the Python alone, and are kept in the store by package.

What is edited from build to build, the application, is compiled in small units, and at the next build only those in
which a source has changed. A unit is always compiled as a whole, by a process that has compiled nothing else: some
marshalled bytes depend on which objects there are (Python 3.13's still do, in one of 600 modules of its library), and a
build after an edit shall give the bytes of any other.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from boxsnake import child
from boxsnake.canonical import canonical_json
from boxsnake.disk import disk_faults
from boxsnake.entries import Known
from boxsnake.errors import PackError, ResourceError
from boxsnake.lock import TargetLock
from boxsnake.pattern import pattern
from boxsnake.store import Store
from boxsnake.value import dataclass

DEADLINE = 1800.0
"""Seconds that compiling one environment may take."""

FORMAT = 5
"""To be raised whenever the same sources shall give other byte-code."""
_UNIT = 100  # sources that one process compiles: enough of them that starting it costs little
_SMALL_UNIT = 16  # on average, where most units stay as they are
_NONE = "none"
_KIND = "bytecode"
_VERSION = pattern(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources of one owner: paths below the prefix, sorted, and the digest of the package that they come from."""

    owner: str
    digest: str
    paths: tuple[str, ...]
    edited: str = ""
    """The name of what is edited from build to build, if it is."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Of that, the digests of sources by their paths."""


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
        files = _unpack(store, root, store.selected(_KIND, _key(one, version)))
        if files is None:
            missing.append(one)
        else:
            added += [(row.path, one.owner) for row in files]
            known |= {row.path: row.known for row in files}
    if not missing:
        return added, (), known
    compiler, notes = (compiler, ()) if compiler else _choose(root, lock)
    if compiler is None:
        return added, notes, known
    units = _units(missing)
    taken = _taken_over(store, root, missing, compiler.version, {unit.key for unit in units})
    compiled = {row.source: row.path for row in taken}
    whole = {row.unit for row in taken}
    if changed := [unit for unit in units if unit.key not in whole]:
        with store.scratch("bytecode") as folder:
            compiled |= _compile(compiler, root, changed, folder)
    made = _rows(root, compiled, units, taken)
    for one in missing:
        rows = [made[path] for path in one.paths if path in made]
        _keep(store, root, one, compiler.version, rows)
        added += [(row.path, one.owner) for row in rows]
        known |= {row.path: row.known for row in rows}
    return added, notes, known


def _key(sources: Sources, version: str) -> dict[str, object]:
    # The paths as well: where a noarch package's files go is decided by the Python that it is linked for.
    return {"format": FORMAT, "python": version, "package": sources.digest, "paths": list(sources.paths)}


def _key_of_last(sources: Sources, version: str) -> dict[str, object]:
    return {"format": FORMAT, "python": version, "last": sources.edited}


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


def _compile(compiler: Compiler, root: Path, units: Iterable[_Unit], folder: Path) -> dict[str, str]:
    """Compile: the `.pyc` of each source that compiles, both as paths below the root."""
    job, result = folder / "job", folder / "result"
    words = [str(root), str(len(os.sched_getaffinity(0)))]
    for unit in units:
        words += [str(len(unit.paths)), *unit.paths]
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


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """What is compiled by one process. `key` tells all of it where another build may have the same, else it is ""."""

    paths: tuple[str, ...]
    key: str


def _units(sources: Iterable[Sources]) -> list[_Unit]:
    """Everything in units. A source that two packages bring is compiled once: it is the same file."""
    units: list[_Unit] = []
    seen: set[str] = set()
    for one in sources:
        paths = [path for path in one.paths if path not in seen]
        seen.update(paths)
        # Where a source is added to what is edited, or removed, one unit is another one, and not all that follow.
        starts = (
            [at for at, path in enumerate(paths) if _begins_unit(path)] if one.edited else range(0, len(paths), _UNIT)
        )
        bounds = sorted({0, *starts, len(paths)})
        for start, end in itertools.pairwise(bounds):
            unit = tuple(paths[start:end])
            units.append(_Unit(paths=unit, key=_key_of_unit(one.contents, unit) if one.edited else ""))
    return units


def _begins_unit(path: str) -> bool:
    return zlib.crc32(os.fsencode(path)) % _SMALL_UNIT == 0


def _key_of_unit(contents: Mapping[str, str], paths: Iterable[str]) -> str:
    told = [[path, contents.get(path)] for path in paths]
    return hashlib.sha256(canonical_json(told)).hexdigest() if all(content for _, content in told) else ""


# Keeping: a line of JSON that tells all files, then their bytes


class _Row(NamedTuple):
    """A kept file: its path, size and digest, the path of its source, and the unit that it was compiled in."""

    path: str
    size: int
    sha256: str
    source: str
    unit: str

    @property
    def known(self) -> Known:
        """What need not be read again."""
        return Known(size=self.size, sha256=self.sha256)


def _rows(root: Path, compiled: Mapping[str, str], units: Iterable[_Unit], taken: Iterable[_Row]) -> dict[str, _Row]:
    """What is to be kept of each source that has byte-code; those that were taken over are known."""
    unit_of = {path: unit.key for unit in units for path in unit.paths}
    rows = {row.source: row for row in taken}
    for source in compiled.keys() - rows.keys():
        content = (root / compiled[source]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        rows[source] = _Row(compiled[source], len(content), digest, source, unit_of[source])
    return rows


def _keep(store: Store, root: Path, sources: Sources, version: str, rows: Sequence[_Row]) -> None:
    with store.writer(origin="byte-code") as writer:
        writer.write(json.dumps(rows).encode() + b"\n")
        for row in rows:
            writer.write((root / row.path).read_bytes())
    store.select(_KIND, _key(sources, version), {"digest": writer.blob.digest})
    if sources.edited:
        store.select(_KIND, _key_of_last(sources, version), {"digest": writer.blob.digest})


def _taken_over(
    store: Store, root: Path, sources: Iterable[Sources], version: str, wanted: Collection[str]
) -> list[_Row]:
    """Put byte-code of units that the last build had as well into the tree."""
    rows: list[_Row] = []
    for one in sources:
        if one.edited:
            last = store.selected(_KIND, _key_of_last(one, version))
            rows += _unpack(store, root, last, lambda row: bool(row.unit) and row.unit in wanted) or ()
    return rows


def _unpack(
    store: Store,
    root: Path,
    selected: Mapping[str, Any] | None,
    is_wanted: Callable[[_Row], bool] = lambda _: True,
) -> list[_Row] | None:
    """Put kept files into the tree: those that are wanted, None where none are kept."""
    kept = store.sound(str(selected["digest"])) if selected else None
    if kept is None:
        return None
    rows: list[_Row] = []
    with disk_faults(root), kept.open("rb") as stream:
        folder = ""
        for row in (_Row(*values) for values in json.loads(stream.readline())):
            content = stream.read(row.size)
            if not is_wanted(row):
                continue
            parent = row.path.rpartition("/")[0]
            if parent != folder:
                (root / parent).mkdir(exist_ok=True)
                folder = parent
            (root / row.path).write_bytes(content)
            rows.append(row)
    return rows
