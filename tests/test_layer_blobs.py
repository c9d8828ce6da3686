from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from boxsnake.errors import PackError
from boxsnake.layers import keys as module
from boxsnake.layers.plan import LayerBlob, group
from boxsnake.store import Store

from .trees import EPOCH, MINOR, SITE, Link, Materials, Program, Workshop

PREFIX = "/opt/env"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "archives").mkdir()
    made = Workshop(tmp_path / "archives")
    made.python({"lib/libone.so": Link("libone.so.1"), "lib/libone.so.1": b"\x7fELF", "share/ö/ü.txt": "umlauts"})
    made.wheel("web", {"web/__init__.py": "", "web/run": Program("#!/bin/sh\n")})
    made.wheel("hello", {"hello.py": "VALUE = 1\n"}, own=True)
    return made


def layers_of(materials: Materials, prefix: str = PREFIX) -> list[LayerBlob]:
    groups = group(materials.lock, application=materials.workshop.application is not None)
    return list(materials.layers(prefix, groups))


def members(store: Store, layer: LayerBlob) -> dict[str, tarfile.TarInfo]:
    data = gzip.decompress(store.path(layer.digest).read_bytes())
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.diff_id
    assert store.path(layer.digest).stat().st_size == layer.size
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_the_layers_together_are_the_tree(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    found = [members(store, layer) for layer in layers_of(materials)]
    with workshop.stage(store) as tree:
        expected = {
            f"opt/env/{entry.path}": (entry.kind, entry.mode, entry.size, entry.target) for entry in tree.entries
        }
    kinds = {tarfile.REGTYPE: "file", tarfile.SYMTYPE: "link", tarfile.DIRTYPE: "folder"}
    together = {
        name: (kinds[member.type], member.mode, member.size, member.linkname)
        for layer in found
        for name, member in layer.items()
    }
    assert together == expected | {"opt": ("folder", 0o755, 0, ""), "opt/env": ("folder", 0o755, 0, "")}
    files = [name for layer in found for name, member in layer.items() if not member.isdir()]
    files.remove("opt/env/conda-meta/history")
    assert len(files) == len(set(files)), "a file is in one layer only"
    assert {m.mtime for layer in found for m in layer.values()} == {EPOCH}


def test_each_layer_brings_the_folders_that_it_needs(workshop: Workshop, store: Store) -> None:
    *_, application = layers_of(workshop.materials(store))
    names = list(members(store, application))
    assert names[:5] == ["opt", "opt/env", "opt/env/lib", f"opt/env/lib/python{MINOR}", f"opt/env/{SITE}"]
    assert all("hello" in name or "__pycache__" in name for name in names[5:])


def test_a_second_time_stages_nothing(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    assert layers_of(materials) == first
    assert materials.staged == 1


def test_what_two_packages_bring_is_in_the_layers_of_both(workshop: Workshop, store: Store) -> None:
    alone = {layer.name: layer.digest for layer in layers_of(workshop.materials(store))}
    # The same as the Python package's own, and the application's.
    workshop.conda("other", {"lib/libone.so.1": b"\x7fELF", f"{SITE}/hello.py": "VALUE = 1\n"}, distribution=True)
    layers = {layer.name: layer for layer in layers_of(workshop.materials(store))}
    assert {name: layers[name].digest for name in ("interpreter", "application")} == {
        name: alone[name] for name in ("interpreter", "application")
    }
    assert {"opt/env/lib/libone.so.1", f"opt/env/{SITE}/hello.py"} <= members(store, layers["rest"]).keys()


def test_scripts_that_are_not_run_are_told_of_their_own_layer(workshop: Workshop, store: Store) -> None:
    scripts = {"bin/.gdal-post-link.sh": "exit 1\n", "etc/conda/activate.d/gdal.sh": "exit 1\n"}
    workshop.conda("gdal", {**scripts, "bin/gdal": Program("")})
    layers = {layer.name: layer.notes for layer in layers_of(workshop.materials(store))}
    note = (
        "the conda package gdal: its link scripts are not run (bin/.gdal-post-link.sh); "
        "its activation scripts are not run (etc/conda/activate.d/gdal.sh)"
    )
    assert (layers["libraries"], layers["interpreter"]) == ((note,), ())


def test_a_lost_layer_is_made_again_with_the_same_bytes(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    store.quarantine(first[0].digest)
    assert layers_of(materials) == first
    assert materials.staged == 2


@pytest.mark.parametrize("what", ["application", "small wheel"])
def test_a_change_makes_one_layer_anew(workshop: Workshop, store: Store, what: str) -> None:
    before = {layer.name: layer.digest for layer in layers_of(workshop.materials(store))}
    if what == "application":
        workshop.wheel("hello", {"hello.py": "VALUE = 2\n"}, version="1.1", own=True)
    else:
        workshop.wheel("tiny", {"tiny.py": ""})
    after = {layer.name: layer.digest for layer in layers_of(workshop.materials(store))}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"application" if what == "application" else "rest"}


def test_what_decides_the_bytes_decides_the_layer(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    assert not {layer.digest for layer in first} & {layer.digest for layer in layers_of(materials, "/opt/other")}
    python = materials.lock.conda[0]
    moved = dataclasses.replace(python, url=python.url.replace("channel.example", "mirror.example"))
    materials.lock = dataclasses.replace(materials.lock, conda=(moved,))
    layers_of(materials)
    assert materials.staged == 3


def test_secrets_of_a_channel_do_not_decide_the_layer(workshop: Workshop, store: Store) -> None:
    materials = workshop.materials(store)
    first = layers_of(materials)
    python = materials.lock.conda[0]
    bare = dataclasses.replace(
        python, url=python.url.replace("user:secret@", ""), channel=python.channel.replace("user:secret@", "")
    )
    materials.lock = dataclasses.replace(materials.lock, conda=(bare,))
    assert layers_of(materials) == first
    assert materials.staged == 1


@pytest.mark.parametrize("name", ["_FORMAT", "BYTECODE_FORMAT"])
def test_the_format_is_part_of_the_key(
    workshop: Workshop, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    materials = workshop.materials(store)
    layers_of(materials)
    monkeypatch.setattr(module, name, getattr(module, name) + 1)
    layers_of(materials)
    assert materials.staged == 2


def test_variables_that_packages_ask_for_are_told(workshop: Workshop, store: Store) -> None:
    workshop.conda("certificates", {"etc/conda/env_vars.d/ssl.json": json.dumps({"B": "2", "A": "/x"})})
    materials = workshop.materials(store)
    for _ in range(2):
        told = {layer.name: layer.environment for layer in layers_of(materials)}
        assert told["libraries"] == (("A", "/x"), ("B", "2"))
        assert told["interpreter"] == ()


def test_variables_that_are_none_are_refused(workshop: Workshop, store: Store) -> None:
    workshop.conda("certificates", {"etc/conda/env_vars.d/ssl.json": "[]"})
    with pytest.raises(PackError, match=r"env_vars\.d/ssl\.json: is not a JSON object"):
        layers_of(workshop.materials(store))
