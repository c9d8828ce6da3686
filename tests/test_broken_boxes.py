"""The proof of the boot harness: boxes that are broken on purpose, each found, and its fault named in one line.

A check that nothing can fail proves nothing. So for every step that a good box passes, one here fails it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from boxsnake.boot import boot
from boxsnake.boot.in_engine import InEngine
from boxsnake.boot_recipe import BootRecipe, BootRules, Check
from boxsnake.engine import connect
from boxsnake.store import Store
from tests.tiny_box import ALIVE, PREFIX, PROGRAM, SITE, failure, recipe_for, write_box

pytestmark = pytest.mark.engine

# One of Debian's extension modules, asking for something else by a name of the same length.
_ALTERED = "sed 's/{old}/{new}/' /usr/lib/python3.11/lib-dynload/_bz2.*.so >{site}/tiny/fast.so"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A box with one fault: how it is made, the step that finds it, and what that step says in its first line."""

    step: str
    told: tuple[str, ...]
    module: str = PROGRAM
    install: str = ""
    requires: str = ""
    check: Check = ALIVE
    serve: str = "serve"
    change: Callable[[BootRecipe], BootRecipe] = lambda recipe: recipe


def altered(old: str, new: str) -> str:
    return _ALTERED.format(old=old.replace(".", r"\."), new=new, site=SITE)


def held_to(recipe: BootRecipe, rules: BootRules) -> BootRecipe:
    return dataclasses.replace(recipe, expects=dataclasses.replace(recipe.expects, rules=rules))


BROKEN = {
    "hook that fails": Broken(
        step="install",
        install="cd /; echo 'preparing'; echo 'error: the database cannot be made' >&2; exit 7",
        told=("exited with 7: error: the database cannot be made",),
    ),
    "package absent": Broken(
        step="packages",
        install=f"rm -r {SITE}/tiny-1.0.dist-info",
        told=("distribution missing: tiny 1.0",),
    ),
    "requirement absent from the lock": Broken(
        step="requirements",
        requires="absent >=2",
        told=("Tiny requires absent, which is not there",),
    ),
    "requirement of another version": Broken(
        step="requirements",
        requires="tiny >=2",
        told=("Tiny requires tiny >=2, and there is 1.0",),
    ),
    "module absent from the lock": Broken(
        step="imports",
        module="import json\nimport libmissing",
        told=("import tiny exited with 1: ModuleNotFoundError: No module named 'libmissing'",),
    ),
    "shared library missing": Broken(
        step="files",
        install=altered("libbz2.so.1.0", "libqq2.so.1.0"),
        told=(f"{SITE}/tiny/fast.so does not find the library libqq2.so.1.0",),
    ),
    "wrong glibc": Broken(
        step="files",
        install=altered("GLIBC_2.14", "GLIBC_2.99"),
        told=("needs a newer version of a library than there is: ", "fast.so (GLIBC_2.99, and the host has 2.36)"),
    ),
    "build path in a shebang": Broken(
        step="files",
        install="sed -i '1s,.*,#!/build/place/bin/python,' /opt/tiny/bin/tiny",
        told=("begins with an interpreter that is not there: /opt/tiny/bin/tiny (#!/build/place/bin/python)",),
    ),
    "build path in a text": Broken(
        step="files",
        install=f"echo 'HOME = \"/build/place/src\"' >{SITE}/tiny/where.py",
        told=(f"holds a path of the machine that built it: {SITE}/tiny/where.py (/build/place)",),
    ),
    "setuid file": Broken(
        step="files",
        install="chmod 4755 /opt/tiny/bin/tiny",
        told=("is run with its owner's rights (setuid or setgid): /opt/tiny/bin/tiny",),
    ),
    "file that anybody may write": Broken(
        step="files",
        install=f"chmod 666 {SITE}/tiny/__init__.py",
        told=(f"may be written by anybody: {SITE}/tiny/__init__.py",),
    ),
    "needs the network": Broken(
        step="imports",
        module="import socket\nsocket.getaddrinfo('example.org', 443)",
        told=("import tiny exited with 1: socket.gaierror", "it wants the network"),
    ),
    "module that crashes": Broken(
        step="imports",
        module="import os\nos.kill(os.getpid(), 11)",
        told=("import tiny was ended by SIGSEGV",),
    ),
    "entry point that raises": Broken(
        step="entry points",
        module="def main():\n    raise RuntimeError('boom')\ndef serve():\n    pass\n",
        told=("tiny --help exited with 1: RuntimeError: boom",),
    ),
    "listens too late": Broken(
        step="check: alive",
        serve="late",
        check=dataclasses.replace(ALIVE, timeout=1),
        told=("GET / on port 8000: nothing listens there within 1 s, but it answered 200 after ",),
    ),
    "answers nonsense": Broken(
        step="check: alive",
        check=dataclasses.replace(ALIVE, expect="dead"),
        told=("GET / on port 8000: answered 200, but without 'dead'",),
    ),
    "program that fails its check": Broken(
        step="check: version",
        check=Check(name="version", run=("tiny", "nonsense")),
        told=("`tiny nonsense` exited with 2, not 0: what?",),
    ),
    "writes no line that it should": Broken(
        step="check: line",
        check=Check(name="line", log="^ready$", timeout=0.3),
        told=("its log: it has not written what matches '^ready$' (tried ",),
    ),
    "opens no port that it should": Broken(
        step="check: port",
        check=Check(name="port", tcp=8001, timeout=0.3),
        told=("port 8001: nothing listens there (tried ",),
    ),
    "file that is not there": Broken(
        step="check: file",
        check=Check(name="file", file="/etc/tiny.conf"),
        told=("/etc/tiny.conf: No such file or directory",),
    ),
    "takes too long to start": Broken(
        step="budgets",
        serve="late",
        told=("s until its first answer, and 1 are allowed",),
        change=lambda recipe: held_to(recipe, BootRules(start_seconds=1)),
    ),
    "takes too much memory": Broken(
        step="budgets",
        told=("MB of memory, and 4.0 MB are allowed",),
        change=lambda recipe: held_to(recipe, BootRules(memory=4 << 20)),
    ),
    "leaks a file outside its prefix": Broken(
        step="writes",
        install="echo x >/etc/tiny.conf",
        told=("written outside of the declared paths: /etc/tiny.conf (added)",),
        change=lambda recipe: dataclasses.replace(recipe, remains=("/etc",)),
    ),
    "unclean removal": Broken(
        step="leftovers",
        told=(f"left behind by the removal: {PREFIX} (added, with ", " paths below it)"),
        change=lambda recipe: dataclasses.replace(recipe, remove=(("rm", "-r", f"{PREFIX}/bin"),)),
    ),
    "removal that fails": Broken(
        step="remove",
        told=("exited with 1: error: it is in use",),
        change=lambda recipe: dataclasses.replace(recipe, remove=(("sh", "-c", "echo 'error: it is in use'; exit 1"),)),
    ),
}


@pytest.fixture(scope="module")
def runtime() -> InEngine:
    return InEngine(connect())


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Store.default_root())


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_box_is_found_and_its_fault_named_in_one_line(
    runtime: InEngine, store: Store, tmp_path: Path, name: str
) -> None:
    broken = BROKEN[name]
    box = write_box(tmp_path, module=broken.module, install=broken.install)
    if broken.requires:
        metadata = box / "site" / "tiny-1.0.dist-info" / "METADATA"
        metadata.write_text(f"{metadata.read_text()}Requires-Dist: {broken.requires}\n")
    recipe = broken.change(recipe_for(box, broken.serve))
    step, detail = failure(boot(runtime, store, tmp_path, recipe, [broken.check], traces=["/build/place"]))
    assert step == broken.step, detail
    line = detail.partition("\n")[0]
    assert [words for words in broken.told if words not in line] == [], detail


def test_every_step_of_a_good_box_can_fail(runtime: InEngine, store: Store, tmp_path: Path) -> None:
    checks = [
        ALIVE,
        Check(name="version", run=("tiny", "--version")),
        Check(name="line", log="listening"),
        Check(name="port", tcp=8000),
        Check(name="file", file=f"{PREFIX}/pyvenv.cfg"),
    ]
    report = boot(runtime, store, tmp_path, recipe_for(write_box(tmp_path), "serve"), checks, traces=["/build/place"])
    assert report.failure is None, report.failure
    # These two are the harness's own work. A start that fails is in the tests of images.
    own = {"start", "copy"}
    assert {step.name for step in report.steps} - own == {broken.step for broken in BROKEN.values()}
