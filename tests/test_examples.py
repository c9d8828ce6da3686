"""The boot matrix: each example is locked, boxed in every format and booted, as a user would do it.

The larger example has 218 MB, so its formats are for thorough runs, all but one. What it has and the smaller one has
not are large compiled packages, of conda and of the index: its image shows that they come through. What a format does
with a tree, and with wheels on a host's Python, compiled ones among them, the smaller shows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.thorough import thorough

ROOT = Path(__file__).parent.parent
EXAMPLES = ("hello-web", *thorough("report"))
FORMATS = ("appimage", "conda-pack", "deb", "dockerfile", "image", "installer", "pex", "rpm", "wheelhouse")

pytestmark = [pytest.mark.channel, pytest.mark.engine, pytest.mark.index, pytest.mark.long]


@dataclass(frozen=True)
class Application:
    """A copy of an example, and the command line in its folder."""

    folder: Path

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "boxsnake", *arguments]
        variables = os.environ | (environment or {})
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)

    def ask(self, *arguments: str, environment: dict[str, str] | None = None) -> Any:
        done = self.run(*arguments, "--json", environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


def copy_of(example: str, folder: Path) -> Application:
    ignored = shutil.ignore_patterns("dist", "boxsnake.lock", "__pycache__")
    shutil.copytree(ROOT / "examples" / example, folder, ignore=ignored)
    return Application(folder)


@pytest.fixture(scope="module", params=EXAMPLES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Application:
    application = copy_of(request.param, tmp_path_factory.mktemp("example") / request.param)
    application.ask("lock")
    boxes = application.ask("build")["boxes"]
    assert sorted(box["format"] for box in boxes) == list(FORMATS)
    return application


def all_boot(application: Application, *formats: str) -> None:
    done = application.run("boot", *formats)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = json.loads((application.folder / "dist" / "boot.json").read_text())
    boots = {report["format"]: report for report in reports["boxes"]}
    assert sorted(boots) == sorted(formats or FORMATS)
    assert {report["verdict"] for report in boots.values()} == {"passed"}


def test_every_box_boots(built: Application) -> None:
    all_boot(built)
    report = json.loads((built.folder / "dist" / "boot.json").read_text())
    assert report["application"].startswith(f"{built.folder.name} ")
    assert len(report["artifacts"]) == len(FORMATS)
    for artifact in report["artifacts"]:
        assert (artifact["note"], artifact["size"] > 0) == ("", True)
        assert sum(content["size"] for content in artifact["contents"]) == artifact["unpacked"] > 0
        nobodys = sum(content["size"] for content in artifact["contents"] if not content["name"])
        # A PEX brings what starts it.
        assert nobodys < artifact["unpacked"] / 10 or artifact["path"].endswith(".pex")
    page = (built.folder / "dist" / "boot.html").read_text(encoding="utf-8")
    assert all(f'<th scope="row">{name}</th>' in page for name in FORMATS)
    suites = ET.parse(built.folder / "dist" / "boot.xml").getroot()  # noqa: S314 - our own file
    assert {case.get("name") for case in suites.iter("testcase")} >= {"install", "remove"}
    assert not list(suites.iter("failure"))


def test_the_larger_examples_image_boots(tmp_path: Path) -> None:
    application = copy_of("report", tmp_path / "report")
    application.ask("lock")
    application.ask("build", "image")
    all_boot(application, "image")


@pytest.mark.parametrize("built", ["hello-web"], indirect=True)
def test_scenarios_and_checks_of_other_tools_are_carried_out(built: Application, tmp_path: Path) -> None:
    (tmp_path / "goss.yaml").write_text("port: {tcp:8000: {listening: true}}\nfile: {/etc/passwd: {exists: true}}\n")
    checks = ("--checks", str(tmp_path / "goss.yaml"))
    (report,) = built.ask("boot", "wheelhouse", "--scenario", "second-start", *checks)["boxes"]
    steps = [step["name"] for step in report["steps"]]
    assert (report["verdict"], report["scenario"]) == ("passed", "second-start")
    assert {"check: answers again", "check: tcp:8000", "check: /etc/passwd again"} <= set(steps)


@pytest.mark.parametrize("built", ["hello-web"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pex", "--scenario", "earthquake"), "there is no such scenario"),
        (("pex", "--scenario", "reinstall"), "is not for pex, which is not installed by a program of its own"),
        (("installer", "--scenario", "upgrade"), "takes an older artifact, and there is none"),
        (("installer", "--scenario", "upgrade", "--from", "boxsnake.toml"), "is no installer by its name"),
        (("pex", "--checks", "boxsnake.toml"), "boxes: unknown key; known are app, artifact, boot, checks"),
    ],
)
def test_what_cannot_be_tried_is_told(built: Application, arguments: tuple[str, ...], told: str) -> None:
    done = built.run("boot", *arguments)
    assert done.returncode in {2, 3}, done.stderr
    assert told in " ".join(done.stderr.split())


def test_a_build_with_nothing_changed_makes_nothing(built: Application) -> None:
    assert all(box["unchanged"] for box in built.ask("build")["boxes"])


def test_a_lock_with_nothing_changed_is_the_same_bytes(built: Application) -> None:
    lock = built.folder / "boxsnake.lock"
    before = lock.read_bytes()
    built.ask("lock")
    assert lock.read_bytes() == before
    assert built.run("lock", "--check").returncode == 0


def test_a_changed_manifest_makes_the_lock_stale(built: Application) -> None:
    manifest = built.folder / "boxsnake.toml"
    text = manifest.read_text()
    try:
        manifest.write_text(text.replace("pip = [", 'pip = ["tomli-w >=1", ', 1))
        done = built.run("lock", "--check")
        assert done.returncode == 5
        assert "tomli-w" in done.stderr
        assert built.run("build").returncode == 5
    finally:
        manifest.write_text(text)


def test_a_code_edit_changes_the_application_layer_alone(built: Application, tmp_path: Path) -> None:
    edited = Application(tmp_path / "edited")
    shutil.copytree(built.folder, edited.folder)
    module = next((edited.folder / "src").rglob("__init__.py"))
    before = layers_of(edited)
    module.write_text(module.read_text() + "\nEDITED = True\n")
    edited.ask("build", "image")
    after = layers_of(edited)
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def layers_of(application: Application) -> list[str]:
    (image,) = (application.folder / "dist").glob("*.image")
    layers: list[str] = json.loads((image / "manifest.json").read_bytes())[0]["Layers"]
    return layers


# A tree is made anew from all that a clean cache lacks, as for every format. That each writes the same bytes of the
# same tree is shown by its own tests, with small trees.
@pytest.mark.parametrize("formats", [("image",), *thorough(())], ids=lambda formats: "-".join(formats) or "all")
def test_a_clean_cache_and_another_environment_give_the_same_bytes(tmp_path: Path, formats: tuple[str, ...]) -> None:
    first = copy_of("hello-web", tmp_path / "a")
    # A clean cache has no base, and making one is not what is compared here.
    manifest = first.folder / "boxsnake.toml"
    manifest.write_text(manifest.read_text().replace("[boxes.image]", '[boxes.image]\nbase = "scratch"'))
    second = copy_of("hello-web", tmp_path / "much longer ünïcode folder")
    first.ask("lock")
    for name in ("boxsnake.lock", "boxsnake.toml"):
        shutil.copy(first.folder / name, second.folder)
    ours = first.ask("build", *formats, environment={"TZ": "UTC", "PYTHONHASHSEED": "1"})
    before = os.umask(0o077)
    try:
        theirs = second.ask(
            "build",
            *formats,
            environment={
                "TZ": "Etc/GMT-14",
                "PYTHONHASHSEED": "2",
                "LC_ALL": "C",
                "HOME": "/nonexistent",
                "BOXSNAKE_CACHE_DIR": str(tmp_path / "clean cache"),
            },
        )
    finally:
        os.umask(before)
    digests = {box["format"]: box["digest"] for box in ours["boxes"]}
    assert sorted(digests) == sorted(formats or FORMATS)
    assert {box["format"]: box["digest"] for box in theirs["boxes"]} == digests


@pytest.mark.parametrize("built", ["hello-web"], indirect=True)
def test_what_is_exported_for_compose_runs_and_is_well(built: Application, tmp_path: Path) -> None:
    from boxsnake.boot.image import loaded
    from boxsnake.engine import connect

    name = f"boxsnake-test-{uuid.uuid4().hex[:12]}"
    file = tmp_path / "compose.yaml"
    assert built.run("export", "compose", "--image", f"{name}:1", "--output", str(file)).returncode == 0
    # Some port of this machine's that is free; and no service whose image would have to be pulled.
    text = file.read_text().replace('"8000:8000"', '"8000"').replace("    depends_on:\n      redis:\n", "")
    text = text.replace("        condition: service_healthy\n", "")
    file.write_text(text.partition("  redis:\n")[0] + "volumes:\n  state: {}\n")
    compose = ["docker-compose", "--project-name", name, "--file", str(file)]
    engine = connect()
    with loaded(engine, next((built.folder / "dist").glob("*.image"))) as identity:
        engine.tag(identity, f"{name}:1")
        try:
            subprocess.run([*compose, "up", "--detach"], check=True, capture_output=True)
            container = f"{name}_hello-web_1"
            shown = ["docker", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", container]
            kind, *asked = json.loads(subprocess.check_output(shown))
            assert kind == "CMD"
            deadline = time.monotonic() + 60
            while subprocess.run(["docker", "exec", container, *asked], capture_output=True).returncode != 0:
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            subprocess.run([*compose, "down", "--volumes"], check=True, capture_output=True)
            engine.remove_image(f"{name}:1")


# What a package should say of its application and the examples' manifests leave out.
UNSAID = ("no-url-tag", "no-packager-tag", "invalid-license")


def unexplained(checked: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [line for line in checked.stdout.splitlines() if "E: " in line or "W: " in line]
    return [line for line in lines if not any(tag in line for tag in UNSAID)]


@pytest.mark.parametrize("built", ["hello-web"], indirect=True)
def test_rpmlint_finds_nothing_but_what_is_explained(built: Application) -> None:
    package = next((built.folder / "dist").glob("*.rpm"))
    command = ["rpmlint", "--config", str(ROOT / "rpm" / "rpmlint.toml"), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 packages and 0 specfiles checked" in done.stdout, done.stderr
    assert unexplained(done) == []


@pytest.mark.parametrize("built", thorough("hello-web"), indirect=True)
def test_lintian_finds_nothing_but_what_is_explained(built: Application) -> None:
    (box,) = built.ask("build", "deb")["boxes"]
    command = ["lintian", "--allow-root", "--no-cfg", "--tag-display-limit", "0"]
    command += ["--suppress-tags-from-file", str(ROOT / "rpm" / "deb" / "lintian.txt"), box["path"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 2}, done.stderr
    assert done.stderr == ""
    assert unexplained(done) == []
