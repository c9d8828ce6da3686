"""`boxsnake export`: how the image is run, as Kubernetes' manifests or a compose file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import console_of
from boxsnake.cli.options import about_manifest

if TYPE_CHECKING:
    from boxsnake.boxes import Workspace
    from boxsnake.export.facts import Deployment


@click.command(
    epilog="Both say what the manifest says: ports, checks as probes, user, limits, folders, files, services, with a "
    "root file system that is read-only. Secrets (app.secrets) are asked for and never written."
)
@click.argument("kind", type=click.Choice(["k8s", "compose"]))
@about_manifest
@click.option("-t", "--target", help="The target whose image it is (default: the first with one).")
@click.option("--image", metavar="REF", help="The image's reference (default: the one that `build image` gives it).")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write it to this file instead of printing.")
@click.option("--offline", is_flag=True, help="Use nothing that is not in the store already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context,
    kind: str,
    manifest: Path | None,
    target: str | None,
    image: str | None,
    output: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Write how the image is run: Kubernetes' manifests, or a compose file."""
    from boxsnake.beside import publish_bytes
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.export.compose import compose
    from boxsnake.export.kubernetes import kubernetes
    from boxsnake.export.yaml_text import yaml_text

    console = console_of(context, as_json=as_json)
    _check_image(image)
    with console.progress():
        workspace = open_workspace(manifest, offline=offline)
        wanted = _deployment(workspace, target, image)
    documents: list[dict[str, Any]] = kubernetes(wanted) if kind == "k8s" else [compose(wanted)]
    text = yaml_text(documents, about=f"{wanted.name} {wanted.version}, written by `boxsnake export {kind}`")
    if output is not None:
        publish_bytes(text.encode(), output)
        console.say(f"{output}: {wanted.image}")
    elif not as_json:
        click.echo(text, nl=False)
    console.result(lambda: {"image": wanted.image, "documents": documents})


def _check_image(image: str | None) -> None:
    from boxsnake import reference
    from boxsnake.errors import UsageError

    try:
        if image is not None:
            reference.parse(image)
    except ValueError as error:
        step = "Give a reference such as registry.example.org/team/name:1.0, with @sha256:… to hold it there."
        raise UsageError(f"--image {image}", str(error), step) from None


def _deployment(workspace: Workspace, target: str | None, image: str | None) -> Deployment:
    from boxsnake.deployment import deployment
    from boxsnake.packagers.image import PACKAGER

    boxes = workspace.boxes([PACKAGER.name], [target] if target else [])
    manifest = workspace.asked.manifest
    return deployment(manifest, boxes[0].plan, image=image, only=len(boxes) == 1)
