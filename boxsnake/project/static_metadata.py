"""What a project's pyproject.toml says of it, where that is all that there is to know."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from boxsnake.errors import Fault, ManifestError
from boxsnake.project.extras import with_marker
from boxsnake.project.wheel_archive import DOCUMENTATION, SOURCE_PAGE, WheelMetadata, homepage, page

_DYNAMIC = frozenset({"version", "dependencies", "optional-dependencies", "requires-python", "scripts", "entry-points"})


def static_metadata(pyproject: bytes, shown: str) -> WheelMetadata | None:
    """The metadata, or None where only the built wheel can tell (the pyproject.toml specification).

    Errors: ManifestError, which names `shown`.
    """
    try:
        project = tomllib.loads(pyproject.decode("utf-8")).get("project", {})
        if "version" not in project or _DYNAMIC & set(project.get("dynamic", ())):
            return None
        return _of_project_table(project)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError, ValueError) as error:
        fault = Fault(source=shown, line=0, key="project", message=f"{type(error).__name__}: {error}")
        raise ManifestError(shown, (fault,)) from error


def _of_project_table(project: Mapping[str, Any]) -> WheelMetadata:
    optional = {canonicalize_name(extra): lines for extra, lines in project.get("optional-dependencies", {}).items()}
    requires = [str(Requirement(line)) for line in project.get("dependencies", ())]
    requires += [
        with_marker(Requirement(line), f'extra == "{extra}"') for extra in optional for line in optional[extra]
    ]
    stated = project.get("license", "")
    people = [*project.get("maintainers", ()), *project.get("authors", ())]
    return WheelMetadata(
        name=canonicalize_name(project["name"]),
        version=str(Version(project["version"])),
        requires_dist=tuple(requires),
        requires_python=project.get("requires-python"),
        extras=tuple(optional),
        console_scripts=tuple(sorted(project.get("scripts", {}))),
        summary=project.get("description", ""),
        license=stated if isinstance(stated, str) else stated.get("text", ""),
        homepage=homepage(project.get("urls", {})),
        source_page=page(project.get("urls", {}), *SOURCE_PAGE),
        documentation=page(project.get("urls", {}), *DOCUMENTATION),
        maintainer=next((_person(person) for person in people), ""),
    )


def _person(person: Mapping[str, str]) -> str:
    name, mail = person.get("name", ""), person.get("email", "")
    return f"{name} <{mail}>" if name and mail else name or mail
