"""One application as several packages: its requirements in a store that applications share, an environment, a label.

The environment is what of a version nobody else could use, and the linker that makes it whole from the store; its name
holds the version, so environments lie side by side as packages. The label is the rest: it has the application's own
name and version, requires its environment, and says which version is current.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

from boxsnake.os_packages import nfpm
from boxsnake.os_packages.nfpm import Content
from boxsnake.os_packages.shared_store import Shared, plain
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Part:
    """One package and its paths."""

    package: nfpm.Package
    contents: tuple[Content, ...]


def environment_name(name: str, layout: Layout) -> str:
    """The name of the package of a version's environment; no two versions have the same."""
    version = plain(layout.version)
    if version != layout.version:
        version += f"-{hashlib.sha256(layout.version.encode()).hexdigest()[:6]}"
    return f"{name}-env-{version}"


def environment_part(
    package: nfpm.Package, layout: Layout, contents: Iterable[Content], store: Sequence[Shared]
) -> Part:
    """The environment: of an application's paths those of the version alone. `package` describes the application."""
    summary = f"Environment of {package.name} {package.version}-{package.release}"
    described = dataclasses.replace(
        package,
        name=environment_name(package.name, layout),
        summary=summary,
        description=f"{summary}\nWhat it has for itself; the rest is linked from packages that it shares.",
        requires=(*package.requires, *(one.package for one in store)),
    )
    shared = {layout.root, f"{layout.root}/install"}
    own = (content for content in contents if _is_of_version(content.path, layout) or content.path in shared)
    return Part(package=described, contents=tuple(own))


def label_part(package: nfpm.Package, layout: Layout, contents: Iterable[Content], mark: Content) -> Part:
    """The label: all other paths, and a mark by which scripts know that it is there."""
    described = dataclasses.replace(
        package, requires_before=(*package.requires_before, environment_name(package.name, layout))
    )
    own = (content for content in contents if not _is_of_version(content.path, layout))
    return Part(package=described, contents=(*own, Content(path=layout.labels, kind="folder"), mark))


def store_part(package: nfpm.Package, one: Shared, contents: Iterable[Content]) -> Part:
    """One package of the store; `package` says what all of them have in common."""
    kind, _, name = one.owner.partition(":")
    summary = f"Files of {name} {one.version}, which applications share"
    description = f"{summary}\nThey are those of the {kind} package; environments are linked from them."
    described = dataclasses.replace(package, name=one.package, summary=summary, description=description)
    return Part(package=described, contents=tuple(contents))


def _is_of_version(path: str, layout: Layout) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in (layout.prefix, layout.support))
