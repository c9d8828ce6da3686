"""Debian and its kin: apt says what a base lacks, with the base's own package database and keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from boxsnake.apt import Answer, Apt, private_apt
from boxsnake.debian_sources import Source, parse
from boxsnake.disk import disk_faults
from boxsnake.errors import NetworkError, UnsolvableError
from boxsnake.lock import SystemLock, SystemPackage
from boxsnake.os_packages.deb_requirement import check_deb_requirement
from boxsnake.store import Store
from boxsnake.system_packages.archives import Archive, archives_of
from boxsnake.system_packages.question import SystemQuestion

STATUS = "var/lib/dpkg/status"
_KEYS = re.compile(r"(etc/apt/trusted\.gpg\.d|usr/share/keyrings|etc/apt/keyrings)/[^/]+\.(gpg|asc)")
_SOURCES = re.compile(r"etc/apt/sources\.list|etc/apt/sources\.list\.d/[^/]+\.(list|sources)")
# As apt-get --print-uris has it: 'URI' file size digest
_LINE = re.compile(r"'([^']+)' ([^_ ]+)_([^_ ]+)_([^_ ]+)\.deb [0-9]+")


def is_wanted(path: str) -> bool:
    """Whether a file of the base's says something that is needed here."""
    return path == STATUS or bool(_KEYS.fullmatch(path) or _SOURCES.fullmatch(path))


def resolve_deb(
    question: SystemQuestion,
    files: Mapping[str, bytes],
    release: Mapping[str, str],
    *,
    store: Store,
    mirrors: Mapping[str, str],
    kept: Sequence[SystemPackage] = (),
    offline: bool = False,
) -> SystemLock:
    """The packages that a base lacks of what is asked, and all that they need; recommendations are left out.

    `files` are the base's, `release` its os-release; versions of `kept` are taken where they are still to be had.
    Errors: UnsolvableError, NetworkError, ResourceError; PackError for what is no requirement.
    """
    for requirement in question.deb:
        check_deb_requirement(requirement)
    distribution, suite = release.get("ID", ""), release.get("VERSION_CODENAME", "")
    sources = [s for path, text in sorted(files.items()) if _SOURCES.fullmatch(path) for s in parse(path, text)]
    archives = archives_of(distribution, suite, sources, mirrors)
    architecture = question.target.deb_architecture
    folder = store.cache_folder("apt") / f"{distribution}-{suite}-{architecture}"
    with store.lock(f"apt-{folder.name}"), disk_faults(folder):
        apt = _apt(folder, archives, architecture, files, kept)
        update(apt, f"the package lists of {distribution}'s {suite}", offline=offline)
        answer = apt.answer("satisfy", "--print-uris", "-y", "-qq", *question.deb)
        if answer.code != 0:
            raise unsolvable(question, answer)
        packages = packages_of(apt, answer.output, archives)
    return system_lock(question, suite, packages, archives)


def system_lock(
    question: SystemQuestion, suite: str, packages: Sequence[SystemPackage], archives: Sequence[Archive]
) -> SystemLock:
    """The answer as a value: of the archives, those that the packages come from."""
    used = {package.archive for package in packages}
    own = sorted({(archive.name, archive.own) for archive in archives if archive.own and archive.name in used})
    return SystemLock(kind="deb", base=question.base, suite=suite, packages=tuple(packages), archives=tuple(own))


def packages_of(apt: Apt, printed: str, archives: Sequence[Archive]) -> list[SystemPackage]:
    """What apt-get --print-uris has named, sorted by name."""
    named = {
        (name, unquote(version)): unquote(uri)
        for uri, name, version, _ in (match.groups() for match in map(_LINE.match, printed.splitlines()) if match)
    }
    found = []
    specs = [f"{name}={version}" for name, version in named]
    for record in apt.records("show", *specs) if specs else ():
        uri = named.pop((record["Package"], record["Version"]), None)
        if uri is not None:
            root = _plain(uri.removesuffix(record["Filename"]))
            archive = next(archive for archive in archives if _plain(archive.source.uri) == root)
            found.append(_package(record, archive.name))
    if named:
        names = ", ".join(name for name, _ in named)
        raise NetworkError(names, "apt's lists tell no digest of it", "Run `boxsnake lock` again.")
    return sorted(found, key=lambda package: package.name)


def _plain(root: str) -> str:
    """An archive's root in one way of writing: apt takes file:///a for file:/a."""
    return re.sub(r"^file:/+", "file:/", root).rstrip("/")


def _package(record: Mapping[str, str], archive: str) -> SystemPackage:
    return SystemPackage(
        name=record["Package"],
        version=record["Version"],
        architecture=record["Architecture"],
        archive=archive,
        path=record["Filename"],
        sha256=record["SHA256"],
        size=int(record["Size"]),
    )


def _apt(
    folder: Path,
    archives: Sequence[Archive],
    architecture: str,
    files: Mapping[str, bytes],
    kept: Sequence[SystemPackage],
) -> Apt:
    """Set up apt as the base's own would be."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "keys"
    for path, content in files.items():
        if _KEYS.fullmatch(path):
            (keys / path).parent.mkdir(parents=True, exist_ok=True)
            (keys / path).write_bytes(content)
    status = folder / "status"
    status.write_bytes(files.get(STATUS, b""))
    return private_apt(
        folder,
        [line_of(archive, keys) for archive in archives],
        architecture,
        status=status,
        trusted=keys / "etc/apt/trusted.gpg.d",
        preferences=pins(kept),
    )


def pins(kept: Sequence[SystemPackage]) -> str:
    """Preferences for the versions that were locked, as apt_preferences(5) has them."""
    return "\n".join(f"Package: {p.name}\nPin: version {p.version}\nPin-Priority: 1001\n" for p in kept)


def line_of(archive: Archive, keys: Path) -> str:
    """The archive as sources.list(5) has it, with the base's own keys where the base has named one."""
    source: Source = archive.source
    signed_by = f"{keys}{source.signed_by}" if archive.own and source.signed_by else source.signed_by
    options = f"[signed-by={signed_by}] " if signed_by else ""
    return f"deb {options}{source.uri} {source.suite} {' '.join(source.components)}".rstrip()


def update(apt: Apt, thing: str, *, offline: bool) -> None:
    """Bring apt's lists up to date; with `offline`, those of the last time are taken. Errors: NetworkError."""
    if not offline:
        apt.get("update", "--error-on=any", thing=thing)
    elif not any(apt.folder.glob("state/lists/*Packages*")):
        raise NetworkError(thing, "are not here, and nobody may be asked", "Run it without --offline once.")


def unsolvable(question: SystemQuestion, answer: Answer) -> UnsolvableError:
    """What apt has said of requirements without a solution."""
    lines = [line.rstrip() for line in (answer.output + answer.errors).splitlines() if line.strip()]
    cause = "apt finds no solution:\n" + "\n".join(f"  {line}" for line in lines[-12:])
    step = "Correct requires.deb, or take a base of another release."
    thing = f"requires.deb on {question.base} ({', '.join(question.deb)})"
    return UnsolvableError(thing, cause, step, target=question.target.name, requirements=list(question.deb))
