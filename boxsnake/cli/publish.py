"""`boxsnake publish`: packages into repositories, images into registries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import Console, console_of
from boxsnake.cli.options import about_manifest

if TYPE_CHECKING:
    from boxsnake.publish import Repository
    from boxsnake.publish.signing import Signer

_OPTIONS = (
    click.argument("folder", metavar="DIR", type=click.Path(path_type=Path)),
    click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path)),
    about_manifest,
    click.option("--sign", metavar="KEY", help="Sign with this secret key of gpg's (default: the settings' sign-key)."),
    click.option("--gpg-home", type=click.Path(path_type=Path), help="gpg's folder, if it is not your own."),
    click.option(
        "--passphrase-file", type=click.Path(path_type=Path), help="A file with the key's passphrase, else gpg's agent."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Make package repositories, or add to them; push images to registries.

    Readers see the old repository or the new one, never a mixture. A package of the same version and release with
    other bytes is refused.
    """


@command.command("rpm-repo")
@_with_options
@click.pass_context
def rpm_repository(context: click.Context, /, **given: Any) -> None:
    """Put RPMs into the repository in DIR, for dnf: each FILE, or those that the manifest's `build` has made.

    A FILE may be a folder of packages, or the tar of one, as `split = true` gives them.

    With a key, packages and metadata are signed (gpgcheck=1, repo_gpgcheck=1).
    """
    from boxsnake.publish.rpm_repository import RpmRepository

    _publish(context, RpmRepository(), "rpm", **given)


@command.command("deb-repo")
@click.option("--suite", default="stable", show_default=True, help="The word after the address in a sources list.")
@_with_options
@click.pass_context
def deb_repository(context: click.Context, /, suite: str, **given: Any) -> None:
    """Put debs into the repository in DIR, for apt: each FILE, or those that the manifest's `build` has made.

    A FILE may be a folder of packages, or the tar of one, as `split = true` gives them.

    With a key, its Release is signed, which covers the packages (signed-by).
    """
    from boxsnake.publish.deb_repository import DebRepository, check_suite

    _publish(context, DebRepository(suite=check_suite(suite)), "deb", **given)


@command.command("image")
@click.argument("tags", nargs=-1, metavar="[TAG]...")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An image that `build` has made, or another OCI layout; several for several platforms.",
)
@about_manifest
@click.option("-t", "--target", "targets", multiple=True, help="Only this target of the lock; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def image(
    context: click.Context,
    tags: tuple[str, ...],
    files: tuple[Path, ...],
    manifest: Path | None,
    targets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Push the image that `build` has made to its registry, under each TAG, or under the tags that it was made for.

    Layers that the registry has are not sent. No container engine is needed, nor, with --file, the application.
    """
    from boxsnake.cli.push import push_images

    console = console_of(context, as_json=as_json)
    chosen = files or _built(manifest, "image", targets)
    with console.progress():
        pushed = push_images(console, chosen, tags)
    console.result(lambda: {"pushed": [vars(one) for one in pushed]})


def _publish(
    context: click.Context,
    kind: Repository,
    packager: str,
    *,
    folder: Path,
    files: tuple[Path, ...],
    manifest: Path | None,
    sign: str | None,
    gpg_home: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    from boxsnake.boxes import epoch
    from boxsnake.publish import package_files, publish

    console = console_of(context, as_json=as_json)
    chosen = package_files(files or _built(manifest, packager), kind.suffix)
    signer = signer_of(sign, gpg_home, passphrase_file)
    with console.progress():
        published = publish(kind, folder, chosen, time=epoch(), signer=signer)
    for name in published.added:
        console.say(f"added      {name}")
    if not published.changed:
        console.say("unchanged")
    _tell_signature(console, published.signed_by)
    console.say(f"repository {published.folder}")
    console.result(lambda: vars(published))


def _tell_signature(console: Console, fingerprint: str | None) -> None:
    if fingerprint is None:
        console.say("not signed (--sign KEY, or sign-key in the settings)")
    else:
        console.say(f"signed by  {fingerprint}")


def _built(manifest: Path | None, packager: str, targets: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """The artifacts of the manifest's boxes of this format. Errors: UsageError where one was not built."""
    from boxsnake.cli.workspace import open_workspace
    from boxsnake.errors import UsageError

    paths = tuple(box.path for box in open_workspace(manifest).boxes([packager], targets))
    for path in paths:
        if not path.exists():
            raise UsageError(path.name, "it has not been built", f"Run `boxsnake build {packager}`, or name files.")
    return paths


def signer_of(key: str | None, home: Path | None, passphrase_file: Path | None) -> Signer | None:
    """The key that is named, else the settings' own; None where there is neither. Errors: see `signing.signer`."""
    from boxsnake import settings
    from boxsnake.publish.signing import signer

    configured = settings.load()
    key = key or configured.sign_key
    if key is None:
        return None
    return signer(
        key,
        home=home or configured.gpg_home,
        passphrase_file=passphrase_file or configured.passphrase_file,
    )
