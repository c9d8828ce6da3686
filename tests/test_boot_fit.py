"""Which boxes are tried on which hosts, and what a box has to say on one that it was not made for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from boxsnake import hosts
from boxsnake.boot.fit import judged, lacking, mismatch
from boxsnake.boot.room import fitting, longest_first
from boxsnake.boot_recipe import Takes
from boxsnake.boot_report.document import to_json
from boxsnake.boot_report.value import BootReport, Report, Step
from boxsnake.cli.boot_tables import render_table
from boxsnake.target import Target

HOSTS = hosts.load_hosts([Path(__file__).parent.parent / "docker" / "hosts"])
TARGET = Target(name="default", glibc="2.36")


@pytest.mark.parametrize(
    ("takes", "fitting"),
    [
        ("rpm", {"debian-11-rpm", "debian-12-rpm", "debian-13-rpm", "el8", "el9", "fedora", "suse-15", "amazon-2023"}),
        (
            "dpkg",
            {
                "debian-11",
                "debian-11-python",
                "debian-12",
                "debian-12-python",
                "debian-13",
                "debian-13-python",
                "ubuntu-22",
                "ubuntu-24",
            },
        ),
        ("python", {"debian-11-python", "debian-12-python", "debian-13-python"}),
        ("shell", set(HOSTS)),
    ],
)
def test_a_box_is_tried_where_its_manager_is(takes: Takes, fitting: set[str]) -> None:
    assert {name for name, host in HOSTS.items() if not lacking(takes, host)} == fitting


@pytest.mark.parametrize(
    ("takes", "host", "told"),
    [
        ("dpkg", "debian-11", "glibc 2.31, and the box is for 2.36"),
        ("dpkg", "debian-12", ""),
        ("dpkg", "debian-13", ""),
        ("shell", "musl", "musl 1.2.3 and no glibc"),
        ("shell", "busybox", ""),
        ("python", "debian-13-python", "Python 3.13, and the box is for 3.11"),
        ("python", "debian-12-python", ""),
    ],
)
def test_what_a_box_was_not_made_for_is_known(takes: Takes, host: str, told: str) -> None:
    found = mismatch(takes, HOSTS[host], TARGET.glibc, "3.11")
    assert (found != "") == (told != "")
    assert told in found


def test_a_box_without_a_floor_fits_any_c_library() -> None:
    assert mismatch("shell", HOSTS["musl"], None, "3.11") == ""


def report(*steps: tuple[str, str, str]) -> BootReport:
    made = tuple(Step(name=name, outcome=outcome, seconds=1.0, detail=detail) for name, outcome, detail in steps)  # type: ignore[arg-type]  # a test's own texts
    return BootReport(artifact="a", format="deb", host="debian-11", steps=made)


def test_to_work_all_the_same_is_fine() -> None:
    works = report(("install", "passed", ""))
    assert judged(works, "it has glibc 2.31") == works


def test_a_clear_refusal_passes_and_is_shown() -> None:
    said = "`dpkg --install x` exited with 1\n  pre-dependency problem:\n  x pre-depends on libc6 (>= 2.36)"
    found = judged(report(("copy", "passed", ""), ("install", "failed", said), ("imports", "skipped", "")), "why")
    assert [(step.name, step.outcome) for step in found.steps] == [("copy", "passed"), ("refuses", "passed")]
    assert found.verdict == "passed"
    assert to_json(Report(boxes=(found,)))["verdict"] == "passed"
    assert render_table([found]).row_count == 1
    assert found.steps[-1].detail == "x pre-depends on libc6 (>= 2.36)"


def test_a_failure_in_the_dark_fails_with_the_reason() -> None:
    # The harness's own first line names Python, and counts for nothing.
    said = "the box's own Python exited with 139\n  Segmentation fault"
    found = judged(report(("packages", "failed", said)), "it has musl 1.2 and no glibc")
    assert found.failure is not None
    assert found.failure.detail.startswith("does not say why it does not work here: it has musl 1.2 and no glibc\n")
    assert "Segmentation fault" in found.failure.detail


@pytest.mark.parametrize(
    ("wanted", "gibibytes", "boxes"), [(1, 1, 2), (2, 20, 2), (16, 64, 16), (16, 6, 6), (16, 0, 2)]
)
def test_as_many_boxes_are_booted_at_once_as_find_room(wanted: int, gibibytes: int, boxes: int) -> None:
    assert fitting(wanted, gibibytes << 30) == boxes


def test_what_takes_long_is_begun_first_and_what_is_alike_in_its_order() -> None:
    assert longest_first([2.0, math.inf, 0.0, 2.0, 3.0, math.inf]) == [1, 5, 4, 0, 3, 2]
