from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from boxsnake.errors import IntegrityError
from boxsnake.ingest import wheel as ingest_wheel
from boxsnake.ingest.wheel import check, wheel_facts
from boxsnake.store import Store
from tests.archives import INFO, METADATA, WHEEL, make_wheel, record_line, wheel_files

ELF = b"\x7fELF" + bytes(60)


def refused(path: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        check(path)
    message = str(caught.value)
    assert message.replace("\n", "").isprintable()
    assert caught.value.thing.startswith(path.name)
    return message


# Good wheels


def test_facts_of_a_wheel(tmp_path: Path) -> None:
    files = wheel_files(
        METADATA=METADATA + "Requires-Dist: click>=8\nRequires-Dist: tomli; python_version < '3.11'\n"
        "Requires-Python: >=3.9\n",
        entry_points="[console_scripts]\nDemo = demo.cli:main\nx-y.z=demo:App.run [extra]\n"
        "[gui_scripts]\ng = demo:gui\n[other]\nanything goes = here; yes\n",
    )
    data = "demo-1.0.data"
    files |= {
        "demo/sub/deep.py": "",
        "demo/tables/": b"",
        "_demo.cpython-311-x86_64-linux-gnu.so": ELF,
        "single.py": "",
        "space_name/only/data.txt": "",
        "namespace/part/module.py": "",
        "demo.libs/libz-1234.so.1": ELF,
        "demo.pth": "import demo",
        "sitecustomize.py": "",
        f"{data}/purelib/pure/__init__.py": "",
        f"{data}/scripts/demo.sh": "#!/bin/sh\n",
        f"{data}/data/share/demo/x": "",
        f"{data}/data/bin/tool": "",
        f"{data}/headers/demo.h": "",
        f"{INFO}/licenses/LICENSE": "",
    }
    facts = check(make_wheel(tmp_path, files))
    assert (facts.name, facts.version, facts.tags) == ("demo", "1.0", ("py3-none-any",))
    assert facts.requires_dist == ("click>=8", "tomli; python_version < '3.11'")
    assert facts.requires_python == ">=3.9"
    assert facts.top_level == ("_demo", "demo", "namespace", "pure", "single", "sitecustomize")
    assert facts.console_scripts == (("Demo", "demo.cli:main"), ("x-y.z", "demo:App.run [extra]"))
    assert facts.gui_scripts == (("g", "demo:gui"),)
    assert facts.scripts == ("demo.sh", "tool")
    assert facts.startup_files == ("demo.pth", "sitecustomize.py")
    assert facts.has_elf
    assert facts.files == len(files)  # RECORD for the folder
    assert facts.warnings == ("says that it runs anywhere, but holds machine code for one system",)


def streamed(path: Path, tmp_path: Path) -> Path:
    """The same wheel as a tool writes it that cannot seek: sizes behind the data."""

    class Pipe:
        def __init__(self) -> None:
            self.stream = (tmp_path / "streamed").open("wb")

        def write(self, data: bytes) -> int:
            return self.stream.write(data)

        def flush(self) -> None:
            self.stream.flush()

        def close(self) -> None:
            self.stream.close()

    pipe = Pipe()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            with target.open(member.filename, "w", force_zip64=member.filename.endswith("WHEEL")) as stream:
                stream.write(source.read(member))
    pipe.close()
    return (tmp_path / "streamed").replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path, _: make_wheel(path.parent, compression=zipfile.ZIP_STORED),
        streamed,
        lambda path, _: make_wheel(
            path.parent, {**wheel_files(), "demo/__pycache__/x.pyc": b"1"}, record=without_pyc_sum
        ),
        lambda path, _: make_wheel(path.parent, extra=[(f"{INFO}/RECORD.jws", b"{}")]),
        lambda path, _: make_wheel(path.parent, modes={"demo/__init__.py": 0}),
        lambda path, _: make_wheel(path.parent, modes={"demo/__init__.py": stat.S_IFREG | 0o4777}),
        lambda path, _: make_wheel(path.parent, record=lambda lines: [line.rpartition(",")[0] + "," for line in lines]),
        lambda path, _: make_wheel(path.parent, wheel_files(WHEEL=WHEEL.replace("1.0", "1.9"))),
    ],
    ids=["stored", "streamed", "pyc", "signature", "no-mode", "setuid", "no-sizes", "format-1.9"],
)
def test_what_real_wheels_do_is_let_through(tmp_path: Path, change: Callable[[Path, Path], Path]) -> None:
    assert check(change(make_wheel(tmp_path), tmp_path)).name == "demo"


def without_pyc_sum(lines: list[str]) -> list[str]:
    return [f"{line.split(',')[0]},," if ".pyc" in line else line for line in lines]


def test_a_name_is_the_same_in_all_its_spellings(tmp_path: Path) -> None:
    files = {
        "x.py": "",
        "Zope.Thing_x-1.0+local.dist-info/METADATA": "Metadata-Version: 2.1\nName: zope.thing-x\nVersion: 1.0+local\n",
        "Zope.Thing_x-1.0+local.dist-info/WHEEL": WHEEL,
    }
    assert check(make_wheel(tmp_path, files, name="zope_thing_x-1.0+local-py3-none-any.whl")).name == "zope-thing-x"


def test_oddities_are_noted(tmp_path: Path) -> None:
    metadata = METADATA + "Requires-Dist: x @ https://a.test/x.whl\nRequires-Dist: y (>=3.*)\nRequires-Python: >=?\n"
    facts = check(make_wheel(tmp_path, wheel_files(METADATA=metadata), name="demo-1.0-py2.py3-none-any.whl"))
    text = "\n".join(facts.warnings)
    for part in ("x names a place of its own", "y (>=3.*) is not PEP 508", ">=? is not PEP 440", "py2-none-any"):
        assert part in text


def test_facts_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "cache")
    files = wheel_files(entry_points="[console_scripts]\ndemo = demo:main\n")
    digest = store.put_file(make_wheel(tmp_path, files)).digest.removeprefix("sha256:")
    facts = wheel_facts(store, digest)
    monkeypatch.setattr(ingest_wheel, "check", None)
    assert wheel_facts(store, digest) == facts


# Hostile wheels


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("demo/../../evil", "has the part '..'"),
        ("/etc/passwd", "absolute path"),
        ("demo//x", "has the part ''"),
        ("./demo/x", "has the part '.'"),
        ("demo\\..\\x", "backslash"),
        ("C:/x", "colon"),
        ("demo/a\nb", "control characters"),
        ("demo/a\x1b[2Jb", "control characters"),
        ("demo/a\u202eb", "control characters"),
        ("demo/x.", "ends in a dot"),
        ("demo/x ", "dot or a space"),
        ("demo/con.py", "device on Windows"),
        ("demo/" + "x" * 300, "more than 255 bytes"),
        ("demo/" + "/".join("x" * 200 for _ in range(6)), "more than 1024 bytes"),
        ("/".join("x" for _ in range(200)), "folders deep"),
        ("demo/__init__.py/x", "which is a file"),
        ("Demo/__init__.py", "same name as"),
        ("demo/__INIT__.py", "same name as"),
        ("other-2.0.dist-info/METADATA", "exactly one .dist-info"),
        ("demo-1.0.data/scripts/../x", "has the part '..'"),
        ("demo-1.0.data/data/../x", "has the part '..'"),
        ("demo-1.0.data/elsewhere/x", "belongs to no scheme"),
        ("demo-1.0.data/x", "belongs to no scheme"),
        ("demo-2.0.data/scripts/x", "not demo-1.0.data"),
        ("demo-1.0.data/scripts/a/b", "folder of its own"),
        ("demo-1.0.data/scripts/python3.11", "no other package may take"),
        ("demo-1.0.data/scripts/SH", "no other package may take"),
        ("demo-1.0.data/scripts/-rf", "not a name for a command"),
        ("demo-1.0.data/data/bin/python", "no other package may take"),
        ("demo-1.0.data/data/bin/pip3", "no other package may take"),
        ("demo-1.0.data/data/conda-meta/x.json", "record of a conda package"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, member: str, text: str) -> None:
    assert text in refused(make_wheel(tmp_path, {**wheel_files(), member: b"x"}))


def test_names_that_are_equal_in_another_normal_form(tmp_path: Path) -> None:
    assert "same name as" in refused(make_wheel(tmp_path, {**wheel_files(), "demo/\u00e9": b"", "demo/e\u0301": b""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice(tmp_path: Path) -> None:
    assert "twice" in refused(make_wheel(tmp_path, extra=[("demo/__init__.py", b"x = 2\n")]))


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (stat.S_IFLNK | 0o777, "is a symbolic link"),
        (stat.S_IFIFO | 0o644, "is a named pipe"),
        (stat.S_IFCHR | 0o644, "is a device"),
        (stat.S_IFDIR | 0o755, "folder without a slash"),
        (0o130644, "is a special file"),
    ],
)
def test_members_that_are_no_files(tmp_path: Path, mode: int, text: str) -> None:
    assert text in refused(make_wheel(tmp_path, modes={"demo/__init__.py": mode}))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("python = demo:main", "no other package may take"),
        ("python3 = demo:main", "no other package may take"),
        ("sh = demo:main", "no other package may take"),
        ("pip = demo:main", "no other package may take"),
        ("../x = demo:main", "not a name"),
        ("/usr/bin/x = demo:main", "not a name"),
        ("a b = demo:main", "not a name"),
        ("x;rm = demo:main", "not a name"),
        ("$(x) = demo:main", "not a name"),
        ("-x = demo:main", "not a name"),
        ("x = demo", "not module:attribute"),
        ("x = demo:main; import os", "not module:attribute"),
        ("x = demo:main()", "not module:attribute"),
        ("x = os:system('x') or demo:main", "not module:attribute"),
        ("x = demo:main\n  , evil", "not module:attribute"),
        ("x = demo:a\nx = demo:b", "cannot be read"),
        ("no value", "cannot be read"),
    ],
)
def test_entry_points_that_are_refused(tmp_path: Path, line: str, text: str) -> None:
    assert text in refused(make_wheel(tmp_path, wheel_files(entry_points=f"[console_scripts]\n{line}\n")))


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (lambda lines: lines[1:], "is not in RECORD"),
        (lambda lines: [*lines, "../secret,,"], "../secret: is in RECORD, but is what is not in the wheel"),
        (lambda lines: [*lines, lines[0]], "twice"),
        (lambda lines: [*lines, "demo/,,"], "what is not in the wheel"),
        (lambda lines: [record_line("demo/__init__.py", b"x = 2\n"), *lines[1:]], "another hash"),
        (lambda lines: [lines[0][:-1] + "7", *lines[1:]], "has 6 bytes; RECORD says 7"),
        (lambda lines: ["demo/__init__.py,,", *lines[1:]], "has no hash"),
        (lambda lines: ["demo/__init__.py,md5=x,6", *lines[1:]], "proves nothing"),
        (lambda lines: ["demo/__init__.py", *lines[1:]], "not path, hash, size"),
        (lambda lines: ['"demo/__init__.py', *lines[1:]], "not a table"),
    ],
)
def test_records_that_are_refused(tmp_path: Path, record: Callable[[list[str]], list[str]], text: str) -> None:
    assert text in refused(make_wheel(tmp_path, record=record))


def test_a_record_that_lists_a_folder(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, {**wheel_files(), "demo/t/": b""}, record=lambda lines: [*lines, "demo/t/,,"])
    assert "but is a folder" in refused(path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"METADATA": METADATA.replace("demo", "other")}, "says other 1.0"),
        ({"METADATA": METADATA.replace("1.0", "2.0")}, "says demo 2.0"),
        ({"METADATA": METADATA.replace("demo", "de/mo")}, "no valid name"),
        ({"METADATA": METADATA.replace("1.0", "1.0;rm -rf")}, "no valid name and version"),
        ({"METADATA": METADATA.replace("Version: 1.0", "")}, "no valid name and version"),
        ({"METADATA": None}, "is missing"),
        ({"WHEEL": None}, "is missing"),
        ({"WHEEL": WHEEL.replace("1.0", "9.0")}, "format 9.0"),
        ({"WHEEL": WHEEL.replace("Tag", "Tog")}, "has no tags"),
        ({"WHEEL": WHEEL.replace("py3-none-any", "nonsense")}, "a tag that is none"),
        ({"WHEEL": b"\xff"}, "not UTF-8"),
    ],
)
def test_metadata_that_is_refused(tmp_path: Path, changes: dict[str, str | bytes | None], text: str) -> None:
    assert text in refused(make_wheel(tmp_path, wheel_files(**changes)))


def test_a_file_name_that_tells_something_else(tmp_path: Path) -> None:
    assert "holds demo 1.0" in refused(make_wheel(tmp_path, name="demo-1.1-py3-none-any.whl"))
    assert "not the file name of a wheel" in refused(make_wheel(tmp_path, name="demo.whl"))


# Zip files with two readings


def patched(path: Path, change: Callable[[bytearray], bytearray | bytes | None]) -> Path:
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.write_bytes(data if changed is None else changed)
    return path


def directory_of(data: bytearray) -> int:
    return int(struct.unpack("<I", data[-6:-2])[0])


def local_name(data: bytearray) -> None:
    data[30:34] = b"evil"


def local_size(data: bytearray) -> None:
    data[22:26] = struct.pack("<I", 5)


def local_sum(data: bytearray) -> None:
    data[14:18] = b"abcd"


def encrypted(data: bytearray) -> None:
    data[6] |= 1
    data[directory_of(data) + 8] |= 1


def flags_differ(data: bytearray) -> None:
    data[6] |= 2


def method(data: bytearray) -> None:
    data[8] = data[directory_of(data) + 10] = zipfile.ZIP_BZIP2


def both_sums(data: bytearray) -> None:
    data[14:18] = data[directory_of(data) + 16 : directory_of(data) + 20] = b"abcd"


def smaller(data: bytearray) -> None:
    for place in (22, directory_of(data) + 24):
        data[place : place + 4] = struct.pack("<I", 3)


def unicode_path(data: bytearray) -> bytearray:
    """An extra field that gives the first member another name, for readers that know it."""
    field = struct.pack("<2HBI", 0x7075, 9, 1, 0) + b"evil"
    place = directory_of(data)
    name_length = struct.unpack("<H", data[26:28])[0]
    data[place + 30 : place + 32] = struct.pack("<H", len(field))
    data[place + 46 + name_length : place + 46 + name_length] = field
    length = struct.unpack("<I", data[-10:-6])[0]
    data[-10:-6] = struct.pack("<I", length + len(field))
    return data


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: data[:9], "too short"),
        (lambda data: b"#!/bin/sh\n" + data, "bytes in front"),
        (lambda data: data + b"junk", "bytes after its end"),
        (lambda data: data[:-2] + b"\x04\x00junk", "bytes after its end"),
        (lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03", 1), "not a whole zip file"),
        (lambda data: data.replace(b"PK\x03\x04", b"PK\x03\x05", 1), "no header where"),
        (local_name, "another name in its header"),
        (local_size, "another size or sum"),
        (local_sum, "another size or sum"),
        (encrypted, "is encrypted"),
        (flags_differ, "differ"),
        (method, "compressed by method 12"),
        (both_sums, "cannot be read"),
        (smaller, "has 3 bytes; RECORD says 6"),
        (unicode_path, "give it another name"),
    ],
)
def test_zip_files_that_readers_may_take_differently(
    tmp_path: Path, change: Callable[[bytearray], bytearray | bytes | None], text: str
) -> None:
    assert text in refused(patched(make_wheel(tmp_path), change))


def test_members_that_overlap_or_leave_gaps(tmp_path: Path) -> None:
    """Two entries of the directory for one run of bytes, as the densest bombs have it."""

    def overlap(data: bytearray) -> None:
        first = directory_of(data)
        second = data.index(b"PK\x01\x02", first + 4)
        data[second + 42 : second + 46] = bytes(4)

    assert "overlaps" in refused(patched(make_wheel(tmp_path), overlap))


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_wheel(tmp_path, {**wheel_files(), "demo/zeros": bytes(80 << 20)})
    assert "decompression bomb" in refused(path)
    monkeypatch.setattr("boxsnake.ingest.listing.MOST_BYTES", 1 << 20)
    assert "unpacks to more than 1048576 bytes" in refused(path)
    monkeypatch.setattr("boxsnake.ingest.zip.MOST_MEMBERS", 2)
    assert "more than 2 members" in refused(path)
