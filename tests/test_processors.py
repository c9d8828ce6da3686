"""Which emulators the kernel starts, read off what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxsnake.processors import emulated

QEMU = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
PYTHON = "enabled\ninterpreter /usr/bin/python3.11\nflags: \noffset 0\nmagic a70d0d0a\n"


def folder_of(folder: Path, **entries: str) -> Path:
    for name, text in {"status": "enabled\n", "python3.11": PYTHON, **entries}.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (QEMU, {"arm64"}),
        (QEMU.replace("b700", "3e00"), {"amd64"}),
        # Of an emulator that the kernel looks for in the container itself, there is no file there.
        (QEMU.replace("POF", "PO"), set()),
        (QEMU.replace("enabled", "disabled"), set()),
        (QEMU.replace("b700", "f300"), set()),
    ],
    ids=["arm64", "amd64", "not-opened", "disabled", "another-processor"],
)
def test_an_emulator_that_containers_have_is_told(entry: str, found: set[str], tmp_path: Path) -> None:
    assert emulated(folder_of(tmp_path, qemu=entry)) == found


def test_a_kernel_without_emulators_has_none(tmp_path: Path) -> None:
    assert emulated(tmp_path / "absent") == frozenset()
    assert emulated(folder_of(tmp_path)) == frozenset()
