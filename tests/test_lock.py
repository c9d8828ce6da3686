from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.pylock import Pylock
from packaging.tags import Tag

from boxsnake.errors import LockError
from boxsnake.lock import (
    BasePin,
    CondaPackage,
    Distribution,
    Lock,
    Origin,
    SystemLock,
    SystemPackage,
    TargetLock,
    Wheel,
)
from boxsnake.lock.codec import decode, encode
from boxsnake.lock.difference import difference, stale
from boxsnake.lock.pylock import pylock
from boxsnake.target import Target

ROOT = Path("/srv/app")

PYTHON = CondaPackage(
    name="python",
    version="3.11.2",
    build="h1_0_cpython",
    build_number=0,
    subdir="linux-64",
    channel="https://conda.example/main",
    url="https://conda.example/main/linux-64/python-3.11.2-h1_0_cpython.conda",
    sha256="a" * 64,
    size=8_000_000,
    depends=("zlib >=1.2", "__glibc >=2.17"),
)
NUMPY = CondaPackage(
    name="numpy",
    version="2.4.6",
    build="py311_0",
    build_number=0,
    subdir="linux-64",
    channel="file:///srv/app/channel",
    url="file:///srv/app/channel/linux-64/numpy-2.4.6-py311_0.conda",
    sha256="b" * 64,
    size=18,
    distributions=(Distribution(name="numpy", version="2.4.6"),),
)
NUMPY_WHEEL = Wheel(
    name="numpy",
    version="2.4.6",
    file_name="numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256="c" * 64,
    size=19,
    url="https://files.example/numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    index="https://index.example/simple",
)
PANDAS = Wheel(
    name="pandas",
    version="3.1.1",
    file_name="pandas-3.1.1-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256="d" * 64,
    size=None,
    url="https://files.example/pandas-3.1.1-cp311-cp311-manylinux_2_28_x86_64.whl",
    requires=("numpy",),
)


def built(origin: Origin, name: str = "tool") -> Wheel:
    file_name = f"{name}-1.0-py3-none-any.whl"
    return Wheel(name=name, version="1.0", file_name=file_name, sha256="e" * 64, size=20, url=None, origin=origin)


ORIGINS = [
    Origin(kind="git", url="https://git.example/tool.git", commit="1" * 40, subdirectory="python"),
    Origin(kind="folder", url="vendor/tool", sha256="f" * 64),
    Origin(kind="archive", url="https://files.example/tool-1.0.zip", sha256="f" * 64, size=7, subdirectory="py"),
    Origin(kind="sdist", url="https://files.example/tool-1.0.tar.gz", sha256="f" * 64, size=7),
]

TARGET = TargetLock(target=Target(name="default"), python="3.11.2", conda=(NUMPY, PYTHON), wheels=(NUMPY_WHEEL, PANDAS))
LOCK = Lock(inputs=(("requires.conda", ("numpy",)), ("requires.pip", ("pandas>=3",))), targets=(TARGET,))


def of(*wheels: Wheel) -> Lock:
    return replace(LOCK, targets=(replace(TARGET, wheels=wheels),))


# As text


def test_a_lock_comes_back_as_it_was() -> None:
    assert decode(encode(LOCK, ROOT), "boxsnake.lock", ROOT) == LOCK


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.kind)
def test_a_built_wheel_comes_back_with_its_origin(origin: Origin) -> None:
    lock = of(built(origin))
    assert decode(encode(lock, ROOT), "boxsnake.lock", ROOT) == lock


def test_every_field_of_a_target_comes_back() -> None:
    target = Target(name="mac", platform="osx-arm64", python="==3.13.*", glibc=None, interpreter="host")
    lock = Lock(
        inputs=(),
        targets=(
            TargetLock(
                target=target,
                python="3.13",
                conda=(),
                wheels=(),
                unavailable=(Distribution(name="gdal", version="3.9"),),
            ),
        ),
    )
    assert decode(encode(lock), "boxsnake.lock") == lock


def test_the_text_does_not_depend_on_the_order_of_packages_and_targets() -> None:
    other = replace(TARGET, target=Target(name="arm", platform="linux-aarch64"))
    one = replace(LOCK, targets=(TARGET, other))
    shuffled = replace(TARGET, conda=TARGET.conda[::-1], wheels=TARGET.wheels[::-1])
    assert encode(one, ROOT) == encode(replace(LOCK, targets=(other, shuffled)), ROOT)


def test_what_lies_beside_the_lock_is_written_relative_to_it() -> None:
    text = encode(LOCK, ROOT)
    assert "/srv/app" not in text
    moved = decode(text, "boxsnake.lock", Path("/home/dev/app")).targets[0].conda[0]
    assert moved.url == "file:///home/dev/app/channel/linux-64/numpy-2.4.6-py311_0.conda"
    assert moved.channel == "file:///home/dev/app/channel"


def test_a_folder_that_the_manifest_names_relatively_is_written_so_wherever_it_is() -> None:
    outside = replace(
        NUMPY, channel="file:///srv/channel", url="file:///srv/channel/linux-64/numpy-2.4.6-py311_0.conda"
    )
    named = replace(LOCK, inputs=(("requires.channels", ("../channel",)),))
    named = replace(named, targets=(replace(TARGET, conda=(outside,)),))
    assert "../channel/linux-64/numpy" in encode(named, ROOT)
    unnamed = replace(named, inputs=())
    assert "file:///srv/channel/linux-64/numpy" in encode(unnamed, ROOT)
    assert decode(encode(named, ROOT), "x", ROOT) == named


def test_a_wheel_that_the_manifest_names_relatively_is_written_so() -> None:
    wheel = replace(PANDAS, url=f"file:///srv/wheels/{PANDAS.file_name}", requires=())
    inputs = (("requires.pip", (f"../wheels/{PANDAS.file_name} (sha256:{PANDAS.sha256})",)),)
    lock = replace(of(wheel), inputs=inputs)
    assert f'path = "../wheels/{PANDAS.file_name}"' in encode(lock, ROOT)
    assert decode(encode(lock, ROOT), "x", ROOT) == lock


def test_paths_with_odd_characters_survive() -> None:
    odd = replace(NUMPY, channel="file:///srv/app/a%20b%25", url="file:///srv/app/a%20b%25/noarch/x-1-0.conda")
    lock = replace(LOCK, targets=(replace(TARGET, conda=(odd,)),))
    assert decode(encode(lock, ROOT), "x", ROOT) == lock


def test_line_ends_changed_by_version_control_are_no_edit() -> None:
    assert decode(encode(LOCK, ROOT).replace("\n", "\r\n"), "boxsnake.lock", ROOT) == LOCK


# Refusals


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        ('version = "3.1.1"', 'version = "3.1.2"', "contradicts itself"),
        ('requires.pip" = [\n    "pandas>=3",\n]', 'requires.pip" = [\n    "pandas>=4",\n]', "contradicts itself"),
        ("[inputs]", "surprise = 1\n[inputs]", "contradicts itself"),
        ("lock-version = 1", "lock-version = 2", "newer boxsnake"),
        ("lock-version = 1", "lock-version = 0", "unknown"),
        ("lock-version = 1", "lock-version = '1'", "must be a number"),
        ("lock-version = 1\n", "", "lock-version is missing"),
        ("a" * 64, "A" * 64, "sha256"),
        ("a" * 64, "a" * 63, "sha256"),
        ('subdir = "linux-64"\n', "", "subdir is missing"),
        ("size = 18", "size = -18", "not negative"),
        ("size = 18", "size = true", "not negative"),
        ('platform = "linux-64"', 'platform = "linux-65"', "none of linux-64"),
        ('url = "https://conda', 'url = "ftp://conda', "which cannot be"),
        ("h1_0_cpython.conda", "h1_0_cpython.exe", "names no conda package"),
        ('name = "pandas-3.1.1-', 'name = "../pandas-3.1.1-', "which cannot be"),
        ('name = "pandas-3.1.1-', 'name = ".pandas-3.1.1-', "which cannot be"),
        ('"numpy==2.4.6"', '"numpy"', "must be like name==version"),
        ("[inputs]", "[inputs", "not TOML"),
        ("[inputs]", "<<<<<<< HEAD\n[inputs]\n=======\n>>>>>>> x", "merge conflict"),
    ],
)
def test_a_wrong_lock_is_refused_and_the_key_named(before: str, after: str, cause: str) -> None:
    text = encode(LOCK, ROOT)
    assert before in text
    with pytest.raises(LockError, match=cause) as caught:
        decode(text.replace(before, after, 1), "boxsnake.lock", ROOT)
    assert caught.value.thing == "boxsnake.lock"
    assert "boxsnake lock" in caught.value.next_step


@pytest.mark.parametrize("text", ["", "\x00", "lock-version = 1", "[[targets]]", "targets = 1\nlock-version = 1"])
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(LockError):
        decode(text, "boxsnake.lock", ROOT)


# The wheel half by itself


def linux_tags() -> list[Tag]:
    return [Tag("cp311", "cp311", f"manylinux_2_{minor}_x86_64") for minor in (28, 27)] + [Tag("py3", "none", "any")]


def selected(text: str, python: str = "3.11.2") -> list[str]:
    document = Pylock.from_dict(tomllib.loads(text))
    environment = TARGET.target.marker_environment(python)
    chosen = document.select(environment=environment, tags=linux_tags())  # type: ignore[arg-type]
    return [package.name for package, _ in chosen]


def test_the_wheel_half_within_the_lock_is_a_pep_751_document() -> None:
    lock = of(NUMPY_WHEEL, PANDAS, *(built(origin, f"tool-{origin.kind}") for origin in ORIGINS[:3]))
    half = tomllib.loads(encode(lock, ROOT))["targets"][0]["wheels"]
    assert len(Pylock.from_dict(half).packages) == 5


def test_written_by_itself_it_selects_the_wheels() -> None:
    assert selected(pylock(TARGET, TARGET.wheels)) == ["numpy", "pandas"]


def test_a_subset_has_no_dependencies_that_point_outside_it() -> None:
    document = tomllib.loads(pylock(TARGET, [PANDAS]))
    assert selected(pylock(TARGET, [PANDAS])) == ["pandas"]
    assert "dependencies" not in document["packages"][0]


def test_another_python_is_refused_by_its_readers() -> None:
    with pytest.raises(Exception, match="does not satisfy the Python version"):
        selected(pylock(TARGET, TARGET.wheels), python="3.12.0")


def test_in_a_folder_every_wheel_is_a_file_of_it_the_built_ones_too() -> None:
    document = tomllib.loads(pylock(TARGET, [PANDAS, built(ORIGINS[0])], folder="wheels"))
    paths = [package["wheels"][0]["path"] for package in document["packages"]]
    assert paths == ["wheels/pandas-3.1.1-cp311-cp311-manylinux_2_28_x86_64.whl", "wheels/tool-1.0-py3-none-any.whl"]
    assert document["packages"][1]["wheels"][0]["hashes"] == {"sha256": "e" * 64}
    Pylock.from_dict(document)


# What changed


def test_nothing_changed() -> None:
    found = difference(LOCK, LOCK)
    assert not found
    assert found.lines() == []


def test_added_removed_and_changed_are_told_for_each_half() -> None:
    newer = replace(PANDAS, version="3.2.0", file_name="pandas-3.2.0-py3-none-any.whl")
    rebuilt = replace(PYTHON, build="h2_1_cpython", sha256="9" * 64)
    after = replace(LOCK, targets=(replace(TARGET, conda=(rebuilt,), wheels=(newer, built(ORIGINS[3]))),))
    assert difference(LOCK, after).lines() == [
        "default, conda:",
        "  - numpy 2.4.6",
        "  ~ python 3.11.2 h1_0_cpython -> 3.11.2 h2_1_cpython",
        "default, wheels:",
        "  - numpy 2.4.6",
        "  ~ pandas 3.1.1 -> 3.2.0",
        "  + tool 1.0",
        "new build: tool 1.0 from https://files.example/tool-1.0.tar.gz",
    ]


def test_other_bytes_under_the_same_name_are_a_change() -> None:
    after = of(NUMPY_WHEEL, replace(PANDAS, sha256="7" * 64))
    (change,) = difference(LOCK, after).changes
    assert change.before is not None
    assert change.before.endswith("d" * 12)


def test_a_new_server_is_told() -> None:
    after = of(NUMPY_WHEEL, replace(PANDAS, url="https://other.example/pandas-3.1.1-py3-none-any.whl"))
    assert difference(LOCK, after).hosts == ("other.example",)


def test_a_first_lock_is_all_new() -> None:
    found = difference(None, LOCK)
    assert {change.before for change in found.changes} == {None}
    assert found.hosts == ("conda.example", "files.example")


def test_a_lock_for_what_is_asked_is_not_stale() -> None:
    assert stale(LOCK, LOCK.inputs) == []


def test_what_makes_a_lock_stale_is_said_line_by_line() -> None:
    asked = (("requires.pip", ("pandas>=4", "requests")), ("targets", ("default linux-64",)))
    assert stale(LOCK, asked) == [
        "requires.conda: - numpy",
        "requires.pip: - pandas>=3",
        "requires.pip: + pandas>=4",
        "requires.pip: + requests",
        "targets: + default linux-64",
    ]


def test_an_order_that_matters_makes_a_lock_stale() -> None:
    lock = replace(LOCK, inputs=(("requires.channels", ("a", "b")),))
    assert stale(lock, (("requires.channels", ("b", "a")),)) == ["requires.channels: another order (b, a)"]


# Packages of the image's distribution

SYSTEM = SystemLock(
    kind="deb",
    base="debian:12-slim",
    suite="bookworm",
    packages=(
        SystemPackage(
            name="libssl3",
            version="3.0.11-1~deb12u2",
            architecture="amd64",
            archive="debian-security",
            path="pool/updates/main/o/openssl/libssl3_3.0.11-1~deb12u2_amd64.deb",
            sha256="a" * 64,
            size=2_000_000,
        ),
    ),
    archives=(("debian", "http://deb.example/debian"),),
)


def with_system(system: SystemLock | None) -> Lock:
    return replace(LOCK, targets=(replace(TARGET, system=system),))


@pytest.mark.parametrize("system", [SYSTEM, replace(SYSTEM, packages=(), archives=())])
def test_packages_of_the_system_come_back(system: SystemLock) -> None:
    assert decode(encode(with_system(system), ROOT), "boxsnake.lock", ROOT) == with_system(system)


@pytest.mark.parametrize("path", ["../up", "a/../b", "/abs", "pool/x y.deb", "a//b", "a/.", "https://x.example/a"])
def test_a_package_lies_nowhere_but_in_its_archive(path: str) -> None:
    package = replace(SYSTEM.packages[0], path=path)
    with pytest.raises(LockError, match=r"targets\[default\].system.packages\[libssl3\].path is"):
        decode(encode(with_system(replace(SYSTEM, packages=(package,)))), "boxsnake.lock")


def test_a_change_of_the_systems_packages_is_told() -> None:
    newer = replace(SYSTEM, packages=(replace(SYSTEM.packages[0], version="3.0.11-1~deb12u3", sha256="b" * 64),))
    changes = difference(with_system(SYSTEM), with_system(newer))
    assert changes.lines() == ["default, system:", "  ~ libssl3 3.0.11-1~deb12u2 -> 3.0.11-1~deb12u3"]
    assert difference(with_system(None), with_system(SYSTEM)).hosts == ("deb.example",)


# The base of images

PIN = BasePin(reference="r.example/team/base:1", digest=f"sha256:{'b' * 64}")


def with_base(base: BasePin | None) -> Lock:
    return replace(LOCK, targets=(replace(TARGET, base=base),))


def test_a_base_comes_back_and_is_told() -> None:
    assert decode(encode(with_base(PIN), ROOT), "boxsnake.lock", ROOT) == with_base(PIN)
    newer = replace(PIN, digest=f"sha256:{'c' * 64}")
    (change,) = difference(with_base(PIN), with_base(newer)).changes
    assert (change.half, str(change)) == ("base", f"~ {PIN.reference} {PIN.digest} -> {newer.digest}")
    assert str(difference(LOCK, with_base(PIN)).changes[0]) == f"+ {PIN.reference} {PIN.digest}"
    assert not difference(with_base(PIN), with_base(PIN))


@pytest.mark.parametrize("pin", [BasePin(reference="No Image", digest=PIN.digest), BasePin(reference="a", digest="1")])
def test_a_base_that_is_none_is_refused(pin: BasePin) -> None:
    with pytest.raises(LockError, match=r"base\.(reference|digest) is"):
        decode(encode(with_base(pin)), "boxsnake.lock")
