"""What has changed from one report to another, and the command that compares them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxsnake.boot_report.difference import changes
from boxsnake.boot_report.document import VERSION, as_told, from_json, to_json
from boxsnake.boot_report.summary import changed
from boxsnake.boot_report.value import START, Report
from boxsnake.cli import boxsnake
from boxsnake.cli.boot_files import compared, earlier_of, publish
from boxsnake.cli.console import run
from boxsnake.errors import BoxsnakeError, IntegrityError, UsageError
from tests.boot_reports import CAUSE, artifact, report, trial

OLD = report(
    trial("rpm"),
    trial("deb", fails_at="install", cause="`apt-get install` exited with 100"),
    trial("pex", fails_at="imports"),
    trial("image"),
    artifacts=(artifact("rpm"), artifact("image")),
)


def new() -> Report:
    larger = artifact("rpm", version="3.12.0", packages=41)
    return report(
        trial("rpm", fails_at="imports"),
        trial("deb", start=0.9),
        trial("pex", fails_at="imports"),
        trial("image", start=0.9),
        trial("image", "el9"),
        artifacts=(dataclasses.replace(larger, size=25_000_000), artifact("image")),
    )


def test_every_kind_of_change_is_told() -> None:
    found = changes(OLD, dataclasses.replace(new(), boxes=new().boxes), against="1.0")
    assert [(turn.box, turn.step, turn.cause) for turn in found.failing] == [("rpm", "imports", CAUSE)]
    assert [(turn.box, turn.step) for turn in found.mended] == [("deb", "install")]
    assert [(turn.box, turn.host) for turn in found.new] == [("image", "el9")]
    # The deb did not come to its start before; the RPM does not now.
    assert [(shift.box, shift.before, shift.after) for shift in found.starts] == [("image", 0.5, 0.9)]
    assert [(growth.box, growth.after) for growth in found.sizes] == [("rpm", 25_000_000)]
    python, package = found.packages
    assert (python.name, python.before, python.after, python.boxes) == ("python", "3.11.2", "3.12.0", ("rpm",))
    assert (package.name, package.before, package.size_before) == ("package-40", "", None)
    assert (found.gone, found.compared, found.started) == ((), 4, OLD.started)
    assert changed(found).startswith("1 new failure, 1 mended boot, 1 other start time")


def test_the_same_report_has_not_changed() -> None:
    found = changes(OLD, OLD, against="1.0")
    assert (changed(found), found.packages, found.starts) == ("nothing", (), ())


def test_a_little_faster_or_larger_is_no_change() -> None:
    slower = dataclasses.replace(OLD, boxes=(trial("rpm", start=0.6), *OLD.boxes[1:]))
    assert changes(OLD, slower, against="1.0").starts == ()


def test_what_was_tried_and_is_not_any_more() -> None:
    step = dataclasses.replace(trial().steps[0], outcome="skipped", detail="needs another processor")
    untried = dataclasses.replace(OLD, boxes=(dataclasses.replace(OLD.boxes[0], steps=(step,)),))
    found = changes(OLD, untried, against="1.0")
    assert [(turn.box, turn.cause) for turn in found.untried] == [("rpm", "needs another processor")]
    assert len(found.gone) == 3


def test_a_report_is_read_as_it_was_written() -> None:
    whole = dataclasses.replace(new(), changes=changes(OLD, new(), against="1.0"))
    odd = dataclasses.replace(whole.boxes[0], artifact="/srv/\udcff.rpm")
    step = dataclasses.replace(odd.steps[0], seconds=1 / 3, figures={START: 2 / 3})
    whole = dataclasses.replace(whole, boxes=(dataclasses.replace(odd, steps=(step,)), *whole.boxes[1:]))
    document = to_json(whole)
    again = from_json(json.dumps(document).encode(), "boot.json")
    assert to_json(again) == document
    assert again == as_told(whole)
    assert again != whole


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("", IntegrityError, "damaged or cut off"),
        ('{"report-version": 1, "boxes"', IntegrityError, "damaged or cut off"),
        ("[" * 100_000, IntegrityError, "damaged or cut off"),
        ("\xff", IntegrityError, "damaged or cut off"),
        ("{}", UsageError, "is no report"),
        ("[]", UsageError, "is no report"),
        ('{"report-version": "1"}', UsageError, "is no report"),
        ('{"report-version": 2}', UsageError, "newer boxsnake"),
        ('{"report-version": 1}', IntegrityError, "is no whole report: boxes"),
        ('{"report-version": 1, "boxes": [{"steps": [{"outcome": "odd"}]}]}', IntegrityError, r"boxes\.0\."),
    ],
)
def test_what_is_no_report_is_refused_by_name(text: str, error: type[BoxsnakeError], told: str) -> None:
    with pytest.raises(error, match=told) as raised:
        from_json(text.encode("latin-1"), "some.json")
    assert raised.value.thing == "some.json"


def test_a_report_of_a_later_version_that_says_more_is_read() -> None:
    document = to_json(OLD) | {"weather": "fine", "report-version": VERSION}
    assert [trial.key for trial in from_json(json.dumps(document).encode(), "").boxes] == [one.key for one in OLD.boxes]


def test_a_path_that_is_no_text_is_written_as_an_escape(tmp_path: Path) -> None:
    odd = dataclasses.replace(OLD.boxes[0], artifact="/srv/\udcff.rpm")
    publish(dataclasses.replace(OLD, boxes=(odd,)), tmp_path)
    assert from_json((tmp_path / "boot.json").read_bytes(), "boot.json").boxes[0].artifact == "/srv/\\udcff.rpm"


def test_the_report_before_is_what_is_compared_with(tmp_path: Path) -> None:
    assert earlier_of(tmp_path, None) is None
    publish(OLD, tmp_path)
    earlier = earlier_of(tmp_path, None)
    publish(compared(new(), earlier), tmp_path)
    page = (tmp_path / "boot.html").read_text(encoding="utf-8")
    assert "Since the report before of 2026-11-21 18:00:00 UTC; 4 boots compared." in page
    # It is no matter for the boot that what lay there is somebody else's; it is told.
    (tmp_path / "boot.json").write_text("{}")
    again = compared(new(), earlier_of(tmp_path, None))
    assert again.changes is not None
    assert again.changes.note == "is no report of `boxsnake boot`"
    # What is named, is wanted.
    with pytest.raises(UsageError):
        earlier_of(tmp_path, tmp_path / "boot.json")


def test_the_command_makes_the_page_again_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, made in (("old", OLD), ("new", new())):
        (tmp_path / name).mkdir()
        publish(made, tmp_path / name)
    page = tmp_path / "new" / "boot.html"
    written = page.read_bytes()
    page.unlink()
    facts = str(tmp_path / "new" / "boot.json")
    done = CliRunner().invoke(boxsnake, ["report", facts])
    assert (done.exit_code, page.read_bytes()) == (0, written)
    elsewhere = tmp_path / "page.html"
    arguments = ["report", facts, "--against", str(tmp_path / "old" / "boot.json"), "-o", str(elsewhere)]
    done = CliRunner().invoke(boxsnake, arguments)
    assert done.exit_code == 0
    assert "5 boots: 3 passed, 2 failed" in done.output
    assert "1 new failure, 1 mended boot" in done.output
    assert CAUSE in elsewhere.read_text(encoding="utf-8")
    assert page.read_bytes() == written
    assert run(boxsnake, [*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [turn["box"] for turn in document["changes"]["mended"]] == ["deb"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["missing.json"], 8, "there is no such report"),
        (["new.json", "--against", "missing.json"], 8, "there is no such report"),
        (["foreign.json"], 2, "is no report"),
        (["cut.json"], 7, "damaged"),
        ([], 2, "there is no boxsnake.toml"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    publish(new(), tmp_path)
    (tmp_path / "boot.json").rename("new.json")
    Path("foreign.json").write_text('{"name": "package"}')
    Path("cut.json").write_bytes(Path("new.json").read_bytes()[:-200])
    assert run(boxsnake, ["report", *arguments]) == code
    assert told in capfd.readouterr().err
