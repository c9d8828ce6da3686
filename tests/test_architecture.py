"""The rules of docs/architecture.md that can be read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "boxsnake"

CORE = {
    "archive",
    "boot_recipe",
    "deb_version",
    "entries",
    "errors",
    "layers",
    "lock",
    "manifest",
    "oci",
    "plain_text",
    "plan",
    "requirements",
    "rpm_version",
    "system",
    "system_files",
    "target",
    "toml_lines",
    "urls",
}
"""Modules that do no I/O: they import each other alone."""

FORBIDDEN_IN_CORE = {"os", "shutil", "socket", "subprocess", "tempfile", "httpx", "docker", "rattler", "time"}

KNOWN_BY = {
    "docker": {"engine"},
    "httpx": {"download"},
    "installer": {"stage"},
    "isal": {"archive"},
    "platformdirs": {"store", "settings"},
    "rattler": {"link_child", "resolve_conda", "channel"},
    "rattler_build": {"channel"},
    "rich": {"boot_report", "cli"},
    "tomli_w": {"lock"},
    "yaml": {"requirements", "channel"},
}
"""Libraries, and the only modules that may know them."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_resources" not in path.parts)


def name_of(path: Path) -> str:
    """The module's name below the package, a package's modules all under its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "boxsnake":
                found.update(f"boxsnake.{alias.name}" for alias in node.names)
    return found


def test_the_table_names_modules_that_exist() -> None:
    known = {name_of(path) for path in modules()}
    assert known >= CORE
    assert known >= set().union(*KNOWN_BY.values())


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_does_no_input_or_output(name: str) -> None:
    names = set().union(*(imported(path) for path in modules() if name_of(path) == name))
    ours = {module.split(".")[1] for module in names if module.startswith("boxsnake.")}
    assert ours <= CORE, f"{name} is core and imports the edge"
    assert not {module.partition(".")[0] for module in names} & FORBIDDEN_IN_CORE


@pytest.mark.parametrize("library", sorted(KNOWN_BY))
def test_a_library_is_known_by_its_module_alone(library: str) -> None:
    users = {name_of(path) for path in modules() if library in {name.partition(".")[0] for name in imported(path)}}
    assert users == KNOWN_BY[library]


def test_only_the_command_line_prints() -> None:
    printing = [
        path.name
        for path in modules()
        if name_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from boxsnake.cli.console import run\n"
        "from boxsnake.cli import boxsnake\n"
        "assert run(boxsnake, ['--help']) == 0\n"
        "heavy = {'rattler', 'rattler_build', 'docker', 'httpx', 'pydantic', 'isal', 'zstandard', 'rich', 'yaml', "
        "'packaging', 'platformdirs', 'uv', 'pex'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
