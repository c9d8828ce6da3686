"""Deltas: the new file comes out to the last bit, or nothing does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard
from click.testing import CliRunner

from boxsnake.archive import GzipSink, file_member, small_gzip_member, write_tar
from boxsnake.cli.delta import command as delta_command
from boxsnake.cli.patch import command as patch_command
from boxsnake.delta import making, pieces, streams
from boxsnake.delta.header import MAGIC
from boxsnake.delta.making import apply_delta, described, make_delta
from boxsnake.delta.streams import fold
from boxsnake.errors import IntegrityError, ResourceError, UsageError

WORDS = [hashlib.sha256(b"%d" % number).hexdigest()[:10].encode() for number in range(4000)]


def text(seed: int, size: int) -> bytes:
    """Of words, as sources are; gzip makes a third of it."""
    drawn = struct.iter_unpack("H", hashlib.shake_128(b"%d" % seed).digest(size // 5))
    return b" ".join(WORDS[number % len(WORDS)] for (number,) in drawn)[:size].ljust(size)


def tar(changed: bytes) -> bytes:
    """A tree of 40 files, one of which is changed, and longer or shorter for it."""
    members = [file_member(f"lib/{number:02}", text(number, 60_000)) for number in range(40)]
    members[7] = file_member("lib/07", changed)
    out = io.BytesIO()
    write_tar(members, out, epoch=0)
    return out.getvalue()


def by_sink(compress: Callable[[bytes], bytes] | None) -> Callable[[bytes], bytes]:
    def packed(data: bytes) -> bytes:
        out = io.BytesIO()
        with GzipSink(out, compress) as sink:
            sink.write(data)
        return b"#!/bin/sh\nexit 0\n" + out.getvalue()

    return packed


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(0, len(data), 500_000):
            archive.writestr(zipfile.ZipInfo(f"{number}"), data[number : number + 500_000], zipfile.ZIP_DEFLATED)
    return out.getvalue()


def by_zstd(data: bytes) -> bytes:
    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=9, threads=2).stream_writer(out, closefd=False) as writer:
        writer.write(data)
    return out.getvalue()


def in_blocks(data: bytes) -> bytes:
    """As squashfs has them: zlib streams behind each other, between them what is not compressed."""
    blocks = [data[place : place + 131072] for place in range(0, len(data), 131072)]
    return b"hsqs" + b"".join(zlib.compress(block, 6) + struct.pack("<H", len(block) & 0x7FFF) for block in blocks)


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "installer": by_sink(None),
    "conda-pack": by_sink(small_gzip_member(5)),
    "gzip": lambda data: gzip.compress(data, 9, mtime=1),
    "zip": zipped,
    "zstd": by_zstd,
    "blocks": in_blocks,
}


@pytest.fixture(scope="module")
def trees() -> tuple[bytes, bytes]:
    return tar(text(7, 60_000)), tar(text(1000, 71_111))


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_change_makes_a_small_delta(kind: str, trees: tuple[bytes, bytes], tmp_path: Path) -> None:
    old, new = tmp_path / "box-1", tmp_path / "box-2"
    old.write_bytes(KINDS[kind](trees[0]))
    new.write_bytes(KINDS[kind](trees[1]))
    made = make_delta(old, new, tmp_path / "delta")
    assert made.size < 0.05 * new.stat().st_size
    assert made.unfolded == (kind != "as it is")
    again = apply_delta(old, tmp_path / "delta", tmp_path / "again")
    assert again.read_bytes() == new.read_bytes()
    first = (tmp_path / "delta").read_bytes()
    make_delta(old, new, tmp_path / "delta")
    assert (tmp_path / "delta").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "box-1", "box-2", "delta"]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"", b""), (b"", b"x"), (b"x", b""), (b"a", b"bc"), (text(1, 50_000), text(2, 50_000)), (b"x" * 99, b"x" * 99)],
)
def test_any_two_files_will_do(old: bytes, new: bytes, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "delta")
    assert apply_delta(tmp_path / "old", tmp_path / "delta", tmp_path / "again").read_bytes() == new


def test_one_kind_for_another(trees: tuple[bytes, bytes], tmp_path: Path) -> None:
    """What is compressed by one may have been compressed by another before."""
    (tmp_path / "old").write_bytes(in_blocks(trees[0]))
    (tmp_path / "new").write_bytes(
        by_zstd(trees[1]) + os.urandom(100) + b"\x1f\x8b\x08\0PK\3\4\x78\x9c\x28\xb5\x2f\xfd"
    )
    assert make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "delta").size < 0.05 * len(trees[1])
    again = apply_delta(tmp_path / "old", tmp_path / "delta", tmp_path / "again")
    assert again.read_bytes() == (tmp_path / "new").read_bytes()


def test_files_of_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trees: tuple[bytes, bytes]) -> None:
    monkeypatch.setattr(pieces, "PIECE", 100_000)
    monkeypatch.setattr(pieces, "_REACH", 150_000)
    monkeypatch.setattr(streams, "_LARGE", 100_000)
    monkeypatch.setattr(streams, "_KEPT", 100_000)
    (tmp_path / "old").write_bytes(gzip.compress(trees[0], 6))
    (tmp_path / "new").write_bytes(gzip.compress(trees[1], 6))
    made = make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "delta")
    assert made.unfolded
    assert made.size < 0.05 * (tmp_path / "new").stat().st_size
    assert (
        apply_delta(tmp_path / "old", tmp_path / "delta", tmp_path / "b").read_bytes()
        == (tmp_path / "new").read_bytes()
    )


def test_streams_that_nothing_makes_again_stay_as_they_are(tmp_path: Path) -> None:
    def odd(data: bytes) -> bytes:
        encoder = zlib.compressobj(6, zlib.DEFLATED, 31, 2, zlib.Z_HUFFMAN_ONLY)
        return encoder.compress(data) + encoder.flush()

    blocks = [text(number, 3000) for number in range(30)]
    (tmp_path / "old").write_bytes(b"".join(map(odd, blocks)))
    (tmp_path / "new").write_bytes(b"".join(map(odd, [*blocks[:9], text(99, 3000), *blocks[10:]])))
    made = make_delta(tmp_path / "old", tmp_path / "new", tmp_path / "delta")
    assert not made.unfolded
    assert made.size < 0.1 * (tmp_path / "new").stat().st_size
    again = apply_delta(tmp_path / "old", tmp_path / "delta", tmp_path / "again")
    assert again.read_bytes() == (tmp_path / "new").read_bytes()


def test_what_does_not_come_out_again_is_taken_as_it_is(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_another(source: BinaryIO, found: list[tuple[int, int, str]], out: BinaryIO) -> None:
        fold(source, [(gap, plain, "zlib-1") for gap, plain, _ in found], out)

    monkeypatch.setattr(making, "fold", with_another)
    made = make_delta(*pair, tmp_path / "delta")
    assert not made.unfolded
    assert apply_delta(pair[0], tmp_path / "delta", tmp_path / "again").read_bytes() == pair[1].read_bytes()


@pytest.fixture
def pair(tmp_path: Path, trees: tuple[bytes, bytes]) -> tuple[Path, Path]:
    old, new = tmp_path / "box-1.sh", tmp_path / "new" / "box-2.sh"
    new.parent.mkdir()
    old.write_bytes(by_sink(None)(trees[0]))
    new.write_bytes(by_sink(None)(trees[1]))
    new.chmod(0o755)
    return old, new


@pytest.fixture
def delta(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    make_delta(*pair, tmp_path / "box.delta")
    return tmp_path / "box.delta"


def test_the_new_file_has_its_own_name_and_can_be_run(pair: tuple[Path, Path], delta: Path) -> None:
    made = apply_delta(pair[0], delta)
    assert made == delta.with_name("box-2.sh")
    assert made.read_bytes() == pair[1].read_bytes()
    assert os.access(made, os.X_OK)
    assert apply_delta(pair[0], delta) == made, "it is there already"
    made.write_text("something else")
    with pytest.raises(UsageError, match="is there already, and another file"):
        apply_delta(pair[0], delta)
    assert made.read_text() == "something else"


def test_another_old_file_is_refused(pair: tuple[Path, Path], delta: Path) -> None:
    with pytest.raises(IntegrityError) as refused:
        apply_delta(pair[1], delta, delta.with_name("out"))
    assert "box-1.sh" in refused.value.cause
    assert described(delta).old.sha256 in refused.value.cause
    assert not delta.with_name("out").exists()


def test_a_damaged_delta_is_refused(pair: tuple[Path, Path], delta: Path, tmp_path: Path) -> None:
    whole = delta.read_bytes()
    out = tmp_path / "out"
    middle = len(whole) // 2
    for broken in (
        whole[:-1],
        whole[:60],
        whole + b"x",
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    ):
        delta.write_bytes(broken)
        with pytest.raises(IntegrityError, match="is damaged or cut off"):
            apply_delta(pair[0], delta, out)
    for other in (b"", b"boxsnake", pair[0].read_bytes()):
        delta.write_bytes(other)
        with pytest.raises(UsageError, match="is no delta of boxsnake's"):
            apply_delta(pair[0], delta, out)
    assert not out.exists()


def test_a_name_that_leads_elsewhere_is_refused(pair: tuple[Path, Path], delta: Path) -> None:
    rewrite(delta, lambda header: header["new"].update(name="../elsewhere"))
    with pytest.raises(UsageError, match="leads elsewhere"):
        apply_delta(pair[0], delta)


def test_a_result_that_is_not_the_new_file_is_not_written(pair: tuple[Path, Path], delta: Path, tmp_path: Path) -> None:
    """As with another version of the compressor, which makes other bytes."""
    rewrite(delta, lambda header: header.update(encoders=["zlib-1"], libraries={"isal": "0.1"}))
    with pytest.raises(ResourceError, match=r"isal 0\.1 \(here: "):
        apply_delta(pair[0], delta, tmp_path / "out")
    rewrite(delta, lambda header: header.update(encoders=["odd-1"]))
    with pytest.raises(IntegrityError, match="no compressor 'odd-1' is known here"):
        apply_delta(pair[0], delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def rewrite(delta: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    """Change what a delta says of itself, and seal it again."""
    content = delta.read_bytes()[len(MAGIC) : -32]
    (length,) = struct.unpack(">I", content[:4])
    header = json.loads(zlib.decompress(content[4 : 4 + length]))
    change(header)
    data = zlib.compress(json.dumps(header).encode())
    made = MAGIC + struct.pack(">I", len(data)) + data + content[4 + length :]
    delta.write_bytes(made + hashlib.sha256(made).digest())


def test_the_commands(pair: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = map(str, pair)
    done = CliRunner().invoke(delta_command, [old, new])
    assert done.exit_code == 0, done.output
    assert "% of" in done.output
    made = f"{new}.delta"
    done = CliRunner().invoke(patch_command, [old, made, "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["path"] == str(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == pair[1].read_bytes()
    for words in ([str(tmp_path), new], [str(tmp_path / "absent"), new], [old, new, "-o", str(tmp_path / "no" / "x")]):
        assert isinstance(CliRunner().invoke(delta_command, words).exception, (UsageError, ResourceError))
