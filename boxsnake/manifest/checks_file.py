"""A file of checks by itself: the manifest's tables of that matter, for artifacts that no manifest tells of.

[app]                              # as in the manifest, where something is asked of what is started
command = ["/usr/bin/thing", "serve"]
ports = [8000]

[artifact]
prefix = "/srv/thing"              # where an archive, a wheelhouse or a program is put
python = "/srv/thing/bin/python"   # its interpreter, where it is not found

[[checks]]
name = "answers"
http = "/health"

[boot]
memory = "200M"
"""

from __future__ import annotations

from dataclasses import field

from boxsnake.errors import Fault, ManifestError
from boxsnake.manifest.decoding import document_of, validated
from boxsnake.manifest.models import BootTable, CheckTable
from boxsnake.manifest.section import Section
from boxsnake.manifest.text import AbsolutePath, Command, Line, Ports, Variable
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class StartTable(Section):
    """`[app]` of such a file: how what is asked is started."""

    command: Command = ()
    """What starts the application. Left out: what an image or a PEX itself starts."""
    ports: Ports = ()
    """TCP ports that it listens on; checks with `http` ask the first, unless they name another."""
    environment: dict[Variable, Line] = field(default_factory=dict)
    """Environment variables that everything in the box gets."""


@dataclass(frozen=True, kw_only=True)
class ArtifactTable(Section):
    """`[artifact]`: what cannot be read off it."""

    prefix: AbsolutePath | None = None
    """Where an archive, a wheelhouse, an installer or a program is put. Left out: a folder below /opt."""
    python: AbsolutePath | None = None
    """Its interpreter, once it is installed. Left out: looked for."""


@dataclass(frozen=True, kw_only=True)
class ChecksFile(Section):
    """A whole file."""

    app: StartTable = field(default_factory=StartTable)
    artifact: ArtifactTable = field(default_factory=ArtifactTable)
    checks: tuple[CheckTable, ...] = ()
    boot: BootTable = field(default_factory=BootTable)


def decode_checks(text: str, source: str) -> ChecksFile:
    """Decode such a file. Errors: ManifestError with all faults, each with its key and line."""
    document, places = document_of(text, source)
    faults: list[Fault] = []
    found = validated(ChecksFile, document, places, faults)
    names: set[str] = set()
    for number, check in enumerate(found.checks if found else ()):
        if check.name in names:
            faults.append(places.fault(("checks", number, "name"), f"there is another check called {check.name!r}"))
        names.add(check.name)
        if found and check.http and not (check.port or found.app.ports):
            faults.append(places.fault(("checks", number, "http"), "needs a port: its own, or one in app.ports"))
    if faults or found is None:
        raise ManifestError(source, tuple(faults))
    return found
