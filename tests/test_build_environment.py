"""The build environment that stays: used where it is the same as an isolated one, and nowhere else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from boxsnake.project import build_wheel
from boxsnake.project.source import parse_source
from boxsnake.store import Store
from tests.archives import make_wheel, wheel_files

# It puts into the wheel which environment it ran in.
BACKEND = """
import os, sys, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return {more}

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "app-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(directory, "app-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("app.py", open("app.py").read() + "# " + sys.prefix)
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: app\\nVersion: 1.0\\n")
        tag = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\n" + tag)
        wheel.writestr(info + "/RECORD", "")
    return "app-1.0-py3-none-any.whl"
"""
PYPROJECT = '[build-system]\nrequires = ["demo==1.0"]\nbuild-backend = "demo"\n'


class Workshop:
    """A project, an index with its backend, and the environments that its builds ran in."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "pyproject.toml").write_text(PYPROJECT)
        self.index = folder / "index"
        self.index.mkdir()

    def serve(self, more: str = "[]") -> None:
        """Put the backend into the index."""
        make_wheel(self.index, wheel_files() | {"demo/__init__.py": BACKEND.replace("{more}", more)})

    def environment_of_build(self, text: str) -> str:
        """Build with this content: the folder of the environment."""
        (self.project / "app.py").write_text(f"{text}\n")
        environment = {"UV_FIND_LINKS": str(self.index), "UV_NO_INDEX": "1"}
        built = build_wheel(self.store, parse_source(".", self.project), environment=environment)
        with zipfile.ZipFile(self.store.path(built.digest)) as archive:
            content = archive.read("app.py").decode()
        assert content.startswith(text)
        return content.rpartition("# ")[2]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_an_edit_is_built_in_the_environment_of_the_build_before(workshop: Workshop) -> None:
    workshop.serve()
    first = workshop.environment_of_build("one = 1")
    assert workshop.environment_of_build("two = 2") == first
    (Path(first) / "complete").unlink()  # as one is that a killed build left
    assert workshop.environment_of_build("three = 3") == first


def test_a_backend_that_wants_more_is_isolated(workshop: Workshop) -> None:
    workshop.serve('["demo"]')
    assert workshop.environment_of_build("one = 1") != workshop.environment_of_build("two = 2")


def test_a_kept_environment_that_broke_does_not_fail_a_build(workshop: Workshop) -> None:
    workshop.serve()
    first = Path(workshop.environment_of_build("one = 1"))
    (module,) = first.rglob("site-packages/demo/__init__.py")
    module.unlink()
    module.write_text(BACKEND.replace("{more}", "[]").replace("import os, sys, zipfile", "import os, sys"))
    assert workshop.environment_of_build("two = 2") != str(first)
