"""`boxsnake lock`: resolve requirements into a lock, or say what doing so would change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import Console, console_of
from boxsnake.cli.options import about_manifest

if TYPE_CHECKING:
    from boxsnake.lock import Lock
    from boxsnake.lock.difference import LockDifference
    from boxsnake.manifest_file import LoadedManifest
    from boxsnake.resolve import Upgrade
    from boxsnake.store import Store

_ALL = "*"


@click.command(
    epilog="What the last lock holds stays where the requirements still allow it. The lock lies beside the manifest; "
    "put it under version control."
)
@about_manifest
@click.option(
    "-c", "--channel", "channels", multiple=True, help="Take conda packages from here alone: a name, URL or folder."
)
@click.option("--check", is_flag=True, help="Resolve nothing; exit with 5 where the lock does not fit the manifest.")
@click.option(
    "-U",
    "--upgrade",
    "upgrades",
    multiple=True,
    is_flag=False,
    flag_value=_ALL,
    metavar="[NAME]",
    help="Take the newest of everything, or of NAME alone, a package or a base image; may be repeated.",
)
@click.option("-P", "--upgrade-package", "packages", multiple=True, metavar="NAME", help="The same as --upgrade NAME.")
@click.option("--diff", is_flag=True, help="Say what would change, and write nothing.")
@click.option("--offline", is_flag=True, help="Ask no server: use what earlier runs have looked up.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context,
    manifest: Path | None,
    channels: tuple[str, ...],
    check: bool,
    upgrades: tuple[str, ...],
    packages: tuple[str, ...],
    diff: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Resolve conda and pip requirements into one lock, for every target."""
    from boxsnake.manifest_file import load
    from boxsnake.store import Store

    if check and (diff or upgrades or packages or channels):
        raise click.UsageError(
            "--check resolves nothing: it goes with none of --diff, --upgrade and --channel.", context
        )
    console = console_of(context, as_json=as_json)
    store = Store(Store.default_root())
    loaded = load(manifest, store=store)
    if check:
        _check(console, loaded, store)
        return
    with console.progress():
        old, new, notes = _resolve(console, loaded, store, channels, (*upgrades, *packages), offline=offline)
    for note in notes:
        console.say(f"note: {note}")
    _tell(console, loaded, old, new, write=not diff, notes=notes)


def _check(console: Console, loaded: LoadedManifest, store: Store) -> None:
    from boxsnake import settings
    from boxsnake.asked import asked_of
    from boxsnake.cli.workspace import fresh_lock
    from boxsnake.lock_file import path_of_lock

    fresh_lock(loaded, asked_of(loaded, store, settings.load()), store)
    console.say(f"{path_of_lock(loaded).name} fits {loaded.path.name}")
    console.result(lambda: {"stale": False, "changes": []})


def _upgrade(names: tuple[str, ...]) -> Upgrade:
    from packaging.utils import canonicalize_name

    from boxsnake.resolve import Upgrade

    chosen = frozenset(canonicalize_name(name) for name in names if name != _ALL and not _is_image(name))
    return Upgrade(everything=_ALL in names, names=chosen)


def _is_image(name: str) -> bool:
    """Whether a name to upgrade is a base image's reference: no package's name has such signs."""
    return ":" in name or "/" in name or "@" in name


def _resolve(
    console: Console,
    loaded: LoadedManifest,
    store: Store,
    channels: tuple[str, ...],
    upgrades: tuple[str, ...],
    *,
    offline: bool,
) -> tuple[Lock | None, Lock, tuple[str, ...]]:
    """The old lock, the new one, and notes."""
    from boxsnake import resolve, settings
    from boxsnake.asked import asked_of
    from boxsnake.registry import Registries
    from boxsnake.resolve_bases import BaseQuestion, pin_bases
    from boxsnake.resolve_conda import channel_location
    from boxsnake.system_packages.question import system_questions
    from boxsnake.system_packages.resolve import Surroundings, lock_system

    configured = settings.load()
    old = _old_lock(console, loaded)
    asked = asked_of(loaded, store, configured)
    upgrade = _upgrade(upgrades)
    new = resolve.resolve(
        asked,
        settings=configured,
        store=store,
        keep=old,
        upgrade=upgrade,
        channels=[channel_location(channel, Path.cwd()) for channel in channels],
        offline=offline,
    )
    registries = Registries.of(configured, asked.credentials)
    question = BaseQuestion(
        manifest=asked.manifest,
        registries=registries,
        mapped=configured.bases,
        keep=old,
        upgrade=None if _ALL in upgrades else frozenset(filter(_is_image, upgrades)),
        offline=offline,
    )
    new, notes = pin_bases(new, question)
    around = Surroundings(store=store, settings=configured, registries=registries, root=asked.root, offline=offline)
    questions = system_questions(asked.manifest, asked.targets)
    new = lock_system(new, questions, around, keep=old, upgrade=upgrade)
    return old, new, notes


def _old_lock(console: Console, loaded: LoadedManifest) -> Lock | None:
    """The lock that is there. One that cannot be read is no reason not to write another."""
    from boxsnake.errors import LockError
    from boxsnake.lock_file import path_of_lock, read_if_any

    try:
        return read_if_any(path_of_lock(loaded))
    except LockError as error:
        console.say(f"nothing is kept of the old {error.thing}: {error.cause}")
        return None


def _tell(
    console: Console, loaded: LoadedManifest, old: Lock | None, new: Lock, *, write: bool, notes: tuple[str, ...]
) -> None:
    from boxsnake.lock.difference import difference
    from boxsnake.lock_file import path_of_lock
    from boxsnake.lock_file import write as write_lock

    path = path_of_lock(loaded)
    changes = difference(old, new)
    if old is not None or not write:
        for line in changes.lines():
            console.say(line)
    written = write_lock(path, new) if write else False
    for line in _summary(new):
        console.say(line)
    console.say(_outcome(path.name, changes, write=write, written=written))
    console.result(lambda: _document(path, new, changes, written=written) | {"notes": list(notes)})


def _outcome(name: str, changes: LockDifference, *, write: bool, written: bool) -> str:
    if not write:
        return f"{name} would change" if changes else f"{name} would hold the same packages"
    return f"{name} written" if written else f"{name} unchanged"


def _summary(lock: Lock) -> list[str]:
    from boxsnake.plain_text import counted

    lines = []
    for target_lock in lock.targets:
        target = target_lock.target
        counts = f"{counted(len(target_lock.conda), 'conda package')}, {counted(len(target_lock.wheels), 'wheel')}"
        python = f"python {target_lock.python}" + (" of the host" if target.interpreter == "host" else "")
        if target_lock.system is not None:
            counts += f", {counted(len(target_lock.system.packages), f'{target_lock.system.kind} package')}"
        lines.append(f"{target.name}: {target.platform}, {python}: {counts}")
        lines += [
            f"  note: no index has a wheel of {found.name} {found.version}, which boxes without conda lack"
            for found in target_lock.unavailable
        ]
    return lines


def _document(path: Path, lock: Lock, changes: LockDifference, *, written: bool) -> dict[str, Any]:
    return {
        "lock": str(path),
        "written": written,
        "targets": [
            {
                "name": target_lock.target.name,
                "platform": target_lock.target.platform,
                "python": target_lock.python,
                "conda": len(target_lock.conda),
                "wheels": len(target_lock.wheels),
                "system": len(target_lock.system.packages) if target_lock.system else 0,
                "unavailable": [found.name for found in target_lock.unavailable],
                "base": vars(target_lock.base) if target_lock.base else None,
            }
            for target_lock in lock.targets
        ],
        "changes": [
            {
                "target": change.target,
                "half": change.half,
                "name": change.name,
                "before": change.before,
                "after": change.after,
            }
            for change in changes.changes
        ],
        "hosts": list(changes.hosts),
        "builds": list(changes.sources),
    }
