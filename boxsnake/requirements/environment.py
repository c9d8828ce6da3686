"""What a conda environment asks for, as a value: of an environment.yml, or of the manifest's own tables."""

from __future__ import annotations

from dataclasses import field

from boxsnake.requirements.requirements_txt import PipFile
from boxsnake.requirements.values import CondaRequirement
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class EnvironmentFile:
    """What a conda environment asks for. `python` is a PEP 440 specifier set, `environment` its `variables`."""

    name: str | None = None
    python: str | None = None
    channels: tuple[str, ...] = field(default=(), repr=False)
    conda: tuple[CondaRequirement, ...] = ()
    pip: PipFile = field(default_factory=PipFile)
    environment: tuple[tuple[str, str], ...] = ()
