from __future__ import annotations

import dataclasses
import ftplib
import hashlib
import importlib.util
import marshal
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType

import pytest

from boxsnake.errors import PackError
from boxsnake.lock import TargetLock
from boxsnake.stage import bytecode
from boxsnake.stage.bytecode import Compiler, Sources, compile_sources, expected_compiler
from boxsnake.store import Store
from boxsnake.target import Target

from .trees import MINOR, SITE, VERSION

TAG = f"cpython-{MINOR.replace('.', '')}"
LOCK = TargetLock(target=Target(name="default"), python=VERSION, conda=(), wheels=())
FOREIGN = dataclasses.replace(LOCK, target=Target(name="default", platform="linux-aarch64"))
MODULE = f"{SITE}/package/module.py"
SOURCE = """
def outer():
    def inner():
        return [x for x in 'ab']
    return inner

class Thing:
    def method(self):
        raise RuntimeError('here')
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def tree(folder: Path, **sources: str) -> Path:
    """A tree whose interpreter is the one that runs the tests."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / f"python{MINOR}"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    (folder / SITE / "package").mkdir(parents=True)
    for name, text in sources.items():
        (folder / SITE / "package" / f"{name}.py").write_text(text)
    return folder


def sources_of(root: Path, digest: str = "0" * 64) -> Sources:
    paths = tuple(sorted(str(path.relative_to(root)) for path in (root / SITE).rglob("*.py")))
    return Sources(owner="wheel:package", digest=digest, paths=paths)


def cached(root: Path, name: str = "module") -> Path:
    return root / SITE / "package" / "__pycache__" / f"{name}.{TAG}.pyc"


def names_in(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {code.co_filename}.union(*map(names_in, inner))


def test_code_is_unchecked_and_names_no_folder_of_this_machine(store: Store, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", module=SOURCE)
    added, notes, _ = compile_sources(store, root, [sources_of(root)], LOCK)
    assert (added, notes) == ([(str(cached(root).relative_to(root)), "wheel:package")], ())
    data = cached(root).read_bytes()
    assert data[:8] == importlib.util.MAGIC_NUMBER + b"\x01\0\0\0"
    assert names_in(marshal.loads(data[16:])) == {MODULE}  # noqa: S302 - our own bytes


def test_the_import_system_puts_the_real_name_in_and_rewrites_nothing(store: Store, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", module=SOURCE, __init__="")
    compile_sources(store, root, [sources_of(root)], LOCK)
    os.utime(root / MODULE, (0, 0))
    before = cached(root).read_bytes()
    script = (
        "import sys, traceback, package.module as m\n"
        "print(m.__cached__, m.outer().__code__.co_filename, m.Thing.method.__code__.co_filename)\n"
        "try: m.Thing().method()\n"
        "except RuntimeError as e: print(traceback.extract_tb(e.__traceback__)[-1].line)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-v", "-c", script],
        env=environment | {"PYTHONPATH": str(root / SITE)},
        capture_output=True,
        text=True,
    )
    real = str(root / MODULE)
    assert done.stdout.splitlines() == [f"{cached(root)} {real} {real}", "raise RuntimeError('here')"]
    assert f"code object from '{cached(root)}'" in done.stderr.replace('"', "'")
    assert cached(root).read_bytes() == before


def test_code_does_not_depend_on_what_was_compiled_before_it(tmp_path: Path) -> None:
    many = {f"m{n:03}": SOURCE + f"NAME = 'shared words {n % 3}', 'method', b'x' * {n}\n" for n in range(230)}
    one = tree(tmp_path / "one", **many)
    other = tree(tmp_path / "other", **many)
    compile_sources(Store(tmp_path / "s1"), one, [sources_of(one)], LOCK)
    # There, another package is compiled by the same process first.
    extra = tree(tmp_path / "extra", **{f"z{n}": SOURCE for n in range(130)})
    for path in (extra / SITE / "package").iterdir():
        path.rename(other / SITE / "package" / path.name)
    everything = sources_of(other)
    first = [path for path in everything.paths if "/z" in path]
    own = [path for path in everything.paths if "/m" in path]
    compile_sources(
        Store(tmp_path / "s2"),
        other,
        [
            Sources(owner="wheel:first", digest="1" * 64, paths=tuple(first)),
            Sources(owner="wheel:own", digest="0" * 64, paths=tuple(own)),
        ],
        LOCK,
    )
    for name in many:
        assert cached(one, name).read_bytes() == cached(other, name).read_bytes()


def test_sources_that_do_not_compile_are_left_alone(store: Store, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", module=SOURCE, broken="def (", template="{{ name }} = 1", nothing="\0")
    (root / SITE / "package" / "latin.py").write_bytes(b"x = '\xe9'\n")
    added, _, _ = compile_sources(store, root, [sources_of(root)], LOCK)
    assert [path for path, _ in added] == [str(cached(root).relative_to(root))]


def test_kept_code_is_put_into_another_tree_without_compiling(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tree(tmp_path / "first", module=SOURCE, other="x = 1", broken="def (")
    added, _, _ = compile_sources(store, first, [sources_of(first)], LOCK)
    monkeypatch.setattr(bytecode, "_compile", None)
    second = tree(tmp_path / "second/place", module=SOURCE, other="x = 1", broken="def (")
    assert compile_sources(store, second, [sources_of(second)], LOCK)[:2] == (added, ())
    for name in ("module", "other"):
        assert cached(second, name).read_bytes() == cached(first, name).read_bytes()


def test_after_an_edit_what_was_not_edited_is_not_compiled(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    original = bytecode._compile

    def noting(compiler: Compiler, root: Path, units: Sequence[bytecode._Unit], folder: Path) -> dict[str, str]:
        compiled.extend(Path(path).stem for unit in units for path in unit.paths)
        return original(compiler, root, units, folder)

    monkeypatch.setattr(bytecode, "_compile", noting)
    # Of all of the standard library, this one's byte-code depends the most on what else a process has compiled.
    library = Path(ftplib.__file__).read_text()
    modules = {f"m{n:02}": f"{SOURCE}NAME = {n}\n" for n in range(60)} | {"m30": library}

    def build(folder: str, kept: Store, **sources: str) -> dict[str, bytes]:
        compiled.clear()
        root = tree(tmp_path / folder, **sources)
        own = dataclasses.replace(
            sources_of(root, hashlib.sha256(repr(sources).encode()).hexdigest()),
            edited="package",
            contents={
                f"{SITE}/package/{name}.py": hashlib.sha256(sources[name].encode()).hexdigest() for name in sources
            },
        )
        added, _, known = compile_sources(kept, root, [own], LOCK)
        assert sorted(known) == sorted(path for path, _ in added)
        found = {path: (root / path).read_bytes() for path in known}
        assert {path: hashlib.sha256(content).hexdigest() for path, content in found.items()} == {
            path: one.sha256 for path, one in known.items()
        }
        return found

    build("first", store, **modules)
    assert compiled == sorted(modules)
    for folder, change in {"edited": {"m30": library + "\n# edited\n"}, "added": {"m305": library}}.items():
        changed = modules | change
        after = build(folder, store, **changed)
        assert {*change} <= {*compiled}
        assert len(compiled) < len(modules) / 2
        assert build(f"{folder}-again", store, **changed) == after
        assert compiled == []
        assert build(f"{folder}-clean", Store(tmp_path / f"store-{folder}"), **changed) == after
        assert compiled == sorted(changed)


def test_another_package_is_not_taken_for_the_kept_one(store: Store, tmp_path: Path) -> None:
    first = tree(tmp_path / "first", module="x = 1")
    compile_sources(store, first, [sources_of(first, "1" * 64)], LOCK)
    second = tree(tmp_path / "second", module="x = 2")
    compile_sources(store, second, [sources_of(second, "2" * 64)], LOCK)
    assert cached(second).read_bytes() != cached(first).read_bytes()


def test_a_target_of_another_machine_is_compiled_by_a_python_of_this_one(store: Store, tmp_path: Path) -> None:
    assert expected_compiler(FOREIGN) == VERSION
    root = tree(tmp_path / "root", module=SOURCE)
    added, notes, _ = compile_sources(store, root, [sources_of(root)], FOREIGN)
    assert len(added) == 1
    assert notes == (f"byte-code was compiled by this machine's Python {VERSION}",)


def test_a_python_that_this_machine_has_not_got_leaves_a_note(store: Store, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", module=SOURCE)
    absent = dataclasses.replace(FOREIGN, python="3.99.1")
    assert expected_compiler(absent) == "none"
    added, notes, _ = compile_sources(store, root, [sources_of(root)], absent)
    assert added == []
    assert "no Python 3.99" in notes[0]


def test_an_interpreter_that_does_not_start_is_replaced_by_another(store: Store, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", module=SOURCE)
    (root / "bin" / f"python{MINOR}").write_text("#!/no/such/loader\n")
    added, notes, _ = compile_sources(store, root, [sources_of(root)], LOCK)
    assert len(added) == 1
    assert "this machine's Python" in notes[0]


def test_a_compiler_that_dies_is_an_error_and_keeps_nothing(store: Store, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", module=SOURCE)
    dying = f'#!/bin/sh\ncase "$*" in */job*) echo dying; exit 9;; esac\nexec {sys.executable} "$@"\n'
    (root / "bin" / f"python{MINOR}").write_text(dying)
    with pytest.raises(PackError, match=r"ended with status 9(.|\n)*dying"):
        compile_sources(store, root, [sources_of(root)], LOCK)
    assert store.size().blobs == 0
