"""Wheelhouses: what is in one, and how it installs itself."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from boxsnake.errors import PackError
from boxsnake.packagers import packagers
from boxsnake.plan import Hook, Plan
from boxsnake.store import Store
from tests.wheel_boxes import MINOR, add_wheel, conda_package, demo_plan, pack, with_conda

SHELLS = [shell for shell in (["sh"], ["bash"], ["dash"], ["busybox", "sh"]) if shutil.which(shell[0])]
UNFIT, DAMAGED, FAILED = 3, 4, 5


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def plan(store: Store, tmp_path: Path) -> Plan:
    return demo_plan(store, tmp_path / "wheels", "wheelhouse")


def unpack(archive: Path, folder: Path) -> None:
    """As the house's user would."""
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)


def house_of(store: Store, plan: Plan, folder: Path) -> Path:
    """Pack the plan and unpack the archive: the house's folder."""
    unpack(pack(store, plan, "wheelhouse", folder), folder)
    return folder / "demo-1.0.wheelhouse"


@pytest.fixture
def house(store: Store, plan: Plan, tmp_path: Path) -> Path:
    return house_of(store, plan, tmp_path / "house")


def install(
    house: Path, *arguments: object, shell: list[str] | None = None, python: str | None = sys.executable, **env: str
) -> subprocess.CompletedProcess[str]:
    chosen = ["--python", python] if python else []
    command = [*(shell or ["sh"]), str(house / "install.sh"), *chosen, *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], **env}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def output_of(*command: object) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is in it


def test_every_file_is_in_the_sums(house: Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (house / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(house).as_posix() for path in house.rglob("*") if path.is_file()}
    assert set(sums) == files - {"SHA256SUMS"}
    assert all(hashlib.sha256((house / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_requirements_and_lock_name_every_wheel(house: Path, plan: Plan) -> None:
    lines = (house / "requirements.txt").read_text().splitlines()
    assert lines[:2] == ["--no-index", "--find-links wheels"]
    assert lines[2:] == [f"{w.name}==1.0 --hash=sha256:{w.sha256}" for w in sorted(plan.wheels, key=lambda w: w.name)]
    lock = tomllib.loads((house / "pylock.toml").read_text())
    assert [package["wheels"][0]["path"] for package in lock["packages"]] == [
        "wheels/demo-1.0-py3-none-any.whl",
        "wheels/helper-1.0-py3-none-any.whl",
    ]


def test_pip_installs_from_the_house(house: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-cache-dir"]
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    target = tmp_path / "target"
    command = [*pip, "--target", str(target), "-r", "requirements.txt"]
    subprocess.run(command, cwd=house, env=environment, check=True)
    assert {"demo.py", "helper.py"} <= set(names_in(target))


def test_two_houses_of_one_plan_are_the_same_bytes(store: Store, plan: Plan, tmp_path: Path) -> None:
    first = pack(store, plan, "wheelhouse", tmp_path / "one").read_bytes()
    before = os.umask(0o077)
    try:
        second = pack(store, plan, "wheelhouse", tmp_path / "two, ünïcode").read_bytes()
    finally:
        os.umask(before)
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert {member.mtime for member in archive} == {plan.epoch}
        assert {member.mode for member in archive} == {0o644, 0o755}
        assert {(member.uid, member.gid) for member in archive} == {(0, 0)}


def test_two_wheels_may_bring_the_same_file(store: Store, plan: Plan, tmp_path: Path) -> None:
    others = [add_wheel(store, tmp_path / "wheels", name, {"tests/__init__.py": ""}) for name in ("one", "two")]
    plan = replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, *others)))
    assert pack(store, plan, "wheelhouse", tmp_path / "out").is_file()


def test_two_wheels_with_one_path_are_refused(store: Store, plan: Plan, tmp_path: Path) -> None:
    other = add_wheel(store, tmp_path / "wheels", "other", {"helper.py": "ANSWER = 43\n"})
    plan = replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, other)))
    with pytest.raises(PackError, match=r"helper\.py: the wheel helper and the wheel other both bring this path"):
        pack(store, plan, "wheelhouse", tmp_path / "out")


# What it cannot carry


def test_what_comes_with_python_or_in_wheels_needs_no_word(plan: Plan) -> None:
    packages = (
        conda_package("python", "openssl >=3", "__glibc >=2.17"),
        conda_package("openssl"),
        conda_package("numpy", "libblas", "python", brings="numpy"),
        conda_package("libblas"),
    )
    packager = packagers()["wheelhouse"]
    packager.check(with_conda(plan, *packages))
    packager.check(with_conda(plan, *packages[:2]))


def test_a_library_without_a_wheel_is_named_unless_the_host_brings_it(store: Store, plan: Plan, tmp_path: Path) -> None:
    packages = (conda_package("python"), conda_package("libpq", "krb5"), conda_package("krb5"))
    packager = packagers()["wheelhouse"]
    with pytest.raises(PackError) as raised:
        packager.check(with_conda(plan, *packages, unavailable=("gdal",)))
    assert raised.value.data["missing"] == ["gdal", "libpq"]
    assert 'host-brings = ["gdal", "libpq"]' in raised.value.next_step
    allowed = replace(with_conda(plan, *packages), options=packager.options.decoded({"host-brings": ["libpq"]}))
    packager.check(allowed)
    assert "- libpq" in (house_of(store, allowed, tmp_path / "allowed") / "README.md").read_text()


# How it installs


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_installs_under_every_shell(house: Path, tmp_path: Path, shell: list[str]) -> None:
    done = install(house, tmp_path / "app", shell=shell)
    assert (done.returncode, done.stdout) == (0, f"installed demo 1.0 in {tmp_path}/app\n"), done.stderr
    assert output_of(tmp_path / "app" / "bin" / "demo", "x") == "demo 42 x\n"


def test_an_installation_is_an_ordinary_environment(house: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    assert install(house, app).returncode == 0
    assert output_of(app / "bin" / "demo-sh") == "shell\n"
    assert output_of(app / "bin" / "demo-py") == "42\n"
    assert (app / "share" / "demo" / "words.txt").read_text() == "words\n"
    script = "import importlib.metadata as m; print(sorted(f'{d.name} {d.version}' for d in m.distributions()))"
    assert output_of(app / "bin" / "python", "-c", script) == "['demo 1.0', 'helper 1.0']\n"
    assert json.loads((app / "wheelhouse.json").read_text())["name"] == "demo"
    assert all(str(house) not in path.read_text() for path in (app / "bin").iterdir() if not path.is_symlink())
    assert "installing" not in (app / "pyvenv.cfg").read_text() + (app / "bin" / "activate").read_text()


def test_records_hold_for_every_installed_file(house: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    assert install(house, app).returncode == 0
    site = app / "lib" / f"python{MINOR}" / "site-packages"
    names = set()
    for record in site.glob("*.dist-info/RECORD"):
        for name, digest, size in csv.reader(record.read_text().splitlines()):
            path = (site / name).resolve()
            names.add(path)
            assert path.is_relative_to(app)
            if digest:
                assert path.stat().st_size == int(size)
    assert {app / "bin" / "demo", app / "share" / "demo" / "words.txt", site / "helper.py"} <= names


def test_modules_are_compiled_for_their_final_place(house: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    assert install(house, app).returncode == 0
    script = "import helper; print(helper.__cached__, helper.__spec__.loader.get_code('helper').co_filename)"
    cached, file = output_of(app / "bin" / "python", "-B", "-c", script).split()
    assert Path(cached).is_file()
    assert file == f"{app}/lib/python{MINOR}/site-packages/helper.py"


def test_a_prefix_with_spaces_and_one_that_is_long(house: Path, tmp_path: Path) -> None:
    for name in ("two words & $HOME", "x" * 150):
        assert install(house, tmp_path / name).returncode == 0
        assert output_of(tmp_path / name / "bin" / "demo") == "demo 42\n"


def test_files_are_for_everybody_whatever_the_umask(house: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert install(house, tmp_path / "app").returncode == 0
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "app").rglob("*"))


def test_a_newer_house_replaces_an_installation_whole(store: Store, plan: Plan, tmp_path: Path) -> None:
    old = house_of(store, plan, tmp_path / "old")
    app = tmp_path / "app"
    assert install(old, app).returncode == 0
    (app / "left").touch()
    helper = add_wheel(store, tmp_path / "newer", "helper", {"helper.py": "ANSWER = 43\n"})
    new = house_of(store, replace(plan, lock=replace(plan.lock, wheels=(helper,))), tmp_path / "new")
    assert install(new, app).returncode == 0
    assert output_of(app / "bin" / "demo") == "demo 43\n"
    assert not (app / "left").exists()
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


def test_a_folder_of_somebody_elses_is_left_alone(house: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "data").write_text("precious")
    done = install(house, theirs)
    assert done.returncode == FAILED
    assert "is not empty" in done.stderr
    assert names_in(theirs) == ["data"]


def with_hook(plan: Plan, script: str) -> Plan:
    return replace(plan, hooks=(Hook(moment="post-install", file_name="hook.sh", content=script.encode()),))


def test_the_post_install_script_sees_what_was_installed(store: Store, plan: Plan, tmp_path: Path) -> None:
    script = '#!/bin/sh\n"$BOXSNAKE_PREFIX/bin/demo" "$BOXSNAKE_NAME" > "$BOXSNAKE_PREFIX/said"\n'
    house = house_of(store, with_hook(plan, script), tmp_path / "house")
    assert install(house, tmp_path / "app").returncode == 0
    assert (tmp_path / "app" / "said").read_text() == "demo 42 demo\n"


@pytest.mark.parametrize("first", [True, False], ids=["first", "upgrade"])
def test_a_failing_post_install_script_undoes_everything(
    store: Store, plan: Plan, tmp_path: Path, *, first: bool
) -> None:
    app = tmp_path / "app"
    if not first:
        assert install(house_of(store, plan, tmp_path / "good"), app).returncode == 0
        (app / "mine").touch()
    done = install(house_of(store, with_hook(plan, "exit 7\n"), tmp_path / "bad"), app)
    assert done.returncode == FAILED
    assert "ended with status 7" in done.stderr
    assert app.exists() is not first
    assert first or (app / "mine").exists()
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


def test_what_a_killed_installation_left_goes_with_the_next(house: Path, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / f".app.installing-{gone.pid}" / "lib").mkdir(parents=True)
    assert install(house, tmp_path / "app").returncode == 0
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


# What it refuses


def test_a_corrupted_wheel_is_refused_and_named(house: Path, tmp_path: Path) -> None:
    wheel = house / "wheels" / "helper-1.0-py3-none-any.whl"
    data = bytearray(wheel.read_bytes())
    data[60] ^= 1
    wheel.write_bytes(data)
    done = install(house, tmp_path / "app")
    assert done.returncode == DAMAGED
    assert "wheels/helper-1.0-py3-none-any.whl has changed" in done.stderr
    assert not (tmp_path / "app").exists()


def test_a_missing_file_and_a_changed_installer_are_refused(house: Path, tmp_path: Path) -> None:
    (house / "wheels" / "demo-1.0-py3-none-any.whl").unlink()
    assert "demo-1.0-py3-none-any.whl is missing" in install(house, "--check").stderr
    (house / "install.py").write_text("print('anything')\n")
    done = install(house, tmp_path / "app")
    assert (done.returncode, done.stdout) == (DAMAGED, "")


def fake_python(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
    (folder / name).chmod(0o755)
    return folder / name


def test_another_python_is_refused_by_its_version(house: Path, tmp_path: Path) -> None:
    other = fake_python(tmp_path / "bin", "python3", "3.6")
    done = install(house, tmp_path / "app", python=str(other))
    assert (done.returncode, done.stderr) == (UNFIT, f"install: Python {MINOR} is needed, {other} is 3.6\n")
    done = install(house, tmp_path / "app", python=str(tmp_path / "absent"))
    assert (done.returncode, "is not a Python that runs" in done.stderr) == (UNFIT, True)


def test_pythons_are_looked_for_in_the_path(house: Path, tmp_path: Path) -> None:
    folder = fake_python(tmp_path / "bin", "python3", "3.6").parent
    for tool in ("dirname", "sha256sum", "grep", "cat"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    sh = [shutil.which("sh") or "sh"]
    done = install(house, tmp_path / "app", python=None, shell=sh, PATH=str(folder))
    assert done.returncode == UNFIT
    assert f"Python {MINOR} is needed and not in PATH, python3 is 3.6" in done.stderr
    (folder / f"python{MINOR}").symlink_to(sys.executable)
    done = install(house, tmp_path / "app", python=None, shell=sh, PATH=str(folder))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("platform", "complaint"),
    [
        ("manylinux_2_99_x86_64", "glibc 2.99 or newer, this system has"),
        ("manylinux2014_s390x", "a s390x machine, this Python is for"),
        ("macosx_11_0_arm64", "a platform macosx_11_0_arm64, this is"),
    ],
)
def test_a_machine_that_does_not_fit_is_told_why(
    store: Store, plan: Plan, tmp_path: Path, platform: str, complaint: str
) -> None:
    tag = f"cp{MINOR.replace('.', '')}-cp{MINOR.replace('.', '')}-{platform}"
    native = add_wheel(store, tmp_path / "wheels", "native", {"native.py": ""}, tag=tag)
    house = house_of(store, replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, native))), tmp_path / "h")
    done = install(house, "--check")
    assert done.returncode == UNFIT
    assert f"native-1.0-{tag}.whl needs" in done.stderr
    assert complaint in done.stderr
    assert install(house, tmp_path / "app").returncode == UNFIT
    assert not (tmp_path / "app").exists()


def test_wheels_for_this_machine_fit_by_any_of_their_tags(store: Store, plan: Plan, tmp_path: Path) -> None:
    machine = os.uname().machine
    tag = f"cp{MINOR.replace('.', '')}-abi3-manylinux_2_99_{machine}.manylinux2014_{machine}"
    native = add_wheel(store, tmp_path / "wheels", "native", {"native.py": ""}, tag=tag)
    house = house_of(store, replace(plan, lock=replace(plan.lock, wheels=(*plan.lock.wheels, native))), tmp_path / "h")
    done = install(house, "--check")
    assert (done.returncode, done.stdout) == (0, "demo 1.0 fits this machine\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"), [([], 2), (["--help"], 0), (["--what"], 2), (["a", "b"], 2), (["--", "a", "b"], 2)]
)
def test_the_command_line(house: Path, arguments: list[str], status: int) -> None:
    done = install(house, *arguments, python=None)
    assert done.returncode == status
    assert ("usage: install.sh" in done.stdout) is (status == 0)


def test_names_cannot_become_commands_of_the_installer(store: Store, plan: Plan, tmp_path: Path) -> None:
    version = "1.0'; touch evil; '$(touch evil)`touch evil`"
    hostile = replace(plan, application=replace(plan.application, version=version))
    unpack(pack(store, hostile, "wheelhouse", tmp_path / "house"), tmp_path)
    command = ["sh", f"demo-{version}.wheelhouse/install.sh", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"Installs demo {version} into" in done.stdout
    assert not (tmp_path / "evil").exists()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing(house: Path) -> None:
    done = subprocess.run(["shellcheck", str(house / "install.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# How it boots


def test_it_boots_on_a_host_with_its_python(store: Store, tmp_path: Path) -> None:
    packager = packagers()["wheelhouse"]
    plan = demo_plan(store, tmp_path / "wheels", "wheelhouse", python="3.13")
    recipe = packager.boot(plan, tmp_path / packager.file_name(plan))
    assert recipe.host == "debian-13-python"
    assert recipe.command == ("/opt/demo/bin/demo",)
    assert recipe.expects.distributions == (("demo", "1.0"), ("helper", "1.0"))
