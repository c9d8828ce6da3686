"""Projects: what a source is, what its metadata says, and how it becomes one wheel, always the same."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

from boxsnake import child
from boxsnake.errors import IntegrityError, ManifestError, NetworkError, PackError, UnsolvableError
from boxsnake.ingest import wheel as ingest_wheel
from boxsnake.lock import Origin
from boxsnake.project import BuiltWheel, build_wheel, metadata, parse_source, source_of
from boxsnake.project.extras import requirements_with
from boxsnake.project.git_source import clean_commit
from boxsnake.project.wheel_archive import rewrite
from boxsnake.store import Store
from tests.archives import make_wheel, wheel_files

# A backend that lies in the project itself: nothing is fetched to build with it.
BACKEND = """
import os, sys, zipfile
NAME, TAG = "demo", "py3-none-any"

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = f"{NAME}-1.0-{TAG}.whl"
    info = f"{NAME}-1.0.dist-info"
    text = f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: 1.0\\nRequires-Dist: click>=8\\n"
    text += "Summary: made for tests\\nRequires-Dist: rich; extra == 'fast'\\nProvides-Extra: fast\\n"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.write("demo.py")
        wheel.writestr(f"{info}/METADATA", text)
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: {TAG}\\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\\ndemo = demo:main\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def make_project(folder: Path, backend: str = BACKEND, **files: str) -> Path:
    folder.mkdir(parents=True)
    texts = {"pyproject.toml": PYPROJECT, "backend.py": backend, "demo.py": "def main(): pass\n", **files}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def build(store: Store, folder: Path, text: str = ".", **arguments: object) -> BuiltWheel:
    return build_wheel(store, parse_source(text, folder), **arguments)  # type: ignore[arg-type]


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> str:
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


# Sources


def test_a_path_is_a_folder_a_wheel_or_a_sdist(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    for name in ("demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"):
        (tmp_path / name).touch()
    assert parse_source("app", tmp_path).kind == "folder"
    assert parse_source("demo-1.0-py3-none-any.whl", tmp_path).kind == "wheel"
    source = parse_source("./demo-1.0.tar.gz", tmp_path)
    assert (source.kind, source.location, source.shown) == (
        "sdist",
        str(tmp_path / "demo-1.0.tar.gz"),
        "demo-1.0.tar.gz",
    )
    assert parse_source("..", tmp_path / "app").shown == ".."
    assert parse_source(f"file://{tmp_path}/app", tmp_path).kind == "folder"


def test_a_git_source_has_a_reference_and_a_folder(tmp_path: Path) -> None:
    source = parse_source("git+https://git.example.org/team/app.git@v1.2#subdirectory=web&egg=app", tmp_path)
    assert (source.kind, source.location) == ("git", "https://git.example.org/team/app.git")
    assert (source.ref, source.subdirectory) == ("v1.2", "web")
    assert parse_source("git+ssh://git@git.example.org/app", tmp_path).location == "ssh://git@git.example.org/app"
    assert parse_source("git+https://git.example.org/app", tmp_path).ref is None


def test_credentials_are_kept_apart_and_never_shown(tmp_path: Path) -> None:
    for text in (
        "git+https://me:s3cret@git.example.org/app@main",
        "https://me:s3cret@files.example.org/app.tar.gz?token=s3cret",
    ):
        source = parse_source(text, tmp_path)
        assert source.credentials == "me:s3cret"
        assert "s3cret" not in repr(source) + source.shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("absent", "no such file or folder"),
        ("ftp://example.org/app.tar.gz", "no way to fetch"),
        ("git+ext::sh -c touch% x", "https, ssh or file"),
        ("git+https://example.org/app@--upload-pack=x", "cannot be a git reference"),
        ("git+https://example.org/app#subdirectory=../x", "leads out"),
        ("https://example.org/app.exe", "neither a folder nor a wheel"),
        ("https://example.org/app.whl#sha256=12", "64 hexadecimal"),
    ],
)
def test_what_is_no_source_is_a_fault_of_the_manifest(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint) as raised:
        parse_source(text, tmp_path, manifest="app.toml", key="app.source")
    assert (raised.value.faults[0].source, raised.value.faults[0].key) == ("app.toml", "app.source")


def test_a_locked_origin_is_a_source_again(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    folder = source_of(Origin(kind="folder", url="app", sha256="0" * 64), tmp_path)
    assert (folder.kind, folder.location, folder.sha256) == ("folder", str(tmp_path / "app"), None)
    commit = "a" * 40
    from_git = source_of(Origin(kind="git", url="https://example.org/a", commit=commit, subdirectory="x"), tmp_path)
    assert (from_git.ref, from_git.subdirectory) == (commit, "x")
    archive = source_of(Origin(kind="archive", url="https://example.org/a.zip", sha256="1" * 64), tmp_path)
    assert (archive.kind, archive.sha256) == ("sdist", "1" * 64)


# Extras


@pytest.mark.parametrize(
    ("lines", "extras", "expected"),
    [
        (["click"], "", ["click"]),
        (["rich; extra == 'fast'"], "", []),
        (["rich>=13; extra == 'fast'"], "fast", ["rich>=13"]),
        (["a; python_version < '3.12' and extra == 'fast'"], "fast", ['a; python_version < "3.12"']),
        (["a; (os_name == 'nt' or os_name == 'posix') and extra == 'x'"], "", []),
        (["a[b]>1; extra == 'My_Extra'"], "my-extra", ["a[b]>1"]),
        (["a @ https://example.org/a.whl ; extra == 'x'"], "x", ["a @ https://example.org/a.whl"]),
        (["a; extra == 'x'", "app[x]; extra == 'all'", "b; extra == 'y'"], "all", ["a"]),
        (["a; extra == 'x'", "app[x]; extra == 'x'"], "x", ["a"]),
        (
            ["a; os_name == 'nt' and extra == 'x'", "app[x]; python_version < '3.12' and extra == 'all'"],
            "all",
            ['a; os_name == "nt" and python_version < "3.12"'],
        ),
    ],
)
def test_extras_decide_which_requirements_hold(lines: list[str], extras: str, expected: list[str]) -> None:
    assert list(requirements_with(lines, "app", frozenset(extras.split()))) == expected


# Metadata


def test_static_metadata_is_read_without_a_build(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "run", lambda *_, **__: pytest.fail("nothing is to be run"))
    text = """
        [project]
        name = "My_App"
        version = "1.00"
        description = "One line"
        requires-python = ">=3.11"
        dependencies = ["click >=8"]
        license = "MIT"
        authors = [{name = "Ada", email = "ada@example.org"}]
        [project.optional-dependencies]
        fast = ["rich"]
        [project.scripts]
        my-app = "my_app:main"
        [project.urls]
        Homepage = "https://example.org"
    """
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(text))
    found = metadata(store, parse_source(".", tmp_path), extras=("Fast",))
    assert (found.name, found.version, found.requires_python) == ("my-app", "1.0", ">=3.11")
    assert found.requires_dist == ("click>=8", "rich")
    assert found.console_scripts == ("my-app",)
    assert (found.summary, found.license, found.homepage) == ("One line", "MIT", "https://example.org")
    assert found.maintainer == "Ada <ada@example.org>"


def test_dynamic_metadata_comes_from_the_wheel(store: Store, project: Path) -> None:
    found = metadata(store, parse_source(".", project), extras=("fast",))
    assert (found.name, found.version, found.requires_dist) == ("demo", "1.0", ("click>=8", "rich"))
    assert found.console_scripts == ("demo",)


def test_an_unknown_extra_is_named_with_those_that_exist(store: Store, project: Path) -> None:
    with pytest.raises(ManifestError, match=r"slow.*it has fast"):
        metadata(store, parse_source(".", project), extras=("slow",))


def test_a_broken_pyproject_is_a_fault_that_names_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = 'not one'\n")
    with pytest.raises(ManifestError, match=r"pyproject.toml"):
        metadata(store, parse_source(".", tmp_path))


# Building


def test_a_folder_becomes_a_checked_wheel_in_the_store(store: Store, project: Path) -> None:
    built = build(store, project)
    assert (built.name, built.version, built.file_name) == ("demo", "1.0", "demo-1.0-py3-none-any.whl")
    assert (built.requires_dist, built.extras) == (("click>=8", "rich; extra == 'fast'"), ("fast",))
    assert built.summary == "made for tests"
    assert built.origin is not None
    assert (built.origin.kind, built.origin.url) == ("folder", ".")
    facts = ingest_wheel.check(store.path(built.digest), built.file_name)
    assert facts.console_scripts == (("demo", "demo:main"),)
    assert built.wheel(("click",)).requires == ("click",)


def test_the_same_source_gives_the_same_bytes_anywhere(tmp_path: Path, project: Path) -> None:
    other = tmp_path / "elsewhere, ünïcode"
    shutil.copytree(project, other)
    for path in other.iterdir():
        os.utime(path, (1, 1))
    first = build(Store(tmp_path / "one"), project)
    before = os.umask(0o077)
    try:
        second = build(Store(tmp_path / "two"), other)
    finally:
        os.umask(before)
    assert first == second


def test_nothing_is_written_into_the_project(store: Store, project: Path) -> None:
    (project / "backend.py").write_text("open('left.txt', 'w').close()\n" + BACKEND)
    before = sorted(path.name for path in project.rglob("*"))
    build(store, project)
    assert sorted(path.name for path in project.rglob("*")) == before


def test_a_second_build_only_looks(store: Store, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(store, project)
    monkeypatch.setattr(child, "run", lambda *_, **__: pytest.fail("nothing is to be run"))
    for name in ("boxsnake.lock", "dist/demo.pex", "__pycache__/x.pyc", ".venv/x", "env/pyvenv.cfg", "demo.egg-info/x"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("left by some tool")
    (project / "artifacts").mkdir()
    (project / "artifacts" / "demo.tar").touch()
    assert build(store, project, without=[project / "artifacts"]) == first


def test_a_changed_source_is_built_again(store: Store, project: Path) -> None:
    first = build(store, project)
    (project / "demo.py").write_text("def main(): print()\n")
    assert build(store, project).sha256 != first.sha256


def test_a_lost_wheel_is_built_again(store: Store, project: Path) -> None:
    first = build(store, project)
    store.path(first.digest).unlink()
    assert build(store, project) == first
    assert store.has(first.digest)


def test_a_build_sees_nothing_of_the_callers_environment(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CANARY", "PIP_INDEX_URL", "UV_INDEX", "PYTHONPATH", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cret")
    spy = BACKEND.replace(
        "    name = f", "    open('demo.py', 'w').write(repr(sorted(os.environ.items())))\n    name = f"
    )
    built = build(store, make_project(tmp_path / "spy", spy), environment={"UV_DEFAULT_INDEX": "https://example.org"})
    with zipfile.ZipFile(store.path(built.digest)) as archive:
        seen = archive.read("demo.py").decode()
    assert "s3cret" not in seen
    assert "('SOURCE_DATE_EPOCH', '1577836800')" in seen


def test_a_failing_build_names_the_project_and_the_cause(store: Store, tmp_path: Path) -> None:
    backend = "def build_wheel(*_):\n    raise RuntimeError('no compiler, see https://me:s3cret@example.org/x')\n"
    project = make_project(tmp_path / "bad", backend)
    with pytest.raises(PackError, match="no compiler") as raised:
        build(store, tmp_path, "bad")
    assert raised.value.thing == "bad"
    assert "s3cret" not in str(raised.value) + repr(raised.value.data)
    assert str(store.root) not in str(raised.value)
    assert project.is_dir()


def test_a_build_that_does_not_end_is_stopped(store: Store, tmp_path: Path) -> None:
    make_project(tmp_path / "slow", "import time\ndef build_wheel(*_):\n    time.sleep(60)\n")
    with pytest.raises(PackError, match="was stopped after 1 s"):
        build(store, tmp_path, "slow", deadline=1.0)


def test_a_missing_python_matters_only_to_wheels_that_depend_on_it(store: Store, tmp_path: Path) -> None:
    make_project(tmp_path / "pure")
    make_project(tmp_path / "native", BACKEND.replace("py3-none-any", "cp399-cp399-linux_x86_64"))
    assert build(store, tmp_path, "pure", python="3.99").version == "1.0"
    with pytest.raises(PackError, match=r"Python 3\.99 is not on this machine"):
        build(store, tmp_path, "native", python="3.99")


def test_a_link_out_of_the_project_is_refused(store: Store, project: Path) -> None:
    (project / "inside").symlink_to("demo.py")
    assert build(store, project).name == "demo"
    (project / "outside").symlink_to("../../etc/passwd")
    with pytest.raises(PackError, match="outside: is a link that leads out"):
        build(store, project)


def test_a_pipe_in_a_project_is_refused(store: Store, project: Path) -> None:
    os.mkfifo(project / "pipe")
    with pytest.raises(PackError, match="neither a file nor a folder"):
        build(store, project)


def test_a_wheel_is_taken_as_it_is(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    built = build(store, tmp_path, path.name)
    assert store.path(built.digest).read_bytes() == path.read_bytes()
    assert (built.origin, built.url) == (None, path.as_uri())
    assert built.wheel().url == path.as_uri()


def test_a_wheel_must_have_the_bytes_that_were_promised(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    with pytest.raises(IntegrityError):
        build(store, tmp_path, f"{path.as_uri()}#sha256={'0' * 64}")


# Archives


def sdist(folder: Path, project: Path, *members: tarfile.TarInfo) -> Path:
    path = folder / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(project, "demo-1.0")
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, int(kind == tarfile.REGTYPE)
    return member


def test_a_sdist_is_built_and_recorded_by_its_digest(store: Store, tmp_path: Path, project: Path) -> None:
    path = sdist(tmp_path, project)
    built = build(store, tmp_path, path.name)
    assert built.sha256 == build(store, project).sha256
    assert built.origin is not None
    assert (built.origin.kind, built.origin.url, built.origin.size) == ("sdist", path.name, path.stat().st_size)
    assert f"sha256:{built.origin.sha256}" == store.digest_of_file(path)


@pytest.mark.parametrize(
    "member",
    [
        member_of("../evil"),
        member_of("/etc/evil"),
        member_of("demo-1.0/../../evil"),
        member_of("demo-1.0/demo.py"),
        member_of("demo-1.0/demo.py/x"),
        member_of("demo-1.0/a\nb"),
        member_of("demo-1.0/out", tarfile.SYMTYPE, "../../etc"),
        member_of("demo-1.0/absolute", tarfile.SYMTYPE, "/etc"),
        member_of("demo-1.0/hard", tarfile.LNKTYPE, "demo-1.0/demo.py"),
        member_of("demo-1.0/device", tarfile.CHRTYPE),
        member_of("demo-1.0/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: member.name,
)
def test_a_hostile_sdist_is_refused(store: Store, tmp_path: Path, project: Path, member: tarfile.TarInfo) -> None:
    path = sdist(tmp_path, project, member)
    with pytest.raises(IntegrityError, match=r"demo-1\.0\.tar\.gz"):
        build(store, tmp_path, path.name)
    assert not list(tmp_path.rglob("evil"))


def test_nothing_is_written_through_a_link_of_a_sdist(store: Store, tmp_path: Path, project: Path) -> None:
    link = member_of("demo-1.0/d", tarfile.SYMTYPE, ".")
    path = sdist(tmp_path, project, link, member_of("demo-1.0/d/through"))
    with pytest.raises(IntegrityError, match="below what is no folder"):
        build(store, tmp_path, path.name)


def test_a_damaged_sdist_is_refused(store: Store, tmp_path: Path, project: Path) -> None:
    path = sdist(tmp_path, project)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        build(store, tmp_path, path.name)


# Git


def test_a_tag_is_built_and_recorded_by_its_commit(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    make_project(folder / "below")
    commit = repository(folder)
    git(folder, "tag", "-m", "one", "v1")
    (folder / "below" / "demo.py").write_text("changed after the tag\n")
    git(folder, "commit", "-q", "-a", "-m", "second")
    built = build(store, tmp_path, f"git+file://{folder}@v1#subdirectory=below")
    assert built.origin is not None
    assert (built.origin.kind, built.origin.commit, built.origin.subdirectory) == ("git", commit, "below")
    assert build(store, tmp_path, f"git+file://{folder}@main#subdirectory=below").sha256 != built.sha256
    assert build_wheel(store, source_of(built.origin, tmp_path)) == built


def test_a_commit_is_built_without_asking_again(store: Store, tmp_path: Path, project: Path) -> None:
    commit = repository(project)
    built = build(store, tmp_path, f"git+file://{project}@{commit}")
    shutil.rmtree(project)
    assert build(store, tmp_path, f"git+file://{project}@{commit}") == built


def test_a_reference_or_repository_that_is_not_there(store: Store, tmp_path: Path, project: Path) -> None:
    repository(project)
    with pytest.raises(UnsolvableError, match="no tag or branch 'v9'"):
        build(store, tmp_path, f"git+file://{project}@v9")
    with pytest.raises(NetworkError, match="does not appear to be a git repository"):
        build(store, tmp_path, f"git+file://{tmp_path}/absent")


# Canonical form


def test_how_a_wheel_was_packed_does_not_matter(tmp_path: Path) -> None:
    files = wheel_files()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = make_wheel(tmp_path / "a", files)
    other = make_wheel(
        tmp_path / "b",
        dict(reversed(files.items())),
        compression=zipfile.ZIP_STORED,
        modes={"demo/__init__.py": 0o100600},
    )
    assert one.read_bytes() != other.read_bytes()
    for folder, wheel in (("a", one), ("b", other)):
        rewrite(wheel, tmp_path / folder / "out.whl")
    assert (tmp_path / "a" / "out.whl").read_bytes() == (tmp_path / "b" / "out.whl").read_bytes()


def test_the_canonical_form_keeps_what_is_executable(tmp_path: Path) -> None:
    script = "demo-1.0.data/scripts/run.sh"
    wheel = make_wheel(tmp_path, {**wheel_files(), script: "#!/bin/sh\n"}, modes={script: 0o100777})
    (tmp_path / "out").mkdir()
    rewrite(wheel, tmp_path / "out" / wheel.name)
    with zipfile.ZipFile(tmp_path / "out" / wheel.name) as archive:
        modes = {info.filename: stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert modes.pop(script) == 0o755
    assert set(modes.values()) == {0o644}
    ingest_wheel.check(tmp_path / "out" / wheel.name)


def test_a_wheel_with_a_file_twice_has_no_canonical_form(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        wheel = make_wheel(tmp_path, extra=[("demo/__init__.py", b"other")])
    with pytest.raises(IntegrityError, match="twice"):
        rewrite(wheel, tmp_path / "out.whl")


# Real backends


@pytest.mark.index
@pytest.mark.parametrize(
    ("requires", "backend"),
    [
        ("hatchling", "hatchling.build"),
        ("setuptools", "setuptools.build_meta"),
        ("flit_core", "flit_core.buildapi"),
    ],
)
def test_real_backends_build_reproducibly(tmp_path: Path, requires: str, backend: str) -> None:
    text = f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n'
    text += '[project]\nname = "demo"\nversion = "1.0"\ndescription = "x"\n'
    for name in ("a", "b"):
        make_project(tmp_path / name, **{"pyproject.toml": text, "demo.py": '"""x"""\n'})
        (tmp_path / name / "backend.py").unlink()
    first, second = (build(Store(tmp_path / f"store-{name}"), tmp_path, name) for name in ("a", "b"))
    assert (first.sha256, first.name) == (second.sha256, "demo")


@pytest.mark.index
def test_a_version_that_comes_from_git_tags(store: Store, tmp_path: Path) -> None:
    text = '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\nbuild-backend = "setuptools.build_meta"\n'
    text += '[project]\nname = "demo"\ndynamic = ["version"]\n'
    text += '[tool.setuptools]\npy-modules = ["demo"]\n[tool.setuptools_scm]\n'
    project = make_project(tmp_path / "scm", **{"pyproject.toml": text})
    repository(project)
    git(project, "tag", "v2.5")
    status = git(project, "status", "--porcelain")
    assert build(store, project).version == "2.5"
    git(project, "commit", "-q", "--allow-empty", "-m", "second")
    git(project, "tag", "v2.6")
    assert build(store, project).version == "2.6"
    assert git(project, "status", "--porcelain") == status


@pytest.mark.index
def test_build_requirements_that_do_not_exist(store: Store, tmp_path: Path) -> None:
    text = '[build-system]\nrequires = ["boxsnake-there-is-no-such-thing"]\nbuild-backend = "x"\n'
    make_project(tmp_path / "bad", **{"pyproject.toml": text})
    with pytest.raises(PackError, match="boxsnake-there-is-no-such-thing"):
        build(store, tmp_path, "bad")


def test_an_index_that_cannot_be_reached_is_not_the_projects_fault(store: Store, tmp_path: Path) -> None:
    text = '[build-system]\nrequires = ["anything"]\nbuild-backend = "x"\n'
    make_project(tmp_path / "bad", **{"pyproject.toml": text})
    unreachable = {"UV_DEFAULT_INDEX": "http://me:s3cret@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    with pytest.raises(NetworkError) as raised:
        build(store, tmp_path, "bad", environment=unreachable)
    assert "s3cret" not in str(raised.value)


# Offline


def test_offline_what_is_remembered_is_enough(
    store: Store, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository(project)
    mirror = f'[url "file://{project}"]\n    insteadOf = https://git.example.org/x\n'
    (tmp_path / ".gitconfig").write_text(mirror)
    monkeypatch.setenv("HOME", str(tmp_path))
    built = build(store, tmp_path, "git+https://git.example.org/x@main")
    assert build(store, tmp_path, f"git+https://git.example.org/x@{commit}", offline=True) == built


@pytest.mark.parametrize(
    "text",
    [
        "git+https://git.example.org/x@main",
        f"git+https://git.example.org/x@{'a' * 40}",
        "https://example.org/x-1.0.tar.gz",
        f"https://example.org/x-1.0.tar.gz#sha256={'a' * 64}",
        f"https://example.org/x-1.0-py3-none-any.whl#sha256={'a' * 64}",
    ],
)
def test_offline_no_server_is_asked(store: Store, tmp_path: Path, text: str) -> None:
    with pytest.raises(NetworkError, match="offline"):
        build(store, tmp_path, text, offline=True)


def test_offline_build_requirements_must_be_there(store: Store, tmp_path: Path) -> None:
    text = '[build-system]\nrequires = ["anything"]\nbuild-backend = "x"\n'
    make_project(tmp_path / "bad", **{"pyproject.toml": text})
    with pytest.raises(NetworkError) as raised:
        build(store, tmp_path, "bad", offline=True)
    assert raised.value.next_step == "Run the command once without --offline."


# Revisions


def test_a_clean_checkout_has_a_revision(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "app", tmp_path / "scratch"
    scratch.mkdir()
    folder.mkdir()
    (folder / "pyproject.toml").write_text("")
    out = folder / "dist"

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert clean_commit(folder, scratch, without=out) == ""
    git("init", "-q")
    assert clean_commit(folder, scratch, without=out) == ""
    git("add", ".")
    git("commit", "-q", "-m", "x")
    commit = git("rev-parse", "HEAD")
    assert clean_commit(folder, scratch, without=out) == commit
    out.mkdir()
    (out / "box").write_text("made from it")
    assert clean_commit(folder, scratch, without=out) == commit
    (folder / "new").write_text("part of the source")
    assert clean_commit(folder, scratch, without=out) == ""
