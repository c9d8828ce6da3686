from __future__ import annotations

import bz2
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from boxsnake.errors import BoxsnakeError, IntegrityError, PolicyError
from boxsnake.ingest import conda as ingest_conda
from boxsnake.ingest import listing
from boxsnake.ingest.conda import check, conda_facts
from boxsnake.store import Store
from tests.archives import INDEX, STEM, Tar, info_tar, make_conda, make_tar_bz2, zip_conda

Make = Callable[..., Path]
SITE = "lib/python3.11/site-packages"
PLACEHOLDER = "/placehold" * 20


def refused(path: Path, kind: type[BoxsnakeError] = IntegrityError) -> str:
    with pytest.raises(kind) as caught:
        check(path)
    message = str(caught.value)
    assert message.replace("\n", "").isprintable()
    assert caught.value.thing.startswith(path.name)
    return message


@pytest.fixture(params=[make_conda, make_tar_bz2], ids=["conda", "tar.bz2"])
def make(request: pytest.FixtureRequest) -> Make:
    """Both formats: every rule holds in either."""
    return request.param  # type: ignore[no-any-return]


# Good packages


def good() -> Tar:
    return (
        Tar()
        .folder("lib")
        .folder("./")
        .file("bin/demo", b"\x7fELF", 0o755, prefix_placeholder=PLACEHOLDER, file_mode="binary")
        .file("bin/.demo-post-link.sh", b"true", 0o777)
        .file("etc/conda/activate.d/demo.sh", b"export X=1", prefix_placeholder="/opt/x", file_mode="text")
        .file("lib/libdemo.so.1", b"so")
        .file("share/A", b"")
        .file("share/a", b"")
        .file("share/unit\\x2d.slice", b"")
        .link("lib/libdemo.so", "libdemo.so.1")
        .link("lib/other.so", "../lib/libother.so.2")
        .hard_link("bin/demo2", "bin/demo", b"\x7fELF")
        .file(f"{SITE}/demo-1.0.dist-info/METADATA", b"Name: Demo_X\nVersion: 1.0\n\nName: no\n")
        .file(f"{SITE}/old-2.egg-info", b"Name: old\nVersion: 2\n")
        .file(f"{SITE}/demo/_vendor/six-1.dist-info/METADATA", b"Name: six\nVersion: 1\n")
        .file(f"{SITE}/demo.pth", b"import demo")
        .file("x/" * 60 + "deep" + "n" * 90, b"")
    )


def test_facts_of_a_package(tmp_path: Path, make: Make) -> None:
    index = {**INDEX, "depends": ["python"], "python_site_packages_path": SITE}
    link = {"noarch": {"type": "python", "entry_points": ["demo = demo.cli:main", "x=demo:y"]}}
    facts = check(make(tmp_path, good(), index=index, link=link), name="demo", version="1.0", build="h0_0")
    assert (facts.name, facts.version, facts.build, facts.subdir) == ("demo", "1.0", "h0_0", "linux-64")
    assert facts.index == index
    assert facts.distributions == (("demo-x", "1.0"), ("old", "2"))
    assert facts.link_scripts == ("bin/.demo-post-link.sh",)
    assert facts.activation_scripts == ("etc/conda/activate.d/demo.sh",)
    assert facts.startup_files == (f"{SITE}/demo.pth",)
    assert facts.entry_points == (("demo", "demo.cli:main"), ("x", "demo:y"))
    assert facts.longest_placeholder == len(PLACEHOLDER)
    assert facts.unpacked_size > 0
    assert any("differ in case alone" in warning for warning in facts.warnings)
    assert any("permissions that are not kept" in warning for warning in facts.warnings)


def test_a_package_that_is_not_the_expected_one(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path)
    for what in ("name", "version", "build", "subdir"):
        with pytest.raises(IntegrityError, match=f"has the {what}"):
            check(path, **{what: "other"})
    other = path.rename(tmp_path / path.name.replace("demo", "other"))
    assert "other" in refused(other)


def test_facts_are_remembered(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "cache")
    digest = store.put_file(make(tmp_path, good())).digest.removeprefix("sha256:")
    facts = conda_facts(store, digest)
    monkeypatch.setattr(ingest_conda, "check", None)
    assert conda_facts(store, digest) == facts


def test_tars_of_every_dialect_read_the_same(tmp_path: Path) -> None:
    long, data = "x" * 90 + "/" + "y" * 90 + "/" + "ü" * 60, b"content"
    found = []
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / str(number) / f"{STEM}.tar.bz2"
        path.parent.mkdir()
        content = Tar().file(long, data)
        whole = io.BytesIO(info_tar(content, tar=content).bytes())
        with tarfile.open(path, "w:bz2", format=form) as tar, tarfile.open(fileobj=whole) as source:
            for member in source:
                tar.addfile(member, source.extractfile(member))
        found.append(check(path).unpacked_size)
    assert found[0] == found[1]


def test_a_package_of_several_compressed_streams(tmp_path: Path) -> None:
    path = make_tar_bz2(tmp_path)
    data = bz2.decompress(path.read_bytes())
    path.write_bytes(bz2.compress(data[:700]) + bz2.compress(data[700:]))
    assert check(path).name == "demo"


def test_a_package_of_the_first_years(tmp_path: Path) -> None:
    content = Tar().file("lib/x.sh").file("lib/y")
    content.file("info/files", b"lib/x.sh\nlib/y\n").file("info/index.json", json.dumps(INDEX).encode())
    content.file("info/has_prefix", f'"{PLACEHOLDER}" text "lib/x.sh"\nlib/y\n'.encode())
    path = tmp_path / f"{STEM}.tar.bz2"
    path.write_bytes(bz2.compress(content.bytes()))
    facts = check(path)
    assert facts.longest_placeholder == len(PLACEHOLDER)
    assert "no sums" in facts.warnings[0]


# Hostile packages


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (Tar().file("../x"), "has the part '..'"),
        (Tar().file("lib/../../x"), "has the part '..'"),
        (Tar().file("/etc/x"), "absolute path"),
        (Tar().file("lib/a\nb"), "control characters"),
        (Tar().file("lib/a\x1b[2J"), "control characters"),
        (Tar().file("lib/a\u2066b"), "control characters"),
        (Tar().file("lib/" + "x" * 300), "more than 255 bytes"),
        (Tar().file("x/" * 2500 + "x"), "more than 1024 bytes"),
        (Tar().file("x/" * 150 + "x"), "folders deep"),
        (Tar().file("lib/x").file("lib/x"), "twice"),
        (Tar().file("lib/x").folder("lib/x"), "twice"),
        (Tar().file("lib/x").file("lib/x/y"), "which is a file"),
        (Tar().file("lib/\u00e9").file("lib/e\u0301"), "same name as"),
        (Tar().link("out", "/etc/passwd"), "absolute path"),
        (Tar().link("out", "../x"), "out of the package"),
        (Tar().link("lib/out", "x/../../../y"), "out of the package"),
        (Tar().link("d", ".").link("out", "d/d/d/../../.."), "out of the package"),
        (Tar().link("a", "b").link("b", "a"), "loop"),
        (Tar().link("out", ""), "nothing"),
        (Tar().link("d", "lib").file("d/x"), "behind the symbolic link"),
        (Tar().file("d/x").link("d", "lib"), "behind the symbolic link"),
        (Tar().hard_link("x", "/etc/passwd"), "hard link to /etc/passwd"),
        (Tar().hard_link("x", "../../etc/passwd"), "hard link"),
        (Tar().hard_link("x", "y").file("y"), "hard link"),
        (Tar().link("l", "y").hard_link("x", "l"), "hard link"),
        (Tar().special("x", tarfile.FIFOTYPE), "a named pipe"),
        (Tar().special("x", tarfile.CHRTYPE), "a character device"),
        (Tar().special("x", tarfile.BLKTYPE), "a block device"),
        (Tar().special("x", tarfile.GNUTYPE_SPARSE), "a sparse file"),
        (Tar().special("x", b"?"), "unknown type"),
        (Tar().file("lib/x", listed=False), "its own list does not name it"),
        (Tar().file("lib/x", sha256="0" * 64), "another SHA-256"),
        (Tar().file("lib/x", sha256=None), "another SHA-256"),
        (Tar().file("lib/x", size_in_bytes=2), "has 1 bytes"),
        (Tar().file("lib/x", path_type="softlink"), "says softlink"),
        (Tar().file("lib/x", path_type="directory"), "says directory"),
        (Tar().file("lib/x", prefix_placeholder="/a\nb", file_mode="text"), "placeholder that is none"),
        (Tar().file("lib/x", prefix_placeholder=7, file_mode="text"), "placeholder that is none"),
        (Tar().file("lib/x", prefix_placeholder="/abc", file_mode="exec"), "unknown mode"),
        (Tar().file(f"{SITE}/x-1.dist-info/METADATA", b"Name: a/b\nVersion: 1\n"), "no valid name"),
        (Tar().file(f"{SITE}/x-1.dist-info/METADATA", b"Name: x\nVersion: 1;rm\n"), "no valid version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contents_that_are_refused(tmp_path: Path, content: Tar, text: str) -> None:
    path = zip_conda(tmp_path / f"{STEM}.conda", info_tar(content).bytes(), content.bytes())
    assert text in refused(path)
    # The same in format 1: its one tar is the content and the information behind it.
    both = content.bytes()[:-1024].rstrip(b"\0")
    whole = both + bytes(-len(both) % 512) + info_tar(content).bytes()
    old = tmp_path / f"{STEM}.tar.bz2"
    old.write_bytes(bz2.compress(whole))
    assert text in refused(old)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (Tar().file("bin/x", mode=0o4755), "rights of another user"),
        (Tar().file("bin/x", mode=0o2755), "rights of another user"),
        (Tar().file("conda-meta/history"), "records of installed packages"),
        (Tar().link("conda-meta", "lib"), "records of installed packages"),
    ],
)
def test_contents_that_no_policy_allows(tmp_path: Path, content: Tar, text: str) -> None:
    assert text in refused(make_conda(tmp_path, content), PolicyError)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"_path": "../x", "path_type": "hardlink"}], "not in the package"),
        ([{"_path": "/x", "path_type": "hardlink"}], "not in the package"),
        ([{"_path": "lib/absent", "path_type": "hardlink"}], "not in the package"),
        ([{"_path": "info/index.json", "path_type": "hardlink"}], "not in the package"),
        ([{"path_type": "hardlink"}], "bad or repeated row"),
        ([7], "bad or repeated row"),
        (None, "unknown version"),
        ({}, "unknown version"),
    ],
)
def test_lists_of_paths_that_are_refused(tmp_path: Path, make: Make, rows: object, text: str) -> None:
    assert text in refused(make(tmp_path, paths={"paths": rows, "paths_version": 1}))


def test_a_path_that_is_listed_twice(tmp_path: Path, make: Make) -> None:
    content = Tar().file("lib/x")
    content.paths *= 2
    assert "repeated row" in refused(make(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "../x"}, "no valid name"),
        ({"name": "Demo"}, "no valid name"),
        ({"name": None}, "no valid name"),
        ({"version": "1/2"}, "no valid version"),
        ({"version": "%(x)"}, "no valid version"),
        ({"version": "1" * 300}, "no valid version"),
        ({"build": "$(x)"}, "no valid build"),
        ({"build": "a\nb"}, "no valid build"),
        ({"subdir": "../noarch"}, "no valid subdir"),
        ({"depends": "python"}, "no list of texts"),
        ({"depends": [1]}, "no list of texts"),
        ({"python_site_packages_path": "../x"}, "puts modules in"),
        ({"python_site_packages_path": "/x"}, "puts modules in"),
        ({"name": "other"}, "says other"),
        ({"build": "h0_1"}, "says demo"),
    ],
)
def test_indexes_that_are_refused(tmp_path: Path, make: Make, change: dict[str, Any], text: str) -> None:
    assert text in refused(make(tmp_path, index={**INDEX, **change}))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_documents_that_are_none(tmp_path: Path, make: Make, data: bytes) -> None:
    assert "JSON" in refused(make(tmp_path, index=data))


@pytest.mark.parametrize(
    ("point", "text"),
    [
        ("../x = m:f", "not a name"),
        ("x = m:f;code", "not module:attribute"),
        ("a b = m:f", "not a name"),
        ("x\ny = m:f", "not a name"),
        ("python = m:f", "no other package may take"),
        ("sh = m:f", "no other package may take"),
        ("x", "not module:attribute"),
    ],
)
def test_entry_points_that_are_refused(tmp_path: Path, make: Make, point: str, text: str) -> None:
    assert text in refused(make(tmp_path, link={"noarch": {"type": "python", "entry_points": [point]}}))
    assert "list of texts" in refused(make(tmp_path, link={"noarch": {"entry_points": point}}))


# The containers


def test_a_package_without_an_index(tmp_path: Path) -> None:
    assert "info/index.json: is missing" in refused(zip_conda(tmp_path / f"{STEM}.conda", Tar().bytes(), Tar().bytes()))


INFO_TAR = info_tar(Tar()).bytes()
EMPTY = Tar().bytes()


def conda(path: Path, *, info: bytes = INFO_TAR, content: bytes = EMPTY, **members: bytes) -> Path:
    return zip_conda(path / f"{STEM}.conda", info, content, members)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"metadata.json": b'{"conda_pkg_format_version": 3}'}, "not of package format 2"),
        ({"metadata.json": b"nothing"}, "not JSON"),
        ({"info-other-1-0.tar.zst": b""}, "has 2"),
        ({"pkg-other-1-0.tar.zst": b""}, "does not belong"),
        ({"evil.txt": b""}, "does not belong"),
        ({f"pkg-{STEM}.tar.zst": b""}, "cut off"),
        ({f"pkg-{STEM}.tar.zst": b"no zstd at all"}, "cannot be decompressed"),
        ({f"pkg-{STEM}.tar.zst": zstandard.compress(EMPTY) + b"junk"}, "cannot be decompressed"),
        ({f"pkg-{STEM}.tar.zst": zstandard.compress(EMPTY)[:-5]}, "cut off"),
        ({f"pkg-{STEM}.tar.zst": zstandard.compress(Tar().file("info/x").bytes())}, "wrong one"),
        ({f"info-{STEM}.tar.zst": zstandard.compress(Tar().file("lib/x").bytes())}, "wrong one"),
    ],
)
def test_format_2_files_that_are_refused(tmp_path: Path, members: dict[str, bytes], text: str) -> None:
    assert text in refused(conda(tmp_path, **members))


def test_format_2_files_that_lack_a_part_or_are_compressed(tmp_path: Path) -> None:
    path = conda(tmp_path)
    parts = {member.filename: member for member in zipfile.ZipFile(path).infolist()}
    data = {name: zipfile.ZipFile(path).read(name) for name in parts}
    for left_out in parts:
        with zipfile.ZipFile(path, "w") as archive:
            for name in parts:
                if name != left_out:
                    archive.writestr(name, data[name])
        assert "lacks" in refused(path) or "must have one member info-" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in parts:
            archive.writestr(name, data[name])
    assert "compressed twice" in refused(path)
    conda(tmp_path)
    path.write_bytes(b"MZ" + path.read_bytes())
    assert "neither a .conda nor a .tar.bz2" in refused(path)
    path.write_bytes(conda(tmp_path).read_bytes() + b"\0")
    assert "bytes after its end" in refused(path)


def test_a_stem_that_is_not_the_files_name(tmp_path: Path) -> None:
    index = {**INDEX, "name": "other"}
    path = zip_conda(tmp_path / "other-1.0-h0_0.conda", info_tar(Tar(), index=index).bytes(), EMPTY)
    assert "another name than the file" in refused(path)


def header(
    name: bytes = b"x", size: bytes = b"00000000000", kind: bytes = b"0", magic: bytes = b"ustar\x0000"
) -> bytes:
    plain = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"00000000000\0"
    plain += b" " * 8 + kind + bytes(100) + magic
    plain = plain.ljust(512, b"\0")
    return plain[:148] + b"%06o\0 " % sum(plain) + plain[156:]


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    body = b"".join(records)
    return header(b"h", b"%011o" % len(body), kind) + body + bytes(-len(body) % 512)


@pytest.mark.parametrize(
    ("tar", "text"),
    [
        (header()[:300], "cut off"),
        (header(size=b"00000001000"), "cut off"),
        (header().replace(b"x", b"y", 1) + bytes(1024), "sum is wrong"),
        (header() + bytes(1024) + header(b"hidden") + bytes(1024), "bytes after its end"),
        (header() + b"\xff" * 512, "header"),
        (header(size=b"-0000000001"), "something else than a number"),
        (header(size=b"\x80" + struct.pack(">Q", 1 << 50).rjust(11, b"\0")), "unpacks to more than"),
        (header(kind=b"5", size=b"00000000001") + bytes(512), "no file, but has bytes"),
        (header(b"x/"), "name of a folder"),
        (header(b""), "without a name"),
        (header(b"lib/a\xffb"), "not UTF-8"),
        (pax(b"11 path=ab\n") + bytes(1024), "does not come"),
        (pax(b"11 path=ab\n", b"11 path=cd\n") + header(), "sets path twice"),
        (pax(b"11 path=ab\n") + pax(b"11 path=cd\n") + header(), "two headers"),
        (pax(b"99 path=ab\n") + header(), "broken pax"),
        (pax(b"rubbish") + header(), "broken pax"),
        (pax(b"11 path=ab\n", kind=b"g") + header(), "for all members"),
        (pax(b"22 GNU.sparse.major=1\n") + header(), "not known"),
        (pax(b"12 size=abc\n") + header(), "no number"),
        (header(b"h", b"%011o" % (2 << 20), b"L") + bytes(2 << 20), "has a header of"),
    ],
)
def test_tars_that_are_refused(tmp_path: Path, tar: bytes, text: str) -> None:
    assert text in refused(conda(tmp_path, content=tar))


def test_bzip2_files_that_are_refused(tmp_path: Path) -> None:
    path = make_tar_bz2(tmp_path)
    good_bytes = path.read_bytes()
    for data, text in (
        (good_bytes[:-10], "cut off"),
        (good_bytes + b"junk", "cannot be decompressed"),
        (good_bytes[:40] + bytes([good_bytes[40] ^ 1]) + good_bytes[41:], "cannot be decompressed"),
    ):
        path.write_bytes(data)
        assert text in refused(path)


def test_bombs(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "RATIO_COUNTS_FROM", 1 << 20)
    bomb = make(tmp_path, Tar().file("zeros", bytes(3 << 20)))
    assert "decompression bomb" in refused(bomb)
    monkeypatch.setattr(listing, "MOST_BYTES", 1 << 20)
    assert "unpacks to more than 1048576 bytes" in refused(bomb)
    monkeypatch.setattr(listing, "MOST_MEMBERS", 2)
    assert "more than 2 members" in refused(make(tmp_path, Tar().file("a").file("b").file("c")))


def test_a_frame_that_wants_more_memory_than_there_may_be(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(EMPTY) + compressor.flush()
    assert "too much memory" in refused(conda(tmp_path, **{f"pkg-{STEM}.tar.zst": frame}))


@pytest.mark.channel
def test_every_package_of_the_local_channel_passes(channel: Path) -> None:
    packages = sorted(channel.glob("*/*.conda"))
    assert packages
    for package in packages:
        facts = check(package, subdir=package.parent.name)
        assert facts.files
