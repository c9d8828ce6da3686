"""`boxsnake init`: a first manifest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of

if TYPE_CHECKING:
    from boxsnake.manifest import Manifest


@click.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--force", is_flag=True, help="Replace a boxsnake.toml that is there.")
@click.option("--pyproject", is_flag=True, help="Add [tool.boxsnake] to pyproject.toml instead of a file of its own.")
@click.pass_context
def command(context: click.Context, folder: Path, force: bool, pyproject: bool) -> None:
    """Write a manifest from what lies in FOLDER.

    Looked at are pyproject.toml, setup.cfg, setup.py, requirements.txt and environment.yml.
    """
    from boxsnake.manifest_file import NAME, PYPROJECT

    path = folder / (PYPROJECT if pyproject else NAME)
    _refuse_what_is_there(folder, path, force=force, in_pyproject=pyproject)
    text, manifest = _written(folder, path, in_pyproject=pyproject)
    _publish(text, path)
    console = console_of(context)
    console.say(f"{path}: {_summary(manifest)}")
    for line in _open_faults(manifest, folder):
        console.say(line)
    step = "boxsnake lock" if folder == Path() else f"cd {shlex.quote(str(folder))} && boxsnake lock"
    console.say(f"Look through it, then: {step}")


def _refuse_what_is_there(folder: Path, path: Path, *, force: bool, in_pyproject: bool) -> None:
    from boxsnake.errors import UsageError
    from boxsnake.manifest_file import NAME, has_table

    if in_pyproject and not path.is_file():
        raise UsageError(str(path), "there is no such file", "Leave out --pyproject to write a boxsnake.toml.")
    if has_table(folder / "pyproject.toml") and (in_pyproject or not force):
        step = "Edit it, or remove it first." if in_pyproject else "Edit it; --force writes a boxsnake.toml beside it."
        raise UsageError(str(folder / "pyproject.toml"), "it has a [tool.boxsnake] already", step)
    if (folder / NAME).exists() and (in_pyproject or not force):
        step = "Remove it first." if in_pyproject else "Edit it, or write it anew with --force."
        raise UsageError(str(folder / NAME), "there is one already", step)


def _written(folder: Path, path: Path, *, in_pyproject: bool) -> tuple[str, Manifest]:
    """The file's whole new text, and what it says: what cannot be decoded is not written."""
    from boxsnake.manifest.decoding import decode
    from boxsnake.manifest_file import read_text
    from boxsnake.new_manifest import look, manifest_text
    from boxsnake.packagers import packagers

    formats = packagers()
    summaries = {name: packager.summary for name, packager in formats.items()}
    text = manifest_text(look(folder), summaries, in_pyproject=in_pyproject)
    if in_pyproject:
        before = read_text(path)
        line_break = "\r\n" if "\r\n" in before else "\n"
        gap = "" if not before.strip() else line_break if before.endswith("\n") else line_break * 2
        text = before + gap + text.replace("\n", line_break)
    options = {name: packager.options for name, packager in formats.items()}
    return text, decode(text, str(path), box_options=options)


def _publish(text: str, path: Path) -> None:
    """Put the text in its file, whole or not at all; a file that was there keeps its mode."""
    from boxsnake.beside import publish_bytes

    publish_bytes(text.encode("utf-8"), path, mode=path.stat().st_mode & 0o777 if path.exists() else None)


def _summary(manifest: Manifest) -> str:
    app = manifest.app
    version = app.version or "(the project's own version)"
    parts = [f"{app.name} {version}"]
    if app.source is not None:
        parts.append("from this folder")
    if app.command:
        parts.append(f"started by {app.command[0]}")
    if manifest.requires.files:
        parts.append(f"with {', '.join(manifest.requires.files)}")
    return ", ".join(parts)


def _open_faults(manifest: Manifest, folder: Path) -> list[str]:
    """What must be put right in the files that the manifest names before they can be locked."""
    from boxsnake.errors import ManifestError
    from boxsnake.requirement_files import collect

    try:
        collect(manifest, folder)
    except ManifestError as error:
        return [f"to be corrected: {fault}" for fault in error.faults]
    return []
