"""The linker that installs package archives: it links what was promised, or nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from boxsnake.entries import conda_owner
from boxsnake.os_packages.nfpm import Content
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_payload import SupportTexts, as_archives, as_files
from tests.rpm_trees import EPOCH, write_tree

TEXTS = SupportTexts(control="", version="", check="")
CARRIED = {conda_owner("python"), conda_owner("zlib")}


class Installed:
    """A package as rpm leaves it before its scriptlet links the archives."""

    def __init__(self, folder: Path) -> None:
        layout = Layout(name="app", version="1.0.0-1", prefix_root=str(folder / "opt"))
        self.tree = write_tree(folder / "tree", layout.prefix, "1.0.0")
        (folder / "scratch").mkdir()
        payload = as_archives(self.tree, layout, ("app",), folder / "scratch", texts=TEXTS, carried=CARRIED, time=EPOCH)
        self.needed = payload.needed
        self._contents = [content for content in payload.contents if content.path.startswith(f"{folder}/")]
        self.prefix = Path(layout.prefix)
        self.support = Path(layout.support)
        self.unpack()

    def unpack(self) -> None:
        for content in self._contents:
            self._place(content)

    def _place(self, content: Content) -> None:
        path = Path(content.path)
        if content.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
        elif content.kind == "link":
            path.unlink(missing_ok=True)
            path.symlink_to(content.target)
        elif content.kind == "file":
            assert content.source is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content.source, path)
            path.chmod(content.mode)
            os.utime(path, (EPOCH, EPOCH))

    def run(self, action: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-B", "-S", str(self.support / "link.py")]
        command += [action, str(self.support), str(self.prefix)]
        return subprocess.run(command, capture_output=True, text=True)

    def link(self) -> None:
        done = self.run("link")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def archive(self, name: str) -> Path:
        return self.support / "archives" / name


def text_of(link: Path) -> str:
    return os.readlink(link)  # noqa: PTH115 - Path.readlink shortens "./a" to "a"


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder, as far as two folders can be compared."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        kind = stat.S_IFMT(state.st_mode)
        name = path.relative_to(root).as_posix()
        if stat.S_ISLNK(kind):
            found[name] = ("link", text_of(path), int(state.st_mtime))
        elif stat.S_ISDIR(kind):
            found[name] = ("folder",)
        else:
            found[name] = ("file", stat.S_IMODE(state.st_mode), path.read_bytes(), int(state.st_mtime))
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_what_is_linked_is_the_staged_tree(installed: Installed) -> None:
    installed.link()
    linked, staged = described(installed.prefix), described(installed.tree.root)
    # rpm places the interpreter's own links, which have no time here.
    for name in ("bin/python",):
        linked[name], staged[name] = linked[name][:2], staged[name][:2]
    assert linked == staged


def test_nothing_else_is_left(installed: Installed) -> None:
    before = described(installed.support)
    installed.link()
    assert described(installed.support) == before


def test_linking_again_changes_nothing(installed: Installed) -> None:
    installed.link()
    before = {path: path.lstat().st_ino for path in installed.prefix.rglob("*")}
    installed.link()
    assert {path: path.lstat().st_ino for path in installed.prefix.rglob("*")} == before


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.write_bytes(b"other"), "other size"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "other content"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.chmod(0o600), "other mode"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "no file"),
    ],
)
def test_harm_is_told_and_repaired(installed: Installed, harm: object, told: str) -> None:
    assert callable(harm)
    installed.link()
    assert installed.run("verify").returncode == 0
    place = installed.prefix / "lib/python3.11/site-packages/dep.py"
    harm(place)
    done = installed.run("verify")
    assert (done.returncode, done.stdout) == (1, f"{told}  {place}\n")
    installed.link()
    assert installed.run("verify").returncode == 0
    assert stat.S_ISREG(place.lstat().st_mode)


def test_a_changed_link_is_told_and_repaired(installed: Installed) -> None:
    installed.link()
    place = installed.prefix / "lib/libx.so"
    place.unlink()
    place.symlink_to("libx.so.1")
    done = installed.run("verify")
    assert (done.returncode, done.stdout) == (1, f"other link  {place}\n")
    installed.link()
    assert text_of(place) == "./libx.so.1"


def test_a_missing_archive_is_named(installed: Installed) -> None:
    installed.archive("application.tar").unlink()
    done = installed.run("link")
    assert done.returncode == 1
    assert "application.tar" in done.stderr


def test_a_damaged_archive_is_refused(installed: Installed) -> None:
    archive = installed.archive("conda-libx.tar")
    archive.write_bytes(archive.read_bytes().replace(b"xxxxxxxx", b"yyyyyyyy", 1))
    done = installed.run("link")
    assert done.returncode == 1
    assert "'lib/libx.so.1' is damaged" in done.stderr
    assert not (installed.prefix / "lib/libx.so.1").exists()
    assert archive.exists()


@pytest.mark.parametrize("size", [0, 100, 512, 40_000])
def test_a_truncated_archive_is_refused(installed: Installed, size: int) -> None:
    archive = installed.archive("conda-libx.tar")
    archive.write_bytes(archive.read_bytes()[:size])
    done = installed.run("link")
    assert done.returncode == 1
    assert done.stderr != ""
    assert not (installed.prefix / "lib/libx.so.1").exists()


def test_an_archive_with_more_than_was_promised_is_refused(installed: Installed) -> None:
    shutil.copyfile(installed.archive("conda-libx.tar"), installed.archive("application.tar"))
    done = installed.run("link")
    assert done.returncode == 1
    assert "which its manifest does not name" in done.stderr


def test_what_a_killed_run_left_is_no_harm(installed: Installed, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (installed.support / "unpacked").symlink_to(victim)
    installed.link()
    assert victim.read_text() == "untouched"


def test_a_full_disk_is_told(installed: Installed) -> None:
    command = f"ulimit -f 8; exec {sys.executable} -I -B -S {installed.support}/link.py link "
    command += f"{installed.support} {installed.prefix}"
    done = subprocess.run(["bash", "-c", f"trap '' XFSZ; {command}"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert not (installed.prefix / "lib/libx.so.1").exists()


@pytest.mark.parametrize("arguments", [[], ["link"], ["unlink", "/a", "/b"]])
def test_usage(arguments: list[str]) -> None:
    program = Path(__file__).parent.parent / "rpm" / "link.py"
    done = subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_the_space_that_is_needed_counts_what_is_unpacked_later(installed: Installed, tmp_path: Path) -> None:
    layout = Layout(name="app", version="1.0.0-1")
    scratch = tmp_path / "files"
    scratch.mkdir()
    files = as_files(installed.tree, layout, ("app",), scratch, texts=TEXTS, time=EPOCH).needed
    unpacked = sum(entry.size for entry in installed.tree.entries)
    assert unpacked < files < installed.needed < 3 * files
