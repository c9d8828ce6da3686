"""What is left out of layers, and what activation scripts set: of small trees."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from boxsnake.entries import Tree
from boxsnake.errors import PackError
from boxsnake.image.contents import hints
from boxsnake.layers.plan import LayerBlob, Treatment, TrimRule, group
from boxsnake.packagers.image import PACKAGER, ImageOptions
from boxsnake.plan import Application, Plan
from boxsnake.store import Store

from .trees import EPOCH, MINOR, SITE, Workshop

LIBRARY = f"lib/python{MINOR}"
ALL: tuple[TrimRule, ...] = ("tests", "headers", "static-libraries", "docs", "build-files")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "archives").mkdir()
    made = Workshop(tmp_path / "archives")
    made.python({f"{LIBRARY}/test/support.py": "", f"{LIBRARY}/json/tests/a.py": "", "include/p/pyconfig.h": ""})
    return made


def staged(workshop: Workshop, store: Store, *rules: TrimRule, keep: tuple[str, ...] = ()) -> tuple[Tree, set[str]]:
    with workshop.stage(store, treatment=Treatment(trim=rules, keep=keep)) as tree:
        for entry in tree.entries:
            assert (tree.root / entry.path).exists()
            if entry.path.endswith("RECORD"):
                rows = csv.reader((tree.root / entry.path).read_text().splitlines())
                assert all((tree.root / SITE / row[0]).exists() for row in rows)
            if entry.path.startswith("conda-meta/") and entry.path.endswith(".json"):
                record = json.loads((tree.root / entry.path).read_text())
                assert all((tree.root / path).exists() for path in record["files"])
        return tree, {entry.path for entry in tree.entries if entry.kind != "folder" and ".pyc" not in entry.path}


def test_each_rule_takes_its_own_and_says_how_much(workshop: Workshop, store: Store) -> None:
    files = {
        "include/lib/a.h": "x" * 10,
        "lib/libx.a": "x" * 20,
        "lib/libx.so": "x",
        "lib/pkgconfig/x.pc": "x" * 30,
        "share/doc/x/manual.html": "x" * 40,
        "share/doc/x/copyright": "x",
        "share/man/man1/x.1": "x" * 2,
        f"{SITE}/pkg/__init__.py": "",
        f"{SITE}/pkg/include/pkg.h": "x" * 3,
        f"{SITE}/pkg/tests/test_a.py": "x = 1\n",
        f"{SITE}/pkg/docs.py": "",
    }
    workshop.conda("lib", files)
    before = staged(workshop, store)[1]
    tree, left = staged(workshop, store, *ALL)
    gone = before - left
    stay = {"lib/libx.so", "share/doc/x/copyright", f"{SITE}/pkg/__init__.py", f"{SITE}/pkg/docs.py"}
    assert gone == (files.keys() - stay) | {f"{LIBRARY}/test/support.py", f"{LIBRARY}/json/tests/a.py"}
    saved = {(owner, rule): size for owner, rule, size in tree.trimmed}
    assert saved == {
        ("conda:lib", "headers"): 13,
        ("conda:lib", "static-libraries"): 20,
        ("conda:lib", "build-files"): 30,
        ("conda:lib", "docs"): 42,
        ("conda:lib", "tests"): 6,
        ("conda:python", "tests"): 0,
    }
    _, left = staged(workshop, store, "static-libraries")
    assert before - left == {"lib/libx.a"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("use.py", "import pkg.tests.helper\n"),
        ("use.py", "from pkg import tests\n"),
        ("pkg/use.py", "from . import tests\n"),
        ("pkg/use.py", "from .tests import helper\n"),
        ("pkg/sub/use.py", "from ..tests.helper import x\n"),
        ("pkg/use.py", "def late():\n    from .tests.helper import x\n"),
        ("pkg/use.py", "import importlib\nimportlib.import_module('pkg.tests.helper')\n"),
        ("pkg/use.py", "this does not parse: import pkg.tests.helper\n"),
        ("pkg-1.0.dist-info/entry_points.txt", "[pytest11]\npkg = pkg.tests.plugin\n"),
    ],
)
def test_tests_that_something_uses_stay(workshop: Workshop, store: Store, path: str, code: str) -> None:
    tests = {"pkg/tests/__init__.py": "", "pkg/tests/helper.py": "x = 1\n", "pkg/testing/__init__.py": ""}
    used = {} if path.endswith(".txt") else {path: code}
    points = code if path.endswith(".txt") else ""
    workshop.wheel("pkg", {"pkg/__init__.py": "", **tests, **used}, entry_points=points)
    assert {f"{SITE}/{name}" for name in tests} <= staged(workshop, store, "tests")[1]


def test_tests_that_nobody_uses_go_with_their_byte_code(workshop: Workshop, store: Store) -> None:
    text = '"""Run its tests: pkg tests."""\nimport tests_of_mine if False else None\n'
    files = {"pkg/__init__.py": "tests = 1\n", "pkg/tests/a.py": "from pkg.tests import b\n", "pkg/tests/b.py": ""}
    workshop.wheel("pkg", {**files, "pkg/testing/__init__.py": "", "pkg/contests/a.py": "", "pkg/c.py": text})
    tree, left = staged(workshop, store, "tests")
    assert not any("/tests/" in entry.path for entry in tree.entries)
    assert {f"{SITE}/pkg/testing/__init__.py", f"{SITE}/pkg/contests/a.py"} <= left


def test_tests_that_another_package_uses_are_told(workshop: Workshop, store: Store) -> None:
    workshop.wheel("pkg", {"pkg/__init__.py": "", "pkg/tests/helper.py": "x = 1\n"})
    workshop.wheel("plugin", {"plugin.py": "from pkg.tests.helper import x\n"})
    with pytest.raises(PackError, match="plugin uses it") as caught:
        staged(workshop, store, "tests")
    assert '"pkg/tests"' in caught.value.next_step
    assert f"{SITE}/pkg/tests/helper.py" in staged(workshop, store, "tests", keep=("pkg/tests",))[1]


def test_the_application_is_left_as_it_is(workshop: Workshop, store: Store) -> None:
    workshop.wheel("hello", {"hello/__init__.py": "", "hello/tests/a.py": "", "hello/a.h": ""}, own=True)
    assert {f"{SITE}/hello/tests/a.py", f"{SITE}/hello/a.h"} <= staged(workshop, store, *ALL)[1]


def test_only_layers_that_are_trimmed_are_others(workshop: Workshop, store: Store) -> None:
    workshop.wheel("pkg", {"pkg/__init__.py": "", "pkg/tests/a.py": "a = 1\n"})
    workshop.wheel("hello", {"hello.py": ""}, own=True)
    materials = workshop.materials(store)
    groups = group(materials.lock, application=True)
    plain = list(materials.layers("/opt/env", groups))
    trimmed = list(materials.layers("/opt/env", groups, Treatment(trim=("tests",))))
    assert [one.digest == other.digest for one, other in zip(plain, trimmed, strict=True)] == [False, False, True]
    assert [layer.trimmed for layer in trimmed] == [(("tests", 0),), (("tests", 6),), ()]
    assert materials.staged == 2
    assert list(materials.known_layers("/opt/env", groups, Treatment(trim=("tests",)))) == trimmed


# What the user is told


def plan_of(workshop: Workshop, **given: Any) -> Plan:
    application = Application(name="hello", version="1.0")
    options = ImageOptions.decoded({"base": "scratch"} | given)
    return Plan(application=application, lock=workshop.lock(), options=options, root=workshop.folder, epoch=EPOCH)


def test_what_was_saved_is_told_by_build_and_plan(workshop: Workshop, store: Store) -> None:
    workshop.wheel("pkg", {"pkg/__init__.py": "", "pkg/tests/a.py": "a = 1\n" * 500_000})
    plan = plan_of(workshop, trim=("tests",))
    materials = workshop.materials(store, plan.lock)
    assert PACKAGER.pack(plan, materials, workshop.folder / "out.tar")[-1] == "trimmed tests 3.0 MB"
    assert PACKAGER.forecast(plan, materials).notes == ("trimmed tests 3.0 MB",)


def test_what_mkl_weighs_is_told(workshop: Workshop) -> None:
    workshop.conda("mkl", {"lib/libmkl.so": "x"})
    (hint,) = hints(plan_of(workshop), ())
    assert "nomkl" in hint
    assert hints(plan_of(workshop), [LayerBlob(name="x", digest="", size=0, diff_id="", media_type="")]) == [hint]


# Activation scripts

SCRIPTS = {
    "etc/conda/activate.d/geo.sh": """\
#!/bin/sh
echo "said on the way"
export GEO_DATA="$CONDA_PREFIX/share/geo" GEO_OLD_CONDA_BACKUP=x
export GEO_TEXT='a "b" $c' GEO_BIN=$(command -v geo) PATH="$CONDA_PREFIX/geo:$PATH"
not_exported=1
""",
    "etc/conda/activate.d/later.sh": 'test -d "$GEO_DATA" && export GEO_FOUND=yes\n',
    "etc/conda/activate.d/geo.fish": "exit 1\n",
    "etc/conda/deactivate.d/geo.sh": "exit 1\n",
    "bin/.geo-post-link.sh": "exit 1\n",
    "share/geo/data": "x",
}


def test_what_activation_scripts_set_is_set_in_the_layer(workshop: Workshop, store: Store) -> None:
    workshop.conda("geo", SCRIPTS)
    materials = workshop.materials(store)
    groups = group(materials.lock, application=False)
    plain = {layer.name: layer for layer in materials.layers("/opt/env", groups)}
    assert plain["libraries"].environment == ()
    layers = {layer.name: layer for layer in materials.layers("/opt/env", groups, Treatment(activate=("geo",)))}
    assert dict(layers["libraries"].environment) == {
        "GEO_DATA": "/opt/env/share/geo",
        "GEO_TEXT": 'a "b" $c',
        "GEO_BIN": "",
        "GEO_FOUND": "yes",
    }
    (note,) = layers["libraries"].notes
    assert "link scripts are not run" in note
    assert "activation" not in note
    assert layers["libraries"].digest == plain["libraries"].digest
    assert layers["interpreter"] == plain["interpreter"]
    with (
        gzip.open(store.path(layers["libraries"].digest)) as stream,
        tarfile.open(fileobj=io.BytesIO(stream.read())) as archive,
    ):
        assert "opt/env/etc/conda/activate.d/geo.sh" in archive.getnames()


def test_a_script_that_fails_ends_the_build(workshop: Workshop, store: Store) -> None:
    workshop.conda("geo", {"etc/conda/activate.d/geo.sh": "echo broken; exit 3\n"})
    materials = workshop.materials(store)
    with pytest.raises(PackError, match="broken") as caught:
        materials.layers("/opt/env", group(materials.lock, application=False), Treatment(activate=("geo",)))
    assert "activate" in caught.value.next_step


def test_a_package_that_is_not_there_cannot_be_activated(workshop: Workshop) -> None:
    with pytest.raises(PackError, match="is not in the lock"):
        PACKAGER.check(plan_of(workshop, activate=("geo",)))
