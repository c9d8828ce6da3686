"""The manifest: what an application is, what it requires, where it will run and which boxes it is put in.

The tables are the manifest's whole grammar: `boxsnake schema` is generated from them, and decoding
(`boxsnake.manifest.decoding`) is strict: unknown keys, wrong types and impossible values are faults.
"""

from boxsnake.manifest.models import (
    App,
    BootTable,
    CheckTable,
    DirectoryTable,
    EnvironmentTable,
    FileTable,
    Hardening,
    Hooks,
    LogrotateTable,
    Manifest,
    Requires,
    Service,
    SharedBox,
    SystemTable,
    TargetTable,
    UnitTable,
)
from boxsnake.manifest.section import Section

__all__ = [
    "App",
    "BootTable",
    "CheckTable",
    "DirectoryTable",
    "EnvironmentTable",
    "FileTable",
    "Hardening",
    "Hooks",
    "LogrotateTable",
    "Manifest",
    "Requires",
    "Section",
    "Service",
    "SharedBox",
    "SystemTable",
    "TargetTable",
    "UnitTable",
]
