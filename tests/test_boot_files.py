"""What is read off the files of a box, tried on this machine's own programs in folders of ours."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from boxsnake.boot.files import look

PROGRAM = Path("/bin/ls")


def facts(folder: Path, *traces: str, stock: tuple[str, ...] = ()) -> dict[str, Any]:
    return look(
        {
            "roots": [str(folder)],
            "stock": [str(folder / name) for name in stock],
            "traces": list(traces),
            "environment": {},
        }
    )


@pytest.fixture(autouse=True)
def _no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).resolve()))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def altered(path: Path, old: bytes, new: bytes, of: Path = PROGRAM) -> None:
    """This machine's `ls`, or another file of it, with other words of the same length."""
    image = of.read_bytes()
    assert old in image
    assert len(old) == len(new)
    path.write_bytes(image.replace(old, new))
    path.chmod(0o755)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    shutil.copy(PROGRAM, tmp_path / "ls")
    write(tmp_path / "bin" / "script", "#!/bin/sh\n", 0o755)
    write(tmp_path / "bin" / "other", "#!/usr/bin/no-such-perl\n", 0o755)
    write(tmp_path / "share" / "notes", "/build/placement is somewhere else")
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "link").symlink_to("/nowhere")
    found = facts(tmp_path, "/build/place")
    assert (found["faults"], found["missing"], found["files"]) == ({}, [], 4)


def test_the_loader_is_not_asked_for_what_its_cache_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PROGRAM, tmp_path / "ls")
    monkeypatch.setattr("boxsnake.boot.files.subprocess.run", lambda *_, **__: pytest.fail("the loader was asked"))
    assert facts(tmp_path)["missing"] == []


def test_rights_that_nobody_should_have_are_named(tmp_path: Path) -> None:
    write(tmp_path / "root", "", 0o4755)
    write(tmp_path / "group", "", 0o2755)
    write(tmp_path / "open", "", 0o666)
    (tmp_path / "everybodys").mkdir()
    (tmp_path / "everybodys").chmod(0o777)
    found = facts(tmp_path)["faults"]
    assert found["setuid"] == [f"{tmp_path}/group", f"{tmp_path}/root"]
    assert found["writable"] == [f"{tmp_path}/everybodys", f"{tmp_path}/open"]


@pytest.mark.parametrize("text", ["see /build/place/lib", "/build/place", "x/build/place:"])
def test_places_of_the_build_are_named(tmp_path: Path, text: str) -> None:
    write(tmp_path / "lib" / "config.py", text)
    write(tmp_path / "conda-meta" / "records.json", text)
    found = facts(tmp_path, "/build/place")["faults"]
    assert found == {"trace": [f"{tmp_path}/lib/config.py (/build/place)"]}


def test_an_interpreter_of_the_build_is_named(tmp_path: Path) -> None:
    write(tmp_path / "bin" / "tool", "#!/build/place/bin/python -I\n", 0o755)
    assert facts(tmp_path)["faults"] == {"interpreter": [f"{tmp_path}/bin/tool (#!/build/place/bin/python)"]}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_library_that_a_program_does_not_find_is_named(tmp_path: Path, *, elsewhere: bool) -> None:
    altered(tmp_path / "tool", b"libselinux.so.1", b"libnowhere.so.1")
    if elsewhere:
        write(tmp_path / "lib" / "libnowhere.so.1", "")
    assert facts(tmp_path)["missing"] == [["libnowhere.so.1", f"{tmp_path}/tool"]]


@pytest.mark.parametrize(("brought", "missing"), [("", True), ("file", False), ("link", False)])
def test_what_a_library_wants_may_have_been_loaded_from_elsewhere(
    tmp_path: Path, brought: str, *, missing: bool
) -> None:
    (library,) = Path("/usr/lib").glob("*/libselinux.so.1")
    altered(tmp_path / "module.so", b"libpcre2-8.so.0", b"libnowhere.so.0", library)
    if brought:
        write(tmp_path / "lib" / ("libnowhere.so.0" if brought == "file" else "libnowhere.so.0.1"), "")
    if brought == "link":
        (tmp_path / "lib" / "libnowhere.so.0").symlink_to("libnowhere.so.0.1")
    assert bool(facts(tmp_path)["missing"]) is missing


def test_a_newer_c_library_is_asked_for(tmp_path: Path) -> None:
    altered(tmp_path / "tool", b"\0GLIBC_2.34\0", b"\0GLIBC_2.99\0")
    own = platform.libc_ver()[1]
    assert facts(tmp_path)["faults"] == {"version": [f"{tmp_path}/tool (GLIBC_2.99, and the host has {own})"]}


def test_many_files_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"{number:02}", "", 0o666)
    found = facts(tmp_path)
    assert (len(found["faults"]["writable"]), found["counts"]["writable"]) == (8, 20)


def test_what_is_not_used_where_it_lies_is_seen_where_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a-store" / "tool", "#!/build/place/bin/python\n", 0o755)
    write(tmp_path / "a-store" / "unused", "#!/build/place/bin/python\n", 0o4755)
    (tmp_path / "a-store" / "link").symlink_to("unused")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").hardlink_to(tmp_path / "a-store" / "tool")
    found = facts(tmp_path, stock=("a-store",))["faults"]
    assert found == {
        "interpreter": [f"{tmp_path}/bin/tool (#!/build/place/bin/python)"],
        "setuid": [f"{tmp_path}/a-store/unused"],
    }


def test_hard_links_are_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a", "")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert facts(tmp_path)["files"] == 1
