"""Archives as conda-pack makes them, unpacked and used as its users do: activated or not, moved, twice at once."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from boxsnake.conda_pack import unpack as program
from boxsnake.conda_pack.members import script_start
from boxsnake.packagers import Materials
from boxsnake.packagers.conda_pack import PACKAGER
from boxsnake.plan import Application, Plan
from boxsnake.store import Store
from tests.test_stage import FLASK
from tests.trees import EPOCH, MINOR, PLACEHOLDER, SITE, Content, Program, Workshop

SHELLS = (("bash",), ("dash",), ("busybox", "sh"))
CONF = "etc/where.conf"
# As an interpreter does: it finds its packages from where it lies.
PYTHON = f"""#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
PYTHONPATH=$here/../{SITE} exec {sys.executable} "$@"
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Everything that can depend on a prefix."""
    workshop = Workshop(tmp_path_factory.mktemp("archives"))
    text = PLACEHOLDER.encode()
    workshop.python(
        {
            f"bin/python{MINOR}": Program(PYTHON),
            f"lib/python{MINOR}/_sysconfigdata.py": f"A = '{PLACEHOLDER}/a:{PLACEHOLDER}'\n",
            "lib/twice.so": b"\x7fELF\0" + text + b"/lib:" + text + b"/more\0\0tail" + text + b"\0end",
            "bin/told": Program(f"#!{PLACEHOLDER}/bin/python{MINOR} -s\nprint('{PLACEHOLDER}')\n"),
            "bin/perlish": Program(f"#!{PLACEHOLDER}/bin/perl -w\n"),
            CONF: f"{PLACEHOLDER}/share\n",
            "var/late": f"{PLACEHOLDER}\n",
            "etc/conda/activate.d/one.sh": "export ONE=1\n",
            "etc/conda/deactivate.d/one.sh": "unset ONE\n",
        }
    )
    scripted: dict[str, Content] = {"python-scripts/noarch-tool": Program(f"#!{PLACEHOLDER}/bin/python\n"), **FLASK}
    workshop.conda("flask", scripted, noarch="python", depends=["python"], entry_points=["flask = flask:main"])
    main = "import sys\ndef main():\n    print('web', *sys.argv[1:])\n"
    files = {"web/__init__.py": main, "web-1.0.data/scripts/tool": "#!python\nprint(1)\n"}
    workshop.wheel("web", files, entry_points="[console_scripts]\nweb = web:main\n")
    return workshop


def packed(workshop: Workshop, folder: Path, **options: Any) -> Path:
    lock = workshop.lock()
    application = Application(name="app", version="1.0")
    plan = Plan(
        application=application, lock=lock, options=PACKAGER.options(**options), root=Path("/nowhere"), epoch=EPOCH
    )
    PACKAGER.check(plan)
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / PACKAGER.file_name(plan)
    PACKAGER.pack(plan, cast("Materials", workshop.materials(Store(folder / "store"))), out)
    return out


@pytest.fixture(scope="module")
def archive(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(workshop, tmp_path_factory.mktemp("archive"))


@pytest.fixture
def unpacked(archive: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "two words" / "env"
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(folder)], check=True)
    return folder


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    words = [str(word) for word in command]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd="/")


def unpack(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder / "bin" / "conda-unpack", *arguments)


def lies_at(folder: Path) -> None:
    """Everything in it knows that it lies there, and the records tell the truth of every file."""
    assert (folder / CONF).read_text() == f"{folder}/share\n"
    assert (folder / "var" / "late").read_text() == f"{folder}\n"
    assert run(folder / "bin" / "told").stdout == f"{folder}\n"
    place = os.fsencode(folder)
    size = len(PLACEHOLDER)
    twice = (folder / "lib" / "twice.so").read_bytes()
    strings = (place + b"/lib:" + place + b"/more" + bytes(2 * (size - len(place)) + 2)) + b"tail" + place
    assert twice == b"\x7fELF\0" + strings + bytes(size - len(place) + 1) + b"end"
    assert_records_hold(folder)


def assert_records_hold(folder: Path) -> None:
    for record in (folder / "conda-meta").glob("*.json"):
        for row in json.loads(record.read_text())["paths_data"]["paths"]:
            path = folder / row["_path"]
            if row["path_type"] == "softlink" or path.is_symlink():
                continue
            content = path.read_bytes()
            assert row.get("size_in_bytes") == len(content), path
            assert row.get("sha256_in_prefix", row["sha256"]) == hashlib.sha256(content).hexdigest(), path


def test_commands_run_before_it_is_mended_and_wherever_it_is_moved(unpacked: Path, tmp_path: Path) -> None:
    assert_commands_run(unpacked, tmp_path)
    assert_commands_run(unpacked.rename(tmp_path / "moved"), tmp_path)


def assert_commands_run(folder: Path, tmp_path: Path) -> None:
    for name, *arguments, words in (
        ("web", "a", "b", "web a b\n"),
        ("tool", "1\n"),
        ("noarch-tool", ""),
        ("flask", ""),
    ):
        done = run(folder / "bin" / name, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, words, ""), name
    link = tmp_path / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(folder / "bin" / "web")
    assert run(link).stdout == "web\n"
    assert_records_hold(folder)


def test_unpacking_twice_and_after_a_move(unpacked: Path, tmp_path: Path) -> None:
    assert_records_hold(unpacked)
    assert unpack(unpacked).stderr == ""
    lies_at(unpacked)
    before = {path: path.stat().st_ino for path in unpacked.rglob("*")}
    done = unpack(unpacked, "--verbose")
    assert (done.returncode, done.stdout) == (0, "")
    assert {path: path.stat().st_ino for path in unpacked.rglob("*") if "conda-unpack" not in path.parts} == {
        path: number for path, number in before.items() if "conda-unpack" not in path.parts
    }
    moved = unpacked.rename(tmp_path / "größer and longer than before")
    done = unpack(moved, "--verbose")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(moved / CONF) in done.stdout.splitlines()
    lies_at(moved)
    assert unpack(moved, "--version").stdout == "conda-unpack of app 1.0\n"


def test_what_somebody_has_changed_is_left(unpacked: Path, tmp_path: Path) -> None:
    assert unpack(unpacked).returncode == 0
    (unpacked / CONF).write_text("mine\n")
    (unpacked / "var" / "late").unlink()
    moved = unpacked.rename(tmp_path / "moved")
    done = unpack(moved)
    assert done.returncode == 0
    assert f"{moved / CONF} was changed since, and is left as it is" in done.stderr
    assert f"{moved / 'var' / 'late'} is gone, and is left as it is" in done.stderr
    assert (moved / CONF).read_text() == "mine\n"
    assert run(moved / "bin" / "told").stdout == f"{moved}\n"


def test_a_killed_run_is_finished_by_the_next_one_elsewhere(unpacked: Path, tmp_path: Path) -> None:
    (unpacked / "var" / "late").chmod(0o444)
    (unpacked / "share/conda-unpack/unplaced/var/late").unlink()  # what a run in the midst of its work stops at
    assert unpack(unpacked).returncode == 1
    assert (unpacked / CONF).read_text() == f"{unpacked}/share\n"
    shutil.copy(unpacked / "var" / "late", unpacked / "share/conda-unpack/unplaced/var/late")
    moved = unpacked.rename(tmp_path / "moved")
    assert unpack(moved).stderr == ""
    lies_at(moved)


def test_two_runs_at_once(unpacked: Path) -> None:
    command = [str(unpacked / "bin" / "conda-unpack")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in both] == [("", 0)] * 2
    lies_at(unpacked)


def test_a_place_that_does_not_fit_is_refused_before_anything_is_written(unpacked: Path, tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < len(PLACEHOLDER):
        folder /= "deeper-and-deeper"
    folder.mkdir(parents=True)
    deep = unpacked.rename(folder / "env")
    done = unpack(deep)
    assert done.returncode == 1
    length = len(os.fsencode(deep))
    assert f"has {length} bytes; the packages have room for {len(PLACEHOLDER)}" in done.stderr
    assert PLACEHOLDER.encode() not in (deep / "bin" / "web").read_bytes()
    assert not (deep / "share" / "conda-unpack" / "placed-sums").exists()
    odd = deep.rename(tmp_path / "a$b")
    assert "'$'" in unpack(odd).stderr


ENTERED = """\
set -u
. "{env}/bin/activate"
. "{env}/bin/activate"
echo "$CONDA_PREFIX|$ONE"; command -v web; web
. deactivate
echo "${{CONDA_PREFIX-}}|${{ONE-}}|$PATH"
"""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: str(shell[0]))
def test_it_is_entered_and_left_in_each_shell(unpacked: Path, shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    path = f"{os.defpath}:/with a space"
    environment = {"PATH": path}
    for script in (ENTERED, "(\n" + ENTERED + ")\n"):
        text = script.format(env=unpacked)
        done = subprocess.run([*shell, "-c", text], env=environment, capture_output=True, text=True, timeout=60)
        lines = [f"{unpacked}|1", f"{unpacked}/bin/web", "web", f"||{path}"]
        assert (done.stdout.splitlines(), done.stderr) == (lines, "")


def test_one_environment_is_left_for_the_other(unpacked: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(unpacked, other, symlinks=True)
    text = f'. "{unpacked}/bin/activate"; . "{other}/bin/activate"; echo "$CONDA_PREFIX|$PATH"'
    done = run("bash", "-c", text)
    assert done.stdout == f"{other}|{other}/bin:{os.defpath}\n"


def test_the_archive_is_what_consumers_expect(archive: Path, workshop: Workshop, tmp_path: Path) -> None:
    assert archive.name == "app-1.0-linux-64.tar.gz"
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
        # As Python's own unpacking, which refuses what leads outside, has it.
        tar.extractall(tmp_path / "there", filter="data")
    assert {"bin/activate", "bin/deactivate", "bin/activate.fish", "bin/conda-unpack", "bin/python"} <= set(members)
    assert "conda-meta/history" in members
    assert all(member.mtime == EPOCH and member.uid == 0 for member in members.values())
    assert members["share/conda-unpack/unplaced/lib/twice.so"].islnk()
    assert members["var/late"].islnk(), "it comes after its other name"
    assert unpack(tmp_path / "there").stderr == ""
    lies_at(tmp_path / "there")
    assert packed(workshop, tmp_path / "again").read_bytes() == archive.read_bytes()


def test_zstd_holds_the_same(archive: Path, workshop: Workshop, tmp_path: Path) -> None:
    import gzip

    import zstandard

    made = packed(workshop, tmp_path, compression="tar.zst")
    assert made.name.endswith(".tar.zst")
    with made.open("rb") as stream:
        content = zstandard.ZstdDecompressor().stream_reader(stream).read()
    assert content == gzip.decompress(archive.read_bytes())


def test_one_place_takes_no_unpacking(workshop: Workshop, tmp_path: Path) -> None:
    made = packed(workshop, tmp_path, prefix="/opt/env")
    with tarfile.open(made) as tar:
        names = tar.getnames()
        conf = tar.extractfile(CONF)
        assert conf is not None
        assert conf.read() == b"/opt/env/share\n"
    assert "bin/activate" in names
    assert not [name for name in names if "conda-unpack" in name]


def test_what_it_carries_is_read_by_old_interpreters_and_needs_nothing_else() -> None:
    tree = ast.parse(Path(program.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    taken = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in taken if name and name.startswith("boxsnake")} == {"boxsnake.relocation"}


def test_levels_are_those_of_the_compressor() -> None:
    with pytest.raises(ValueError, match=r"highest level of tar\.gz is 12"):
        PACKAGER.options.decoded({"level": 13})
    assert PACKAGER.options.decoded({"level": 13, "compression": "tar.zst"}).level == 13


@pytest.mark.parametrize(
    ("line", "path", "start"),
    [
        (b"#!/ph/bin/perl -w", "bin/x", b"#!/usr/bin/env perl -w"),
        (b"#!/bin/sh", "bin/x", b"#!/bin/sh"),
        (b"#!/usr/bin/env /ph/bin/python", "bin/x", b"#!/usr/bin/env /ph/bin/python"),
    ],
)
def test_other_interpreters_are_looked_for_on_path(line: bytes, path: str, start: bytes) -> None:
    assert script_start(line, path, b"/ph") == start


def test_a_script_that_lies_elsewhere_finds_its_interpreter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    script = tmp_path / "libexec" / "deep" / "script"
    script.parent.mkdir(parents=True)
    script.write_bytes(script_start(b"#!/ph/bin/python -s", "libexec/deep/script", b"/ph") + b"\nprint('here')\n")
    script.chmod(0o755)
    assert run(script).stdout == "here\n"
