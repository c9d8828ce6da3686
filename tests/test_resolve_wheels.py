from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxsnake.credentials import Credentials
from boxsnake.errors import BoxsnakeError, IntegrityError, ManifestError, NetworkError, UnsolvableError
from boxsnake.lock import CondaPackage, Distribution, TargetLock, Wheel
from boxsnake.project import ProjectMetadata
from boxsnake.requirements import CondaRequirement, IndexOptions, PipRequirement
from boxsnake.requirements.pip_requirement import pip_requirement
from boxsnake.resolve_wheels.fit import needed_glibc
from boxsnake.resolve_wheels.index import index_of
from boxsnake.resolve_wheels.question import WheelAnswer, WheelQuestion, Workshop
from boxsnake.resolve_wheels.resolve import resolve_wheels
from boxsnake.settings import Settings
from boxsnake.store import Store
from boxsnake.target import Target
from boxsnake.wheel_tags import best_fit, lowest_glibc, supported_tags
from tests.faulty_server import faulty_server
from tests.sources import index_server, write_project, write_sdist, write_wheel

CANARY = "canary-7f3a"
DEFAULT = Target(name="default")
ARM = Target(name="arm", platform="linux-aarch64")


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """A folder of wheels that stands for an index."""
    folder = tmp_path / "links"
    folder.mkdir()
    return folder


@pytest.fixture
def workshop(tmp_path: Path, links: Path) -> Workshop:
    root = tmp_path / "app"
    root.mkdir()
    options = IndexOptions(no_index=True, find_links=(str(links),))
    return Workshop(
        store=Store(tmp_path / "store"),
        root=root,
        index=index_of(Settings(), options, Credentials(), root),
        credentials=Credentials(),
    )


def pip(*lines: str, hashes: tuple[str, ...] = ()) -> tuple[PipRequirement, ...]:
    found = (pip_requirement(line, source=f"requirements.txt:{n}") for n, line in enumerate(lines, 1))
    return tuple(replace(one, hashes=hashes) for one in found)


def question(*lines: str, target: Target = DEFAULT, python: str = "3.11.9", **more: Any) -> WheelQuestion:
    return WheelQuestion(target=target, python=python, pip=pip(*lines), **more)


def failure(asked: WheelQuestion, workshop: Workshop) -> BoxsnakeError:
    with pytest.raises(BoxsnakeError) as caught:
        resolve_wheels(asked, workshop)
    return caught.value


def versions(answer: WheelAnswer) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in answer.wheels}


def conda(
    name: str, version: str, *, depends: tuple[str, ...] = ("python >=3.9",), brings: bool = True
) -> CondaPackage:
    return CondaPackage(
        name=name,
        version=version,
        build="h0_0",
        build_number=0,
        subdir="noarch",
        channel="file:///channel",
        url=f"file:///channel/noarch/{name}-{version}-h0_0.conda",
        sha256="0" * 64,
        size=1,
        depends=depends,
        noarch="python",
        distributions=(Distribution(name=name, version=version),) if brings else (),
    )


def specs(*texts: str) -> tuple[CondaRequirement, ...]:
    return tuple(CondaRequirement(spec=text, source=f"requires.conda[{n}]") for n, text in enumerate(texts))


# The closure


def test_a_closure_by_digest_with_what_requires_what(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "1.0", requires=["Tool_Box>=2", "fast; extra == 'speed'"])
    toolbox = write_wheel(links, "tool-box", "2.1")
    write_wheel(links, "tool-box", "1.0")
    write_wheel(links, "fast", "1.0")
    answer = resolve_wheels(question("web"), workshop)
    assert versions(answer) == {"tool-box": "2.1", "web": "1.0"}
    assert answer.wheels[1].requires == ("tool-box",)
    assert answer.wheels[0] == Wheel(
        name="tool-box",
        version="2.1",
        file_name=toolbox.name,
        sha256=hashlib.sha256(toolbox.read_bytes()).hexdigest(),
        size=toolbox.stat().st_size,
        url=toolbox.as_uri(),
    )
    assert versions(resolve_wheels(question("web[speed]"), workshop)) == {
        "fast": "1.0",
        "tool-box": "2.1",
        "web": "1.0",
    }


def test_nothing_asked_is_nothing_found(workshop: Workshop) -> None:
    assert resolve_wheels(question(), workshop) == WheelAnswer()


@pytest.mark.parametrize(
    ("target", "python", "expected"),
    [
        (DEFAULT, "3.11.9", {"here", "old-python"}),
        (DEFAULT, "3.13.1", {"here"}),
        (ARM, "3.13.1", {"arm"}),
        (Target(name="mac", platform="osx-arm64", glibc=None), "3.11.9", {"mac", "old-python"}),
        (Target(name="win", platform="win-64", glibc=None), "3.13.1", {"win"}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_markers_are_those_of_the_target(
    links: Path, workshop: Workshop, target: Target, python: str, expected: set[str]
) -> None:
    markers = {
        "here": "platform_machine == 'x86_64' and sys_platform == 'linux'",
        "arm": "platform_machine == 'aarch64'",
        "mac": "sys_platform == 'darwin'",
        "win": "os_name == 'nt'",
        "old-python": "python_full_version < '3.12'",
    }
    for name in markers:
        write_wheel(links, name, "1.0")
    write_wheel(links, "app", "1.0", requires=[f"{name}; {marker}" for name, marker in markers.items()])
    answer = resolve_wheels(question("app", target=target, python=python), workshop)
    assert versions(answer).keys() - {"app"} == expected


def test_the_wheel_is_the_targets_best(links: Path, workshop: Workshop) -> None:
    tags = ["cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp311-cp311-manylinux_2_28_x86_64"]
    tags += ["cp311-cp311-manylinux_2_34_x86_64", "cp313-cp313-manylinux_2_17_aarch64", "py3-none-any"]
    for tag in tags:
        write_wheel(links, "native", "1.0", tag=tag)
    for target, python, expected in (
        (DEFAULT, "3.11.9", tags[1]),
        (Target(name="old", glibc="2.17"), "3.11.9", tags[0]),
        (Target(name="odd", glibc="2.26"), "3.11.9", tags[0]),
        (ARM, "3.13.1", tags[3]),
        (ARM, "3.11.9", tags[4]),
    ):
        (wheel,) = resolve_wheels(question("native", target=target, python=python), workshop).wheels
        assert wheel.file_name == f"native-1.0-{expected}.whl"


def test_constraints_hold_without_requiring(links: Path, workshop: Workshop) -> None:
    for version in ("1.0", "2.0"):
        write_wheel(links, "web", version)
    asked = replace(question("web"), constraints=pip("web<2", "absent==1"))
    assert versions(resolve_wheels(asked, workshop)) == {"web": "1.0"}


def test_prereleases_are_taken_on_request(links: Path, workshop: Workshop) -> None:
    for version in ("1.0", "2.0rc1"):
        write_wheel(links, "web", version)
    assert versions(resolve_wheels(question("web"), workshop)) == {"web": "1.0"}
    eager = replace(workshop, index=replace(workshop.index, pre=True))
    assert versions(resolve_wheels(question("web"), eager)) == {"web": "2.0rc1"}


def test_what_the_last_lock_had_is_kept_where_it_fits(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "1.0")
    old = resolve_wheels(question("web"), workshop)
    write_wheel(links, "web", "2.0")
    kept = TargetLock(target=DEFAULT, python="3.11.9", conda=(), wheels=old.wheels)
    assert resolve_wheels(question("web", preferred=kept), workshop) == old
    assert versions(resolve_wheels(question("web >=2", preferred=kept), workshop)) == {"web": "2.0"}
    assert versions(resolve_wheels(question("web"), workshop)) == {"web": "2.0"}


def test_the_applications_own_requirements_count_and_it_is_not_in_the_lock(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "1.0", requires=["app"])
    application = ProjectMetadata(name="app", version="3.0", requires_dist=("web>=1",))
    answer = resolve_wheels(question(application=application), workshop)
    assert versions(answer) == {"web": "1.0"}
    assert answer.wheels[0].requires == ()
    write_wheel(links, "web", "2.0", requires=["app<3"])
    error = failure(question("web>1", application=application), workshop)
    assert "app" in error.cause


def test_settings_of_other_programs_change_nothing(
    links: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_wheel(links, "web", "1.0")
    (workshop.root / "uv.toml").write_text("[pip]\nno-index = false\n")
    for name, value in {
        "UV_FIND_LINKS": str(tmp_path / "elsewhere"),
        "UV_CONSTRAINT": str(tmp_path / "absent.txt"),
        "UV_RESOLUTION": "lowest",
        "PIP_NO_BINARY": ":all:",
        "PYTHONPATH": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert versions(resolve_wheels(question("web"), workshop)) == {"web": "1.0"}


# Both halves


def test_what_conda_brings_comes_as_a_wheel_of_the_same_version(links: Path, workshop: Workshop) -> None:
    for version in ("1.0", "2.0", "3.0"):
        write_wheel(links, "numeric", version)
    write_wheel(links, "frames", "1.0", requires=["numeric>=1"])
    asked = question("frames", conda=(conda("numeric", "2.0"),))
    assert versions(resolve_wheels(asked, workshop)) == {"frames": "1.0", "numeric": "2.0"}


def test_what_conda_is_asked_for_is_in_the_closure(links: Path, workshop: Workshop) -> None:
    for name in ("numeric", "helper", "indirect"):
        write_wheel(links, name, "1.0")
    half = (
        conda("numeric", "1.0"),
        conda("helper", "1.0"),
        conda("meta", "1.0", depends=("indirect",), brings=False),
        conda("indirect", "1.0"),
    )
    asked = question(conda=half, conda_requirements=specs("numeric >=1", "meta", "zlib"))
    assert versions(resolve_wheels(asked, workshop)) == {"indirect": "1.0", "numeric": "1.0"}


def test_what_no_index_has_is_listed_and_the_rest_is_solved(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "1.0", requires=["onlyconda>=1", "mismatch"])
    write_wheel(links, "mismatch", "5.0")
    half = (conda("onlyconda", "1.5"), conda("mismatch", "4.0"), conda("unneeded", "1.0"))
    answer = resolve_wheels(question("web", conda=half), workshop)
    assert versions(answer) == {"web": "1.0"}
    assert answer.wheels[0].requires == ()
    assert answer.unavailable == (
        Distribution(name="mismatch", version="4.0"),
        Distribution(name="onlyconda", version="1.5"),
    )


def test_what_no_index_has_is_remembered_by_the_last_lock(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "1.0", requires=["onlyconda"])
    half = (conda("onlyconda", "1.5"),)
    first = resolve_wheels(question("web", conda=half), workshop)
    kept = TargetLock(target=DEFAULT, python="3.11.9", conda=half, wheels=first.wheels, unavailable=first.unavailable)
    assert resolve_wheels(question("web", conda=half, preferred=kept), workshop) == first


def test_two_versions_of_one_distribution_name_both_requirers_and_ways_out(links: Path, workshop: Workshop) -> None:
    for version in ("1.0", "2.0"):
        write_wheel(links, "numeric", version)
    write_wheel(links, "frames", "1.0", requires=["numeric>=2"])
    half = (conda("numeric", "1.0"), conda("plotting", "7.1", depends=("numeric >=1",)))
    asked = question("frames", conda=half, conda_requirements=specs("numeric <2", "plotting"))
    error = failure(asked, workshop)
    assert isinstance(error, UnsolvableError)
    assert "both halves would install numeric" in error.cause
    assert "conda brings 1.0, for numeric <2 (requires.conda[0]), plotting 7.1" in error.cause
    assert "pip needs 2.0, for frames 1.0" in error.cause
    assert "let conda bring it" in error.next_step
    assert "let pip bring it" in error.next_step
    direct = failure(question("numeric==2.0", conda=half, conda_requirements=specs("numeric")), workshop)
    assert "pip needs 2.0, for numeric==2.0 (requirements.txt:1)" in direct.cause


def test_a_source_of_what_conda_brings_is_refused(workshop: Workshop) -> None:
    write_project(workshop.root / "vendor", "numeric", "1.0")
    asked = question("./vendor", conda=(conda("numeric", "1.0"),), conda_requirements=specs("numeric"))
    error = failure(asked, workshop)
    assert "both halves would install numeric" in error.cause
    assert "from vendor" in error.cause


# No solution


def test_no_wheel_for_the_target(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "native", "1.0", tag="cp311-cp311-manylinux_2_34_x86_64")
    write_wheel(links, "web", "1.0", requires=["native"])
    error = failure(question("web"), workshop)
    assert isinstance(error, UnsolvableError)
    assert error.thing == "native"
    assert "linux-64, CPython 3.11.9, glibc 2.28" in error.cause
    assert "web" in error.cause
    assert "asked: web (requirements.txt:1)" in error.cause
    assert "raise targets.default.glibc to 2.34" in error.next_step
    assert 'requires.sdists = ["native"]' in error.next_step
    other = failure(question("native", target=ARM), workshop)
    assert "linux-aarch64" in other.cause
    assert "glibc" not in other.next_step


def test_requirements_that_contradict_each_other_are_named_with_their_places(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "1.0", requires=["tool>=2"])
    for version in ("1.0", "2.0"):
        write_wheel(links, "tool", version)
    error = failure(question("web", "tool<2"), workshop)
    assert isinstance(error, UnsolvableError)
    assert "web depend on tool>=2" in error.cause
    assert "asked: tool<2 (requirements.txt:2)" in error.cause
    assert "hint" not in error.cause


def test_old_versions_without_wheels_do_not_hide_a_contradiction(links: Path, workshop: Workshop) -> None:
    write_wheel(links, "web", "2.0", requires=["tool>=2"])
    write_wheel(links, "web", "1.0", tag="cp39-cp39-manylinux_2_17_x86_64")
    for version in ("1.0", "2.0"):
        write_wheel(links, "tool", version)
    error = failure(question("web", "tool<2"), workshop)
    assert error.thing.startswith("pip requirements of target default")
    assert "loosen one of the requirements" in error.next_step


def test_a_name_that_no_index_has(workshop: Workshop) -> None:
    error = failure(question("no-such-thing"), workshop)
    assert isinstance(error, UnsolvableError)
    assert error.data["missing"] == ["no-such-thing"]
    assert "asked: no-such-thing (requirements.txt:1)" in error.cause


def test_a_name_with_credentials_in_it_is_no_matter_of_credentials(workshop: Workshop) -> None:
    assert isinstance(failure(question("credentials-401"), workshop), UnsolvableError)


def test_a_glibc_older_than_any_wheel_tag(workshop: Workshop) -> None:
    error = failure(question("web", target=Target(name="old", glibc="2.12")), workshop)
    assert "targets.old.glibc" in error.next_step


# Hashes


def test_a_hash_that_the_user_gives_is_checked(links: Path, workshop: Workshop) -> None:
    wheel = write_wheel(links, "web", "1.0").read_bytes()
    right = f"sha256:{hashlib.sha256(wheel).hexdigest()}"
    wrong = f"sha256:{'0' * 64}"
    good = replace(question(), pip=pip("web", hashes=(wrong, right)))
    assert versions(resolve_wheels(good, workshop)) == {"web": "1.0"}
    error = failure(replace(question(), pip=pip("web", hashes=(wrong,))), workshop)
    assert isinstance(error, IntegrityError)
    assert "requirements.txt:1" in error.cause
    assert right in error.cause


# Sources


def test_a_folder_is_built_once_and_recorded_by_content(workshop: Workshop, links: Path) -> None:
    write_wheel(links, "tool", "1.0")
    write_project(workshop.root / "vendor" / "mine", "mine", "0.3", requires=["tool"])
    answer = resolve_wheels(question("./vendor/mine"), workshop)
    mine = answer.wheels[0]
    assert (mine.name, mine.version, mine.url, mine.requires) == ("mine", "0.3", None, ("tool",))
    assert mine.origin is not None
    assert (mine.origin.kind, mine.origin.url) == ("folder", "vendor/mine")
    assert workshop.store.has(f"sha256:{mine.sha256}")
    assert resolve_wheels(question("./vendor/mine"), workshop) == answer


def test_a_source_that_the_target_does_not_ask_for_is_not_built(workshop: Workshop, links: Path) -> None:
    write_wheel(links, "tool", "1.0")
    asked = question("tool", "mine @ https://host.invalid/mine-1.0.tar.gz ; sys_platform == 'win32'")
    assert versions(resolve_wheels(asked, workshop)) == {"tool": "1.0"}


def test_sources_in_the_metadata_of_sources_are_built_too(workshop: Workshop, tmp_path: Path) -> None:
    inner = write_project(tmp_path / "inner", "inner", "1.0")
    write_project(workshop.root / "outer", "outer", "1.0", requires=[f"inner @ {inner.as_uri()}"])
    answer = resolve_wheels(question("./outer"), workshop)
    assert versions(answer) == {"inner": "1.0", "outer": "1.0"}
    assert answer.wheels[1].requires == ("inner",)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t.example"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_a_branch_that_has_moved_does_not_move_the_lock(workshop: Workshop, tmp_path: Path) -> None:
    repository = write_project(tmp_path / "repository", "mine", "1.0")
    git(repository, "init", "-q", "-b", "main")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "one")
    line = f"mine @ git+{repository.as_uri()}@main"
    first = resolve_wheels(question(line), workshop)
    write_project(repository, "mine", "2.0")
    git(repository, "commit", "-qam", "two")
    kept = TargetLock(target=DEFAULT, python="3.11.9", conda=(), wheels=first.wheels)
    again = question(line, preferred=kept, kept_lines=frozenset({line}))
    assert resolve_wheels(again, workshop) == first
    assert versions(resolve_wheels(question(line, preferred=kept), workshop)) == {"mine": "2.0"}


def test_hashes_of_archives_by_path_are_checked_before_they_are_built(workshop: Workshop) -> None:
    sdist = write_sdist(workshop.root / "vendor", "mine", "1.0")
    right = f"sha256:{hashlib.sha256(sdist.read_bytes()).hexdigest()}"
    good = replace(question(), pip=pip(f"./vendor/{sdist.name}", hashes=(right,)))
    assert versions(resolve_wheels(good, workshop)) == {"mine": "1.0"}
    for wrong in ((f"sha256:{'0' * 64}",), (f"sha256:{'0' * 64}", f"sha256:{'1' * 64}")):
        error = failure(replace(question(), pip=pip(f"./vendor/{sdist.name}", hashes=wrong)), workshop)
        assert isinstance(error, IntegrityError)
        assert right in f"{error}"


def test_a_wheel_by_path_is_taken_as_it_is(workshop: Workshop) -> None:
    project = write_project(workshop.root / "mine", "mine", "1.0")
    built = resolve_wheels(question("./mine"), workshop).wheels[0]
    path = workshop.root / "wheels" / built.file_name
    path.parent.mkdir()
    path.write_bytes(workshop.store.path(f"sha256:{built.sha256}").read_bytes())
    (wheel,) = resolve_wheels(question(f"./wheels/{built.file_name}"), workshop).wheels
    assert (wheel.url, wheel.sha256, wheel.origin) == (path.as_uri(), built.sha256, None)
    assert project.is_dir()


def test_a_sdist_is_built_only_where_that_is_allowed(workshop: Workshop, links: Path) -> None:
    sdist = write_sdist(links, "old-tool", "1.0")
    error = failure(question("old-tool"), workshop)
    assert isinstance(error, UnsolvableError)
    assert 'requires.sdists = ["old-tool"]' in error.next_step
    answer = resolve_wheels(question("old-tool", sdists=frozenset({"old-tool"})), workshop)
    (wheel,) = answer.wheels
    assert wheel.origin is not None
    assert (wheel.origin.kind, wheel.origin.sha256) == ("sdist", hashlib.sha256(sdist.read_bytes()).hexdigest())
    assert wheel.url is None
    kept = TargetLock(target=DEFAULT, python="3.11.9", conda=(), wheels=answer.wheels)
    again = question("old-tool", sdists=frozenset({"old-tool"}), preferred=kept)
    assert resolve_wheels(again, workshop) == answer


def test_a_wheel_that_fits_is_taken_before_a_sdist_that_is_allowed(workshop: Workshop, links: Path) -> None:
    write_sdist(links, "tool", "1.0")
    write_wheel(links, "tool", "1.0")
    (wheel,) = resolve_wheels(question("tool", sdists=frozenset({"tool"})), workshop).wheels
    assert wheel.origin is None
    (built,) = resolve_wheels(question("tool", from_source=frozenset({"tool"})), workshop).wheels
    assert built.origin is not None


def test_what_is_built_for_this_machine_alone_fits_no_other(workshop: Workshop) -> None:
    machine = os.uname().machine
    write_project(workshop.root / "mine", "mine", "1.0", tag=f"cp311-cp311-linux_{machine}")
    fitting = Target(name="here", platform="linux-64" if machine == "x86_64" else "linux-aarch64")
    assert versions(resolve_wheels(question("./mine", target=fitting), workshop)) == {"mine": "1.0"}
    other = ARM if fitting.platform == "linux-64" else DEFAULT
    error = failure(question("./mine", target=other), workshop)
    assert isinstance(error, UnsolvableError)
    assert other.platform in error.cause


def test_a_source_that_is_not_there_is_a_fault_of_its_line(workshop: Workshop) -> None:
    error = failure(question("./nothing"), workshop)
    assert isinstance(error, ManifestError)
    assert error.faults[0].source == "requirements.txt:1"


# Network


def test_an_index_that_is_not_reached(tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    options = IndexOptions(index_url=f"http://user:{CANARY}@127.0.0.1:9/simple")
    index = index_of(Settings(), options, Credentials(), tmp_path)
    quick = replace(index, environment={**index.environment, "UV_HTTP_RETRIES": "0"})
    error = failure(question("web"), replace(workshop, index=quick))
    assert isinstance(error, NetworkError)
    assert "http://127.0.0.1:9/simple/web/" in error.cause
    assert CANARY not in f"{error} {error.data}"


def test_an_index_that_nobody_vouches_for(
    tmp_path: Path, workshop: Workshop, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with faulty_server(certificate) as server:
        options = IndexOptions(index_url=server.url("simple", "localhost"))
        index = index_of(Settings(), options, Credentials(), tmp_path)
        quick = replace(index, environment={**index.environment, "UV_HTTP_RETRIES": "0"})
        error = failure(question("web"), replace(workshop, index=quick))
    assert isinstance(error, NetworkError)
    assert "SSL_CERT_FILE" in error.next_step


@pytest.mark.parametrize("place", ["in the URL", "in the settings"])
def test_credentials_open_an_index_and_stay_out_of_everything(
    links: Path, workshop: Workshop, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    write_wheel(links, "web", "1.0", requires=["tool"])
    write_wheel(links, "tool", "1.0")
    login = f"user:{CANARY}"
    with index_server(links, login) as host:
        if place == "in the URL":
            settings, known = Settings(index_url=f"http://{login}@{host}/simple"), Credentials()
        else:
            settings = Settings(index_url=f"http://{host}/simple")
            known = Credentials.from_environment(env={}, settings={f"http://{host}": login})
        index = index_of(settings, IndexOptions(), known, workshop.root)
        assert CANARY not in repr(index)
        opened = Credentials.from_environment(env={}, settings={f"http://{host}": login})
        answer = resolve_wheels(question("web"), replace(workshop, index=index, credentials=opened))
    web = answer.wheels[1]
    assert (web.index, web.url) == (f"http://{host}/simple", f"http://{host}/files/web-1.0-py3-none-any.whl")
    # The index has not told it.
    assert web.size == (links / "web-1.0-py3-none-any.whl").stat().st_size
    assert CANARY not in repr(answer)
    files = [path for path in workshop.store.root.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_wrong_credentials_are_told_and_not_shown(
    links: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with index_server(links, "user:right") as host:
        options = IndexOptions(index_url=f"http://user:{CANARY}@{host}/simple")
        index = index_of(Settings(), options, Credentials(), workshop.root)
        error = failure(question("web"), replace(workshop, index=index))
    assert isinstance(error, NetworkError)
    assert error.cause == f"http://{host}/simple: it wants credentials, or others"
    assert CANARY not in f"{error} {error.data}"


def test_offline_without_a_cache_says_so(tmp_path: Path, workshop: Workshop) -> None:
    index = index_of(Settings(index_url="http://127.0.0.1:9/simple"), IndexOptions(), Credentials(), tmp_path)
    error = failure(question("web"), replace(workshop, index=index, offline=True))
    assert isinstance(error, NetworkError)
    assert "--offline" in error.next_step


@pytest.mark.index
def test_the_default_index_serves_targets_of_other_platforms(workshop: Workshop) -> None:
    served = replace(workshop, index=index_of(Settings(), IndexOptions(), Credentials(), workshop.root))
    answer = resolve_wheels(question("flask>=3", target=ARM, python="3.13.1"), served)
    markupsafe = next(wheel for wheel in answer.wheels if wheel.name == "markupsafe")
    assert "cp313-manylinux" in markupsafe.file_name
    assert "aarch64" in markupsafe.file_name
    assert markupsafe.index is not None
    flask = next(wheel for wheel in answer.wheels if wheel.name == "flask")
    assert {"jinja2", "werkzeug"} <= set(flask.requires)
    offline = resolve_wheels(question("flask>=3", target=ARM, python="3.13.1"), replace(served, offline=True))
    assert offline == answer


# Indexes


def variables(
    options: IndexOptions, settings: Settings, credentials: Mapping[str, str] | None = None
) -> dict[str, str]:
    known = Credentials.from_environment(env={}, settings=credentials or {})
    return index_of(settings, options, known, Path("/srv/app")).variables()


def test_requirement_files_name_the_index_before_the_settings() -> None:
    settings = Settings(index_url="https://mine.example/simple", extra_index_urls=("https://extra.example/simple",))
    assert variables(IndexOptions(), settings) == {
        "UV_DEFAULT_INDEX": "https://mine.example/simple",
        "UV_INDEX": "https://extra.example/simple",
    }
    named = IndexOptions(index_url="https://file.example/simple", extra_index_urls=("https://more.example/simple",))
    assert variables(named, settings) == {
        "UV_DEFAULT_INDEX": "https://file.example/simple",
        "UV_INDEX": "https://more.example/simple https://extra.example/simple",
    }


def test_without_any_index_the_resolvers_own_default_holds() -> None:
    assert variables(IndexOptions(), Settings()) == {}


def test_credentials_of_the_settings_reach_the_index() -> None:
    settings = Settings(index_url="https://mine.example/simple")
    found = variables(IndexOptions(), settings, {"https://mine.example": "me@work:p/w"})
    assert found["UV_DEFAULT_INDEX"] == "https://me%40work:p%2Fw@mine.example/simple"


def test_find_links_are_separated_even_with_commas_in_them() -> None:
    found = variables(IndexOptions(find_links=("./a,b", "https://host.example/x,y")), Settings())
    assert found["UV_FIND_LINKS"] == "file:///srv/app/a%2Cb,https://host.example/x%2Cy"


# Tags


def test_tags_of_a_target_are_best_first_and_none_is_of_this_machine() -> None:
    tags = [str(tag) for tag in supported_tags(Target(name="t", glibc="2.20"), "3.12")]
    assert tags[0] == "cp312-cp312-manylinux_2_20_x86_64"
    assert "cp312-cp312-manylinux2014_x86_64" in tags
    assert "cp39-abi3-manylinux_2_17_x86_64" in tags
    assert tags[-1] == "py30-none-any"
    assert not any("manylinux_2_21" in tag for tag in tags)


def test_the_best_of_several_wheels() -> None:
    tags = supported_tags(DEFAULT, "3.11")
    names = [
        "a-1.0-py3-none-any.whl",
        "a-1.0-2-cp311-abi3-manylinux_2_17_x86_64.whl",
        "a-1.0-cp39-abi3-linux_x86_64.whl",
    ]
    assert best_fit(names, tags) == names[1]
    assert best_fit(["a-1.0-1-py3-none-any.whl", "a-1.0-2-py3-none-any.whl"], tags) == "a-1.0-2-py3-none-any.whl"
    assert best_fit(["a-1.0-cp310-cp310-linux_x86_64.whl", "no wheel"], tags) is None


@pytest.mark.parametrize(
    ("name", "floor"),
    [("manylinux_2_28_x86_64", 28), ("manylinux2014_x86_64.manylinux_2_28_x86_64", 17), ("any", None)],
)
def test_the_glibc_that_a_wheel_promises(name: str, floor: int | None) -> None:
    assert lowest_glibc(f"a-1.0-cp311-cp311-{name}.whl") == floor


def test_the_glibc_that_binaries_need_is_read_from_their_symbols(tmp_path: Path) -> None:
    path = tmp_path / "a-1.0-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.so", b"\x7fELF" + b"\0" * ((1 << 20) - 6) + b"GLIBC_2.34\0GLIBC_2.2.5\0")
        archive.writestr("a.txt", "GLIBC_2.99")
    assert needed_glibc(path) == 34
