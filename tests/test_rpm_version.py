"""Versions keep their order on the way from PEP 440 to RPM."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from packaging.version import Version

from boxsnake.errors import PackError
from boxsnake.os_packages.package_version import PackageVersion
from boxsnake.os_packages.rpm_version import order_key, rpm_version


def rpmvercmp(one: str, other: str) -> int:
    """RPM's comparison of versions, as rpm-version(7) describes it."""
    while one or other:
        one, other = re.sub(r"^[^a-zA-Z0-9~]+", "", one), re.sub(r"^[^a-zA-Z0-9~]+", "", other)
        if one[:1] == "~" or other[:1] == "~":
            if one[:1] != other[:1]:
                return -1 if one[:1] == "~" else 1
            one, other = one[1:], other[1:]
            continue
        if not (one and other):
            break
        run = r"[0-9]+" if one[0].isdigit() else r"[a-zA-Z]+"
        mine, its = re.match(run, one), re.match(run, other)
        assert mine
        if not its:
            return 1 if one[0].isdigit() else -1
        one, other = one[mine.end() :], other[its.end() :]
        left, right = mine.group(), its.group()
        if left[0].isdigit():
            left, right = left.lstrip("0"), right.lstrip("0")
            if len(left) != len(right):
                return 1 if len(left) > len(right) else -1
        if left != right:
            return 1 if left > right else -1
    return bool(one) - bool(other)


def compare(one: PackageVersion, other: PackageVersion) -> int:
    if one.epoch != other.epoch:
        return 1 if one.epoch > other.epoch else -1
    return rpmvercmp(one.version, other.version)


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same versions in every run, no secret


def random_version(chance: random.Random) -> str:
    def number() -> int:
        return chance.choice([0, 0, 1, 2, 9, 10, 11, 2024])

    parts = [".".join(str(number()) for _ in range(chance.randint(1, 5)))]
    if chance.random() < 0.1:
        parts.insert(0, f"{chance.randint(1, 2)}!")
    if chance.random() < 0.4:
        parts.append(f"{chance.choice(['a', 'b', 'rc'])}{number()}")
    if chance.random() < 0.4:
        parts.append(f".post{number()}")
    if chance.random() < 0.4:
        parts.append(f".dev{number()}")
    if chance.random() < 0.4:
        segments = ["0", "1", "10", "9", "a", "b", "ab", "a1", "a10", "a9", "a01", "1a", "10a", "post1", "zz", "dev"]
        parts.append("+" + ".".join(chance.choices(segments, k=chance.randint(1, 3))))
    return "".join(parts)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("1.0", "1.0.0"),
        ("1", "1.0.0"),
        ("1.2.3.0.4", "1.2.3.0.4"),
        ("1.2.3.4.0", "1.2.3.4"),
        ("1.0.0rc1", "1.0.0~rc1"),
        ("1.0.0.dev3", "1.0.0~~dev3"),
        ("1.0.0a2.dev3", "1.0.0~a2~dev3"),
        ("1.0.0.post1", "1.0.0.post1"),
        ("1.0.0.post1.dev2", "1.0.0.post1~dev2"),
        ("2.1.0+el9.4", "2.1.0+local.elJ.4"),
        ("v1.2.3-ALPHA_1", "1.2.3~a1"),
    ],
)
def test_versions_are_written_as_rpm_writes_them(version: str, expected: str) -> None:
    assert rpm_version(version) == PackageVersion(epoch=0, version=expected)


def test_epochs_are_told_apart_in_folders() -> None:
    assert rpm_version("1!2.0").epoch == 1
    assert rpm_version("1!2.0").folder == "1_2.0.0"
    assert rpm_version("2.0").folder == "2.0.0"


def test_the_order_of_pep_440_holds_in_rpm() -> None:
    chance = repeatable(20200101)
    versions = sorted({Version(random_version(chance)) for _ in range(3000)})
    mapped = [rpm_version(str(version)) for version in versions]
    for lower, higher in pairwise(mapped):
        assert compare(lower, higher) < 0, (lower, higher)
    for _ in range(20_000):
        i, j = chance.sample(range(len(versions)), 2)
        assert compare(mapped[i], mapped[j]) == (1 if versions[i] > versions[j] else -1), (mapped[i], mapped[j])


def test_keys_sort_as_versions_and_releases_do() -> None:
    chance = repeatable(11)
    versions = sorted({Version(random_version(chance)) for _ in range(1000)})
    releases = ["1~rc1", "1", "1.el8", "1.el9", "1.1", "2", "2a", "2b", "10"]
    keys = [order_key(str(version), release) for version in versions for release in releases]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    for one, other in pairwise(releases):
        assert rpmvercmp(one, other) < 0, (one, other)


def test_equal_versions_map_to_one() -> None:
    assert rpm_version("1.0") == rpm_version("1.0.0.0") == rpm_version("v1.0.0")
    assert rpm_version("1.0rc1") == rpm_version("1.0.0-RC.1")


def test_every_mapped_version_is_one_that_rpm_allows() -> None:
    chance = repeatable(7)
    for _ in range(2000):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+~]*", rpm_version(random_version(chance)).version)


@pytest.mark.skipif(shutil.which("rpm") is None, reason="needs rpm")
def test_rpm_itself_agrees() -> None:
    chance = repeatable(3)
    versions = sorted({Version(random_version(chance)) for _ in range(400)})
    mapped = [rpm_version(str(version)) for version in versions]
    pairs = [(a.version, b.version) for a, b in pairwise(mapped) if a.epoch == b.epoch]
    script = "".join(f'io.write(rpm.vercmp("{a}", "{b}"), " ")' for a, b in pairs)
    done = subprocess.run(["rpm", "--eval", f"%{{lua:{script}}}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-1"] * len(pairs)


@pytest.mark.parametrize(
    "version",
    [
        "1.0;rm -rf /",
        "1.0-1.el9",
        "1:2",
        "1~2",
        "1^2",
        "%(id)",
        "",
        "1.0\n%post",
        "$(id)",
        "latest",
        "1.0_x",
    ],
)
def test_what_pep_440_does_not_know_is_refused(version: str) -> None:
    with pytest.raises(PackError, match="PEP 440") as caught:
        rpm_version(version)
    assert "\n%" not in str(caught.value)


def test_a_version_too_long_for_file_names_is_refused() -> None:
    with pytest.raises(PackError, match="at most 120"):
        rpm_version("1." + "1" * 200)
