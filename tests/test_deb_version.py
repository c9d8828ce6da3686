"""Versions keep their order on the way from PEP 440 to Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise

import pytest
from packaging.version import Version

from boxsnake.errors import PackError
from boxsnake.os_packages.deb_version import deb_version
from boxsnake.os_packages.package_version import PackageVersion
from tests.test_rpm_version import random_version, repeatable


def order(character: str) -> int:
    """A character's place, as deb-version(7) describes it; the end and digits are 0."""
    if character == "~":
        return -1
    if not character or character.isdigit():
        return 0
    return ord(character) if character.isalpha() else ord(character) + 256


def compare_texts(one: str, other: str) -> int:
    """dpkg's comparison of upstream versions."""
    while one or other:
        mine, its = re.match(r"[^0-9]*", one), re.match(r"[^0-9]*", other)
        assert mine
        assert its
        for i in range(max(mine.end(), its.end())):
            left, right = order(mine.group()[i : i + 1]), order(its.group()[i : i + 1])
            if left != right:
                return 1 if left > right else -1
        one, other = one[mine.end() :], other[its.end() :]
        mine, its = re.match(r"[0-9]*", one), re.match(r"[0-9]*", other)
        assert mine
        assert its
        first, second = int(mine.group() or 0), int(its.group() or 0)
        if first != second:
            return 1 if first > second else -1
        one, other = one[mine.end() :], other[its.end() :]
    return 0


def compare(one: PackageVersion, other: PackageVersion) -> int:
    if one.epoch != other.epoch:
        return 1 if one.epoch > other.epoch else -1
    return compare_texts(one.version, other.version)


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
        ("1.0.0.post1", "1.0.0+post1"),
        ("1.0.0.post1.dev2", "1.0.0+post1~dev2"),
        ("2.1.0+7", "2.1.0+local.7"),
        ("2.1.0+el9.4", "2.1.0+localelJ0.4"),
        ("v1.2.3-ALPHA_1", "1.2.3~a1"),
    ],
)
def test_versions_are_written_as_debian_writes_them(version: str, expected: str) -> None:
    assert deb_version(version) == PackageVersion(epoch=0, version=expected)


def test_epochs_are_told_apart_in_folders() -> None:
    assert deb_version("1!2.0").epoch == 1
    assert deb_version("1!2.0").folder == "1_2.0.0"
    assert deb_version("2.0").folder == "2.0.0"


def test_the_order_of_pep_440_holds_in_debian() -> None:
    chance = repeatable(20200101)
    versions = sorted({Version(random_version(chance)) for _ in range(3000)})
    mapped = [deb_version(str(version)) for version in versions]
    for lower, higher in pairwise(mapped):
        assert compare(lower, higher) < 0, (lower, higher)
    for _ in range(20_000):
        i, j = chance.sample(range(len(versions)), 2)
        assert compare(mapped[i], mapped[j]) == (1 if versions[i] > versions[j] else -1), (mapped[i], mapped[j])


def test_equal_versions_map_to_one() -> None:
    assert deb_version("1.0") == deb_version("1.0.0.0") == deb_version("v1.0.0")
    assert deb_version("1.0rc1") == deb_version("1.0.0-RC.1")


def test_every_mapped_version_is_one_that_debian_allows() -> None:
    chance = repeatable(7)
    for _ in range(2000):
        assert re.fullmatch(r"[0-9][A-Za-z0-9.+~]*", deb_version(random_version(chance)).version)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
def test_dpkg_itself_agrees() -> None:
    chance = repeatable(3)
    versions = sorted({Version(random_version(chance)) for _ in range(1500)})
    mapped = [deb_version(str(version)) for version in versions]
    written = [f"{found.epoch}:{found.version}-1" for found in mapped]
    # One shell for all of them: each comparison is a process of some milliseconds.
    script = 'while read -r a b; do dpkg --compare-versions "$a" lt "$b" || echo "$a $b"; done'
    pairs = "".join(f"{a} {b}\n" for a, b in pairwise(written))
    done = subprocess.run(["sh", "-c", script], input=pairs, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    "version", ["1.0;rm -rf /", "1.0-1.deb12", "1:2", "1~2", "", "1.0\nDepends: x", "$(id)", "latest", "1.0_x"]
)
def test_what_pep_440_does_not_know_is_refused(version: str) -> None:
    with pytest.raises(PackError, match="PEP 440") as caught:
        deb_version(version)
    assert "\nDepends" not in str(caught.value)


def test_a_version_too_long_for_file_names_is_refused() -> None:
    with pytest.raises(PackError, match="at most 120"):
        deb_version("1." + "1" * 200)
