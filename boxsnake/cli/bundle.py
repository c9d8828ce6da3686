"""`boxsnake bundle`: everything for a site without a network, in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsnake.cli.console import Console
from boxsnake.cli.options import Chosen, about_boxes
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from boxsnake.boxes import Box, Workspace
    from boxsnake.bundle import Artifact
    from boxsnake.publish.signing import Signer


@click.command(
    epilog="It is a tar of one folder: boxes, their bills of materials, the lock, documents, keys, checksums, a README "
    "and verify.sh. Boxes that are not built, or not from what lies there now, are made first. With a key the "
    "checksums are signed, and with them everything."
)
@about_boxes
@click.option(
    "--docs", multiple=True, type=click.Path(path_type=Path), help="A file or folder to add; may be repeated."
)
@click.option(
    "--key", "keys", multiple=True, type=click.Path(path_type=Path), help="A public key to add, or to verify by."
)
@click.option("--sign", metavar="KEY", help="Sign with this secret key of gpg's (default: the settings' sign-key).")
@click.option("--gpg-home", type=click.Path(path_type=Path), help="gpg's folder, if it is not your own.")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="A file with the key's passphrase.")
@click.option(
    "--verify", metavar="FILE", type=click.Path(path_type=Path), help="Make none; tell whether this is whole."
)
def command(
    console: Console,
    chosen: Chosen,
    *,
    docs: tuple[Path, ...],
    keys: tuple[Path, ...],
    sign: str | None,
    gpg_home: Path | None,
    passphrase_file: Path | None,
    verify: Path | None,
) -> None:
    """Pack boxes, bills of materials and documents for a site without a network."""
    from boxsnake.bundle import extras
    from boxsnake.cli.publish import signer_of

    if verify is not None:
        _verify(console, verify, keys)
        return
    added = extras(docs, keys)
    signer = signer_of(sign, gpg_home, passphrase_file)
    with console.progress():
        workspace = chosen.open()
        _write(console, workspace, chosen.boxes(workspace), added, signer)


def _verify(console: Console, path: Path, keys: tuple[Path, ...]) -> None:
    from boxsnake.bundle import verify_bundle
    from boxsnake.errors import UsageError

    if len(keys) > 1:
        raise UsageError("--key", "was given more than once", "Verify by one key.")
    verified = verify_bundle(path, key=keys[0] if keys else None)
    console.say(f"{path.name} is whole: {verified.files} files")
    if verified.signed_by:
        console.say(f"signed by {verified.signed_by}")
    elif verified.signed:
        console.say("its signature was not looked at: name the key that you trust by --key")
    else:
        console.say("not signed")
    console.result(lambda: vars(verified))


def _write(
    console: Console, workspace: Workspace, boxes: list[Box], added: dict[str, Path], signer: Signer | None
) -> None:
    from boxsnake.beside import beside
    from boxsnake.boxes import epoch
    from boxsnake.bundle import Bundle, write_bundle
    from boxsnake.disk import publish_file
    from boxsnake.lock_file import NAME

    application = boxes[0].plan.application
    bundle = Bundle(
        name=application.name,
        version=application.version,
        summary=application.summary,
        artifacts=tuple(_artifact(workspace, box) for box in boxes),
        lock=workspace.asked.root / NAME,
        extras=added,
    )
    path = workspace.output / f"{bundle.folder}.tar"
    with beside(path) as folder:
        temporary = folder / path.name
        write_bundle(bundle, temporary, folder, epoch=epoch(), signer=signer)
        publish_file(temporary, path)
    for artifact in bundle.artifacts:
        console.say(f"{artifact.name}")
    console.say(f"{human_size(path.stat().st_size)}  {path}")
    signed_by = signer.fingerprint if signer else None
    console.say(f"signed by {signed_by}" if signed_by else "not signed (--sign KEY, or sign-key in the settings)")
    facts = {"path": str(path), "boxes": [one.name for one in bundle.artifacts], "signed_by": signed_by}
    console.result(lambda: facts)


def _as_one_file(box: Box) -> Box:
    """Whoever opens a bundle is at a site where images are loaded from files."""
    from boxsnake.packagers.image import PACKAGER

    if box.packager.name != PACKAGER.name:
        return box
    plan = replace(box.plan, options=replace(box.plan.options, form="archive"))
    return replace(box, plan=plan, path=box.path.with_name(PACKAGER.file_name(plan)))


def _artifact(workspace: Workspace, box: Box) -> Artifact:
    from boxsnake.bundle import Artifact
    from boxsnake.cli.sbom import bill_of
    from boxsnake.pack import pack

    box = _as_one_file(box)
    pack(box, workspace.store, workspace.access)
    return Artifact(
        name=box.path.relative_to(workspace.output).as_posix(),
        path=box.path,
        format=box.packager.name,
        summary=box.packager.summary,
        sbom=bill_of(box),
    )
