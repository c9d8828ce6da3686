"""boxsnake's own wheel holds everything that an installation needs, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parent.parent


@pytest.mark.index
def test_the_wheel_holds_the_package_and_its_resources(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "dist", "boxsnake.lock")
    for name in ("boxsnake", "rpm", "docker"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [uv.find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(source)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    resources = {
        f"boxsnake/_resources/{path.relative_to(source).as_posix()}"
        for folder in ("rpm", "docker")
        for path in (source / folder).rglob("*")
        if path.is_file()
    }
    package = {path.relative_to(source).as_posix() for path in (source / "boxsnake").rglob("*") if path.is_file()}
    assert {name for name in names if ".dist-info/" not in name} == resources | package
    assert {"boxsnake/py.typed", "boxsnake/_resources/rpm/deb/preinst.sh"} <= names
