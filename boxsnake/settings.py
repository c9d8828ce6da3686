"""Settings: what belongs to a user or a machine and not to an application.

They lie in the user's configuration folder as `boxsnake/config.toml`, or in the file that `$BOXSNAKE_CONFIG` names.
Nothing that decides what an application requires may be set here; only where it comes from.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from boxsnake.errors import Fault, ManifestError, UsageError
from boxsnake.reference import is_registry
from boxsnake.user_folders import settings_folder
from boxsnake.value import dataclass

DEFAULT_CHANNELS = ("conda-forge",)
RUNTIMES = ("auto", "docker", "podman", "sandbox")
"""What containers are run by; "auto" is the first of the others that there is."""
_EXAMPLE = "registry.example.org:5000"


@dataclass(frozen=True, kw_only=True)
class RegistrySettings:
    """How one registry of images is reached."""

    insecure: bool | None = None
    """Whether it is spoken to without TLS; None: only where it is on this machine, and has no `ca`."""
    ca: Path | None = None
    """A file with the certificates of its authority, in PEM format."""
    mirror: str | None = None
    """A host[:port][/path] that is asked first for what is pulled."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The user's configuration; every key has a default that works on a machine with access to public servers."""

    channels: tuple[str, ...] = DEFAULT_CHANNELS
    """Conda channels of manifests that name none: names, URLs or absolute folders."""
    index_url: str | None = field(default=None, repr=False)
    """The package index; None: uv's default. May hold credentials, which go nowhere else."""
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    bases: Mapping[str, str] = field(default_factory=dict)
    """Base images by the name that manifests use: what to take instead of pulling that name from a registry."""
    default_registry: str | None = None
    """The registry of references that name none; None: the container engine's."""
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    """By host[:port]."""
    mirrors: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Archives of distributions by their names ("debian", "debian-security"): the URLs that they are had from here."""
    services: Mapping[str, str] = field(default_factory=dict)
    """Services' images by the name that manifests use: what is started instead, such as "service:redis"."""
    runtime: str = "auto"
    """What containers are run by: one of `RUNTIMES`."""
    hosts: Path | None = None
    """A folder with the user's own host definitions, beside boxsnake's."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """URL prefix → "user:password" or a channel token."""
    sign_key: str | None = None
    """The secret key of gpg's that signs what is published."""
    gpg_home: Path | None = None
    """gpg's folder; None: gpg's own default."""
    passphrase_file: Path | None = None
    """A file with that key's passphrase; None: gpg's agent is asked."""
    origin: Path | None = None
    """The file that was read, if any."""


def runtime(environment: Mapping[str, str]) -> str:
    """The runtime that BOXSNAKE_RUNTIME names, else the settings. Errors: UsageError, ManifestError."""
    named = environment.get("BOXSNAKE_RUNTIME")
    if not named:
        return load().runtime
    if named not in RUNTIMES:
        step = f"There are {', '.join(RUNTIMES)}."
        raise UsageError(f"BOXSNAKE_RUNTIME={named}", "there is no such runtime", step)
    return named


def path_of_settings() -> Path:
    """Where the settings are looked for."""
    named = os.environ.get("BOXSNAKE_CONFIG")
    if named:
        return Path(named).absolute()
    return settings_folder() / "config.toml"


def load() -> Settings:
    """The settings of this user. Errors: ManifestError with every fault of the file."""
    path = path_of_settings()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if os.environ.get("BOXSNAKE_CONFIG"):
            fault = Fault(source=str(path), line=0, key="BOXSNAKE_CONFIG", message="names a file that does not exist")
            raise ManifestError(str(path), (fault,), "Create it or unset BOXSNAKE_CONFIG.") from None
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        fault = Fault(source=str(path), line=0, key="", message=f"cannot be read: {error}")
        raise ManifestError(str(path), (fault,), "Mend the file, or name another by BOXSNAKE_CONFIG.") from None
    return decode(text, path)


def decode(text: str, path: Path) -> Settings:
    """Settings from the text of a file; relative folders in it are read against the file's own."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(str(path), (Fault(source=path.name, line=0, key="", message=str(error)),)) from None
    faults: list[Fault] = []
    known = {spec.name.replace("_", "-"): spec.name for spec in fields(Settings) if spec.name != "origin"}
    values: dict[str, Any] = {}
    for key, value in document.items():
        message = _fault_of(key, value, known)
        if message:
            faults.append(Fault(source=path.name, line=0, key=key, message=message))
        else:
            values[known[key]] = tuple(value) if isinstance(value, list) else value
    if faults:
        raise ManifestError(str(path), tuple(faults))
    root = path.parent
    if "registries" in values:
        values["registries"] = {name: _registry(table, root) for name, table in values["registries"].items()}
    for key in ("hosts", "gpg_home", "passphrase_file"):
        if key in values:
            values[key] = root / values[key]
    if "channels" in values:
        values["channels"] = tuple(_absolute_channel(channel, root) for channel in values["channels"])
    if "bases" in values:
        values["bases"] = {name: _absolute_base(base, root) for name, base in values["bases"].items()}
    return Settings(**values, origin=path)


def _fault_of(key: str, value: object, known: Mapping[str, str]) -> str | None:
    if key not in known:
        import difflib

        near = difflib.get_close_matches(key, known, n=1)
        return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; there are {', '.join(known)}"
    if key in {"channels", "extra-index-urls"}:
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return None if fits else "must be an array of texts"
    if key in {"bases", "credentials", "mirrors", "services"}:
        fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
        return None if fits else "must be a table of texts"
    if key == "registries":
        return _fault_of_registries(value)
    if key == "runtime" and value not in RUNTIMES:
        return f"there is no such runtime; there are {', '.join(RUNTIMES)}"
    if key == "default-registry" and not (isinstance(value, str) and is_registry(value)):
        return f"is no registry's name, such as {_EXAMPLE!r}"
    return None if isinstance(value, str) else "must be a text"


def _fault_of_registries(value: object) -> str | None:
    if not isinstance(value, dict):
        return "must be a table of tables"
    for name, table in value.items():
        if not is_registry(name):
            return f"{name!r} is no registry's name, such as {_EXAMPLE!r}"
        if not isinstance(table, dict):
            return f"{name!r} must be a table"
        for key, given in table.items():
            kind = {"insecure": bool, "ca": str, "mirror": str}.get(key)
            if kind is None:
                return f"{name!r} has the unknown key {key!r}; there are insecure, ca and mirror"
            if not isinstance(given, kind):
                return f"{key!r} of {name!r} must be {'true or false' if kind is bool else 'a text'}"
        if "mirror" in table and not is_registry(table["mirror"].partition("/")[0]):
            return f"'mirror' of {name!r} must be a host, such as {_EXAMPLE!r}"
    return None


def _registry(table: Mapping[str, Any], root: Path) -> RegistrySettings:
    ca = table.get("ca")
    return RegistrySettings(insecure=table.get("insecure"), ca=root / ca if ca else None, mirror=table.get("mirror"))


def _absolute_channel(channel: str, root: Path) -> str:
    is_folder = channel.startswith((".", "/"))
    return str((root / channel).resolve()) if is_folder else channel


def _absolute_base(base: str, root: Path) -> str:
    return str((root / base).resolve()) if base.startswith(("./", "../", "/")) else base
