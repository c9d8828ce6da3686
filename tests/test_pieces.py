"""Layers made of pieces of others: the same bytes as staging gives, and refused where staging refuses."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from boxsnake.archive import GzipSink
from boxsnake.errors import PackError
from boxsnake.layers.brought import Brought, go_together
from boxsnake.layers.pieces import Pieces
from boxsnake.layers.plan import AS_THEY_ARE, LayerBlob, Treatment, group
from boxsnake.store import Store

from .trees import SITE, Content, Link, Materials, Program, Workshop

PREFIX = "/opt/env"
LONG = f"share/{'ö' * 60}/{'x' * 90}.txt"
SCRIPTS = {"bin/.geo-post-link.sh": "exit 1\n", "etc/conda/activate.d/geo.sh": "export GEO_DATA=/x\n"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def new_workshop(tmp_path: Path) -> Callable[..., Workshop]:
    """A workshop with a Python and these conda packages, each in the same bytes each time."""

    def make(**packages: dict[str, Content]) -> Workshop:
        folder = tmp_path / f"archives-{len([*tmp_path.glob('archives-*')])}"
        folder.mkdir()
        made = Workshop(folder)
        made.python({"lib/libone.so": Link("libone.so.1"), "lib/libone.so.1": b"\x7fELF" * 300_000})
        for name, files in packages.items():
            made.conda(name, files, distribution=True)
        return made

    return make


GEO: dict[str, Content] = {
    **SCRIPTS,
    "etc/conda/env_vars.d/geo.json": json.dumps({"GEO": "1"}),
    "include/geo.h": "int geo;\n",
    f"{SITE}/geo.py": "GEO = 1\n",
    LONG: "long\n",
}


@pytest.fixture
def workshop(new_workshop: Callable[..., Workshop]) -> Workshop:
    made = new_workshop(geo=GEO)
    made.wheel("web", {"web/__init__.py": "", "web/run": Program("#!/bin/sh\n")})
    made.wheel("hello", {"hello.py": "VALUE = 1\n"}, own=True)
    return made


def layers_of(materials: Materials, budget: int = 12, treatment: Treatment = AS_THEY_ARE) -> list[LayerBlob]:
    has_application = materials.workshop.application is not None
    return list(materials.layers(PREFIX, group(materials.lock, application=has_application, budget=budget), treatment))


def staged_anew(materials: Materials, budget: int, treatment: Treatment = AS_THEY_ARE) -> list[LayerBlob]:
    """The same layers out of a store that knows nothing."""
    store = Store(materials.workshop.folder / f"store-{budget}")
    return layers_of(materials.workshop.materials(store, materials.lock), budget, treatment)


def names(store: Store, layer: LayerBlob) -> list[str]:
    data = gzip.decompress(store.path(layer.digest).read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def pieces_of(materials: Materials) -> Pieces:
    return Pieces(materials.store, materials.layer_keys(PREFIX))


def test_in_other_groups_nothing_is_staged(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    layers_of(materials)
    for budget in (1, 2, 3, 4):
        assert layers_of(materials, budget) == staged_anew(materials, budget)
    assert materials.staged == 1


def test_one_large_layer_gives_pieces_for_many(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    layers_of(materials, 1)
    assert layers_of(materials) == staged_anew(materials, 12)
    assert materials.staged == 1


def test_a_piece_is_looked_for_in_the_newest_layer(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    layers_of(materials, 1)
    for layer in first:
        store.quarantine(layer.digest)
    assert layers_of(materials, 2) == staged_anew(materials, 2)
    assert materials.staged == 1


def test_another_application_with_some_of_the_packages_is_not_staged(
    workshop: Workshop, new_workshop: Callable[..., Workshop], store: Store
) -> None:
    layers_of(workshop.materials(store))
    other = new_workshop()
    other.wheel("web", {"web/__init__.py": "", "web/run": Program("#!/bin/sh\n")})
    other.wheel("hello", {"hello.py": "VALUE = 1\n"}, own=True)
    materials = other.materials(store)
    assert layers_of(materials) == staged_anew(materials, 12)
    assert materials.staged == 0


def test_a_file_of_two_packages_is_in_their_layer_once(new_workshop: Callable[..., Workshop], store: Store) -> None:
    both: dict[str, Content] = {"licence.txt": "free\n", f"{SITE}/both.py": "", LONG: "long\n"}
    for name in ("one", "two"):
        layers_of(
            new_workshop(**{name: {**both, f"{SITE}/{name}.py": "", f"share/{name}": Link("x")}}).materials(store)
        )
    together = new_workshop(
        one={**both, f"{SITE}/one.py": "", "share/one": Link("x")},
        two={**both, f"{SITE}/two.py": "", "share/two": Link("x")},
    )
    materials = together.materials(store)
    made = layers_of(materials)
    assert made == staged_anew(materials, 12)
    found = names(store, made[-1])
    assert len(found) == len(set(found))
    assert {f"opt/env/{LONG}", "opt/env/licence.txt"} < {*found}
    assert materials.staged == 0


def test_an_owner_that_lacks_a_file_gives_no_piece(new_workshop: Callable[..., Workshop], store: Store) -> None:
    files: dict[str, dict[str, Content]] = {
        name: {"licence.txt": "free\n", f"share/{name}": name} for name in ("one", "two")
    }
    layers_of(new_workshop(**files).materials(store))
    materials = new_workshop(two=files["two"]).materials(store)
    assert layers_of(materials) == staged_anew(materials, 12)
    assert materials.staged == 1


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ({"share/x": "1"}, {"share/x": "2"}, "share/x: the conda package one and the conda package two both bring"),
        ({"share/x": "1"}, {"share/x": Program("1")}, "share/x: the conda package one and the conda package two"),
        ({"share/x": "1"}, {"share/x/y": "2"}, ""),
    ],
    ids=["content", "mode", "folder"],
)
def test_packages_that_do_not_go_together_are_refused(
    new_workshop: Callable[..., Workshop],
    store: Store,
    one: dict[str, Content],
    two: dict[str, Content],
    message: str,
) -> None:
    """Each of them is known from another application, and their layers are there."""
    layers_of(new_workshop(one=one).materials(store))
    layers_of(new_workshop(two=two).materials(store))
    materials = new_workshop(one=one, two=two).materials(store)
    groups = [group(new_workshop(**{name: {}}).lock(), application=False) for name in ("one", "two")]
    together = [groups[0][0], groups[0][1], groups[1][1]]
    for _ in range(2):
        with pytest.raises(PackError) as staged:
            materials.layers(PREFIX, together)
        with pytest.raises(PackError) as first:
            layers_of(new_workshop(one=one, two=two).materials(Store(store.root.with_name("fresh"))))
        assert (staged.value.thing, staged.value.cause) == (first.value.thing, first.value.cause)
        assert message in str(staged.value)
    assert materials.staged == 2


def test_what_is_left_out_may_not_be_anothers_either(new_workshop: Callable[..., Workshop], store: Store) -> None:
    trim = Treatment(trim=("headers",))
    one: dict[str, Content] = {"include/x.h": "1"}
    two: dict[str, Content] = {"include/x.h": "2"}
    layers_of(new_workshop(one=one).materials(store), treatment=trim)
    layers_of(new_workshop(two=two).materials(store), treatment=trim)
    with pytest.raises(PackError, match=r"include/x\.h: .* both bring this path"):
        layers_of(new_workshop(one=one, two=two).materials(store), treatment=trim)


def test_known_layers_that_go_together_are_taken_as_they_are(
    new_workshop: Callable[..., Workshop], store: Store
) -> None:
    known = [layers_of(new_workshop(**{name: {f"share/{name}": ""}}).materials(store)) for name in ("one", "two")]
    groups = [group(new_workshop(**{name: {}}).lock(), application=False) for name in ("one", "two")]
    materials = new_workshop(one={"share/one": ""}, two={"share/two": ""}).materials(store)
    found = materials.layers(PREFIX, [groups[0][0], groups[0][1], groups[1][1]])
    assert found == [known[0][0], known[0][1], known[1][1]]
    assert materials.staged == 0


def spoiled(store: Store, layer: LayerBlob) -> None:
    path = store.path(layer.digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["removed", "spoiled"])
def test_a_piece_whose_layer_is_gone_is_none(workshop: Workshop, store: Store, harm: str) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    if harm == "removed":
        store.quarantine(first[0].digest)
    else:
        spoiled(store, first[0])
    again = workshop.materials(Store(store.root))  # as another process looks at it
    assert layers_of(again, 3) == staged_anew(materials, 3)
    assert again.staged == 1


def test_a_piece_that_turns_out_to_be_something_else_is_none(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    pieces_of(materials).remember("conda:python", first[0].digest, 100, [1000, 1000])
    assert layers_of(materials, 1) == staged_anew(materials, 1)
    assert materials.staged == 2


def test_after_cleaning_all_is_made_anew(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    store.clean()
    assert not store.verify().checked
    assert layers_of(materials) == first
    assert materials.staged == 2


def test_what_is_trimmed_is_trimmed_in_pieces(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    trim = Treatment(trim=("headers",))
    layers_of(materials)
    layers_of(materials, treatment=trim)
    assert materials.staged == 2  # those without headers are other pieces
    made = layers_of(materials, 2, trim)
    assert made == staged_anew(materials, 2, trim)
    assert materials.staged == 2
    assert dict(made[0].trimmed) == {"headers": len("int geo;\n")}
    assert not [name for layer in made for name in names(store, layer) if name.endswith(".h")]


@pytest.mark.parametrize("treatment", [Treatment(trim=("tests",)), Treatment(activate=("geo",))], ids=["tests", "run"])
def test_what_looks_across_packages_is_staged(workshop: Workshop, store: Store, treatment: Treatment) -> None:
    materials = workshop.materials(store)
    layers_of(materials, treatment=treatment)
    assert layers_of(materials, 2, treatment) == staged_anew(materials, 2, treatment)
    assert materials.staged == 2


def test_a_killed_process_leaves_no_half_layer(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    layers_of(materials)
    child = os.fork()
    if not child:

        def die(*_: object) -> NoReturn:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        GzipSink.take = die  # type: ignore[method-assign,assignment]  # in the child alone
        layers_of(workshop.materials(Store(store.root)), 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    again = workshop.materials(Store(store.root))
    assert layers_of(again, 1) == staged_anew(materials, 1)
    assert again.staged == 0
    assert not store.verify().bad


def brought(*paths: str, gone: str = "") -> Brought:
    return Brought(files=dict.fromkeys(paths, "644 x"), gone=tuple(gone.split()))


@pytest.mark.parametrize(
    ("one", "two", "goes"),
    [
        (brought("a/b"), brought("a/c"), True),
        (brought("a/b"), brought("a/b"), True),
        (brought("a/RECORD"), brought("a/RECORD"), False),
        (brought("a"), brought("a/b/c"), False),
        (brought("a"), brought("c", gone="a"), False),
        (brought("b", gone="a"), brought("c", gone="a"), False),
        (brought("b", gone="a"), brought("a/c"), False),
        (brought("a"), brought("c", gone="a/b"), False),
    ],
)
def test_whether_two_go_together(one: Brought, two: Brought, goes: bool) -> None:
    assert go_together([one, two]) == goes
    assert go_together([two, one]) == goes
