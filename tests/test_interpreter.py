"""The interpreter that compiles an edited application: kept, and compared before it is used."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from boxsnake.archive import Member, file_member, write_tar
from boxsnake.disk import remove_tree
from boxsnake.stage.interpreter import NotStartingError, kept_interpreter
from boxsnake.store import Store

FILES = {
    "bin/python3.11": b"program",
    "lib/libpython3.11.so.1.0": b"library",
    "lib/python3.11/os.py": b"module",
    "lib/python3.11/encodings/ascii.py": b"codec",
    "conda-meta/python-3.11.2-0.json": b"{}",
}
LEFT_OUT = {"share/doc/readme": b"", "lib/python3.11/site-packages/six.py": b"", "bin/tool": b""}


class Kept:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.starts = 0
        members = [file_member(f"opt/env/{name}", content) for name, content in (FILES | LEFT_OUT).items()]
        raw = io.BytesIO()
        write_tar([*members, Member(name="opt/env/bin/python", mode=0o777, link="python3.11")], raw, epoch=0)
        self.layer = store.put_bytes(gzip.compress(raw.getvalue(), mtime=0)).digest

    def folder(self, *, works: bool = True) -> Path | None:
        def starts(folder: Path) -> bool:
            self.starts += 1
            return works and (folder / "bin" / "python").read_bytes() == b"program"

        return kept_interpreter(self.store, self.layer, prefix="/opt/env", minor="3.11", starts=starts)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(Store(tmp_path / "store"))


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_laid_out_once(kept: Kept) -> None:
    folder = kept.folder()
    assert folder is not None
    assert files_in(folder) == {**FILES, "bin/python": b"program"}
    assert kept.folder() == folder
    assert kept.starts == 1


@pytest.mark.parametrize("harm", ["changed", "absent", "more", "mode", "link", "all"])
def test_what_was_changed_in_it_is_laid_out_anew(kept: Kept, harm: str) -> None:
    folder = kept.folder()
    assert folder is not None
    module = folder / "lib" / "python3.11" / "os.py"
    if harm == "changed":
        module.write_bytes(b"modules")
    if harm == "absent":
        module.unlink()
    if harm == "more":
        module.with_name("json.py").write_bytes(b"")
    if harm == "mode":
        (folder / "bin" / "python3.11").chmod(0o600)
    if harm == "link":
        (folder / "bin" / "python").unlink()
        (folder / "bin" / "python").symlink_to("../lib/python3.11/os.py")
    if harm == "all":
        remove_tree(folder)
    again = kept.folder()
    assert again is not None
    assert files_in(again) == {**FILES, "bin/python": b"program"}
    assert kept.starts == 2


def test_one_that_does_not_start_is_refused(kept: Kept) -> None:
    with pytest.raises(NotStartingError):
        kept.folder(works=False)
    assert kept.folder() is not None
