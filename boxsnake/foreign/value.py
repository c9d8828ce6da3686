"""An artifact of somebody else's, as a value, and what its recipe is made of."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from boxsnake.boot_recipe import BootRecipe, Expected
from boxsnake.hosts import Host
from boxsnake.inspection import Inspection
from boxsnake.target import OCI_ARCHITECTURES
from boxsnake.value import dataclass

UNLOCKED = Expected(distributions=(), conda=(), console_scripts=(), locked=False)
"""Nobody has said what it holds."""

_MOST_LINKS = 10
_PYTHON = re.compile(r"(?:^|/)bin/python(?:3(?:\.[0-9]+)?)?$")


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """One artifact. `architecture` is as OCI names it, "" where it runs on any; `python` such as "3.11", "" for any."""

    path: Path
    kind: str
    recipe: BootRecipe
    architecture: str = ""
    python: str = ""
    application: str = ""
    """Its name and version, where it says so."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """An artifact that was looked into. `place` is where it is put; `scratch` takes what has to be made for that."""

    path: Path
    place: str
    hosts: Mapping[str, Host]
    scratch: Path
    box: Inspection = field(default_factory=lambda: Inspection(artifact="", format=""))

    @property
    def architecture(self) -> str:
        """As OCI names it; "" where it is for any, or does not say."""
        return architecture_of(self.box.platform)

    @property
    def interpreter(self) -> str:
        """The path of its own Python among its files; "" where it has none. That of the environment comes first."""
        found = [path for path in self.box.files if _PYTHON.search(path)]
        own = [path for path in found if not self.box.prefix or path.startswith(f"{self.box.prefix}/")]
        return min(own or found, key=lambda path: (path.count("/"), len(path), path), default="")

    @property
    def needs_python(self) -> bool:
        """Whether its interpreter is a link to a host's, as in what venv makes."""
        path = self.interpreter
        for _ in range(_MOST_LINKS):
            file = self.box.files.get(path)
            if file is None or not file.link:
                break
            path = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), file.link)).lstrip("/")
        return bool(path) and path not in self.box.files


def architecture_of(platform: str) -> str:
    """The processor in a package's or an image's word for it, as OCI names it; "" for any."""
    name = platform.rpartition("/")[2]
    return OCI_ARCHITECTURES.get(name, name if name in OCI_ARCHITECTURES.values() else "")


def python_host(looked: Looked, versions: str, *, otherwise: str = "debian-12-python") -> tuple[str, str]:
    """The first host with a Python of the versions (PEP 440, or one such as "3.11"), and that Python's version.

    Where there is none, the usual one: the box then has to say why it does not work there.
    """
    text = f"=={versions}.*" if re.fullmatch(r"[0-9]+\.[0-9]+", versions) else versions
    try:
        wanted = SpecifierSet(text)
    except InvalidSpecifier:
        wanted = SpecifierSet()
    order = sorted(looked.hosts, key=lambda name: (name != otherwise, looked.hosts[name].image is not None, name))
    for name in order:
        version = looked.hosts[name].python_version
        if version and any(wanted.contains(f"{version}.{patch}") for patch in (0, 99)):
            return name, version
    return otherwise, ""
