"""Channels from recipes: small recipes are built for real, and the local channel is held to what it promises."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxsnake import elf
from boxsnake.channel import archives, debian_python, recipes, repack, versions
from boxsnake.channel.build import Built, build
from boxsnake.channel.folder import packages_of
from boxsnake.channel.relocate import relocatable
from boxsnake.channel.sources import fetch
from boxsnake.cli import boxsnake
from boxsnake.errors import ManifestError, PackError, ResourceError, UsageError

GREETING = """
package: {name: greeting, version: "1.0"}
build:
  noarch: generic
  script:
    - mkdir -p $PREFIX/share
    - echo "hello from $PREFIX" > $PREFIX/share/greeting
about: {license: MIT, summary: Says hello}
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes-cache")


def write_recipe(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(textwrap.dedent(text))
    return folder


def files_of(channel: Path) -> list[str]:
    return sorted(str(path.relative_to(channel)) for path in channel.rglob("*.conda"))


# Building


def test_what_is_built_is_an_ordinary_channel(tmp_path: Path, cache: Path) -> None:
    write_recipe(tmp_path / "recipes/greeting", GREETING)
    seen: list[Built] = []
    built = build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64", report=seen.append)
    assert seen == list(built)
    (package,) = built[0].packages
    assert (package.name, package.version, package.subdir) == ("greeting", "1.0", "noarch")
    visible = sorted(path.name for path in (tmp_path / "channel").iterdir() if not path.name.startswith("."))
    assert visible == ["linux-64", "noarch"]
    assert sorted(path.name for path in (tmp_path / "channel/noarch").iterdir()) == [
        package.file,
        "repodata.json",
        "repodata.json.zst",
    ]
    assert stat.S_IMODE((tmp_path / "channel/noarch" / package.file).stat().st_mode) == 0o644
    assert packages_of(tmp_path / "channel") == (package,)


def test_nothing_is_built_again_until_something_changed(tmp_path: Path, cache: Path) -> None:
    recipe = write_recipe(tmp_path / "recipes/greeting", GREETING)
    channel = tmp_path / "channel"
    (first,) = build([recipe], channel, cache=cache, platform="linux-64")
    before = {path: path.stat().st_mtime_ns for path in channel.rglob("*") if path.is_file()}
    (second,) = build([recipe], channel, cache=cache, platform="linux-64")
    assert second.packages == first.packages
    assert second.seconds is None
    assert {path: path.stat().st_mtime_ns for path in channel.rglob("*") if path.is_file()} == before

    write_recipe(recipe, GREETING.replace("hello", "good day"))
    (third,) = build([recipe], channel, cache=cache, platform="linux-64")
    assert third.seconds is not None
    assert third.packages[0].sha256 != first.packages[0].sha256
    assert packages_of(channel) == third.packages


def test_a_newer_version_takes_the_place_of_the_older(tmp_path: Path, cache: Path) -> None:
    recipe = write_recipe(tmp_path / "recipes/greeting", GREETING)
    build([recipe], tmp_path / "channel", cache=cache, platform="linux-64")
    write_recipe(recipe, GREETING.replace('"1.0"', '"2.0"'))
    (built,) = build([recipe], tmp_path / "channel", cache=cache, platform="linux-64")
    assert files_of(tmp_path / "channel") == [f"noarch/{built.packages[0].file}"]
    assert [package.version for package in packages_of(tmp_path / "channel")] == ["2.0"]


def test_a_package_that_was_damaged_is_built_again(tmp_path: Path, cache: Path) -> None:
    recipe = write_recipe(tmp_path / "recipes/greeting", GREETING)
    (first,) = build([recipe], tmp_path / "channel", cache=cache, platform="linux-64")
    path = tmp_path / "channel/noarch" / first.packages[0].file
    path.write_bytes(path.read_bytes()[:-1])
    (second,) = build([recipe], tmp_path / "channel", cache=cache, platform="linux-64")
    assert second.packages == first.packages
    assert second.seconds is not None


def test_what_a_removed_recipe_made_goes_with_it(tmp_path: Path, cache: Path) -> None:
    write_recipe(tmp_path / "recipes/greeting", GREETING)
    other = write_recipe(tmp_path / "recipes/other", GREETING.replace("name: greeting", "name: other"))
    build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64")
    shutil.rmtree(other)
    build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64")
    assert [package.name for package in packages_of(tmp_path / "channel")] == ["greeting"]


def test_the_same_recipe_gives_the_same_bytes_in_any_folder(tmp_path: Path, cache: Path) -> None:
    digests = set()
    for place in ("one", "another-folder-with-a-longer-name"):
        recipe = write_recipe(tmp_path / place / "greeting", GREETING)
        (built,) = build([recipe], tmp_path / place / "channel", cache=cache, platform="linux-64")
        digests.add(built.packages[0].sha256)
    assert len(digests) == 1


def test_packages_of_the_host_environment_are_built_first(tmp_path: Path, cache: Path) -> None:
    write_recipe(tmp_path / "recipes/zebra", GREETING)
    needing = """
    package: {name: aardvark, version: "1.0"}
    build:
      noarch: generic
      script: [cp $PREFIX/share/greeting $PREFIX/share/copy]
    requirements: {host: [greeting]}
    about: {license: MIT, summary: Needs zebra's package to be built}
    """
    write_recipe(tmp_path / "recipes/aardvark", needing)
    built = build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64")
    assert [result.recipe for result in built] == ["zebra", "aardvark"]
    (only,) = build([tmp_path / "recipes"], tmp_path / "b", cache=cache, platform="linux-64", only=["zebra"])
    assert only.recipe == "zebra"
    with_needs = build([tmp_path / "recipes"], tmp_path / "c", cache=cache, platform="linux-64", only=["aardvark"])
    assert [result.recipe for result in with_needs] == ["zebra", "aardvark"]


def test_programs_make_a_package_depend_on_the_glibc_that_they_need(tmp_path: Path, cache: Path) -> None:
    recipe = """
    package: {name: truth, version: "1.0"}
    build:
      dynamic_linking: {binary_relocation: false}
      script: [mkdir -p $PREFIX/bin, cp /bin/true $PREFIX/bin/true]
    about: {license: MIT, summary: A program of this machine's}
    """
    (built,) = build([write_recipe(tmp_path / "truth", recipe)], tmp_path / "channel", cache=cache, platform="linux-64")
    package = tmp_path / "channel/linux-64" / built.packages[0].file
    needed = ".".join(map(str, elf.glibc_floor(Path("/bin/true").read_bytes())))
    assert archives.index_of(package)["depends"] == [f"__glibc >={needed}"]

    noarch = recipe.replace("build:", "build:\n      noarch: generic")
    with pytest.raises(PackError, match="noarch"):
        build([write_recipe(tmp_path / "noarch", noarch)], tmp_path / "other", cache=cache, platform="linux-64")


@pytest.mark.skipif(shutil.which("patchelf") is not None, reason="this machine has patchelf")
def test_a_missing_patchelf_is_named(tmp_path: Path, cache: Path) -> None:
    recipe = """
    package: {name: truth, version: "1.0"}
    build:
      script: [mkdir -p $PREFIX/bin, cp /bin/true $PREFIX/bin/true]
    about: {license: MIT, summary: A program of this machine's}
    """
    with pytest.raises(ResourceError, match="patchelf"):
        build([write_recipe(tmp_path / "truth", recipe)], tmp_path / "channel", cache=cache, platform="linux-64")


def test_one_channel_holds_several_platforms(tmp_path: Path, cache: Path) -> None:
    recipe = write_recipe(tmp_path / "greeting", GREETING)
    platforms = ("linux-64", "linux-aarch64")
    for platform in platforms:
        (built,) = build([recipe], tmp_path / "channel", cache=cache, platform=platform)
        assert built.seconds is not None
    assert all((tmp_path / "channel" / platform / "repodata.json").is_file() for platform in platforms)
    (again,) = build([recipe], tmp_path / "channel", cache=cache, platform="linux-64")
    assert again.seconds is None
    assert packages_of(tmp_path / "channel") == again.packages


def test_the_command_line_tells_what_it_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("BOXSNAKE_CACHE_DIR", str(cache))
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path / "recipes/greeting", GREETING)
    told = CliRunner().invoke(boxsnake, ["channel", "build"], catch_exceptions=False).output
    assert told.startswith("built      greeting 1.0-")
    document = json.loads(CliRunner().invoke(boxsnake, ["channel", "build", "--json"]).output)
    assert document["recipes"][0]["seconds"] is None
    listed = json.loads(CliRunner().invoke(boxsnake, ["channel", "list", "--json"]).output)
    assert listed["packages"] == document["recipes"][0]["packages"]


# Failures


def test_a_recipe_that_fails_is_named_with_the_end_of_its_log(tmp_path: Path, cache: Path) -> None:
    write_recipe(tmp_path / "recipes/a-greeting", GREETING)
    failing = GREETING.replace("name: greeting", "name: broken").replace(
        "- mkdir", "- echo the last words >&2\n    - exit 3\n    - mkdir"
    )
    write_recipe(tmp_path / "recipes/broken", failing)
    with pytest.raises(PackError) as caught:
        build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64")
    assert caught.value.exit_code == 9
    assert caught.value.thing == "recipe broken"
    assert "the last words" in caught.value.cause
    assert "the last words" in Path(str(caught.value.data["log"])).read_text()
    assert [package.name for package in packages_of(tmp_path / "channel")] == ["greeting"]
    assert list((tmp_path / "channel/.boxsnake").iterdir()) == [tmp_path / "channel/.boxsnake/state.json"]


def test_a_build_that_was_killed_leaves_no_half_package(tmp_path: Path, cache: Path) -> None:
    started = tmp_path / "started"
    recipe = write_recipe(
        tmp_path / "greeting", GREETING.replace("- mkdir", f"- touch {started}; sleep 60\n    - mkdir")
    )
    channel = tmp_path / "channel"
    code = (
        "import sys; from pathlib import Path; from boxsnake.channel.build import build; "
        'build([Path(sys.argv[1])], Path(sys.argv[2]), cache=Path(sys.argv[3]), platform="linux-64")'
    )
    process = subprocess.Popen([sys.executable, "-c", code, recipe, channel, cache])
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.01)
    worker = next(iter(children_of(process.pid)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.killpg(worker, signal.SIGKILL)
    assert files_of(channel) == []

    write_recipe(recipe, GREETING)
    (built,) = build([recipe], channel, cache=cache, platform="linux-64")
    assert packages_of(channel) == built.packages
    assert [path.name for path in (channel / ".boxsnake").iterdir()] == ["state.json"]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_recipes_that_need_each_other_are_refused(tmp_path: Path, cache: Path) -> None:
    for name, other in (("chicken", "egg"), ("egg", "chicken")):
        text = f"package: {{name: {name}, version: '1'}}\nrequirements: {{host: [{other}]}}\n"
        write_recipe(tmp_path / "recipes" / name, text)
    with pytest.raises(PackError, match="chicken"):
        build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64")


def test_a_classic_recipe_is_refused_with_the_way_to_convert_it(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(tmp_path / "recipes/greeting", GREETING)
    (tmp_path / "recipes/old").mkdir()
    (tmp_path / "recipes/old/meta.yaml").write_text("package:\n  name: old\n")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ResourceError) as caught:
        build([tmp_path / "recipes"], tmp_path / "channel", cache=cache, platform="linux-64")
    assert "meta.yaml" in caught.value.thing
    assert "conda-recipe-manager convert meta.yaml > recipe.yaml" in caught.value.next_step
    assert not (tmp_path / "channel").exists()


def test_a_classic_recipe_goes_to_conda_build_where_there_is_one(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = build(
        [write_recipe(tmp_path / "greeting", GREETING)], tmp_path / "made", cache=cache, platform="linux-64"
    )
    (tmp_path / "old").mkdir()
    (tmp_path / "old/meta.yaml").write_text("package:\n  name: greeting\n")
    program = tmp_path / "bin/conda-build"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 1 ]; do [ "$1" = --output-folder ] && out=$2; shift; done\n'
        'test -f "$1/meta.yaml" || exit 1\n'
        f'mkdir -p "$out/noarch" && cp {tmp_path}/made/noarch/*.conda "$out/noarch"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    (built,) = build([tmp_path / "old"], tmp_path / "channel", cache=cache, platform="linux-64")
    assert built.packages == made.packages


def test_debian_sources_need_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sources = recipes.Sources(suite="bookworm", debian=("zlib1g",))
    with pytest.raises(ResourceError, match="apt") as caught:
        fetch({"zlib": sources}, tmp_path / "cache", platform="linux-64")
    assert caught.value.exit_code == 8


# Recipes


def test_all_faults_of_the_declared_sources_are_told(tmp_path: Path) -> None:
    text = """
    package: {name: wrong, version: "1"}
    extra:
      boxsnake:
        optinal: true
        sources: {debian: zlib1g, python: 3.11}
    """
    with pytest.raises(ManifestError) as caught:
        recipes.read(write_recipe(tmp_path / "wrong", text))
    assert sorted(fault.key.removeprefix("extra.boxsnake.") for fault in caught.value.faults) == [
        "optinal",
        "sources.debian",
        "sources.python",
        "sources.suite",
    ]


def test_a_recipe_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"recipe\.yaml:2: .*mapping values"):
        recipes.read(write_recipe(tmp_path / "wrong", "package:\n  name: a: b\n"))


def test_optional_recipes_are_built_when_they_are_asked_for(tmp_path: Path) -> None:
    write_recipe(tmp_path / "usual", "package: {name: usual, version: '1'}\n")
    for name in ("one", "two"):
        text = f"package: {{name: {name}, version: '1'}}\nextra: {{boxsnake: {{optional: more}}}}\n"
        write_recipe(tmp_path / name, text)
    known = recipes.read_folders([tmp_path])
    assert [recipe.name for recipe in recipes.select(known)] == ["usual"]
    assert [recipe.name for recipe in recipes.select(known, optional=["more"])] == ["one", "two", "usual"]
    assert [recipe.name for recipe in recipes.select(known, only=["one"])] == ["one"]
    with pytest.raises(UsageError, match="usual"):
        recipes.select(known, only=["unknown"])


def test_needs_are_found_in_both_branches_of_a_condition(tmp_path: Path) -> None:
    text = """
    context: {python: python}
    package: {name: it, version: "1"}
    requirements:
      build: ["${{ compiler('c') }}", {if: linux, then: make, else: [m2-make]}]
      host: ["${{ python }} >=3.9", zlib]
    """
    assert recipes.read(write_recipe(tmp_path / "it", text)).needs == {"make", "m2-make", "python", "zlib"}


def test_a_folder_without_recipes_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(boxsnake, ["channel", "build", str(tmp_path)])
    assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize(
    ("version", "upstream", "number"),
    [
        ("1:1.2.13.dfsg-1", "1.2.13", 0),
        ("3.0.17-1~deb12u2", "3.0.17", 2),
        ("20250419~deb12u2", "20250419", 2),
        ("3.11.2-6+deb12u9", "3.11.2", 9),
        ("2025b-0+deb12u1", "2025b", 1),
        ("1:1.3.dfsg+really1.3.1-1+b1", "1.3.1", 0),
        ("5.4.1-0.2", "5.4.1", 0),
    ],
)
def test_debian_versions_become_upstreams(version: str, upstream: str, number: int) -> None:
    assert versions.upstream_version(version) == upstream
    assert versions.build_number(version) == number


# Programs


def test_a_relocated_program_has_its_rpath_and_still_runs(tmp_path: Path) -> None:
    program = tmp_path / "true"
    program.write_bytes(relocatable(Path("/bin/true").read_bytes(), search_path="$ORIGIN/../lib"))
    program.chmod(0o755)
    assert elf.Elf(program.read_bytes()).search_path == "$ORIGIN/../lib"
    subprocess.run([program], check=True)
    again = relocatable(program.read_bytes(), search_path="$ORIGIN/../a/much/longer/lib")
    program.write_bytes(again)
    assert elf.Elf(again).search_path == "$ORIGIN/../a/much/longer/lib"
    subprocess.run([program], check=True)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="strings are moved in x86-64 programs alone")
def test_a_string_of_a_program_is_replaced_by_a_longer_one(tmp_path: Path) -> None:
    author, other = b"Jim Meyering", b"Somebody with a name that has no room in the old place"
    program = tmp_path / "true"
    program.write_bytes(relocatable(Path("/bin/true").read_bytes(), strings={author: other}))
    program.chmod(0o755)
    told = subprocess.run([program, "--version"], capture_output=True, check=True).stdout
    assert other in told
    assert author not in told
    with pytest.raises(elf.ElfError, match="/no/such/path"):
        relocatable(program.read_bytes(), strings={b"/no/such/path": b""})


def test_files_that_are_no_programs_have_no_glibc_floor() -> None:
    assert elf.glibc_floor(b"#!/bin/sh\n") == ()
    assert elf.glibc_floor(Path("/bin/true").read_bytes()[:500]) == ()


def test_build_variables_name_the_prefix_and_no_flag_of_debians_build() -> None:
    variable = (
        "x86_64-linux-gnu-gcc -g -O2 -ffile-prefix-map=/build/x=. -I/usr/include/x86_64-linux-gnu/python3.11 "
        "-L/usr/lib/x86_64-linux-gnu --prefix=/usr /usr/bin/install"
    )
    assert debian_python.upstream_text(variable, "x86_64-linux-gnu", "/opt/p") == (
        "gcc -O2 -I/opt/p/include/python3.11 -L/opt/p/lib --prefix=/opt/p /usr/bin/install"
    )


def test_a_wheel_is_unpacked_as_conda_packages_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipe/sources/wheels"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "it-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("it/__init__.py", "def run(): return 0\n")
        wheel.writestr("it-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: it\nVersion: 1\n")
        wheel.writestr("it-1.dist-info/entry_points.txt", "[console_scripts]\nit = it:run\n[other]\nno = it:run\n")
        wheel.writestr("it-1.dist-info/RECORD", "")
        wheel.writestr("it-1.data/data/share/it", "data\n")
    prefix = tmp_path / "prefix"
    monkeypatch.setenv("PREFIX", str(prefix))
    monkeypatch.setenv("RECIPE_DIR", str(tmp_path / "recipe"))
    repack.main(["wheel", "3.11", "--scripts"])
    site = prefix / "lib/python3.11/site-packages"
    assert (site / "it-1.dist-info/INSTALLER").read_text() == "conda\n"
    assert (prefix / "share/it").read_text() == "data\n"
    assert (prefix / "bin/it").read_text().startswith(f"#!{prefix}/bin/python3.11\n")
    assert not (prefix / "bin/no").exists()
    rows = (site / "it-1.dist-info/RECORD").read_text().splitlines()
    assert "../../../bin/it,," in rows
    assert "it-1.dist-info/RECORD,," in rows
    assert any(row.startswith("it/__init__.py,sha256=") for row in rows)


# The local channel

RELOCATION = """
import bz2, ctypes, hashlib, lzma, multiprocessing, os, site, sqlite3, ssl, sys, sysconfig, uuid, venv, zlib, zoneinfo
prefix = sys.argv[1]
folder = f"{prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
assert sys.prefix == sysconfig.get_config_var("prefix") == prefix, sys.prefix
assert sysconfig.get_path("purelib") == sysconfig.get_path("platlib") == folder, sysconfig.get_path("purelib")
assert site.getsitepackages() == [folder], site.getsitepackages()
assert sysconfig.get_config_var("LIBDIR") == f"{prefix}/lib"
assert ssl.get_default_verify_paths().openssl_cafile == f"{prefix}/ssl/cert.pem"
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
assert zoneinfo.TZPATH == (f"{prefix}/share/zoneinfo",), zoneinfo.TZPATH
zoneinfo.ZoneInfo("Europe/Paris")
sqlite3.connect(":memory:").execute("select 1")
with open("/proc/self/maps") as maps:
    libraries = {line.split()[-1] for line in maps if ".so" in line}
print(json.dumps(sorted(os.path.basename(path) for path in libraries if not path.startswith(prefix))))
"""
OF_GLIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}


@pytest.mark.channel
@pytest.mark.parametrize("name", ["p", "a-prefix-of-quite-another-length"])
def test_python_works_wherever_it_is_installed(name: str, tmp_path: Path, channel: Path) -> None:
    prefix = tmp_path / name
    install(channel, prefix, ["python 3.11.*", "pip", "numpy"])
    run = [str(prefix / "bin/python3.11"), "-c", f"import json\n{RELOCATION}", str(prefix)]
    told = subprocess.run(run, env={}, cwd="/", capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert set(json.loads(told.stdout)) <= OF_GLIBC
    commands: tuple[tuple[list[str], str], ...] = (
        (["bin/pip", "--version"], str(prefix)),
        (["bin/numpy-config", "--version"], "."),
        (["bin/openssl", "version", "-d"], f'OPENSSLDIR: "{prefix}/ssl"'),
        (["bin/python", "-c", "import numpy; print(numpy.ones(3).sum())"], "3.0"),
    )
    for command, answer in commands:
        done = subprocess.run([prefix / command[0], *command[1:]], env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert answer in done.stdout


INSTALL = """
import asyncio, json, os, sys
from pathlib import Path
import rattler

async def main(channel, prefix, cache, specs):
    gateway = rattler.Gateway(cache_dir=Path(cache, "index"))
    glibc = rattler.VirtualPackageOverrides(libc=rattler.Override.string("2.36"))
    virtual = [package.into_generic() for package in rattler.VirtualPackage.detect(glibc)]
    platforms = ["linux-64", "noarch"]
    records = await rattler.solve([channel], specs, gateway=gateway, platforms=platforms, virtual_packages=virtual)
    await rattler.install(records, prefix, cache_dir=Path(cache, "packages"), show_progress=False)

asyncio.run(main(*json.loads(sys.argv[1])))
os._exit(0)
"""


def install(channel: Path, prefix: Path, specs: list[str]) -> None:
    """Solve and install, in a process of its own as rattler may take one down at its end."""
    request = json.dumps([channel.as_uri(), str(prefix), str(prefix.parent / "cache"), specs])
    done = subprocess.run([sys.executable, "-c", INSTALL, request], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.channel
def test_libraries_that_programs_need_come_with_the_package_or_its_dependencies(channel: Path) -> None:
    packages = [channel / package.subdir / package.file for package in packages_of(channel)]
    provided: dict[str, set[str]] = {}
    needed: dict[Path, set[str]] = {}
    depends: dict[str, set[str]] = {}
    for path in packages:
        about = archives.index_of(path)
        depends.setdefault(about["name"], set()).update(spec.split()[0] for spec in about.get("depends", []))
        names = provided.setdefault(about["name"], set())
        wanted = needed.setdefault(path, set())
        with archives.packed_files(path) as files:
            for member in files:
                names.add(Path(member.name).name)
                content = files.extractfile(member) if member.isreg() else None
                image = content.read() if content else b""
                if image.startswith(elf.MAGIC):
                    wanted.update(elf.Elf(image).needed)
    for path, libraries in needed.items():
        name = archives.index_of(path)["name"]
        reach, waiting = {name}, [name]
        while waiting:
            further = depends.get(waiting.pop(), set()) - reach
            reach |= further
            waiting += further
        there = OF_GLIBC.union(*(provided.get(each, set()) for each in reach))
        assert libraries <= there, f"{path.name} lacks {libraries - there}"


@pytest.mark.channel
def test_packages_of_the_channel_hold_no_trace_of_their_builder(channel: Path) -> None:
    for package in packages_of(channel):
        path = channel / package.subdir / package.file
        info = archives.info_of(path)
        assert str(Path.home()).encode() + b"/" not in b"".join(info.values()), path.name
        for row in json.loads(info["info/paths.json"])["paths"]:
            assert row.get("prefix_placeholder", "/placeholder").startswith("/placeholder"), row
        if package.name == "python":
            assert json.loads(info["info/index.json"])["python_site_packages_path"].endswith("/site-packages")
        with archives.packed_files(path) as files:
            names = [member.name for member in files]
        assert not [name for name in names if name.endswith((".pyc", "direct_url.json"))], path.name
