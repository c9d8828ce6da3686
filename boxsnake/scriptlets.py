"""Scriptlets: what a package manager runs around installing and removing, rendered from the files of `rpm/`.

A scriptlet is assignments, the hook that belongs to its moment, the functions that all of them share, and its own
text. Values are only ever assigned, quoted for the shell; the texts are files that stand as they are.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from boxsnake import resources
from boxsnake.errors import PackError
from boxsnake.nfpm import Scripts
from boxsnake.plan import Hook
from boxsnake.versioned_layout import Layout

MOMENTS = {
    "pre-install": "before_install",
    "post-install": "after_install",
    "pre-remove": "before_remove",
    "post-remove": "after_remove",
}
"""The moments of hooks, and the scriptlet that runs each."""

_SHELL = ("/bin/sh",)


def scripts(layout: Layout, *, app_version: str, needed: int, hooks: Sequence[Hook]) -> Scripts:
    """All scriptlets of one version. `needed` is what it takes on the disk, in bytes."""
    values = {
        "name": layout.name,
        "app_version": app_version,
        "version": layout.version,
        "root": layout.root,
        "needed_kib": str(-(-needed // 1024)),
    }
    assignments = "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())
    by_scriptlet = {MOMENTS[hook.moment]: hook for hook in hooks}

    def rendered(scriptlet: str) -> str:
        hook = by_scriptlet.get(scriptlet)
        parts = (assignments, hook_function(hook), text("common.sh"), text(f"{scriptlet}.sh"))
        return "\n".join(parts)

    return Scripts(**{scriptlet: rendered(scriptlet) for scriptlet in (*MOMENTS.values(), "verify")})


def hook_function(hook: Hook | None) -> str:
    """The shell function that runs the hook; without one it does nothing.

    The hook's text is a here-document whose end cannot occur in it. Errors: PackError where it is no text.
    """
    if hook is None:
        return "hook_script() { :; }\n"
    content = hook_text(hook)
    end = f"END_OF_HOOK_{hashlib.sha256(hook.content).hexdigest()}"
    words = " ".join(shlex.quote(word) for word in (hook.moment, hook.file_name, *interpreter(content)))
    return f"hook_script() {{\n    run_hook {words} <<'{end}'\n{content}{end}\n}}\n"


def hook_text(hook: Hook) -> str:
    """The hook's content as text that ends with a line feed. Errors: PackError where it is no text."""
    try:
        content = hook.content.decode("utf-8")
    except UnicodeDecodeError:
        content = "\0"
    if "\0" in content:
        thing = f"the {hook.moment} hook ({hook.file_name})"
        raise PackError(thing, "is no text in UTF-8", "Make it a script; what it needs belongs into the application.")
    return content if content.endswith("\n") else f"{content}\n"


def interpreter(content: str) -> tuple[str, ...]:
    """The program of a script's first line, and its one argument, as execve(2) reads them; without one, the shell.

    Named outright, the script need not lie on a file system from which files may be run.
    """
    first = content.partition("\n")[0]
    if not first.startswith("#!"):
        return _SHELL
    return tuple(first[2:].strip().split(maxsplit=1)) or _SHELL


def text(name: str) -> str:
    """The text of one of the files of `rpm/`."""
    return resource(name).read_text(encoding="utf-8")


def resource(name: str) -> Path:
    """One of the files of `rpm/`."""
    return resources.folder("rpm") / name


def digest() -> str:
    """The digest of all files of `rpm/`: part of what decides a package's bytes."""
    found = hashlib.sha256()
    for path in sorted(resources.folder("rpm").glob("*.*")):
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
