"""The spec and its sources: what rpmbuild makes of them is what nfpm makes of the same plan."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxsnake.cli import boxsnake
from boxsnake.errors import PackError
from boxsnake.os_packages import nfpm, rpm_header, rpm_spec
from boxsnake.os_packages.rpm_spec import PACKAGER_OF_SPECS
from boxsnake.packagers import packagers
from boxsnake.plan import Hook, Plan
from boxsnake.system import ConfigFile, Directory, Logrotate, System, Unit
from tests.rpm_trees import EPOCH, build, materials_for, plan_for

HOSTILE = (
    "%(touch {marker}) %{{lua:print(1)}} %{{nil}} %%%% $HOME $(touch {marker}) `id` 'one' \"two\" \\n \\ é %post # x"
)
HOOK = "#!/bin/sh\n%pre\n%if 1\n%(touch {marker})\n%{{lua:x()}} 100% %%\n%define a b\\\necho '%files' # %endif\n"
FILES = "[%{FILENAMES}|%{FILEMODES:octal}|%{FILELINKTOS}|%{FILEUSERNAME}|%{FILEGROUPNAME}|%{FILEFLAGS}\n]"
# What a ghost is nobody asks: rpm verifies its permissions alone.
GHOST_TYPE = re.compile(r"\|(?:100|120)(\d{3})\|[^|]*\|root\|root\|64$", re.MULTILINE)
SYSTEM = System(
    user="app-user",
    directories=(Directory(path="/var/lib/app", kind="state", owner="app-user", group="app-user", mode=0o2750),),
    files=(
        ConfigFile(path="/etc/app/a b%.ini", source="a.ini", content=b"[a]\n", group="app-user", mode=0o640),
        ConfigFile(path="/etc/app/b.ini", source="b.ini", content=b"100%\n"),
    ),
    units=(Unit(name="app", command=("app",)),),
    logrotate=Logrotate(),
)
TEXTS = (
    rpm_header.NAME,
    rpm_header.VERSION,
    rpm_header.RELEASE,
    rpm_header.EPOCH,
    rpm_header.SUMMARY,
    rpm_header.LICENSE,
    rpm_header.VENDOR,
    rpm_header.GROUP,
    rpm_header.URL,
    rpm_header.PACKAGER,
    rpm_header.ARCHITECTURE,
    rpm_header.BUILD_HOST,
    rpm_header.BUILD_TIME,
    rpm_header.BEFORE_INSTALL,
    rpm_header.AFTER_INSTALL,
    rpm_header.BEFORE_REMOVE,
    rpm_header.AFTER_REMOVE,
    rpm_header.VERIFY,
)


def write_spec(plan: Plan, folder: Path) -> Path:
    """The folder of a spec and its sources, as users have it."""
    folder.mkdir(parents=True, exist_ok=True)
    PACKAGER_OF_SPECS.check(plan)
    out = folder / PACKAGER_OF_SPECS.file_name(plan)
    PACKAGER_OF_SPECS.pack(plan, materials_for(plan, folder / "materials"), out)
    subprocess.run(["tar", "-xf", str(out), "-C", str(folder)], check=True)
    return out.with_suffix("")


def rpmbuild(sources: Path, top: Path) -> Path:
    """The command of the spec's own second line."""
    command = ["rpmbuild", "-bb", "--define", f"_sourcedir {sources}", "--define", f"_topdir {top}"]
    command += ["--target", "x86_64", str(next(sources.glob("*.spec")))]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return next((top / "RPMS").rglob("*.rpm"))


def query(package: Path, form: str) -> list[str]:
    command = ["rpm", "-qp", "--nosignature", "--queryformat", form, str(package)]
    return sorted(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def files(package: Path) -> list[str]:
    listing = GHOST_TYPE.sub(r"|\1|ghost", "\n".join(query(package, FILES)))
    # The permissions of a link mean nothing either.
    return listing.replace("|120777|", "|120000|").splitlines()


def digests(package: Path) -> dict[str, str]:
    """Of what lies in the package: a ghost has no content."""
    found: dict[str, str] = {}
    for line in query(package, "[%{FILENAMES}|%{FILEFLAGS}|%{FILEDIGESTS}\n]"):
        name, flags, digest = line.rsplit("|", 2)
        if not int(flags) & rpm_header.GHOST:
            found[name] = digest
    return found


def requirements(package: Path) -> set[str]:
    lines = query(package, "[%{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\n]")
    return {line.strip() for line in lines if not line.startswith("rpmlib(")}


@pytest.mark.parametrize("payload", ["files", "archives"])
def test_rpmbuild_makes_the_same_package(payload: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    hostile = HOSTILE.format(marker=marker)
    lines = f"First.\n\n{hostile}\n%files\n %prep\n%if 0\n%endif\n# last\nEnd \\"
    plan = plan_for(
        "1!2.0rc1",
        hooks=(Hook(moment="post-install", file_name="a.sh", content=HOOK.format(marker=marker).encode()),),
        requires=("libxcrypt", "openssl-libs >= 3.0", "(nginx or httpd)", "libcrypt.so.1()(64bit)"),
        options={"payload": payload, "vendor": hostile, "release": "3.el9"},
        summary=hostile,
        description=lines,
        license="MIT and 100%",
        homepage="https://example.org/%7Euser",
        maintainer="A %{nil} <a@example.org>",
    )
    plan = replace(plan, system=SYSTEM)
    ours = build(plan, tmp_path / "nfpm")
    theirs = rpmbuild(write_spec(plan, tmp_path / "spec"), tmp_path / "top")
    assert theirs.name == ours.name
    assert files(theirs) == files(ours)
    assert digests(theirs) == digests(ours)
    assert len(digests(ours)) > 10
    assert requirements(theirs) == requirements(ours)
    one, other = rpm_header.read(ours), rpm_header.read(theirs)
    assert {tag: other.get(tag) for tag in TEXTS} == {tag: one.get(tag) for tag in TEXTS}
    # A line of a description that begins as a directive or a comment would has a no-break space before it.
    assert other[rpm_header.DESCRIPTION] == re.sub(r"^(?=[ \t]*[%#])", "\u00a0", lines, flags=re.MULTILINE)
    assert not marker.exists()


def test_same_plan_same_bytes(tmp_path: Path) -> None:
    one, other = (write_spec(plan_for(), tmp_path / name).with_suffix(".spec.tar") for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    built = [rpmbuild(path.with_suffix(""), tmp_path / f"top-{path.parent.name}") for path in (one, other)]
    assert built[0].read_bytes() == built[1].read_bytes()


def test_it_is_the_rpm_written_otherwise_and_no_format_of_its_own() -> None:
    assert PACKAGER_OF_SPECS not in packagers().values()
    assert PACKAGER_OF_SPECS.options is packagers()["rpm"].options
    assert PACKAGER_OF_SPECS.file_name(plan_for("1.0rc1")) == "app-1.0.0~rc1-1.x86_64.spec.tar"


@pytest.mark.parametrize(
    ("compression", "payload"), [("zstd:19", "w19.zstdio"), ("gzip:1", "w1.gzdio"), ("xz", "w6.xzdio")]
)
def test_compression_is_in_rpms_own_words(compression: str, payload: str, tmp_path: Path) -> None:
    sources = write_spec(plan_for(options={"compression": compression}), tmp_path)
    assert f"%global _binary_payload {payload}\n" in (sources / "app.spec").read_text()


def test_every_scriptlet_has_its_section() -> None:
    assert {field.name for field in fields(nfpm.Scripts)} == rpm_spec._SECTIONS.keys()


def test_a_ghost_that_cannot_be_told_from_a_file_is_refused() -> None:
    ghost = nfpm.Content(path="/opt/app/a b", kind="ghost", mode=0o644)
    other = nfpm.Content(path="/opt/app/a-b", kind="folder")
    assert list(rpm_spec._listed([ghost])) == ["%attr(0644,root,root) %ghost /opt/app/a*b\n"]
    with pytest.raises(PackError, match="cannot be told from another's"):
        list(rpm_spec._listed([ghost, other]))


def test_specs_are_for_rpms_alone() -> None:
    root = Path(__file__).parent.parent / "examples" / "hello-web" / "boxsnake.toml"
    command = ["build", "pex", "--spec", "--offline", "--manifest", str(root)]
    result = CliRunner().invoke(boxsnake, command)
    assert result.exception is not None
    assert "is for rpm alone" in str(result.exception)
