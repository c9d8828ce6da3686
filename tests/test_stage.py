from __future__ import annotations

import asyncio
import base64
import csv
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from boxsnake.entries import APPLICATION, NOBODY, Tree
from boxsnake.errors import IntegrityError, PackError, ResourceError
from boxsnake.stage import link_child
from boxsnake.stage.inventory import inventory, with_folders
from boxsnake.stage.owners import Owners
from boxsnake.stage.wheels import Layout, install_wheel
from boxsnake.store import Store

from .trees import EPOCH, MINOR, PLACEHOLDER, SITE, Content, Folder, Link, Program, Workshop

FLASK = {
    "site-packages/flask/__init__.py": "def main():\n    return 0\n",
    "site-packages/flask-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: flask\nVersion: 1.0\n",
    "site-packages/flask-1.0.dist-info/INSTALLER": "conda\n",
    "site-packages/flask-1.0.dist-info/REQUESTED": "",
    "site-packages/flask-1.0.dist-info/direct_url.json": '{"url": "file:///home/somebody/work"}',
    "site-packages/flask-1.0.dist-info/RECORD": (
        "flask/__init__.py,,\nflask/__pycache__/__init__.cpython-311.pyc,,\n../../../bin/flask,,\n"
        "flask-1.0.dist-info/METADATA,,\nflask-1.0.dist-info/INSTALLER,,\nflask-1.0.dist-info/direct_url.json,,\n"
        "flask-1.0.dist-info/RECORD,,\n"
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "archives").mkdir()
    return Workshop(tmp_path / "archives")


@pytest.fixture
def usual(workshop: Workshop) -> Workshop:
    """One of everything."""
    workshop.python(
        {
            f"lib/python{MINOR}/prefixed.py": f"PREFIX = '{PLACEHOLDER}'\n",
            f"lib/python{MINOR}/shipped.py": "VALUE = 1\n",
            f"lib/python{MINOR}/__pycache__/shipped.cpython-{MINOR.replace('.', '')}.pyc": b"stale",
            f"lib/python{MINOR}/__pycache__/orphan.cpython-34.pyc": b"stale",
            f"lib/python{MINOR}/sourceless.pyc": b"the module itself",
            "etc/text.conf": f"prefix={PLACEHOLDER}/share\n",
        }
    )
    workshop.conda(
        "flask", FLASK, noarch="python", depends=["python"], entry_points=["flask = flask:main"], distribution=True
    )
    workshop.wheel(
        "web",
        {
            "web/__init__.py": "def main():\n    return 0\n",
            "web/broken.py": "def (\n",
            "web/run.sh": Program("#!/bin/sh\n"),
            "web/__pycache__/__init__.cpython-311.pyc": b"shipped in the wheel",
            "web-1.0.data/scripts/web-tool": "#!python\nprint(1)\n",
            "web-1.0.data/scripts/web-shell": "#!/bin/sh\necho\n",
            "web-1.0.data/data/share/web/page.txt": "page",
            "web-1.0.data/headers/web.h": "",
        },
        entry_points="[console_scripts]\nweb = web:main\n",
    )
    workshop.wheel("hello", {"hello.py": "VALUE = 2\n"}, own=True)
    return workshop


def owners(tree: Tree) -> dict[str, str]:
    return {entry.path: entry.owner for entry in tree.entries if entry.kind != "folder"}


def shared(tree: Tree) -> dict[str, tuple[str, ...]]:
    """What several packages bring, but for the history, which all do."""
    return {entry.path: entry.owners for entry in tree.entries if entry.also and entry.path != "conda-meta/history"}


def text(tree: Tree, path: str) -> str:
    return (tree.root / path).read_text()


def test_every_path_has_its_owner(usual: Workshop, store: Store) -> None:
    tag = f"cpython-{MINOR.replace('.', '')}"
    with usual.stage(store) as tree:
        found = owners(tree)
    assert {path for path, owner in found.items() if owner == "wheel:web"} == {
        "bin/web",
        "bin/web-shell",
        "bin/web-tool",
        f"include/python{MINOR}/web/web.h",
        *(f"{SITE}/web-1.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD", "WHEEL")),
        f"{SITE}/web-1.0.dist-info/entry_points.txt",
        f"{SITE}/web/__init__.py",
        f"{SITE}/web/__pycache__/__init__.{tag}.pyc",
        f"{SITE}/web/broken.py",
        f"{SITE}/web/run.sh",
        "share/web/page.txt",
    }
    assert {path for path, owner in found.items() if owner == "conda:flask"} == {
        "bin/flask",
        "conda-meta/flask-1.0-0.json",
        "conda-meta/history",
        *(f"{SITE}/flask-1.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD")),
        f"{SITE}/flask/__init__.py",
        f"{SITE}/flask/__pycache__/__init__.{tag}.pyc",
    }
    assert found[f"{SITE}/hello.py"] == found[f"{SITE}/__pycache__/hello.{tag}.pyc"] == APPLICATION


def test_entries_tell_what_is_on_the_disk(usual: Workshop, store: Store) -> None:
    with usual.stage(store) as tree:
        assert [entry.path for entry in tree.entries] == sorted(entry.path for entry in tree.entries)
        on_disk = {str(path.relative_to(tree.root)) for path in tree.root.rglob("*")}
        assert {entry.path for entry in tree.entries} == on_disk
        for entry in tree.entries:
            path = tree.root / entry.path
            assert path.lstat().st_mtime == EPOCH
            if entry.kind == "link":
                assert str(path.readlink()) == entry.target
                continue
            assert path.stat().st_mode & 0o7777 == entry.mode
            assert entry.mode in {0o644, 0o755}
            if entry.kind == "folder":
                assert (path.is_dir(), entry.owner) == (True, NOBODY)
            else:
                data = path.read_bytes()
                assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)


def test_files_are_linked_for_the_prefix_and_not_for_the_folder(usual: Workshop, store: Store) -> None:
    with usual.stage(store, prefix="/opt/some/app") as tree:
        assert text(tree, "etc/text.conf") == "prefix=/opt/some/app/share\n"
        assert text(tree, "bin/web").startswith("#!/opt/some/app/bin/python\n")
        assert text(tree, "bin/web-tool") == "#!/opt/some/app/bin/python\nprint(1)\n"
        assert text(tree, "bin/web-shell") == "#!/bin/sh\necho\n"
        assert text(tree, "bin/flask").startswith("#!/opt/some/app/bin/python")


def test_scripts_start_where_the_interpreter_line_would_be_too_long(usual: Workshop, store: Store) -> None:
    prefix = "/opt/" + "p" * 140
    with usual.stage(store, prefix=prefix) as tree:
        for script in ("bin/web", "bin/web-tool"):
            lines = text(tree, script).splitlines()
            assert lines[0] == "#!/bin/sh"
            assert f"{prefix}/bin/python" in lines[1]
            compile(text(tree, script), script, "exec")


def test_nothing_of_the_installation_is_left(usual: Workshop, store: Store) -> None:
    with usual.stage(store) as tree:
        names = {Path(entry.path).name for entry in tree.entries}
        assert not names & {"CACHEDIR.TAG", "REQUESTED", "direct_url.json", "__clobbers__"}
        assert (tree.root / "conda-meta" / "history").read_bytes() == b""
        everything = b"".join((tree.root / e.path).read_bytes() for e in tree.entries if e.kind == "file")
        for forbidden in (str(store.root), "secret", "token-1", "extracted_package_dir", "requested_spec", "/home/"):
            assert forbidden.encode() not in everything


def test_conda_meta_is_read_by_conda_tools_and_right(usual: Workshop, store: Store) -> None:
    from rattler import PrefixRecord

    with usual.stage(store) as tree:
        for path in (tree.root / "conda-meta").glob("*.json"):
            record = PrefixRecord.from_path(path)
            owner = f"conda:{record.name.normalized}"
            own = {entry.path for entry in tree.owned_by([owner])} - {f"conda-meta/{path.name}", "conda-meta/history"}
            assert {str(name) for name in record.files} == own
            document = json.loads(path.read_text())
            assert path.read_text() == json.dumps(document, sort_keys=True, indent=2) + "\n"
            assert document["url"] == f"https://channel.example/main/{document['subdir']}/{document['fn']}"
            for listed in document["paths_data"]["paths"]:
                place = tree.root / listed["_path"]
                if not place.is_symlink():
                    digest = hashlib.sha256(place.read_bytes()).hexdigest()
                    assert listed.get("sha256_in_prefix", listed["sha256"]) == digest


def test_packages_of_a_channel_in_a_folder_do_not_name_the_folder(workshop: Workshop, store: Store) -> None:
    workshop.conda("data", {"share/data": "x"}, noarch="generic", url="file:///home/somebody/channel")
    with workshop.stage(store) as tree:
        document = json.loads(text(tree, "conda-meta/data-1.0-0.json"))
    assert document["url"] == "file:///channel/noarch/data-1.0-0.conda"
    assert document["channel"] == "file:///channel"


def test_records_are_sorted_and_right(usual: Workshop, store: Store) -> None:
    with usual.stage(store) as tree:
        for name, owner in {"web-1.0": "wheel:web", "flask-1.0": "conda:flask", "hello-1.0": APPLICATION}.items():
            rows = list(csv.reader(text(tree, f"{SITE}/{name}.dist-info/RECORD").splitlines()))
            assert rows == sorted(rows)
            paths = {os.path.normpath(f"{SITE}/{row[0]}") for row in rows}
            own = {entry.path for entry in tree.owned_by([owner])}
            assert paths == {path for path in own if not path.startswith("conda-meta/")}
            for path, digest, _size in rows:
                assert bool(digest) != path.endswith((".pyc", "/RECORD"))
        assert text(tree, f"{SITE}/web-1.0.dist-info/INSTALLER") == "boxsnake\n"


def test_code_that_packages_ship_is_replaced_and_what_has_no_source_stays(usual: Workshop, store: Store) -> None:
    with usual.stage(store) as tree:
        found = owners(tree)
        assert f"lib/python{MINOR}/sourceless.pyc" in found
        assert f"lib/python{MINOR}/__pycache__/orphan.cpython-34.pyc" not in found
        caches = [tree.root / path for path in found if "__pycache__" in path]
        assert len(caches) == 5
        for path in caches:
            assert path.read_bytes()[4:8] == b"\x01\0\0\0", f"{path} is not an unchecked-hash one"


def test_sources_that_hold_the_prefix_are_not_compiled(usual: Workshop, store: Store) -> None:
    with usual.stage(store) as tree:
        assert not [path for path in owners(tree) if path.endswith(".pyc") and "prefixed" in path]


CONDA_TWICE = "the conda package one and the conda package two both bring this path"


def test_two_conda_packages_with_one_path_are_refused(workshop: Workshop, store: Store) -> None:
    workshop.conda("one", {"share/same": "1"})
    workshop.conda("two", {"share/same": "2"})
    with pytest.raises(PackError, match=f"share/same: {CONDA_TWICE}") as caught, workshop.stage(store):
        pass
    assert caught.value.data == {"path": "share/same", "owners": ["conda:one", "conda:two"]}


@pytest.mark.parametrize(
    ("own", "owner"), [(False, "the wheel flask"), (True, "the application")], ids=["wheel", "application"]
)
def test_a_wheel_over_a_conda_package_is_refused(workshop: Workshop, store: Store, own: bool, owner: str) -> None:
    workshop.python()
    workshop.conda("flask", FLASK, noarch="python", depends=["python"])
    workshop.wheel("flask", {"flask/__init__.py": ""}, own=own)
    with pytest.raises(PackError) as caught, workshop.stage(store):
        pass
    assert f"{SITE}/flask/__init__.py" in str(caught.value)
    assert owner in str(caught.value)
    assert "the conda package flask" in str(caught.value)


def test_two_wheels_with_one_path_are_refused(workshop: Workshop, store: Store) -> None:
    workshop.python()
    workshop.wheel("one", {"tests/__init__.py": "1"})
    workshop.wheel("two", {"tests/__init__.py": "2"})
    with pytest.raises(PackError, match="the wheel one and the wheel two both bring"), workshop.stage(store):
        pass


@pytest.mark.parametrize("content", ["", Program("#!/bin/sh\n"), Link("../elsewhere")], ids=["file", "program", "link"])
def test_two_conda_packages_may_bring_the_same_file(workshop: Workshop, store: Store, content: Content) -> None:
    workshop.conda("one", {"share/same": content, "share/one": ""})
    workshop.conda("two", {"share/same": content, "share/two": ""})
    workshop.conda("zero", {"share/same": content})
    with workshop.stage(store) as tree:
        assert shared(tree) == {"share/same": ("conda:one", "conda:two", "conda:zero")}
        assert {path.name for path in (tree.root / "share").iterdir()} == {"one", "two", "same"}
        listed = json.loads(text(tree, "conda-meta/two-1.0-0.json"))
    assert listed["files"] == ["share/same", "share/two"]
    assert [path["_path"] for path in listed["paths_data"]["paths"]] == ["share/same", "share/two"]


@pytest.mark.parametrize(
    ("one", "two"),
    [("x", Program("x")), ("x", Link("x")), (Link("x"), Link("y")), (f"a={PLACEHOLDER}\n", "a=/opt/other\n")],
    ids=["mode", "kind", "link", "prefix"],
)
def test_the_same_file_is_of_one_kind_and_content(workshop: Workshop, store: Store, one: Content, two: Content) -> None:
    workshop.conda("one", {"share/same": one})
    workshop.conda("two", {"share/same": two})
    with pytest.raises(PackError, match=f"share/same: {CONDA_TWICE}"), workshop.stage(store):
        pass


def test_byte_code_of_packages_may_differ_as_it_is_replaced(workshop: Workshop, store: Store) -> None:
    code = f"{SITE}/space/__pycache__/__init__.cpython-{MINOR.replace('.', '')}.pyc"
    workshop.python()
    workshop.conda("one", {f"{SITE}/space/__init__.py": "VALUE = 1\n", code: b"one"})
    workshop.conda("two", {f"{SITE}/space/__init__.py": "VALUE = 1\n", code: b"two"})
    with workshop.stage(store) as tree:
        assert shared(tree) == dict.fromkeys([f"{SITE}/space/__init__.py", code], ("conda:one", "conda:two"))
        assert (tree.root / code).read_bytes() not in {b"one", b"two"}


def test_the_record_of_a_distribution_has_one_owner(workshop: Workshop, store: Store) -> None:
    workshop.python()
    for name in ("one", "two"):
        workshop.conda(name, {f"{SITE}/same-1.0.dist-info/RECORD": "same.py,,\n"})
    with pytest.raises(PackError, match=CONDA_TWICE), workshop.stage(store):
        pass


def test_wheels_may_bring_what_is_there_already(workshop: Workshop, store: Store) -> None:
    workshop.python()
    workshop.conda("base", {f"{SITE}/space/__init__.py": "# a namespace\n"}, depends=["python"])
    for name in ("one", "two"):
        workshop.wheel(name, {"space/__init__.py": "# a namespace\n", f"space/{name}.py": "", "tests/__init__.py": ""})
    with workshop.stage(store) as tree:
        tag = f"cpython-{MINOR.replace('.', '')}"
        assert shared(tree) == {
            **dict.fromkeys(
                [f"{SITE}/space/__init__.py", f"{SITE}/space/__pycache__/__init__.{tag}.pyc"],
                ("conda:base", "wheel:one", "wheel:two"),
            ),
            **dict.fromkeys(
                [f"{SITE}/tests/__init__.py"],
                ("wheel:one", "wheel:two"),
            ),
        }
        for name in ("one", "two"):
            rows = csv.reader(text(tree, f"{SITE}/{name}-1.0.dist-info/RECORD").splitlines())
            assert {"space/__init__.py", f"space/{name}.py", "tests/__init__.py"} <= {row[0] for row in rows}


def test_wheels_that_disagree_on_whether_a_file_is_a_program_are_refused(workshop: Workshop, store: Store) -> None:
    workshop.python()
    workshop.wheel("one", {"same.py": "1"})
    workshop.wheel("two", {"same.py": Program("1")})
    with pytest.raises(PackError, match="the wheel one and the wheel two both bring this path"), workshop.stage(store):
        pass


@pytest.mark.parametrize("files", [("lib.py", "lib.py/a.txt"), ("lib.py/a.txt", "lib.py")], ids=["file", "folder"])
def test_a_file_where_another_has_a_folder_is_refused(workshop: Workshop, store: Store, files: tuple[str, str]) -> None:
    workshop.python()
    workshop.wheel("one", {files[0]: ""})
    workshop.wheel("two", {files[1]: ""})
    with pytest.raises(PackError, match="the wheel one and the wheel two both bring"), workshop.stage(store):
        pass


def test_a_script_that_a_wheel_brings_twice_is_its_entry_point(workshop: Workshop, store: Store) -> None:
    workshop.python()
    workshop.wheel(
        "web",
        {"web.py": "", "web-1.0.data/scripts/web": "#!python\nold\n"},
        entry_points="[console_scripts]\nweb = web:main\n",
    )
    with workshop.stage(store) as tree:
        assert "from web import main" in text(tree, "bin/web")


def test_the_commands_of_a_wheel_run_what_their_entry_points_name(workshop: Workshop, store: Store) -> None:
    workshop.python()
    code = "class Tool:\n    @staticmethod\n    def main():\n        import sys\n"
    code += "        print(sys.argv[1:])\n        return 7\n"
    commands = "[console_scripts]\nweb = web.tool : Tool.main [extra, other]\n[gui_scripts]\nshow=web.tool:Tool.main\n"
    workshop.wheel("web", {"web/__init__.py": "", "web/tool.py": code}, entry_points=commands)
    with workshop.stage(store) as tree:
        for name in ("web", "show"):
            assert os.access(tree.root / "bin" / name, os.X_OK)
            done = subprocess.run(
                [sys.executable, tree.root / "bin" / name, "a"],
                env={"PYTHONPATH": str(tree.root / SITE)},
                capture_output=True,
                text=True,
            )
            assert (done.returncode, done.stdout, done.stderr) == (7, "['a']\n", "")


def test_who_has_installed_a_wheel_is_not_what_it_says_itself(workshop: Workshop, store: Store) -> None:
    workshop.python()
    workshop.wheel("web", {"web.py": "", "web-1.0.dist-info/INSTALLER": "somebody\n"})
    with workshop.stage(store) as tree:
        assert text(tree, f"{SITE}/web-1.0.dist-info/INSTALLER") == "boxsnake\n"


@pytest.mark.parametrize("line", ["#!python", "#!python\nx = 1", "#!/bin/sh\nexit 0\n", ""])
def test_only_the_line_of_a_script_that_asks_for_it_is_replaced(workshop: Workshop, store: Store, line: str) -> None:
    workshop.python()
    workshop.wheel("web", {"web.py": "", "web-1.0.data/scripts/tool": line})
    with workshop.stage(store) as tree:
        assert text(tree, "bin/tool") == line.replace("#!python\n", "#!python").replace(
            "#!python", f"#!{tree.prefix}/bin/python\n"
        )


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_a_wheel_holds_is_written_as_it_is(tmp_path: Path, packing: int, algorithm: str) -> None:
    random = os.urandom(1 << 20)
    contents = {"a/large.so": random + bytes(3 << 20) + random, "a/empty.py": b"", "b.py": b"x = 1\n"}
    texts = {"METADATA": "Name: w\n", "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    contents |= {f"w-1.0.dist-info/{name}": text.encode() for name, text in texts.items()}
    sums = {name: base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()) for name, data in contents.items()}
    lines = [f"{name},{algorithm}={sums[name].rstrip(b'=').decode()},{len(data)}\n" for name, data in contents.items()]
    wheel = tmp_path / "w-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", packing) as archive:
        for name, data in (contents | {"w-1.0.dist-info/RECORD": "".join(lines).encode()}).items():
            archive.writestr(name, data)
    layout = Layout(site_packages="site", headers="include", interpreter="/opt/env/bin/python")
    installed = install_wheel(wheel, [], "wheel:w", root=tmp_path / "tree", layout=layout, owners=Owners())
    assert {name: (tmp_path / "tree" / "site" / name).read_bytes() for name in contents} == contents
    told = {path: (one.size, one.sha256) for path, one in installed.known.items()}
    right = {f"site/{name}": (len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    assert told == (right if algorithm == "sha256" else {})


def test_a_host_interpreter_has_no_tree(usual: Workshop, store: Store) -> None:
    lock = usual.lock(interpreter="host")
    with pytest.raises(PackError, match="wheelhouse, pex"), usual.stage(store, lock=lock):
        pass


def test_other_systems_have_no_tree(usual: Workshop, store: Store) -> None:
    with pytest.raises(PackError, match="not for osx-arm64"), usual.stage(store, lock=usual.lock(platform="osx-arm64")):
        pass


def test_wheels_need_a_python(workshop: Workshop, store: Store) -> None:
    workshop.wheel("one", {"one.py": ""})
    with pytest.raises(PackError, match="no Python to install it for"), workshop.stage(store):
        pass


def test_an_environment_without_python_is_staged(workshop: Workshop, store: Store) -> None:
    workshop.conda("data", {"share/data": "x"}, noarch="generic")
    with workshop.stage(store) as tree:
        assert set(owners(tree)) == {"conda-meta/data-1.0-0.json", "conda-meta/history", "share/data"}


def test_a_python_that_names_its_site_packages_gets_them(workshop: Workshop) -> None:
    from boxsnake.stage.staging import layout_of

    python = workshop.python()
    records = [{"name": "python", "python_site_packages_path": "lib/python3.13t/site-packages"}]
    layout = layout_of([python], records, "/opt/env")
    assert (layout.site_packages, layout.headers) == ("lib/python3.13t/site-packages", "include/python3.13t")


def test_a_free_path_of_a_wheel_stays_in_the_tree(workshop: Workshop, tmp_path: Path) -> None:
    wheel = workshop.wheel("one", {"one-1.0.data/data/../../escaped": "x"})
    layout = Layout(site_packages="site", headers="include", interpreter="/opt/env/bin/python")
    root = tmp_path / "tree"
    with pytest.raises(PackError, match="leads out of the tree"):
        install_wheel(workshop.archives[wheel.file_name], [], "wheel:one", root=root, layout=layout, owners=Owners())


def test_an_archive_that_is_not_the_locked_one_is_refused(workshop: Workshop, store: Store) -> None:
    package = workshop.conda("data", {"share/data": "x"}, noarch="generic")
    lock = workshop.lock()
    other = dataclasses.replace(lock, conda=(dataclasses.replace(package, sha256="0" * 64),))
    with pytest.raises(IntegrityError, match="not the one that was locked"), workshop.stage(store, lock=other):
        pass


def test_a_dead_linker_is_an_error_with_its_last_words(
    workshop: Workshop, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.conda("data", {"share/data": "x"}, noarch="generic")
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\necho 'PyGILState_Release: panic' >&2\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(ResourceError, match=r"was ended by SIGKILL(.|\n)*PyGILState_Release"), workshop.stage(store):
        pass


def test_folders_that_a_package_lists_are_no_hindrance(workshop: Workshop, store: Store) -> None:
    workshop.conda("data", {"share": Folder(), "share/empty": Folder(), "share/data": "x"})
    workshop.conda("other", {"share/other": "x"})
    with workshop.stage(store) as tree:
        assert [entry.path for entry in tree.entries if entry.path.startswith("share")] == [
            "share", "share/data", "share/other",
        ]  # fmt: skip
        assert json.loads(text(tree, "conda-meta/data-1.0-0.json"))["files"] == ["share/data"]


def test_folders_are_no_hindrance_where_what_lies_in_them_was_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which of the two the library does is a matter of what it comes to first, so what it does is told to it here.
    listing, root = tmp_path / "cache" / "data-1.0-0" / "info" / "paths.json", tmp_path / "tree"
    listing.parent.mkdir(parents=True)
    folder, file = {"_path": "share", "path_type": "directory"}, {"_path": "share/data", "path_type": "hardlink"}
    listing.write_text(json.dumps({"paths": [folder, file]}))

    async def install(*_: object) -> None:
        root.mkdir()
        if folder in json.loads(listing.read_text())["paths"]:
            (root / "__clobbers__").mkdir()

    monkeypatch.setattr(link_child, "_install", install)
    job = {"archives": {}, "cache": str(tmp_path / "cache"), "prefix": "/opt/env", "root": str(root)}
    assert "again" in asyncio.run(link_child._link(job))
    (root / "__clobbers__").rmdir()
    root.rmdir()
    assert asyncio.run(link_child._link(job)) == {"prefix": "/opt/env"}


def test_a_prefix_that_does_not_fit_is_an_error(workshop: Workshop, store: Store) -> None:
    content = b"\x7fELF\0" + PLACEHOLDER.encode() + b"\0"
    workshop.conda("binary", {"bin/binary": content})
    with pytest.raises(PackError, match="cannot be linked"), workshop.stage(store, prefix="/opt/" + "p" * 300):
        pass


def test_a_staging_leaves_nothing_behind(usual: Workshop, store: Store) -> None:
    with usual.stage(store) as tree:
        assert tree.root.is_dir()
    assert not tree.root.parent.exists()


def test_code_is_compiled_once_for_every_prefix(usual: Workshop, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from boxsnake.stage import bytecode

    def codes(tree: Tree) -> dict[str, str]:
        return {entry.path: entry.sha256 for entry in tree.entries if entry.path.endswith(".pyc")}

    with usual.stage(store) as tree:
        first = codes(tree)
    monkeypatch.setattr(bytecode, "_compile", None)
    with usual.stage(store, prefix="/opt/elsewhere") as tree:
        assert codes(tree) == first


# The inventory's gates, which a sound staging never meets


def tree_of(tmp_path: Path, files: dict[str, bytes]) -> tuple[Path, Owners]:
    root, owners_of = tmp_path / "root", Owners()
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        owners_of.claim(path, "wheel:one")
    return root, owners_of


@pytest.mark.parametrize("start", [0, 5, (1 << 20) - 7, 1 << 20, 3_000_000])
def test_a_file_that_holds_the_staging_folder_is_refused_by_name(tmp_path: Path, start: int) -> None:
    content = bytes(start) + b"/staging/folder" + bytes(100)
    root, owners_of = tree_of(tmp_path, {"lib/fine": b"/staging/other", "lib/leaky": content})
    with pytest.raises(PackError, match=r"lib/leaky: the wheel one holds the path of the folder"):
        inventory(root, owners_of, later=(), forbidden=[b"/staging/folder"])


def test_a_link_into_the_staging_folder_is_refused(tmp_path: Path) -> None:
    root, owners_of = tree_of(tmp_path, {"file": b""})
    (root / "leaky").symlink_to("/staging/folder/file")
    owners_of.claim("leaky", "wheel:one")
    with pytest.raises(PackError, match="leaky: the wheel one holds the path"):
        inventory(root, owners_of, later=(), forbidden=[b"/staging/folder"])


def test_a_file_without_owner_is_refused(tmp_path: Path) -> None:
    root, owners_of = tree_of(tmp_path, {"owned": b""})
    (root / "stray").write_bytes(b"")
    with pytest.raises(PackError, match="stray: no package owns"):
        inventory(root, owners_of, later=(), forbidden=())


def test_a_path_that_is_listed_and_absent_is_refused(tmp_path: Path) -> None:
    root, owners_of = tree_of(tmp_path, {"owned": b""})
    owners_of.claim("absent", "conda:two")
    with pytest.raises(PackError, match="absent: the conda package two lists this path"):
        inventory(root, owners_of, later=(), forbidden=())


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    root, owners_of = tree_of(tmp_path, {"file": b""})
    os.mkfifo(root / "pipe")
    owners_of.claim("pipe", "wheel:one")
    with pytest.raises(PackError, match="pipe: the wheel one brings something"):
        inventory(root, owners_of, later=(), forbidden=())


def test_modes_are_made_plain_and_empty_folders_go(tmp_path: Path) -> None:
    root, owners_of = tree_of(tmp_path, {"bin/tool": b"", "lib/data": b""})
    (root / "bin/tool").chmod(0o4711)
    (root / "lib/data").chmod(0o600)
    (root / "lib").chmod(0o700)
    (root / "empty/in/vain").mkdir(parents=True)
    found = inventory(root, owners_of, later=(), forbidden=())
    assert {path: entry.mode for path, entry in found.items()} == {"bin/tool": 0o755, "lib/data": 0o644}
    assert (root / "bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (root / "lib").stat().st_mode & 0o7777 == 0o755
    assert not (root / "empty").exists()
    assert with_folders(found.values())[0].path == "bin"


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from boxsnake.store import Store
from tests.trees import *

folder = Path(sys.argv[1])
(folder / "archives").mkdir(parents=True)
workshop = Workshop(folder / "archives")
sets = "X = {'a', 'b', 'c', 'd'}\\ndef f(x):\\n    return x in {'p', 'q', 'r'}\\n"
workshop.python({f"lib/python{MINOR}/sets.py": sets})
flask = json.loads(sys.argv[2])
workshop.conda("flask", flask, noarch="python", depends=["python"], entry_points=["flask = flask:main"])
workshop.wheel("web", {"web/__init__.py": "", "web-1.0.data/scripts/tool": "#!python\\n"})
with workshop.stage(Store(folder / "store")) as tree:
    for entry in tree.entries:
        print(entry, (tree.root / entry.path).lstat().st_mtime)
"""


def test_the_same_inputs_give_the_same_tree_everywhere(tmp_path: Path) -> None:
    def listing(folder: str, umask: int, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / folder), json.dumps(FLASK)],
            env=os.environ | environment,
            umask=umask,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    plain = listing("a", 0o022, TZ="UTC", PYTHONHASHSEED="1", LC_ALL="C")
    odd = listing("much/longer/ünïcode folder", 0o077, TZ="Asia/Tokyo", PYTHONHASHSEED="77", LC_ALL="C.UTF-8")
    assert "sets.cpython" in plain
    assert odd == plain
