"""Applications split into packages: what is shared has one name and one content, whoever built it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from boxsnake.entries import Entry, Tree, conda_owner
from boxsnake.errors import PackError
from boxsnake.os_packages import rpm_header, shared_store
from boxsnake.os_packages.rpm_spec import PACKAGER_OF_SPECS
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_split import environment_name
from boxsnake.packagers import Packager
from boxsnake.packagers.deb import PACKAGER as DEB
from boxsnake.packagers.rpm import PACKAGER as RPM
from tests import deb_trees, rpm_trees
from tests.rpm_trees import CONDA, EPOCH, build, plan_for, write_tree
from tests.test_rpm import by_path


def packages(folder: Path, version: str = "1.0", packager: Packager = RPM, **given: Any) -> dict[str, bytes]:
    """The packages of a box by their file names."""
    options = {"split": True, **given.pop("options", {})}
    trees = deb_trees if packager is DEB else rpm_trees
    archive = build(trees.plan_for(version, options=options, **given), folder, packager)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)
    return {path.name: path.read_bytes() for path in archive.with_suffix("").iterdir()}


@pytest.mark.parametrize("packager", [RPM, DEB], ids=["rpm", "deb"])
def test_what_is_shared_is_the_same_whichever_application_brings_it(tmp_path: Path, packager: Packager) -> None:
    one = packages(tmp_path / "one", packager=packager)
    other = packages(tmp_path / "other", packager=packager, name="other", summary="$x", options={"commands": ()})
    shared = [name for name in one if name.startswith("boxsnake-")]
    assert len(shared) == 3
    assert {name: one[name] for name in shared} == {n: c for n, c in other.items() if n.startswith("boxsnake-")}
    assert not {name for name in one if name.startswith("app")} & other.keys()


def test_a_package_of_another_content_has_another_name(tmp_path: Path) -> None:
    one, two = (packages(tmp_path / version, version) for version in ("1.0", "2.0"))
    # Of the small tree, libx alone changes with the version.
    changed = {name.split("-")[2] for name in one.keys() ^ two.keys() if name.startswith("boxsnake-")}
    assert changed == {"libx"}
    smaller = packages(tmp_path / "xz", options={"compression": "xz"})
    assert not {name for name in one if name.startswith("boxsnake-")} & smaller.keys()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    plan = plan_for(options={"split": True})
    one = build(plan, tmp_path / "one").read_bytes()
    before = os.umask(0o077)
    try:
        other = build(plan, tmp_path / "another folder").read_bytes()
    finally:
        os.umask(before)
    assert one == other
    assert str(tmp_path).encode() not in one


def test_each_path_belongs_to_one_package(tmp_path: Path) -> None:
    packages(tmp_path)
    owners: dict[str, list[str]] = {}
    for path in sorted(tmp_path.glob("*.rpms/*.rpm")):
        for place, mode in by_path(rpm_header.read(path), rpm_header.FILE_MODES).items():
            if not stat.S_ISDIR(cast("int", mode)):
                owners.setdefault(place, []).append(path.name)
    assert {path: owned for path, owned in owners.items() if len(owned) > 1} == {}
    assert owners["/opt/app/current"] == owners["/usr/bin/app"] == ["app-1.0.0-1.x86_64.rpm"]
    assert owners["/opt/app/1.0.0-1/lib/libx.so.1"] == ["app-env-1.0.0-1-1.0.0-1.x86_64.rpm"]


def test_what_holds_its_own_path_is_not_shared(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, "/opt/app/1.0.0-1", "1.0")
    added = []
    for path, text in (
        ("bin/tool", "#!/opt/app/1.0.0-1/bin/python"),
        ("conda-meta/libx.json", "{}"),
        ("lib/x.dist-info/RECORD", ""),
        ("lib/plain", "/opt/app/1.0.0-2"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        added.append(Entry(path=path, kind="file", mode=0o644, owner=conda_owner("libx"), size=len(text), sha256="0"))
    link = Entry(path="lib/up", kind="link", mode=0o777, owner=conda_owner("libx"), target="/opt/app/1.0.0-1/lib")
    tree = Tree(root=tree.root, prefix=tree.prefix, entries=(*tree.entries, *added, link))
    found = shared_store.shared(tree, plan_for().lock, "/opt", {"time": EPOCH})
    assert [one.owner for one in found] == sorted(conda_owner(package.name) for package in CONDA)
    paths = {entry.path for one in found for entry in one.entries}
    assert "lib/plain" in paths
    assert not paths & {"bin/tool", "conda-meta/libx.json", "lib/x.dist-info/RECORD", "lib/up"}


def test_environments_have_names_that_all_tools_take() -> None:
    versions = ("1.0.0-1", "1.0.0~rc1-1", "1.0.0-rc1-1", "1_1.0.0-1", "1.0.0+local.A-1", "1.0.0+local.a-1")
    names = [environment_name("app", Layout(name="app", version=version)) for version in versions]
    assert names[0] == "app-env-1.0.0-1"
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.+-") for name in names)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(PackError, match="payload of its own"):
        RPM.check(plan_for(options={"split": True, "payload": "archives"}))
    with pytest.raises(PackError, match="share"):
        RPM.check(plan_for(name="boxsnake-store", options={"split": True}))
    with pytest.raises(PackError, match="one spec"):
        PACKAGER_OF_SPECS.check(plan_for(options={"split": True}))


def test_how_it_is_booted() -> None:
    recipe = RPM.boot(plan_for(options={"split": True}), Path("/dist/app-1.0.0-1.x86_64.rpms.tar"))
    assert recipe.install[0] == ("tar", "-xf", "/tmp/rpm/app-1.0.0-1.x86_64.rpms.tar", "-C", "/tmp/rpm")
    assert recipe.install[1] == ("sh", "-c", "rpm --install /tmp/rpm/app-1.0.0-1.x86_64.rpms/*")
    assert "/opt/boxsnake-store" in recipe.writes
    assert "/opt/boxsnake-store" not in recipe.remains
