"""`boxsnake ci`: a pipeline for a build server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.options import about_manifest

if TYPE_CHECKING:
    from boxsnake.manifest_file import LoadedManifest
    from boxsnake.pipeline.steps import Pipeline

_PLACES = {
    "gitlab": ".gitlab-ci.yml",
    "github": ".github/workflows/boxes.yml",
    "jenkins": "Jenkinsfile",
    "buildbot": "master.cfg",
}
_BOOTED = "linux-64"
"""The platform of the machines that build servers have."""


@click.command(
    epilog="It checks the lock, builds all boxes, boots them, and publishes those of the branch and of tags: images to "
    "the registry that their tags name, packages to the repositories that RPM_REPOSITORY and DEB_REPOSITORY name. The "
    "store is kept from run to run. Logins are the server's own variables: see docs/ci.md."
)
@click.argument("server", type=click.Choice(list(_PLACES)))
@about_manifest
@click.option("-b", "--branch", default="main", show_default=True, help="The branch whose boxes are published.")
@click.option("--image", default="debian:12", show_default=True, help="What steps run in; of Debian's family.")
@click.option("--requirement", help="How pip installs boxsnake (default: this version from the index).")
@click.option("--repository", metavar="URL", help="What Buildbot checks out (default: the remote origin of git).")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it to this file instead of printing.")
@click.pass_context
def command(
    context: click.Context,
    server: str,
    manifest: Path | None,
    branch: str,
    image: str,
    requirement: str | None,
    repository: str | None,
    output: Path | None,
) -> None:
    """Write a pipeline that checks the lock, builds, boots and publishes, for SERVER."""
    from boxsnake import __version__
    from boxsnake.beside import publish_bytes
    from boxsnake.manifest_file import load
    from boxsnake.pipeline.steps import Pipeline

    console = console_of(context)
    loaded = load(manifest)
    top = _top(loaded.root)
    targets = loaded.manifest.targets
    others = any(table.platform != _BOOTED for table in targets.values())
    pipeline = Pipeline(
        application=loaded.manifest.app.name,
        boxsnake=requirement or f"boxsnake=={__version__}",
        image=image,
        branch=branch,
        folder=loaded.root.relative_to(top).as_posix(),
        formats=tuple(loaded.manifest.boxes),
        targets=tuple(name for name, table in targets.items() if table.platform == _BOOTED) if others else (),
        repository=_repository(repository, top) if server == "buildbot" else "",
    )
    text = _text(server, pipeline, loaded)
    if output is None:
        click.echo(text, nl=False)
        return
    publish_bytes(text.encode(), output)
    place = top / _PLACES[server]
    usual = "" if output.absolute() == place else f"; {server} looks for {_PLACES[server]} at the top of the repository"
    console.say(f"{output} written{usual}")


def _text(server: str, pipeline: Pipeline, loaded: LoadedManifest) -> str:
    from boxsnake.export.yaml_text import yaml_text
    from boxsnake.pipeline.buildbot import buildbot
    from boxsnake.pipeline.github import github
    from boxsnake.pipeline.gitlab import gitlab
    from boxsnake.pipeline.jenkins import jenkins

    about = f"The boxes of {loaded.manifest.app.name}, written by `boxsnake ci {server}`"
    if server == "gitlab":
        return yaml_text([gitlab(pipeline)], about=about)
    if server == "github":
        return yaml_text([github(pipeline)], about=about)
    if server == "jenkins":
        return f"// {about}\n{jenkins(pipeline)}"
    return buildbot(pipeline, about=about)


def _top(root: Path) -> Path:
    """The top of the working copy that the manifest is in; its own folder where it is in none."""
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)


def _repository(given: str | None, top: Path) -> str:
    import subprocess

    from boxsnake.errors import UsageError
    from boxsnake.urls import without_credentials

    if given:
        return given
    asked = ["git", "-C", str(top), "remote", "get-url", "origin"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        step = "Give --repository URL."
        raise UsageError("buildbot", "must be told what to check out, and git has no remote origin", step) from None
    return without_credentials(found)
