"""What is asked of a resolution: a manifest, its files and the application's metadata; how a lock records it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from boxsnake.credentials import Credentials
from boxsnake.image.base_name import named_bases
from boxsnake.lock import Inputs
from boxsnake.remembered import remembered
from boxsnake.requirements import Requirements
from boxsnake.resolve_wheels.index import Index, index_of
from boxsnake.system_packages.question import asked_lines, system_questions
from boxsnake.target import DEFAULT_TARGET, Target
from boxsnake.urls import redact, without_credentials
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from boxsnake.manifest import Manifest
    from boxsnake.manifest_file import LoadedManifest
    from boxsnake.project import ProjectMetadata
    from boxsnake.requirements import PipRequirement
    from boxsnake.settings import Settings
    from boxsnake.store import Store


@dataclass(frozen=True, kw_only=True)
class Asked:
    """All that is asked of a resolution: the manifest, its files and what the application's own metadata requires."""

    manifest: Manifest
    root: Path
    requirements: Requirements
    application: ProjectMetadata | None
    credentials: Credentials
    """For the servers that are named in all this, and in the user's settings."""
    index: Index
    """Where distributions come from, for the application's and its requirements' builds as well."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """The manifest's targets, sorted by name; one by default."""
        from boxsnake.manifest import TargetTable

        tables = self.manifest.targets or {DEFAULT_TARGET: TargetTable()}
        return tuple(
            Target(
                name=name,
                platform=table.platform,
                python=_specifier(table.python) if table.python else None,
                glibc=table.glibc_or_default,
                interpreter=table.interpreter,
            )
            for name, table in sorted(tables.items())
        )

    def python(self, target: Target) -> list[tuple[str, str]]:
        """What is asked of the target's Python: PEP 440 specifier sets, each with its source."""
        found = []
        if target.python:
            found.append((target.python, f"targets.{target.name}.python"))
        elif self.requirements.python:
            found.append((self.requirements.python, "requires.python"))
        if self.application is not None and self.application.requires_python:
            found.append((self.application.requires_python, "app.source"))
        return found


def asked_of(loaded: LoadedManifest, store: Store, settings: Settings) -> Asked:
    """Read the requirement files, and the application's metadata where it has a source.

    Errors: ManifestError; those of `boxsnake.project.metadata`, which may have to build the application.
    """
    manifest, root = loaded.manifest, loaded.root
    requirements = _requirements(manifest, root, store)
    credentials = credentials_of(settings, requirements)
    index = index_of(settings, requirements.index, credentials, root)
    application = None
    if manifest.app.source is not None:
        from boxsnake.project import metadata, parse_source

        source = parse_source(manifest.app.source, root, manifest=str(loaded.path))
        application = metadata(
            store, source, extras=manifest.app.extras, environment=index.variables(), credentials=credentials
        )
    return Asked(
        manifest=manifest,
        root=root,
        requirements=requirements,
        application=application,
        credentials=credentials,
        index=index,
    )


def _requirements(manifest: Manifest, root: Path, store: Store) -> Requirements:
    """All requirements: what reads them takes a while to import."""

    def collected() -> Requirements:
        from boxsnake.requirement_files import collect

        return collect(manifest, root)

    requires, app = manifest.requires, manifest.app
    told = {name: getattr(requires, name) for name in ("python", "channels", "conda", "pip", "files")}
    told |= {"source": app.source, "extras": app.extras}
    return remembered(store, "requirements", told, collected, holds=lambda found: _holds(found, root))


def _holds(found: Requirements, root: Path) -> bool:
    """Whether the files are those that were read, and no variable of the environment was."""
    shown = [*(one.shown for one in (*found.pip, *found.constraints)), *found.index.shown]
    return not any("${" in text for text in shown) and all(_digest(root / path) == sha for path, sha in found.files)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # which is told by who reads it
        return ""


def _specifier(python: str) -> str:
    from boxsnake.requirements.conda_requirement import python_specifier

    return python_specifier(python)


def inputs(asked: Asked, store: Store) -> Inputs:
    """What is asked, as a lock records it; local projects and archives by their content."""
    requirements = asked.requirements
    found: dict[str, Iterable[str]] = {
        "boxes.image.base": named_bases(asked.manifest),
        "index": requirements.index.shown,
        "requires.channels": [without_credentials(channel) for channel in requirements.channels],
        "requires.conda": sorted({requirement.shown for requirement in requirements.conda}),
        "requires.constraints": sorted({_pip_line(one, asked.root, store) for one in requirements.constraints}),
        "requires.pip": sorted({_pip_line(one, asked.root, store) for one in requirements.pip}),
        "requires.python": [requirements.python] if requirements.python else [],
        "requires.sdists": sorted(set(asked.manifest.requires.sdists)),
        "targets": [_target_line(target) for target in asked.targets],
        **asked_lines(system_questions(asked.manifest, asked.targets)),
    }
    if asked.application is not None:
        found["app.requires"] = sorted({redact(line) for line in asked.application.requires_dist})
        found["app.requires-python"] = [asked.application.requires_python] if asked.application.requires_python else []
    return tuple(sorted((what, tuple(lines)) for what, lines in found.items() if lines))


def _pip_line(requirement: PipRequirement, root: Path, store: Store) -> str:
    hashes = "".join(f" --hash={digest}" for digest in sorted(requirement.hashes))
    content = f" ({_content_digest(root / requirement.path, store)})" if requirement.path else ""
    return f"{requirement.shown}{hashes}{content}"


def _content_digest(path: Path, store: Store) -> str:
    from boxsnake.project.source_tree import tree_of

    if path.is_dir():
        return f"sha256:{tree_of(store, path).digest}"
    return store.digest_of_file(path) if path.is_file() else "absent"


def _target_line(target: Target) -> str:
    glibc = f", glibc {target.glibc}" if target.glibc else ""
    python = f", python {target.python}" if target.python else ""
    return f"{target.name}: {target.platform}{glibc}{python}, interpreter of {target.interpreter}"


def credentials_of(settings: Settings, requirements: Requirements, channels: Sequence[str] = ()) -> Credentials:
    """The credentials for the servers that requirements, settings and further channels name."""
    index = requirements.index
    urls = [index.index_url, *index.extra_index_urls, *index.find_links, settings.index_url, *settings.extra_index_urls]
    urls += [*requirements.channels, *settings.channels, *channels]
    return Credentials.from_environment(
        settings=settings.credentials, urls=[url for url in urls if url and "://" in url]
    )
