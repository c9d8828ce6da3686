"""The static package index of a wheelhouse: pages that any web server can serve to pip and uv.

Specifications: the simple repository API as HTML (PEP 503) and as JSON (PEP 691, 700), with metadata files beside the
wheels (PEP 658, 714). Every link is relative, so that the house may lie below any URL.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake.project.wheel_archive import metadata_text, read_metadata
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.lock import Wheel

_VERSION = "1.1"
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="pypi:repository-version" content="{version}">
<title>{title}</title>
</head>
<body>
{links}
</body>
</html>
"""


@dataclass(frozen=True, kw_only=True)
class _File:
    """One wheel as the index describes it."""

    wheel: Wheel
    size: int
    requires_python: str | None
    metadata: bytes

    @property
    def url(self) -> str:
        return f"../../wheels/{self.wheel.file_name}"

    @property
    def metadata_hash(self) -> str:
        return hashlib.sha256(self.metadata).hexdigest()


def index_pages(wheels: Sequence[Wheel], paths: Mapping[str, Path]) -> dict[str, bytes]:
    """Every page by its path in the house, below `simple`, and each wheel's metadata beside it, below `wheels`.

    `paths` are the wheels by their file names. Errors: IntegrityError where one's metadata cannot be read.
    """
    projects: defaultdict[str, list[_File]] = defaultdict(list)
    for wheel in sorted(wheels, key=lambda wheel: wheel.file_name):
        path = paths[wheel.file_name]
        projects[wheel.name].append(
            _File(
                wheel=wheel,
                size=path.stat().st_size,
                requires_python=read_metadata(path).requires_python,
                metadata=metadata_text(path),
            )
        )
    names = sorted(projects)
    pages = {
        "simple/index.html": _page("index", [f'<a href="{name}/">{name}</a>' for name in names]),
        "simple/index.json": _json({"projects": [{"name": name} for name in names]}),
    }
    for name, files in projects.items():
        pages[f"simple/{name}/index.html"] = _page(name, [_link(file) for file in files])
        versions = sorted({file.wheel.version for file in files})
        facts = {"name": name, "versions": versions, "files": [_facts(file) for file in files]}
        pages[f"simple/{name}/index.json"] = _json(facts)
        pages |= {f"wheels/{file.wheel.file_name}.metadata": file.metadata for file in files}
    return pages


def _page(title: str, links: Sequence[str]) -> bytes:
    return _PAGE.format(version=_VERSION, title=html.escape(title), links="<br>\n".join(links)).encode()


def _link(file: _File) -> str:
    digest = f"sha256={file.metadata_hash}"
    attributes = {"href": f"{file.url}#sha256={file.wheel.sha256}"}
    if file.requires_python:
        attributes["data-requires-python"] = file.requires_python
    # The first name is the specification's, the second what clients of before 2023 look for.
    attributes |= {"data-core-metadata": digest, "data-dist-info-metadata": digest}
    text = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<a {text}>{html.escape(file.wheel.file_name)}</a>"


def _facts(file: _File) -> dict[str, Any]:
    requires = {"requires-python": file.requires_python} if file.requires_python else {}
    return {
        "filename": file.wheel.file_name,
        "url": file.url,
        "size": file.size,
        "hashes": {"sha256": file.wheel.sha256},
        "core-metadata": {"sha256": file.metadata_hash},
        **requires,
    }


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps({"meta": {"api-version": _VERSION}, **values}, indent=2, sort_keys=True).encode() + b"\n"
