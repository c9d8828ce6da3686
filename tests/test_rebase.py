from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsnake.bases import base_image
from boxsnake.cli import boxsnake as command_line
from boxsnake.cli.console import run
from boxsnake.errors import PackError
from boxsnake.image.configuration import documents
from boxsnake.image.contents import contents
from boxsnake.image.layout import LaidOut, Layout
from boxsnake.image.own import LABEL, Own, read_label
from boxsnake.image.rebase import rebased
from boxsnake.packagers.image import PACKAGER
from boxsnake.plan import Plan
from boxsnake.store import Store
from tests.registry_server import docker_registry, faulty_proxy
from tests.test_bases import LOWER, RUNTIME, UPPER, rootfs, saved
from tests.test_bases import Layout as LayoutInTheMaking
from tests.test_image import Packed, options, plan_of, workshop
from tests.test_pull import copied
from tests.trees import Materials, Workshop

__all__ = ["workshop"]

OTHER = {"Env": ["LANG=C", "PATH=/other/bin", "MODE=base"], "Labels": {"c": "3"}}


def libc(version: str) -> bytes:
    text = f"GNU C Library (Test GLIBC {version}-1) stable release version {version}.\n"
    return rootfs(**{"libc.so.6": text})


@pytest.fixture
def bases(workshop: Workshop) -> Path:
    """A folder with bases that differ in all that an image takes from its base."""
    folder = workshop.folder.parent
    saved(folder / "old.tar", LOWER, UPPER, config=RUNTIME)
    steps = [{"created_by": "ADD"}, {"created_by": "ENV", "empty_layer": True}]
    saved(folder / "new.tar", libc("2.36"), config=OTHER, history=steps, variant="v2")
    saved(folder / "ancient.tar", libc("2.17"))
    saved(folder / "arm.tar", LOWER, architecture="arm64")
    return folder


def built(workshop: Workshop, base: str, name: str, **given: Any) -> Path:
    said = {"environment": {"A": "own", "LAST": "x"}, "labels": {"a": "own", "z": "1"}} | given
    plan = plan_of(workshop, options(base=base, **said))
    out = workshop.folder / name
    materials = workshop.materials(Store(workshop.folder.parent / "store"), plan.lock)
    PACKAGER.pack(plan, materials, out)
    return out


def boxsnake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process, which has imported all that it needs."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = run(command_line, list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


@pytest.mark.parametrize("before", ["./old.tar", "scratch", "./new.tar"])
def test_what_is_rebased_is_what_would_have_been_built(workshop: Workshop, bases: Path, before: str) -> None:
    old, fresh = built(workshop, before, "old.image.tar"), built(workshop, "./new.tar", "fresh.tar")
    done = boxsnake(bases, "rebase", str(old), "--base", "./new.tar", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["digest"] == Packed(fresh).index["manifests"][0]["digest"]
    assert Path(document["path"]).read_bytes() == fresh.read_bytes()
    assert (document["path"], document["notes"]) == (str(old.with_name("old.rebased.image.tar")), [])


def test_of_a_folder_comes_a_folder(workshop: Workshop, bases: Path) -> None:
    old, fresh = built(workshop, "./old.tar", "old.image"), built(workshop, "./new.tar", "fresh.image")
    done = boxsnake(bases, "rebase", str(old), "--base", "./new.tar", "--json")
    assert done.returncode == 0, done.stderr
    made = Path(json.loads(done.stdout)["path"])
    assert made == old.with_name("old.rebased.image")
    files = {path.relative_to(fresh): path.read_bytes() for path in fresh.rglob("*") if path.is_file()}
    assert {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()} == files


def test_a_path_of_its_own_stays(workshop: Workshop, bases: Path) -> None:
    given = {"environment": {"PATH": "/mine"}}
    old, fresh = built(workshop, "./old.tar", "a.tar", **given), built(workshop, "./new.tar", "b.tar", **given)
    done = boxsnake(bases, "rebase", str(old), "--base", "./new.tar", "--output", "out/c.tar", "--tag", "x:1")
    assert done.returncode == 0, done.stderr
    packed = Packed(bases / "out" / "c.tar")
    assert packed.manifest == Packed(fresh).manifest
    assert json.loads(packed.files["manifest.json"])[0]["RepoTags"] == ["x:1"]
    assert "PATH=/mine" in packed.config["config"]["Env"]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("./arm.tar", "it is for linux/arm64"),
        ("./ancient.tar", r"needs glibc 2\.28 or newer.* has 2\.17"),
        ("minimal", "only a build can make it"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(workshop: Workshop, bases: Path, base: str, message: str) -> None:
    old = built(workshop, "./old.tar", "old.image.tar")
    done = boxsnake(bases, "rebase", str(old), "--base", base)
    assert done.returncode == 9
    assert re.search(message, done.stderr), done.stderr
    assert not old.with_name("old.rebased.image.tar").exists()


def test_a_base_without_glibc_is_told(workshop: Workshop, bases: Path) -> None:
    old = built(workshop, "./old.tar", "old.image.tar")
    done = boxsnake(bases, "rebase", str(old), "--base", "scratch")
    assert (done.returncode, "note: scratch has no glibc; the image needs 2.28" in done.stdout) == (0, True)


def test_a_build_looks_at_its_bases_glibc_too(workshop: Workshop, bases: Path) -> None:
    with pytest.raises(PackError, match=r"needs glibc 2\.28 or newer.* has 2\.17"):
        built(workshop, f"{bases}/ancient.tar", "ancient.image.tar")
    plan = plan_of(workshop, options(base="scratch"))
    materials = workshop.materials(Store(bases / "store"), plan.lock)
    notes = PACKAGER.pack(plan, materials, bases / "on-nothing.image.tar")
    assert "scratch has no glibc; the image needs 2.28" in notes


def test_an_image_of_others_is_refused(bases: Path, tmp_path: Path) -> None:
    layout = LayoutInTheMaking(tmp_path / "layout")
    layout.index(layout.image((gzip.compress(LOWER), LOWER)))
    done = boxsnake(bases, "rebase", str(tmp_path / "layout"), "--base", "./new.tar")
    assert (done.returncode, "boxsnake did not build it" in done.stderr) == (9, True)
    assert boxsnake(bases, "rebase", "./absent.tar", "--base", "./new.tar").returncode == 8
    assert boxsnake(bases, "rebase", "r.example/a:1", "--base", "./new.tar").returncode == 2


def test_layers_that_were_made_in_the_base_are_refused(workshop: Workshop, bases: Path) -> None:
    plan: Plan = plan_of(workshop, options(base="./old.tar"))
    materials: Materials = workshop.materials(Store(bases / "store"), plan.lock)
    made = contents(plan, materials)
    layers = [*made.layers[:-1], dataclasses.replace(made.layers[-1], name="hook", bound=True)]
    config, manifest = documents(plan, made.base, layers)
    image = LaidOut(manifest=manifest, config=config, platform=("linux", "amd64"))
    base = base_image(materials.store, "./new.tar", bases={}, root=bases, wanted=("linux", "amd64"))
    with pytest.raises(PackError, match="fit no other: hook"):
        rebased(materials.store, image, base, name="it")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "layers": "x"}'])
def test_a_label_that_cannot_be_read_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"label|version|JSON|Expecting|invalid"):
        read_label(text)
    own = Own(layers=2, environment=("B", "A"), labels=("a",), path="/x/bin", glibc="2.28", bound=("h",))
    assert read_label(own.label) == own


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def test_an_image_of_a_registry_is_rebased_there(workshop: Workshop, bases: Path, upstream: str) -> None:
    for version, content in {"1": LOWER, "2": libc("2.36")}.items():
        layout = LayoutInTheMaking(bases / version)
        path = layout.index(layout.image((gzip.compress(content, mtime=0), content)))
        copied(path, upstream, f"bases/one:{version}")
    old = built(workshop, f"{upstream}/bases/one:1", "old.tar")
    fresh = Layout(built(workshop, f"{upstream}/bases/one:2", "fresh.tar")).images[0]
    assert fresh.annotations["org.opencontainers.image.base.name"] == f"{upstream}/bases/one:2"
    assert fresh.annotations["org.opencontainers.image.base.digest"].startswith("sha256:")
    assert LABEL in fresh.configuration["config"]["Labels"]
    pushed = boxsnake(bases, "publish", "image", "--file", str(old), f"{upstream}/app:1")
    assert pushed.returncode == 0, pushed.stderr
    with faulty_proxy(upstream) as proxy:
        name = f"{proxy.address}/app"
        done = boxsnake(bases, "rebase", f"{name}:1", "-b", f"{upstream}/bases/one:2", "--tag", f"{name}:2", "--json")
        assert done.returncode == 0, done.stderr
        (one,) = json.loads(done.stdout)["pushed"]
        assert (one["reference"], one["digest"]) == (f"{name}:2", fresh.manifest.digest)
        # Nothing of the application travels: it is there.
        fetched = [request.path for request in proxy.requests if request.method == "GET" and "/blobs/" in request.path]
        assert len(fetched) == 1  # the configuration
        assert one["there"] >= len(fresh.layers) - 1
