"""All requirements of a manifest: its own and those of the requirement files that it names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from boxsnake.errors import Fault, ManifestError
from boxsnake.manifest import Manifest
from boxsnake.manifest_file import read_bytes, text_of
from boxsnake.requirements import CondaRequirement, Requirements
from boxsnake.requirements.conda_requirement import python_of, python_specifier
from boxsnake.requirements.environment import EnvironmentFile
from boxsnake.requirements.pip_requirement import pip_requirement
from boxsnake.requirements.requirements_txt import PipFile, merge_index_options, parse_requirements_txt


def collect(manifest: Manifest, root: Path, *, environ: Mapping[str, str] | None = None) -> Requirements:
    """Everything that `manifest`, whose folder is `root`, requires: its own tables first, then its files in order.

    ${VARIABLES} in requirements.txt files are taken from `environ` (left out: the process's). Relative paths in the
    result are relative to `root`. Errors: ManifestError with the faults of all files.
    """
    gathered = _Gathered(root=root, environ=os.environ if environ is None else environ)
    for number, name in enumerate(manifest.requires.files):
        gathered.file(name, f"requires.files[{number}]")
    gathered.leave_out_own_source(manifest)
    if gathered.faults:
        sources = list(dict.fromkeys(fault.source for fault in gathered.faults))
        raise ManifestError(", ".join(sources), tuple(gathered.faults))
    return gathered.all_with(manifest)


@dataclass(kw_only=True)
class _Gathered:
    """What the files have given so far."""

    root: Path
    environ: Mapping[str, str]
    environments: list[EnvironmentFile] = field(default_factory=list)
    pip_files: list[PipFile] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def file(self, name: str, key: str) -> None:
        path = Path(os.path.normpath(name)).as_posix()
        try:
            text = self.read(path)
        except (OSError, ValueError) as error:
            self.faults.append(Fault(source=name, line=0, key=key, message=_reason(error)))
            return
        try:
            if path.endswith((".yml", ".yaml")):
                # Its parser takes a while to import, and few manifests name such a file.
                from boxsnake.requirements.environment_yml import parse_environment_yml

                environment = parse_environment_yml(text, path, self.read, environ=self.environ)
                self.environments.append(environment)
                self.pip_files.append(environment.pip)
            else:
                self.pip_files.append(parse_requirements_txt(text, path, self.read, environ=self.environ))
            merge_index_options(pip_file.index for pip_file in self.pip_files)
        except ManifestError as error:
            self.faults.extend(error.faults)
        except ValueError as error:  # two files contradict each other
            self.faults.append(Fault(source=path, line=0, key=key, message=str(error)))

    def leave_out_own_source(self, manifest: Manifest) -> None:
        """Drop the requirement of the application itself ("-e ."): its source is installed anyway."""
        own = os.path.normpath(manifest.app.source or "")
        for number, pip_file in enumerate(self.pip_files if manifest.app.source else ()):
            itself = [found for found in pip_file.requirements if found.path and os.path.normpath(found.path) == own]
            others = tuple(found for found in pip_file.requirements if found not in itself)
            self.pip_files[number] = replace(pip_file, requirements=others)
            for found in itself:
                missing = sorted(set(found.extras) - {canonicalize_name(extra) for extra in manifest.app.extras})
                if missing:
                    source, _, line = found.source.rpartition(":")
                    message = f"extras of the application itself belong in app.extras: {', '.join(missing)}"
                    self.faults.append(Fault(source=source, line=int(line), key=found.shown, message=message))

    def read(self, path: str) -> str:
        """The text at a path relative to the root, its digest noted. Errors: OSError, ValueError."""
        data = read_bytes(self.root / path)
        self.digests[path] = hashlib.sha256(data).hexdigest()
        try:
            return text_of(data)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"line {line} is not UTF-8 text") from None

    def all_with(self, manifest: Manifest) -> Requirements:
        """The manifest's own requirements and those of the files."""
        own = _own(manifest)
        parts = (own, *self.environments)
        pip_files = (own.pip, *self.pip_files)
        python = ",".join(part.python for part in parts if part.python)
        environment = {name: value for part in parts for name, value in part.environment}
        return Requirements(
            python=str(SpecifierSet(python)) if python else None,
            channels=tuple(dict.fromkeys(channel for part in parts for channel in part.channels)),
            conda=tuple(requirement for part in parts for requirement in part.conda),
            pip=tuple(requirement for file in pip_files for requirement in file.requirements),
            constraints=tuple(constraint for file in pip_files for constraint in file.constraints),
            index=merge_index_options(file.index for file in pip_files),
            environment=tuple(sorted(environment.items())),
            files=tuple(sorted(self.digests.items())),
        )


def _own(manifest: Manifest) -> EnvironmentFile:
    """The manifest's own tables, as if they were a file of both kinds."""
    requires = manifest.requires
    pythons = [python_specifier(requires.python)] if requires.python else []
    conda = []
    for number, spec in enumerate(requires.conda):
        version, is_all = python_of(spec) or (None, False)
        if version:
            pythons.append(version)
        if not is_all:
            conda.append(CondaRequirement(spec=spec.strip(), source=f"requires.conda[{number}]"))
    pip = [pip_requirement(text, source=f"requires.pip[{number}]") for number, text in enumerate(requires.pip)]
    return EnvironmentFile(
        python=",".join(pythons) or None,
        channels=requires.channels,
        conda=tuple(conda),
        pip=PipFile(requirements=tuple(pip)),
    )


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
