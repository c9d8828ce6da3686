"""Scriptlets: what a package manager runs around installing and removing, rendered from the files of `rpm/`.

A scriptlet is assignments, the hook that belongs to its moment, the functions that all of them share, and its own
text. So is `<name>-ctl`, by which operators look after the versions that are installed. Values are only ever assigned,
quoted for the shell; the texts are files that stand as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from boxsnake import resources
from boxsnake.hook_script import hook_text, interpreter_of_hook
from boxsnake.os_packages import system_payload
from boxsnake.os_packages.nfpm import Scripts
from boxsnake.os_packages.rpm_version import order_key
from boxsnake.os_packages.versioned_layout import COMMANDS, Layout
from boxsnake.plan import Hook
from boxsnake.system import NOTHING, System
from boxsnake.value import dataclass

MOMENTS = {
    "pre-install": "before_install",
    "post-install": "after_install",
    "pre-remove": "before_remove",
    "post-remove": "after_remove",
}
"""The moments of hooks, and the scriptlet that runs each."""


@dataclass(frozen=True, kw_only=True)
class Placing:
    """Of a version that can lie anywhere: how its scripts learn where it does.

    `root` (the folder of all versions) and `commands` (that of the commands) are words of the shell, `longest_prefix`
    is in bytes, `names` are those of the commands.
    """

    root: str
    commands: str
    longest_prefix: int
    names: tuple[str, ...]


OWN_ROOT = '"$(here=$(readlink -f "$0") && printf "%s" "${here%/install/*}")"'
"""The folder of all versions, to the program `<name>-ctl` that lies in it."""


def scripts(
    layout: Layout,
    *,
    app_version: str,
    needed: int,
    hooks: Sequence[Hook],
    keep: int = 1,
    system: System = NOTHING,
    owns_tree: bool = True,
    placing: Placing | None = None,
) -> Scripts:
    """All scriptlets of one version.

    `needed` is what it takes on the disk, in bytes; `keep` how many other versions stay beside it; `owns_tree` whether
    the package carries the version's environment, or another one does.
    """
    values = assignments(
        layout, app_version=app_version, needed=needed, keep=keep, owns_tree=owns_tree, placing=placing
    )
    by_scriptlet = {MOMENTS[hook.moment]: hook for hook in hooks}

    def rendered(scriptlet: str) -> str:
        hook = by_scriptlet.get(scriptlet)
        parts = (values, hook_function(hook), functions(system), text(f"{scriptlet}.sh"))
        return "\n".join(parts)

    return Scripts(**{scriptlet: rendered(scriptlet) for scriptlet in (*MOMENTS.values(), "verify")})


def environment_scripts(layout: Layout, *, app_version: str, needed: int) -> Scripts:
    """All scriptlets of a version's environment, where that is a package of its own."""
    values = assignments(layout, app_version=app_version, needed=needed, keep=0)

    def rendered(scriptlet: str) -> str:
        return "\n".join((values, shared_text(), text(f"env/{scriptlet}.sh")))

    return Scripts(**{scriptlet: rendered(scriptlet) for scriptlet in (*MOMENTS.values(), "verify")})


def store_scripts(folder: str) -> Scripts:
    """All scriptlets of a package of the store that applications share; `folder` is its own."""
    parts = (_assigned({"folder": folder}), text("unpacked.sh"), text("store_before_install.sh"))
    return Scripts(before_install="\n".join(parts))


def control(
    layout: Layout,
    *,
    app_version: str,
    system: System = NOTHING,
    placing: Placing | None = None,
    more: Sequence[str] = (),
) -> str:
    """The program `<name>-ctl` that comes with one version; `more` are texts of its own that add to what it can do."""
    if placing:
        placing = dataclasses.replace(placing, root=OWN_ROOT)
    values = assignments(layout, app_version=app_version, needed=0, keep=0, placing=placing)
    return "\n".join(("#!/bin/sh", values, functions(system), *more, text("ctl.sh")))


def functions(system: System) -> str:
    """The functions that all of them share, and the values of those that look after the host's own system."""
    return "\n".join((shared_text(), _assigned(system_payload.assignments(system)), text("system.sh")))


def shared_text() -> str:
    """The functions that know nothing of the host's own system."""
    return "\n".join((text("common.sh"), text("unpacked.sh")))


def self_description(layout: Layout, *, app_version: str) -> str:
    """What an installed version says of itself to the scriptlets of others: its author's text and its order."""
    return f"{app_version}\n{_order(layout, app_version)}\n"


def _order(layout: Layout, app_version: str) -> str:
    return order_key(app_version, layout.version.rpartition("-")[2])


def assignments(
    layout: Layout,
    *,
    app_version: str,
    needed: int,
    keep: int,
    owns_tree: bool = True,
    placing: Placing | None = None,
) -> str:
    """The variables that the shared functions read."""
    values = {
        "name": layout.name,
        "app_version": app_version,
        "version": layout.version,
        "order": _order(layout, app_version),
        "keep": str(keep),
        "needed_kib": str(-(-needed // 1024)),
        "owns_tree": "yes" if owns_tree else "no",
        "built_root": layout.root,
        "longest_prefix": str(placing.longest_prefix) if placing else "",
        "makes_commands": "yes" if placing else "",
        "new_commands": " ".join(placing.names) if placing else "",
    }
    root = placing.root if placing else shlex.quote(layout.root)
    commands = placing.commands if placing else shlex.quote(COMMANDS)
    return f"{_assigned(values)}root={root}\ncommands={commands}\n"


def _assigned(values: Mapping[str, str]) -> str:
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())


def hook_function(hook: Hook | None) -> str:
    """The shell function that runs the hook; without one it does nothing.

    The hook's text is a here-document whose end cannot occur in it. Errors: PackError where it is no text.
    """
    if hook is None:
        return "hook_script() { :; }\n"
    content = hook_text(hook)
    words = " ".join((shlex.quote(hook.moment), shlex.quote(hook.file_name), _interpreter_words(hook)))
    end = f"END_OF_HOOK_{hashlib.sha256(hook.content).hexdigest()}"
    return f"hook_script() {{\n    run_hook {words} <<'{end}'\n{content}{end}\n}}\n"


def _interpreter_words(hook: Hook) -> str:
    """What runs the hook, for the shell. Errors: PackError where that is not there at the hook's moment."""
    words = interpreter_of_hook(hook)
    return '"$prefix/bin/python" -B' if words is None else " ".join(shlex.quote(word) for word in words)


def text(name: str) -> str:
    """The text of one of the files of `rpm/`."""
    return resource(name).read_text(encoding="utf-8")


def resource(name: str) -> Path:
    """One of the files of `rpm/`."""
    return resources.folder("rpm") / name


def digest() -> str:
    """The digest of all files of `rpm/`: part of what decides a package's bytes."""
    found = hashlib.sha256()
    folder = resources.folder("rpm")
    for path in sorted(path for path in folder.rglob("*.*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
