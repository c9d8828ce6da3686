"""A first manifest, written from what lies in a folder: a project, requirements.txt, environment.yml."""

from __future__ import annotations

import configparser
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from boxsnake.errors import Fault, ManifestError
from boxsnake.manifest_file import PYPROJECT, read_bytes, read_text, text_of
from boxsnake.plain_text import escaped
from boxsnake.requirements.environment import EnvironmentFile
from boxsnake.requirements.environment_yml import parse_environment_yml
from boxsnake.value import dataclass

REQUIREMENTS = "requirements.txt"
ENVIRONMENTS = ("environment.yml", "environment.yaml")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder tells of its application.

    `version` is None where the source's own metadata tells it, `command` is the name of a console script,
    `has_channels` and `has_python` say whether the environment file gives them.
    """

    name: str
    version: str | None = None
    source: str | None = None
    command: str | None = None
    requires_python: str | None = None
    files: tuple[str, ...] = ()
    has_channels: bool = False
    has_python: bool = False
    project_table: bool = False
    """Whether pyproject.toml has `[project]` with a name, which `[tool.boxsnake]` need not repeat."""


def look(folder: Path) -> Found:
    """See what lies in `folder`. Errors: ManifestError where pyproject.toml cannot be read, ResourceError."""
    pyproject = _pyproject(folder / PYPROJECT)
    project = _table(pyproject, "project")
    poetry = _table(pyproject, "tool", "poetry")
    setup = _setup_cfg(folder / "setup.cfg")
    environment, environment_file = _environment(folder)
    is_source = bool(project or poetry or pyproject.get("build-system") or setup or (folder / "setup.py").is_file())
    scripts = [*_table(project, "scripts"), *_table(poetry, "scripts"), *_setup_scripts(setup)]
    named = (project.get("name"), poetry.get("name"), setup.get("metadata", {}).get("name"))
    name = next((text for text in named if isinstance(text, str) and _name(text)), folder.resolve().name)
    files = (REQUIREMENTS,) if (folder / REQUIREMENTS).is_file() else ()
    return Found(
        name=_name(name) or "app",
        version=_version(project, poetry) if is_source else "0.1.0",
        source="." if is_source else None,
        command=next((script for script in scripts if _same(script, name)), scripts[0] if scripts else None),
        requires_python=_text(project.get("requires-python")),
        files=(*files, *([environment_file] if environment_file else [])),
        has_channels=environment is not None and bool(environment.channels),
        has_python=environment is not None and environment.python is not None,
        project_table=isinstance(project.get("name"), str),
    )


def manifest_text(found: Found, formats: Mapping[str, str], *, in_pyproject: bool = False) -> str:
    """The text of a manifest, with comments for whoever goes on from there; `formats` are summaries by name.

    With `in_pyproject` it is the `[tool.boxsnake]` tables, to be put at the end of a pyproject.toml.
    """
    prefix = "tool.boxsnake." if in_pyproject else ""
    parts = (
        _app(found, prefix, in_pyproject=in_pyproject and found.project_table),
        _requires(found, prefix),
        _targets(prefix),
        _checks(found, prefix),
        _formats(formats, prefix),
    )
    head = "# What the application is, what it needs, and the boxes it is put in."
    return "\n\n".join((head, *("\n".join(part) for part in parts))) + "\n"


def _app(found: Found, prefix: str, *, in_pyproject: bool) -> Iterator[str]:
    yield f"[{prefix}app]"
    if in_pyproject:
        yield "# name, version and source are those of [project]."
    else:
        yield f"name = {_quoted(found.name)}"
        if found.version is not None:
            yield f"version = {_quoted(found.version)}"
        if found.source is not None:
            yield f"source = {_quoted(found.source)}" + _remark("its version is its own", found.version is None)
    if found.command:
        yield f"command = [{_quoted(found.command)}]" + _remark("what starts it")
    else:
        yield '# command = ["program", "argument"]   # what starts it'
    yield "# ports = [8000]"


def _requires(found: Found, prefix: str) -> Iterator[str]:
    yield f"[{prefix}requires]"
    if found.source is None and not found.has_python:
        yield f'python = "{sys.version_info.major}.{sys.version_info.minor}.*"'
    elif not found.has_python:
        own = found.requires_python or ">=3.11"
        yield f"# python = {_quoted(own)}" + _remark("left out: what the project itself asks for")
    if not found.has_channels:
        yield '# channels = ["conda-forge"]' + _remark("left out: those of your configuration")
    yield '# conda = ["openssl >=3"]'
    yield '# pip = ["gunicorn >=22"]' + _remark("besides what the project itself depends on", found.source is not None)
    if found.files:
        yield f"files = [{', '.join(map(_quoted, found.files))}]"


def _targets(prefix: str) -> Iterator[str]:
    yield f"[{prefix}targets.default]"
    yield 'platform = "linux-64"'
    yield 'glibc = "2.28"' + _remark("the oldest that the boxes will meet: that of enterprise Linux 8, Debian 10")


def _checks(found: Found, prefix: str) -> Iterator[str]:
    yield "# What every booted box must do, besides starting."
    yield f"# [[{prefix}checks]]"
    yield '# name = "tells its version"'
    yield f'# run = [{_quoted(found.command or "program")}, "--version"]'


def _formats(formats: Mapping[str, str], prefix: str) -> Iterator[str]:
    yield "# The boxes. Without any of these tables every format is made, by its defaults."
    width = max(map(len, formats), default=0)
    for name, summary in formats.items():
        yield f"# [{prefix}boxes.{name}]{' ' * (width - len(name))}   # {escaped(summary)}"


def _remark(text: str, wanted: object = True) -> str:
    return f"   # {text}" if wanted else ""


def _quoted(text: str) -> str:
    # JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(text: str) -> str:
    """The text as a name for paths, packages and images; empty where nothing of it can be used."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:64].strip("._-")


def _same(script: str, name: str) -> bool:
    return canonicalize_name(script) == canonicalize_name(name)


def _version(project: Mapping[str, Any], poetry: Mapping[str, Any]) -> str | None:
    """A version that is written down; left to the source where it is not, or is none that PEP 440 knows."""
    text = _text(project.get("version")) or _text(poetry.get("version"))
    try:
        return str(Version(text)) if text else None
    except InvalidVersion:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.isprintable() else None


def _table(tables: Mapping[str, Any], *path: str) -> dict[str, Any]:
    found: Any = tables
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _pyproject(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        fault = Fault(source=str(path), line=0, key="", message=f"not valid TOML: {escaped(str(error))}")
        raise ManifestError(str(path), (fault,)) from None


def _setup_cfg(path: Path) -> dict[str, dict[str, str]]:
    """The sections of a setup.cfg that describes a project; empty where there is none, or only tools' settings."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text_of(read_bytes(path)))
    except (OSError, ValueError, configparser.Error):
        return {}
    sections = {name: dict(parser[name]) for name in parser.sections()}
    return sections if "metadata" in sections else {}


def _setup_scripts(setup: Mapping[str, Mapping[str, str]]) -> list[str]:
    lines = setup.get("options.entry_points", {}).get("console_scripts", "").splitlines()
    return [line.partition("=")[0].strip() for line in lines if "=" in line]


def _environment(folder: Path) -> tuple[EnvironmentFile | None, str | None]:
    """The folder's environment file and its name; what is wrong with it is told when it is collected."""
    name = next((name for name in ENVIRONMENTS if (folder / name).is_file()), None)
    if name is None:
        return None, None
    try:
        text = text_of(read_bytes(folder / name))
        return parse_environment_yml(text, name, _reader(folder), environ=os.environ), name
    except (OSError, ValueError, ManifestError):
        return None, name


def _reader(folder: Path) -> Callable[[str], str]:
    return lambda path: text_of(read_bytes(folder / path))
