"""A boot's report as a page: drawn by a browser, with texts that would harm it, and with more than fits."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from boxsnake.boot_recipe import ARTIFACT_HOST
from boxsnake.boot_report.difference import changes
from boxsnake.boot_report.document import from_json, to_json
from boxsnake.boot_report.junit import to_junit
from boxsnake.boot_report.value import Changes, Content, Layer, Report
from boxsnake.cli.boot_tables import render_table
from boxsnake.report_page import render
from boxsnake.report_page.treemap import squarified
from tests.boot_reports import CAUSE, FORMATS, artifact, large, report, trial

HARM = "document.title='harmed'"
HOSTILE = f'</script><script>{HARM}</script><img src=x onerror="{HARM}">&amp;\'"\x00\x1b[2J\u202e\udcff'
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background"}


class Page(html.parser.HTMLParser):
    """What is on a page: texts, the targets of links, ids, everything that a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if tag == "a" and name == "href":
                self.links.append(value or "")
            if name in LOADS or (tag != "a" and name == "href"):
                self.loads.append(value or "")
            assert not name.startswith("on"), "a handler in the markup"

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"], ["title"]):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


LOG = "first line\n" + "a line of the log\n" * 50_000 + "last line"
FAILING = report(
    trial("image", ARTIFACT_HOST),
    trial("rpm", "debian-12-rpm", fails_at="imports", log=LOG),
    trial("pex (a)", "debian-12-python", scenario="limits"),
    artifacts=(artifact("image"), artifact("rpm")),
)


def test_the_page_says_first_what_failed_and_why() -> None:
    page = Page(render(FAILING))
    assert page.text.index("1 of 3 boots failed") < page.text.index(CAUSE) < page.text.index("Matrix Boxes, hosts")
    assert "3 boots: 2 passed, 1 failed · 3 boxes · 3 hosts · 42 steps" in page.text
    assert "boxsnake boot rpm --host debian-12-rpm --keep" in page.text


def test_a_page_asks_for_nothing_and_its_links_lead_somewhere() -> None:
    made = dataclasses.replace(FAILING, boxes=(*FAILING.boxes, FAILING.boxes[1]))
    text = render(dataclasses.replace(made, changes=changes(large(), FAILING, against="before")))
    page = Page(text)
    assert page.loads == ["data:,"]
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert not re.search(r"url\(|@import|https?:", text)


def test_the_same_report_gives_the_same_page_from_its_json() -> None:
    again = from_json(json.dumps(to_json(FAILING)).encode(), "boot.json")
    assert render(again) == render(from_json(json.dumps(to_json(again)).encode(), "boot.json"))


def test_the_page_the_terminal_and_junit_say_the_same() -> None:
    boxes = (*FAILING.boxes, trial("deb", "musl"))
    page = Page(render(dataclasses.replace(FAILING, boxes=boxes))).text
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(render_table(boxes))
    for row in console.export_text().splitlines()[1:]:
        *_, proven = re.split(r"\s{2,}", row.strip())
        assert proven in page
    junit = ET.fromstring(to_junit(boxes))  # noqa: S314 - our own text
    assert f"· {junit.get('tests')} steps ·" in page
    failed = [case for case in junit.iter("testcase") if case.find("failure") is not None]
    assert page.count("✗ failed") == len(failed) == int(junit.get("failures") or 0) == 1
    assert sum(step.outcome == "skipped" for one in boxes for step in one.steps) == int(junit.get("skipped") or 0)


def test_a_log_is_cut_in_its_middle() -> None:
    page = Page(render(FAILING))
    whole = sum(map(len, page.texts))
    assert whole < 80_000
    for part in ("first line", "last line", "are left out here; boot.json has them"):
        assert part in page.text


def test_a_page_shows_starts_sizes_and_every_step() -> None:
    page = Page(render(FAILING))
    for part in ("0.50 s", "31.0 MB", "interpreter", "python 3.11.2", "files of no package", "check: answers"):
        assert part in page.text
    assert page.text.count("not tried after that:") == 1


def test_a_page_without_boots_and_one_of_what_was_not_tried() -> None:
    assert "Nothing was booted." in Page(render(report())).text
    step = dataclasses.replace(trial().steps[0], outcome="skipped", detail="needs another processor")
    untried = Page(render(report(dataclasses.replace(trial(), steps=(step,))))).text
    assert "What was not tried" in untried
    assert "needs another processor" in untried


def test_two_hundred_boots_are_less_than_a_megabyte() -> None:
    text = render(large(failing=200, log=HOSTILE * 1000))
    assert len(text.encode()) < 1_000_000
    assert Page(text).tags.count("details") > 200


def test_two_hundred_boxes_are_less_than_a_megabyte_too() -> None:
    boxes = [trial(f"image (target-{number})", fails_at="imports" if number % 2 else "") for number in range(200)]
    paths = [f"/srv/dist/{number}" for number in range(200)]
    made = report(
        *(dataclasses.replace(one, artifact=path) for one, path in zip(boxes, paths, strict=True)),
        artifacts=tuple(dataclasses.replace(artifact("image", packages=150), path=path) for path in paths),
    )
    text = render(made)
    assert len(text.encode()) < 1_000_000
    assert "What is in the 150 smallest is in boot.json alone." in Page(text).text


def hostile() -> Report:
    """A report whose every text is harmful."""
    box = trial(HOSTILE, HOSTILE, HOSTILE, fails_at="imports", cause=HOSTILE, log=HOSTILE * 100_000)
    steps = tuple(dataclasses.replace(step, name=f"{step.name}{HOSTILE}", detail=HOSTILE) for step in box.steps)
    parts = artifact("rpm", version=HOSTILE, packages=3)
    contents = tuple(dataclasses.replace(one, name=HOSTILE, kind=HOSTILE) for one in parts.contents)
    made = report(
        dataclasses.replace(box, steps=steps, artifact=parts.path),
        artifacts=(dataclasses.replace(parts, contents=contents, digest=HOSTILE),),
    )
    told = changes(dataclasses.replace(made, boxes=(trial(HOSTILE, HOSTILE, HOSTILE),)), made, against=HOSTILE)
    return dataclasses.replace(made, changes=told, application=HOSTILE, engine=HOSTILE, started=HOSTILE)


def test_texts_of_a_box_stay_texts() -> None:
    text = render(hostile())
    assert text.encode()  # there is nothing left that UTF-8 cannot write
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert "\\x00\\x1b[2J\\u202e" in page.text


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What a browser makes of two hundred boots, the hostile report and a small one in frames; and what it logs."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs chromium")
    folder = tmp_path_factory.mktemp("page")
    with_changes = dataclasses.replace(large(), changes=changes(large(failing=0), large(), against="before"))
    for name, made in (("large", with_changes), ("hostile", hostile())):
        (folder / f"{name}.html").write_text(render(made), encoding="utf-8")
    (folder / "all.html").write_text(FRAMES, encoding="utf-8")
    done = subprocess.run(
        [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
            "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--window-size=1280,1000",
            "--virtual-time-budget=20000", "--dump-dom", f"file://{folder}/all.html",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


FRAMES = """<!DOCTYPE html><title>frames</title>
<iframe id=large src="large.html#b10" width=1280 height=800></iframe>
<iframe id=narrow src="large.html" width=400 height=800></iframe>
<iframe id=hostile src="hostile.html" width=400 height=800></iframe>
<pre id=found></pre>
<script>
addEventListener("load", () => {
  const page = (name) => document.getElementById(name).contentDocument;
  const large = page("large");
  const find = large.getElementById("find");
  const all = large.querySelectorAll(".boot").length;
  find.value = "wheelhouse el9";
  find.dispatchEvent(new Event("input", {bubbles: true}));
  const shown = [...large.querySelectorAll(".boot")].filter((boot) => !boot.hidden).length;
  const wide = (name) => page(name).documentElement.scrollWidth - page(name).documentElement.clientWidth;
  const areas = [...large.querySelectorAll(".box[open] .group i")].map((one) => one.getBoundingClientRect());
  document.getElementById("found").textContent = "FOUND" + JSON.stringify({
    titles: [large.title, page("hostile").title],
    all, shown,
    target: large.getElementById("b10").closest("details").open,
    told: large.getElementById("found").textContent,
    overflow: [wide("large"), wide("narrow"), wide("hostile")],
    areas: areas.length, empty: areas.filter((one) => one.width < 1 || one.height < 1).length,
    formShown: !large.getElementById("finding").hidden,
  }) + "END";
});
</script>
"""


def test_a_browser_draws_it_whole_and_without_a_complaint(drawn: tuple[str, str]) -> None:
    dom, complaints = drawn
    assert complaints == ""
    (text,) = re.findall(r"FOUND(\{.*?\})END", dom.rpartition("<script>")[0])
    found = json.loads(text.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert "harmed" not in [title.strip() for title in found["titles"]]
    assert (found["all"], found["shown"], found["told"]) == (200, 4, "4 of 200")
    assert found["target"], "the boot that the address names is unfolded"
    assert found["overflow"] == [0, 0, 0], "no page is wider than its window"
    assert found["areas"] > 20
    assert found["empty"] == 0
    assert found["formShown"]


def test_a_treemap_fills_its_whole_in_proportion() -> None:
    amounts = [50.0, 20.0, 20.0, 5.0, 4.0, 1.0]
    areas = squarified(amounts, ratio=2.6)
    shares = [area.width * area.height / 100 for area in areas]
    assert shares == pytest.approx(amounts, rel=0.02)
    for number, one in enumerate(areas):
        assert 0 <= one.left <= one.left + one.width <= 100.1
        assert 0 <= one.top <= one.top + one.height <= 100.1
        for other in areas[number + 1 :]:
            apart_across = one.left + one.width <= other.left + 0.02 or other.left + other.width <= one.left + 0.02
            apart_down = one.top + one.height <= other.top + 0.02 or other.top + other.height <= one.top + 0.02
            assert apart_across or apart_down


def test_what_is_too_small_to_be_seen_is_in_the_page_all_the_same() -> None:
    made = artifact("image")
    tiny = tuple(
        Content(kind="", name=name, version="", size=size, layer="system") for name, size in (("a", 6), ("b", 0))
    )
    huge = Content(kind="", name="", version="", size=40_000_000_000, layer="base")
    layers = (*made.layers, Layer(name="system", size=6))
    made = dataclasses.replace(made, layers=layers, contents=(*made.contents, huge, *tiny))
    assert "system" in Page(render(report(trial("image"), artifacts=(made,)))).text


def test_every_format_is_in_the_matrix_of_a_large_report() -> None:
    text = Page(render(large())).text
    matrix = text[text.index("Matrix Boxes, hosts and scenarios") : text.index("Starts Starts")]
    assert all(name in matrix for name in FORMATS)
    assert matrix.count("✗ imports") == 20


def test_a_report_that_could_not_be_compared_says_why() -> None:
    told = dataclasses.replace(FAILING, changes=Changes(against="the report before", note="is damaged"))
    assert "Nothing could be compared with the report before: is damaged" in Page(render(told)).text
