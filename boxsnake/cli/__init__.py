"""The command line: `boxsnake COMMAND`.

A command's module is imported when the command runs, and its `command` taken: `--help` imports none of them.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import threading
from typing import NoReturn

import click

from boxsnake import __version__

COMMANDS = {
    "init": "Write a manifest from what lies in a folder.",
    "lock": "Resolve conda and pip requirements into one lock.",
    "plan": "Show which formats fit, what they need and will weigh, and what is there.",
    "build": "Make the boxes that the manifest asks for.",
    "boot": "Prove that boxes work, in clean containers.",
    "report": "Write a boot's report as a page, and what has changed.",
    "enter": "Look into a sandbox that `boot --keep` has left.",
    "run": "Start a box with its services, and show their logs.",
    "up": "Start a box with its services, and leave them running.",
    "down": "Remove what `up` has started.",
    "logs": "Show what the application and its services say.",
    "ps": "List what is up.",
    "exec": "Run a command in what is up.",
    "shell": "Open a shell or a Python prompt in the box.",
    "export": "Write how the image is run, for Kubernetes or compose.",
    "why": "Tell why a package is in the lock.",
    "inspect": "Show what is in any box, without installing it.",
    "diff": "Compare two boxes or locks, of any formats.",
    "ci": "Write a pipeline for GitLab, GitHub, Jenkins or Buildbot.",
    "sbom": "Write what is in each box, as CycloneDX.",
    "bundle": "Pack boxes, bills and documents for a site without a network.",
    "delta": "Write what makes a box out of its earlier version.",
    "patch": "Make a box out of its earlier version and a delta.",
    "publish": "Make signed repositories of RPMs and debs; push images.",
    "rebase": "Put an image's own layers on another base.",
    "channel": "Build a conda channel from recipes.",
    "cache": "Look at, verify and clean the store.",
    "schema": "Print the manifest's JSON schema, for editors.",
    "doctor": "Say what this machine lacks, and how to get it.",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands, in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"boxsnake.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 2 usage, 3 manifest, 4 no solution, 5 lock, 6 network, 7 integrity, 8 this machine, "
    "9 cannot pack, 10 does not boot, 11 container engine, 12 refused, 70 a fault of boxsnake's own.",
)
@click.version_option(__version__, prog_name="boxsnake")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.pass_context
def boxsnake(context: click.Context, quiet: bool) -> None:
    """One locked set of conda and pip requirements, every deployable box, each one proven to boot.

    Start with `boxsnake init`, then `lock`, `build` and `boot`. Shell completion:
    `eval "$(_BOXSNAKE_COMPLETE=bash_source boxsnake)"` (or zsh_source, fish_source).
    """
    context.ensure_object(dict)
    context.obj["quiet"] = quiet


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    from boxsnake.cli.console import run

    # It would look for its plug-ins among everything that is installed, each time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    _leave(run(boxsnake, arguments))


def _leave(code: int) -> NoReturn:
    """End the process as `sys.exit` would, but leave all that was imported as it is: taking it apart helps nobody.

    Threads are waited for, and what is to be done at the end is done.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what Python itself calls at its end
        atexit._run_exitfuncs()  # noqa: SLF001 - as above
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
