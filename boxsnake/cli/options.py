"""What commands about boxes take alike: which boxes, where from, where to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import Console, console_of
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.boxes import Box, Workspace

about_manifest = click.option(
    "-m", "--manifest", type=click.Path(path_type=Path), help="The manifest (default: found here)."
)
"""The option that names the manifest, as every command that reads one has it."""

_OPTIONS = (
    click.argument("formats", nargs=-1, metavar="[FORMAT]..."),
    about_manifest,
    click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated."),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Where boxes go (default: dist, beside it)."),
    click.option("--offline", is_flag=True, help="Use nothing that is not in the store already."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which boxes of which manifest the command line means."""

    formats: tuple[str, ...]
    targets: tuple[str, ...]
    manifest: Path | None
    output: Path | None
    offline: bool

    def open(self) -> Workspace:
        """The manifest's workspace. Errors: see `boxsnake.cli.workspace.open_workspace`."""
        from boxsnake.cli.workspace import open_workspace

        return open_workspace(self.manifest, output=self.output, offline=self.offline)

    def boxes(self, workspace: Workspace, meanwhile: Callable[[], None] | None = None) -> list[Box]:
        """The boxes that are meant. Arguments and errors: see `boxsnake.boxes.Workspace.boxes`."""
        return workspace.boxes(self.formats, self.targets, meanwhile)


def about_boxes(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all such have; it is called with a `Console`, what is `Chosen`, and its own."""

    @click.pass_context
    @functools.wraps(function)
    def command(context: click.Context, /, *, as_json: bool, **given: Any) -> None:
        names = ("formats", "targets", "manifest", "output", "offline")
        chosen = Chosen(**{name: given.pop(name) for name in names})
        console: Console = console_of(context, as_json=as_json)
        function(console, chosen, **given)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
