"""Hooks as scripts: their text, and what runs them. Every format that runs hooks decides it here."""

from __future__ import annotations

from boxsnake.errors import PackError
from boxsnake.plan import Hook

_SHELL = ("/bin/sh",)
_WITH_INTERPRETER = frozenset({"post-install", "pre-remove"})


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


def interpreter_of_hook(hook: Hook) -> tuple[str, ...] | None:
    """What runs the hook; None for the application's own Python, which is not there at each moment: PackError."""
    content = hook_text(hook)
    if content.startswith("#!") or not hook.file_name.endswith(".py"):
        return interpreter(content)
    if hook.moment not in _WITH_INTERPRETER:
        thing = f"the {hook.moment} hook ({hook.file_name})"
        cause = "is Python, and the application's own interpreter is not there at that moment"
        next_step = 'Write it for the shell, or name an interpreter of the host\'s in its first line ("#!/…").'
        raise PackError(thing, cause, next_step, moment=hook.moment)
    return None
