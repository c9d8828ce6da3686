"""The rules of docs/architecture.md that can be read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "boxsnake"

CORE = {
    "archive",
    "boot_recipe",
    "boot_report",
    "canonical",
    "dockerfile",
    "entries",
    "entry_points",
    "errors",
    "export",
    "foreign_checks",
    "forecast",
    "hook_script",
    "inspection.difference",
    "inspection.value",
    "layers.brought",
    "layers.plan",
    "lock",
    "manifest",
    "names",
    "needs",
    "on_demand",
    "oci",
    "os_packages.deb_version",
    "os_packages.package_version",
    "os_packages.rpm_version",
    "pattern",
    "plain_text",
    "pins",
    "pipeline",
    "plan",
    "reference",
    "requirements",
    "self_placing",
    "stack.plan",
    "stack.value",
    "system",
    "system_files",
    "target",
    "toml_lines",
    "urls",
    "value",
    "written",
}
"""Modules that do no I/O: they import each other alone."""

FORBIDDEN_IN_CORE = {"os", "shutil", "socket", "subprocess", "tempfile", "httpx", "http", "rattler", "time"}

KNOWN_BY = {
    "backports": {"delta.pieces"},
    "cyclonedx": {"sbom"},
    "deflate": {"archive", "delta.streams"},
    "httpx": {"fetch.client"},
    "isal": {"archive", "checksum", "delta.streams"},
    "packageurl": {"sbom"},
    "pydantic": {"boot_report.document", "manifest"},
    "pydantic_core": {"manifest"},
    "rattler": {"stage.link_child", "resolve_conda", "channel"},
    "rattler_build": {"channel"},
    "pytest": {"pytest_plugin"},
    "rich": {"cli"},
    "tomli_w": {"lock"},
    "yaml": {"requirements", "channel", "export", "foreign_checks"},
}
"""Libraries, and the only modules that may know them."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_resources" not in path.parts)


def name_of(path: Path) -> str:
    """The module's name below the package ("boot.proofs"); a package's own is that of its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def place_in(table: Collection[str], name: str) -> str | None:
    """The entry of a table that a module falls under: its own name, or that of a package it is in."""
    parts = name.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((found for found in names if found in table), None)


@cache
def imported(path: Path) -> set[str]:
    """The names that are imported; those of our own package with what is taken from them as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module.partition(".")[0] == PACKAGE.name:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ours_of(path: Path) -> set[str]:
    """The modules of our own that a module imports."""
    known = {name_of(module) for module in modules()}
    names = {name.partition(".")[2] for name in imported(path) if name.startswith(f"{PACKAGE.name}.")}
    return {found for name in names if (found := place_in(known, name))}


def test_the_table_names_modules_that_exist() -> None:
    known = {name_of(path) for path in modules()}
    assert known >= CORE
    assert known >= set().union(*KNOWN_BY.values())


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_does_no_input_or_output(name: str) -> None:
    own = [path for path in modules() if place_in({name}, name_of(path))]
    edge = {found for path in own for found in ours_of(path) if not place_in(CORE, found)}
    assert not edge, f"{name} is core and imports the edge"
    assert not {found.partition(".")[0] for path in own for found in imported(path)} & FORBIDDEN_IN_CORE


@pytest.mark.parametrize("library", sorted(KNOWN_BY))
def test_a_library_is_known_by_its_module_alone(library: str) -> None:
    users = {name_of(path) for path in modules() if library in {name.partition(".")[0] for name in imported(path)}}
    assert {place_in(KNOWN_BY[library], user) or user for user in users} == KNOWN_BY[library]


def test_only_the_command_line_prints() -> None:
    printing = [
        path.name
        for path in modules()
        if not place_in({"cli"}, name_of(path))
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
        "heavy = {'rattler', 'rattler_build', 'http.client', 'httpx', 'pydantic', 'isal', 'zstandard', 'rich', 'yaml', "
        "'deflate', 'packaging', 'uv', 'pex'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_can_be_imported_by_others() -> None:
    script = "import gc; before = gc.get_threshold(); import boxsnake.cli.stack; assert gc.get_threshold() == before"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_module_can_be_imported() -> None:
    script = (
        "import importlib, pkgutil, sys, boxsnake\n"
        "for module in pkgutil.walk_packages(boxsnake.__path__, 'boxsnake.'):\n"
        "    if not module.name.endswith(('_child', '__main__', '_wheelhouse_install')):  # they run when imported\n"
        "        importlib.import_module(module.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
