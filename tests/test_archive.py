from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from boxsnake.archive import GzipSink, Member, file_member, gzip_member, write_tar
from boxsnake.errors import PackError

EPOCH = 1577836800


def packed(*members: Member) -> bytes:
    out = io.BytesIO()
    write_tar(members, out, epoch=EPOCH)
    return out.getvalue()


def read_back(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {member.name: member for member in archive}


def noise(size: int) -> bytes:
    return hashlib.shake_256(b"noise").digest(size)


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        found = archive.extractfile(name)
        assert found is not None
        return found.read()


def test_every_kind_of_member_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 3_000_001)
    data = packed(
        file_member("bin/run", b"#!/bin/sh\n", executable=True),
        file_member("lib/big", tmp_path / "big"),
        Member(name="lib/empty"),
        Member(name="lib/link", mode=0o777, link="../bin/run"),
    )
    found = read_back(data)
    assert list(found) == ["bin", "bin/run", "lib", "lib/big", "lib/empty", "lib/link"]
    assert [member.type for member in found.values()] == [b"5", b"0", b"5", b"0", b"5", b"2"]
    assert found["bin/run"].mode == 0o755
    assert found["lib/big"].mode == 0o644
    assert found["lib/link"].linkname == "../bin/run"
    assert content(data, "lib/big") == b"x" * 3_000_001
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found.values()} == {(0, 0, "", "", EPOCH)}


def test_plain_members_need_no_pax_record() -> None:
    assert b"PaxHeader" not in packed(
        file_member("a" * 100, b"1"), file_member(f"{'d' * 77}/{'d' * 77}/{'f' * 100}", b"2")
    )


@pytest.mark.parametrize(
    "name",
    ["n" * 101, "d" * 156 + "/file", "/".join(["d" * 60] * 6), "é/ünï.txt", "x" * 99 + "/" + "y" * 300],
    ids=["long name", "long folder", "deep", "not ASCII", "both long"],
)
def test_names_that_ustar_cannot_hold_get_a_pax_record(name: str) -> None:
    data = packed(file_member(name, b"here"))
    assert b"PaxHeader" in data
    assert content(data, name) == b"here"


def test_link_texts_that_ustar_cannot_hold_get_a_pax_record() -> None:
    found = read_back(packed(Member(name="long", link="t" * 101), Member(name="short", link="ü")))
    assert (found["long"].linkname, found["short"].linkname) == ("t" * 101, "ü")


def test_a_file_over_eight_gibibytes_gets_a_pax_record(tmp_path: Path) -> None:
    class Heads:
        """Keeps what is not the file's own zeros."""

        def __init__(self) -> None:
            self.kept = b""

        def write(self, data: bytes, /) -> None:
            self.kept += data[:1536] if len(self.kept) < 1536 else b""

    huge = tmp_path / "huge"
    with huge.open("wb") as stream:
        stream.truncate(8 * 1024**3)
    out = Heads()
    with pytest.raises(StopWriting):
        write_tar([file_member("huge", huge)], StopAfter(out, 2), epoch=EPOCH)
    assert f"size={8 * 1024**3}\n".encode() in out.kept


class StopWriting(Exception):  # noqa: N818 - ends a test early, and is no error
    pass


class StopAfter:
    def __init__(self, out: object, writes: int) -> None:
        self.out = out
        self.left = writes

    def write(self, data: bytes, /) -> None:
        if not self.left:
            raise StopWriting
        self.left -= 1
        self.out.write(data)  # type: ignore[attr-defined]


def test_the_order_of_members_does_not_matter() -> None:
    members = [file_member(f"d{n % 7}/f{n}", str(n).encode()) for n in range(50)]
    assert packed(*members[::-1]) == packed(*members[25:], *members[:25]) == packed(*members)


def test_parents_come_before_what_is_in_them_and_only_once() -> None:
    names = list(read_back(packed(file_member("a/b/c", b""), file_member("a-b", b""), Member(name="a/b", mode=0o700))))
    assert names == ["a", "a-b", "a/b", "a/b/c"]


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(PackError, match=r"a/b: two members"):
        packed(file_member("a/b", b"1"), file_member("a/b", b"2"))


def test_hard_links_on_disk_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"same")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    linked = packed(file_member("one", tmp_path / "one"), file_member("two", tmp_path / "two"))
    assert linked == packed(file_member("one", b"same"), file_member("two", b"same"))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 3_000_000)

    class Truncating(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            path.write_bytes(b"")
            return super().write(data)

    with pytest.raises(PackError, match="changed while it was packed"):
        write_tar([file_member("log", path)], Truncating(), epoch=EPOCH)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_gzip_is_read_by_others_and_knows_its_diff_id(size: int) -> None:
    data = noise(size)
    out = io.BytesIO()
    with GzipSink(out) as sink:
        for start in range(0, size, 77_777):
            sink.write(data[start : start + 77_777])
    assert gzip.decompress(out.getvalue()) == data
    assert sink.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_gzip_does_not_depend_on_how_the_bytes_arrive() -> None:
    data = noise(2_500_000) + bytes(700_000)
    streams = []
    for step in (1 << 20, 333_333, len(data)):
        out = io.BytesIO()
        with GzipSink(out) as sink:
            for start in range(0, len(data), step):
                sink.write(data[start : start + step])
        streams.append(out.getvalue())
    assert streams[0] == streams[1] == streams[2]


def test_a_gzip_member_has_neither_name_nor_time() -> None:
    head = gzip_member(b"content")[:10]
    assert head[:4] == b"\x1f\x8b\x08\x00"  # deflate, no optional fields
    assert head[4:8] == b"\0\0\0\0"  # no time


def test_an_error_in_the_middle_ends_the_threads() -> None:
    class FullError(OSError):
        pass

    class Full:
        def write(self, _data: bytes, /) -> None:
            raise FullError

    with pytest.raises(FullError), GzipSink(Full()) as sink:
        sink.write(bytes(40 << 20))
    assert sink._pool._shutdown
