from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from boxsnake import lock_file, manifest_file
from boxsnake.asked import asked_of, inputs
from boxsnake.errors import BoxsnakeError, ManifestError, NetworkError, UsageError
from boxsnake.lock import Distribution, Inputs, Lock, TargetLock
from boxsnake.lock.codec import encode
from boxsnake.lock.difference import stale
from boxsnake.resolve import Upgrade, conda_version, may_hold_python, resolve
from boxsnake.settings import Settings
from boxsnake.store import Store
from tests.sources import python_channel, write_project, write_wheel
from tests.test_resolve_wheels import conda

CANARY = "canary-7f3a"
MANIFEST = """
[app]
name = "hello"
version = "1.0"
[requires]
python = "3.11.*"
channels = ["../stock/channel"]
conda = ["numeric"]
pip = ["frames"]
files = ["requirements.txt"]
"""
REQUIREMENTS = "--no-index\n--find-links ../stock/links\n"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel and a folder of wheels that stands for an index."""
    folder = tmp_path_factory.mktemp("resolve") / "stock"
    channel = python_channel(folder / "channel")
    channel.add("zlib", "1.3", depends=["__glibc >=2.17"])
    for version in ("1.0", "1.1"):
        channel.add("numeric", version, subdir="noarch", depends=["python >=3.9"], distribution="numeric")
    channel.index()
    for version in ("1.0", "1.1", "2.0"):
        write_wheel(folder / "links", "numeric", version)
    for version in ("1.0", "2.0"):
        write_wheel(folder / "links", "frames", version, requires=["numeric"])
    write_wheel(folder / "links", "web", "1.0")
    return folder


@dataclass(frozen=True, kw_only=True)
class Application:
    """An application's folder."""

    root: Path
    store: Store
    settings: Settings = field(default_factory=Settings)

    def write(self, manifest: str = MANIFEST, requirements: str = REQUIREMENTS) -> Application:
        self.root.mkdir(exist_ok=True)
        (self.root / "boxsnake.toml").write_text(manifest)
        (self.root / "requirements.txt").write_text(requirements)
        return self

    @property
    def loaded(self) -> manifest_file.LoadedManifest:
        return manifest_file.load(self.root, box_options={})

    def lock(self, keep: Lock | None = None, upgrade: Upgrade | None = None, *, offline: bool = False) -> Lock:
        asked = asked_of(self.loaded, self.store, self.settings)
        return resolve(asked, settings=self.settings, store=self.store, keep=keep, upgrade=upgrade, offline=offline)

    def inputs(self) -> Inputs:
        return inputs(asked_of(self.loaded, self.store, self.settings), self.store)

    def failure(self) -> BoxsnakeError:
        with pytest.raises(BoxsnakeError) as caught:
            self.lock()
        return caught.value


@pytest.fixture
def app(tmp_path: Path, stock: Path) -> Application:
    (tmp_path / "stock").symlink_to(stock)
    return Application(root=tmp_path / "app", store=Store(tmp_path / "store")).write()


def versions(target_lock: TargetLock) -> tuple[dict[str, str], dict[str, str]]:
    conda_half = {package.name: package.version for package in target_lock.conda}
    return conda_half, {wheel.name: wheel.version for wheel in target_lock.wheels}


def test_both_halves_of_a_target(app: Application) -> None:
    (target_lock,) = app.lock().targets
    assert target_lock.python == "3.11.9"
    assert versions(target_lock) == ({"numeric": "1.1", "python": "3.11.9"}, {"frames": "2.0", "numeric": "1.1"})
    assert target_lock.conda_distributions == (Distribution(name="numeric", version="1.1"),)
    assert [wheel.name for wheel in target_lock.wheels_over_conda] == ["frames"]


def test_a_lock_survives_its_file_and_a_move(app: Application, tmp_path: Path) -> None:
    lock = app.lock()
    path = lock_file.path_of_lock(app.loaded)
    assert lock_file.write(path, lock)
    assert lock_file.read(path) == lock
    assert not lock_file.write(path, lock)
    assert str(tmp_path) not in path.read_text()
    assert [file.name for file in app.root.iterdir() if "lock" in file.name] == ["boxsnake.lock"]


def test_the_same_again_writes_the_same_bytes_and_fetches_nothing(app: Application, stock: Path) -> None:
    first = app.lock()
    again = app.lock(first)
    assert encode(again, app.root) == encode(first, app.root)
    elsewhere = replace(app, store=Store(app.root.parent / "other-store"))
    assert encode(elsewhere.lock(), app.root) == encode(first, app.root)
    archives = list((stock / "channel" / "noarch").glob("numeric-*.conda"))
    moved = [archive.rename(archive.with_suffix(".away")) for archive in archives]
    try:
        assert app.lock(first) == first
    finally:
        for archive in moved:
            archive.rename(archive.with_suffix(".conda"))


def test_targets_of_other_platforms_and_pythons(app: Application) -> None:
    app.write(
        MANIFEST + '[targets.default]\n[targets.arm]\nplatform = "linux-aarch64"\npython = "3.13.*"\nglibc = "2.34"\n'
    )
    arm, default = app.lock().targets
    assert (arm.target.name, arm.python, arm.target.glibc) == ("arm", "3.13.1", "2.34")
    assert (default.target.name, default.python) == ("default", "3.11.9")
    assert {package.subdir for package in arm.conda} == {"linux-aarch64", "noarch"}


def test_an_interpreter_of_the_host_has_no_conda_half(app: Application) -> None:
    manifest = MANIFEST.replace('conda = ["numeric"]', 'conda = ["python >=3.11", "pip"]')
    app.write(manifest + '[targets.default]\ninterpreter = "host"\n')
    (target_lock,) = app.lock().targets
    assert target_lock.python == "3.11"
    assert versions(target_lock) == ({}, {"frames": "2.0", "numeric": "2.0"})


def test_conda_packages_that_a_host_would_have_to_bring_are_refused(app: Application) -> None:
    app.write(MANIFEST + '[targets.default]\ninterpreter = "host"\n')
    error = app.failure()
    assert isinstance(error, ManifestError)
    assert [(fault.source, fault.key) for fault in error.faults] == [("requires.conda[0]", "numeric")]


@pytest.mark.parametrize("python", ["", 'python = "<3.12"\n'])
def test_a_host_needs_a_python_version(app: Application, python: str) -> None:
    manifest = MANIFEST.replace('python = "3.11.*"\n', python).replace('conda = ["numeric"]\n', "")
    error = app.write(manifest + '[targets.default]\ninterpreter = "host"\n').failure()
    assert isinstance(error, ManifestError)
    assert "targets.default.python" in error.next_step


def test_the_applications_own_metadata_is_part_of_what_is_asked(app: Application) -> None:
    write_project(app.root / "src", "hello", "1.0", requires=["web>=1"])
    app.write(MANIFEST.replace('version = "1.0"', 'source = "src"'))
    lock = app.lock()
    assert versions(lock.targets[0])[1] == {"frames": "2.0", "numeric": "1.1", "web": "1.0"}
    assert dict(app.inputs())["app.requires"] == ("web>=1",)
    (app.root / "src" / "backend.py").write_text((app.root / "src" / "backend.py").read_text() + "\n")
    assert stale(lock, app.inputs()) == []


# What is kept


def test_a_lock_is_kept_where_it_still_fits(app: Application) -> None:
    app.write(MANIFEST.replace('"numeric"', '"numeric <1.1"').replace('"frames"', '"frames <2"'))
    old = app.lock()
    assert versions(old.targets[0]) == ({"numeric": "1.0", "python": "3.11.9"}, {"frames": "1.0", "numeric": "1.0"})
    app.write()
    assert versions(app.lock(old).targets[0]) == versions(old.targets[0])
    both = app.lock(old, Upgrade(names=frozenset({"numeric"})))
    assert versions(both.targets[0]) == ({"numeric": "1.1", "python": "3.11.9"}, {"frames": "1.0", "numeric": "1.1"})
    everything = app.lock(old, Upgrade(everything=True))
    assert everything == app.lock()


def test_a_name_to_upgrade_must_be_in_the_lock(app: Application) -> None:
    with pytest.raises(UsageError) as caught:
        app.lock(app.lock(), Upgrade(names=frozenset({"nummeric"})))
    assert "numeric" in caught.value.next_step


# What makes a lock stale


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ('pip = ["frames"]', 'pip = ["frames>1"]', "requires.pip: + frames>1"),
        ('conda = ["numeric"]', 'conda = ["numeric", "zlib"]', "requires.conda: + zlib"),
        ('python = "3.11.*"', 'python = "3.13.*"', "requires.python: + ==3.13.*"),
        ("../stock/channel", "conda-forge", "requires.channels: + conda-forge"),
        ("[app]", '[targets.el9]\nglibc = "2.34"\n[app]', "targets: + el9: linux-64, glibc 2.34, interpreter of conda"),
        ('pip = ["frames"]', 'pip = ["frames"]\nsdists = ["Old_Tool"]', "requires.sdists: + old-tool"),
    ],
    ids=["pip", "conda", "python", "channels", "targets", "sdists"],
)
def test_what_is_asked_now_and_was_not_then_is_said(app: Application, before: str, after: str, line: str) -> None:
    lock = app.lock()
    app.write(MANIFEST.replace(before, after))
    assert line in stale(lock, app.inputs())


def test_requirement_files_count_by_what_they_ask(app: Application) -> None:
    lock = app.lock()
    app.write(requirements=f"# a remark\n{REQUIREMENTS}")
    assert stale(lock, app.inputs()) == []
    app.write(requirements=f"{REQUIREMENTS}web==1.0 --hash=sha256:{'0' * 64}\n")
    assert stale(lock, app.inputs()) == [f"requires.pip: + web==1.0 --hash=sha256:{'0' * 64}"]


def test_the_users_configuration_makes_no_lock_stale(app: Application) -> None:
    settings = Settings(channels=("elsewhere",), index_url=f"https://user:{CANARY}@index.example/simple")
    assert replace(app, settings=settings).inputs() == app.inputs()


def test_a_local_project_counts_by_its_content(app: Application) -> None:
    write_project(app.root / "tool", "tool", "1.0")
    app.write(MANIFEST.replace('pip = ["frames"]', 'pip = ["./tool"]'))
    lock = app.lock()
    assert versions(lock.targets[0])[1] == {"numeric": "1.1", "tool": "1.0"}
    (app.root / "tool" / "more.py").write_text("x = 2\n")
    changes = stale(lock, app.inputs())
    assert [change[:22] for change in changes] == ["requires.pip: - ./tool", "requires.pip: + ./tool"]


def test_credentials_are_in_no_lock(app: Application, monkeypatch: pytest.MonkeyPatch, stock: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    (app.root / "requirements.txt").write_text(
        f"--extra-index-url http://user:{CANARY}@127.0.0.1:9/simple\n{REQUIREMENTS}"
    )
    lock = app.lock()
    assert CANARY not in encode(lock, app.root)
    assert "http://127.0.0.1:9/simple" in str(dict(app.inputs())["index"])
    assert stock.is_dir()


# Channels


def test_a_channel_of_the_configuration_serves_a_manifest_without(app: Application, stock: Path) -> None:
    app.write(MANIFEST.replace('channels = ["../stock/channel"]\n', ""))
    configured = replace(app, settings=Settings(channels=(str(stock / "channel"),)))
    lock = configured.lock()
    assert "requires.channels" not in dict(lock.inputs)
    assert lock.targets[0].conda[0].channel == (stock / "channel").as_uri()


def test_a_channel_that_is_named_for_the_run_is_taken_in_place_of_all_others(app: Application, tmp_path: Path) -> None:
    other = python_channel(tmp_path / "other" / "channel")
    other.add("numeric", "1.0", subdir="noarch", depends=["python >=3.9"], distribution="numeric")
    other.index()
    asked = asked_of(app.loaded, app.store, app.settings)
    lock = resolve(asked, settings=app.settings, store=app.store, channels=[other.url])
    assert {package.channel for package in lock.targets[0].conda} == {other.url}
    assert lock.inputs == app.lock().inputs


def test_a_package_that_is_not_what_the_index_says_is_refused(app: Application, tmp_path: Path) -> None:
    broken = python_channel(tmp_path / "broken" / "channel")
    archive = broken.add("numeric", "1.0", subdir="noarch", depends=["python >=3.9"], distribution="numeric")
    broken.index()
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    app.write(MANIFEST.replace("../stock/channel", "../broken/channel"))
    error = app.failure()
    assert error.exit_code == 7
    assert "numeric-1.0" in error.thing


def test_offline_names_what_is_missing(app: Application) -> None:
    settings = Settings(channels=("http://127.0.0.1:9/channel",))
    app.write(MANIFEST.replace('channels = ["../stock/channel"]\n', ""))
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9"):
        replace(app, settings=settings).lock(offline=True)


# Words


@pytest.mark.parametrize(
    ("specifier", "version"),
    [("==3.11.*", "3.11.*"), (">=3.11,<3.14", "<3.14,>=3.11"), ("==3.11.4", "==3.11.4"), ("~=3.11", "~=3.11")],
)
def test_a_python_version_in_condas_words(specifier: str, version: str) -> None:
    assert conda_version(specifier) == version


def test_only_packages_for_python_are_read() -> None:
    assert may_hold_python(conda("flask", "1.0"))
    compiled = replace(conda("numpy", "1.0", depends=("python_abi 3.11.* *_cp311",)), noarch=None)
    assert may_hold_python(compiled)
    assert not may_hold_python(replace(compiled, depends=("zlib >=1", "python-dotenv")))


@pytest.mark.channel
@pytest.mark.index
def test_the_local_channel_and_the_default_index(app: Application, channel: Path) -> None:
    manifest = MANIFEST.replace("../stock/channel", str(channel)).replace('conda = ["numeric"]', 'conda = ["numpy"]')
    app.write(
        manifest.replace('pip = ["frames"]', 'pip = ["pandas"]') + '[targets.default]\nglibc = "2.36"\n',
        requirements="",
    )
    (target_lock,) = app.lock().targets
    conda_half, wheels = versions(target_lock)
    assert target_lock.python == conda_half["python"]
    assert wheels["numpy"] == conda_half["numpy"]
    assert "pandas" in wheels
    assert "numpy" not in [wheel.name for wheel in target_lock.wheels_over_conda]
