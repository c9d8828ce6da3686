"""What the command line prints, and the one place where errors become exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import click

from boxsnake.errors import BoxsnakeError, ResourceError
from boxsnake.progress import Advance, listening

OUR_FAULT = 70
INTERRUPTED = 130
TERMINATED = 143
WIDTH_OF_LOGS = 160
"""Columns."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _TerminatedError(BaseException):
    """SIGTERM or SIGHUP, turned into an exception so that everything is cleaned up on the way out."""


def run(command: click.Command, arguments: list[str] | None) -> int:
    """Run `command`; print what goes wrong to standard error; return the exit code of DESIGN's table."""
    _open_streams()
    _listen_to_signals()
    try:
        _be_somewhere()
        # click gives back the exit code that a command has chosen, or what the command has returned: nothing.
        chosen = command.main(args=arguments, prog_name="boxsnake", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except _TerminatedError:
        return TERMINATED
    except click.ClickException as error:
        error.show()
        return 2
    except BoxsnakeError as error:
        _show(error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing to tell anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _show_os_error(error)
    except Exception:  # noqa: BLE001 - the border: whatever is left is a fault of ours
        return _show_our_fault()
    return chosen if isinstance(chosen, int) else 0


def _open_streams() -> None:
    """Open what our caller has closed of the three streams: the next file would be opened in its place, and written."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _be_somewhere() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - whether it is there, not what it is
    except FileNotFoundError:
        raise ResourceError("the current folder", "has been removed", "Change to one that exists (`cd`).") from None


def _listen_to_signals() -> None:
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    """Leave once: what is cleaned up on the way out, other people's programs above all, is not left half-way."""
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise _TerminatedError


def _show(error: BoxsnakeError) -> None:
    if _wants_json():
        facts = {
            "kind": error.kind,
            "exit-code": error.exit_code,
            "thing": error.thing,
            "cause": error.cause,
            "next": error.next_step,
            "data": error.data,
        }
        click.echo(json.dumps({"error": facts}, default=str), err=True)
        return
    click.echo(
        f"{click.style('error', fg='red', bold=True)}: {printable(error.thing)}: {printable(error.cause)}", err=True
    )
    if error.next_step:
        click.echo(f"{click.style('next', fg='cyan')}: {printable(error.next_step)}", err=True)


def _show_os_error(error: OSError) -> int:
    """A system call that failed outside every module's own care: this machine's fault in most cases."""
    import errno

    steps = {
        errno.ENOSPC: "Make room on that file system (`boxsnake cache clean` frees the store's).",
        errno.EDQUOT: "Make room within the quota.",
        errno.EACCES: "Check its owner and mode.",
        errno.EPERM: "Check its owner and mode.",
        errno.EROFS: "Name a folder that can be written to.",
        errno.EEXIST: "Move what lies there out of the way, or name another place.",
        errno.ENOTDIR: "A file lies where a folder should be: move it out of the way, or name another place.",
        errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
    }
    thing = str(error.filename or "the system")
    step = steps.get(error.errno or 0, "Look at that path and try again.")
    _show(ResourceError(thing, error.strerror or str(error), step))
    return ResourceError.exit_code


def _show_our_fault() -> int:
    from boxsnake import __version__
    from boxsnake.urls import redact

    click.echo(redact(traceback.format_exc()), err=True)
    click.echo(
        f"error: boxsnake {__version__} failed for a reason of its own. Please report the lines above "
        f"and the command: boxsnake {redact(' '.join(sys.argv[1:]))}",
        err=True,
    )
    return OUR_FAULT


def _wants_json() -> bool:
    return "--json" in sys.argv


def printable(text: str) -> str:
    """Text from outside with control characters made visible, so that none reaches the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


class Console:
    """Where a command's lines go: people's lines to standard output, or one JSON document at the end."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet = quiet or as_json
        self._as_json = as_json

    def say(self, line: str, *, before: str = "") -> None:
        """One line for people; `before` is a text of our own that may be styled."""
        if not self._quiet:
            click.echo(before + printable(line))

    def show(self, table: Callable[[], Any]) -> None:
        """A table for people, as wide as the terminal, or wide enough for a log where there is none."""
        if not self._quiet:
            from rich.console import Console as RichConsole

            RichConsole(width=None if sys.stdout.isatty() else WIDTH_OF_LOGS).print(table())

    def result(self, document: Callable[[], Any]) -> None:
        """The command's result for machines; only made where it is wanted."""
        if self._as_json:
            click.echo(json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False, default=str))

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Draw bars on a terminal; elsewhere nothing, since lines say when a thing is done."""
        if self._quiet or not sys.stderr.isatty() or os.environ.get("CI"):
            yield
            return
        from rich.console import Console as RichConsole
        from rich.progress import Progress

        with Progress(console=RichConsole(stderr=True), transient=True) as bars, listening(_drawn_by(bars)):
            yield


def _drawn_by(bars: Any) -> Callable[[str, int | None], AbstractContextManager[Advance]]:
    def listener(label: str, total: int | None) -> AbstractContextManager[Advance]:
        task = bars.add_task(label, total=total)

        def advance(amount: int) -> None:
            bars.advance(task, amount)

        return _finished_by(bars, task, advance)

    return listener


@contextmanager
def _finished_by(bars: Any, task: Any, advance: Advance) -> Iterator[Advance]:
    try:
        yield advance
    finally:
        bars.remove_task(task)


def path_from_here(path: Path) -> str:
    """The path as its reader would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def console_of(context: click.Context, *, as_json: bool = False) -> Console:
    """The console of a command, by the group's `--quiet` and the command's `--json`."""
    quiet = bool((context.find_root().obj or {}).get("quiet", False))
    return Console(quiet=quiet, as_json=as_json)
