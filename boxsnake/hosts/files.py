"""Host definitions: what a clean system is, read from files and checked strictly.

A host is data: a file `<name>.toml` in boxsnake's `docker/hosts`, or in the folder that the user's settings name. It is
either an image of a registry, or a Debian that mmdebstrap puts together on this machine and the store keeps:

    title = "what it stands for"
    package-manager = "apt"            # or "dnf", "zypper", "none"
    libc = "glibc 2.36"                # its C library
    python = ["/usr/bin/python3"]      # its own interpreter, where it has one, and
    python-version = "3.11"            # of which version
    image = "fedora:latest"            # either this

    [mmdebstrap]                       # or this
    suite = "bookworm"                 # with `variant`; or
    extends = "debian-12"              # another host of this kind, built once for all that extend it
    include = ["python3"]              # Debian packages
    setup = ["script.sh"]              # files beside this one, run by `sh -eu` as root inside the system

A `variant` of "extract" unpacks the packages and installs nothing; its setup is run by busybox, which it must include.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxsnake import resources, settings
from boxsnake.errors import Fault, ManifestError
from boxsnake.pattern import pattern
from boxsnake.value import dataclass

_NAME = pattern(r"[a-z0-9][a-z0-9.-]{0,63}")
_LIBC = pattern(r"[a-z]+ [0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How mmdebstrap makes a host: from a suite, or on top of `base`. `setup` holds (name, text) of its scripts."""

    suite: str
    variant: str
    include: tuple[str, ...]
    setup: tuple[tuple[str, str], ...]
    base: Host | None


@dataclass(frozen=True, kw_only=True)
class Host:
    """A clean system. Exactly one of `image` (a reference) and `bootstrap` is set."""

    name: str
    title: str
    package_manager: str
    libc: str
    python: tuple[str, ...]
    python_version: str
    image: str | None
    bootstrap: Bootstrap | None


def load_hosts(folders: Sequence[Path] | None = None) -> dict[str, Host]:
    """Every host by name, a later folder's before an earlier one's of the same name.

    Without `folders`: boxsnake's own, then the one that the user's settings name. Errors: ManifestError with all
    faults of a definition.
    """
    files = _files(_folders() if folders is None else folders)
    hosts: dict[str, Host] = {}
    for name in files:
        _load(name, files, hosts, ())
    return dict(sorted(hosts.items()))


def load_host(name: str) -> Host | None:
    """The host of this name, as `load_hosts` has it without folders; None where there is none."""
    return _load(name, _files(_folders()), {}, ())


def _folders() -> list[Path]:
    own = settings.load().hosts
    return [resources.folder("docker") / "hosts", *([own] if own else [])]


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _load(name: str, files: Mapping[str, Path], hosts: dict[str, Host], above: tuple[str, ...]) -> Host | None:
    """Read one definition and the one that it extends; None where there is no such host."""
    if name in hosts:
        return hosts[name]
    if name not in files:
        return None
    path = files[name]
    document = _document(path)
    faults = list(_wrong(name, path, document))
    if faults:
        raise ManifestError(str(path), tuple(faults))
    table = document.get("mmdebstrap")
    bootstrap = _decode_bootstrap(table, path, files, hosts, (*above, name)) if table is not None else None
    hosts[name] = Host(
        name=name,
        title=document["title"],
        package_manager=document["package-manager"],
        libc=document["libc"],
        python=tuple(document.get("python", ())),
        python_version=document.get("python-version", ""),
        image=document.get("image"),
        bootstrap=bootstrap,
    )
    return hosts[name]


def _decode_bootstrap(
    table: Mapping[str, Any], path: Path, files: Mapping[str, Path], hosts: dict[str, Host], above: tuple[str, ...]
) -> Bootstrap:
    base = None
    if "extends" in table:
        wanted = table["extends"]
        if wanted in above:
            raise ManifestError(str(path), (_fault(path, "mmdebstrap.extends", "extends itself"),))
        base = _load(wanted, files, hosts, above)
        if base is None or base.bootstrap is None:
            message = f"there is no host {wanted!r} that mmdebstrap makes"
            raise ManifestError(str(path), (_fault(path, "mmdebstrap.extends", message),))
    return Bootstrap(
        suite=base.bootstrap.suite if base and base.bootstrap else table["suite"],
        variant=table.get("variant", "minbase"),
        include=tuple(table.get("include", ())),
        setup=tuple((script, (path.parent / script).read_text(encoding="utf-8")) for script in table.get("setup", ())),
        base=base,
    )


_TEXT, _TEXTS, _TABLE = "a text", "an array of texts", "a table"
_KEYS = {
    "title": _TEXT,
    "package-manager": _TEXT,
    "libc": _TEXT,
    "python": _TEXTS,
    "python-version": _TEXT,
    "image": _TEXT,
    "mmdebstrap": _TABLE,
    "service": _TABLE,
}
_BOOTSTRAP_KEYS = {"suite": _TEXT, "variant": _TEXT, "extends": _TEXT, "include": _TEXTS, "setup": _TEXTS}


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(str(path), (_fault(path, "", str(error)),)) from None


def _wrong(name: str, path: Path, document: Mapping[str, Any]) -> Iterator[Fault]:
    """Every fault of a definition's form."""
    if not _NAME.fullmatch(name):
        yield _fault(path, "", "a host's file name is of small letters, digits, dots and hyphens")
    yield from _wrong_types(path, "", document, _KEYS)
    yield from _wrong_facts(path, document)
    if ("image" in document) == ("mmdebstrap" in document):
        yield _fault(path, "image", "a host has either `image` or a table `[mmdebstrap]`")
    table = document.get("mmdebstrap")
    if isinstance(table, dict):
        yield from _wrong_types(path, "mmdebstrap.", table, _BOOTSTRAP_KEYS)
        if ("suite" in table) == ("extends" in table):
            yield _fault(path, "mmdebstrap.suite", "a host has either `suite` or `extends`")
        scripts = table.get("setup")
        for script in scripts if isinstance(scripts, list) else ():
            if not (path.parent / str(script)).is_file():
                yield _fault(path, "mmdebstrap.setup", f"there is no file {script}")


def _wrong_facts(path: Path, document: Mapping[str, Any]) -> Iterator[Fault]:
    for key in ("title", "package-manager", "libc"):
        if key not in document:
            yield _fault(path, key, "is missing")
    if not _LIBC.fullmatch(str(document.get("libc", "musl 1"))):
        yield _fault(path, "libc", 'is a name and a version, such as "glibc 2.36"')
    if ("python" in document) != ("python-version" in document):
        yield _fault(path, "python-version", "goes with `python`")


def _wrong_types(path: Path, prefix: str, table: Mapping[str, Any], kinds: Mapping[str, str]) -> Iterator[Fault]:
    fits = {
        _TEXT: lambda value: isinstance(value, str),
        _TEXTS: lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        _TABLE: lambda value: isinstance(value, dict),
    }
    for key, value in table.items():
        if key not in kinds:
            yield _fault(path, prefix + key, f"unknown key; there are {', '.join(kinds)}")
        elif not fits[kinds[key]](value):
            yield _fault(path, prefix + key, f"must be {kinds[key]}")


def _fault(path: Path, key: str, message: str) -> Fault:
    return Fault(source=path.name, line=0, key=key, message=message)
