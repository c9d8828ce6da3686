"""`boxsnake rebase`: an image's own layers on another base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import Console, console_of

if TYPE_CHECKING:
    from boxsnake.image.layout import Images, LaidOut
    from boxsnake.image.rebase import Rebased
    from boxsnake.registry import Registries
    from boxsnake.store import Store

_ENDING = ".image"


@click.command(
    epilog="What comes out is what a build on the new base would make, byte for byte. An image that has layers made by "
    "running something in its base (hooks, system packages) is refused: build it anew."
)
@click.argument("image", metavar="IMAGE")
@click.option("-b", "--base", required=True, metavar="NEW", help="Any base that [boxes.image] may name, but minimal.")
@click.option(
    "--tag", "tags", multiple=True, help="What the result is called, and where one of a registry is pushed; repeatable."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The new artifact: a folder, or one file where its name ends with .tar (default: beside the old).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    context: click.Context, image: str, base: str, tags: tuple[str, ...], output: Path | None, as_json: bool
) -> None:
    """Put the application's layers of IMAGE on another base, without building anything.

    IMAGE is what `build` has made, a file or folder, or a reference to a registry's image, of which all platforms are
    put on the new base and pushed under each --tag.
    """
    console = console_of(context, as_json=as_json)
    with console.progress():
        if Path(image).exists() or image.startswith((".", "/")):
            document = _file(console, Path(image), base, tags, output)
        else:
            document = _reference(console, image, base, tags, output)
    console.result(lambda: document)


def _file(console: Console, path: Path, base: str, tags: Sequence[str], output: Path | None) -> dict[str, Any]:
    from boxsnake.beside import beside
    from boxsnake.cli.push import usual_registries
    from boxsnake.errors import UsageError
    from boxsnake.image.layout import Layout
    from boxsnake.image.write import publish_layout, write_layout
    from boxsnake.store import Store

    store, layout = Store(Store.default_root()), Layout(path)
    if len(layout.images) != 1:
        cause = f"it holds images for {len(layout.images)} platforms"
        raise UsageError(str(path), cause, "Push it, and give the registry's reference.")
    made = _on(console, store, usual_registries(), layout, layout.images[0], base)
    for layer in made.own:
        if store.intact(layer.digest) is None:
            with store.writer(layer.digest, origin=f"{path}, layer {layer.digest}") as writer:
                for chunk in layout.chunks(layer.digest):
                    writer.write(chunk)
    out = (output or _beside(path)).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with beside(out) as folder:
        write_layout(store, made.image, tags or layout.tags, folder / out.name, epoch=_epoch(made.image))
        publish_layout(folder / out.name, out)
    digest = made.image.manifest.digest
    console.say(f"{out.name}  {digest}")
    return {"path": str(out), "digest": digest, "notes": list(made.notes)}


def _beside(path: Path) -> Path:
    """Where the result goes: beside what it was made of, and in the same form."""
    from boxsnake.image.write import ARCHIVE

    ending = _ENDING if path.is_dir() else f"{_ENDING}{ARCHIVE}"
    return path.with_name(f"{path.name.removesuffix(ARCHIVE).removesuffix(_ENDING)}.rebased{ending}")


def _reference(console: Console, name: str, base: str, tags: Sequence[str], output: Path | None) -> dict[str, Any]:
    from boxsnake.cli.push import tell_pushed, usual_registries
    from boxsnake.errors import UsageError
    from boxsnake.image.layout import StoredImages
    from boxsnake.registry.destinations import where_to
    from boxsnake.registry.images import images_of
    from boxsnake.registry.push import push
    from boxsnake.store import Store

    if output is not None or not tags:
        cause = "there is no such file; where a registry's image is meant, the result is pushed"
        step = "Correct the path, or give --tag, such as registry.example.org/team/name:1.0, and no --output."
        raise UsageError(name, cause, step)
    store, registries = Store(Store.default_root()), usual_registries()
    (source,), places = where_to(registries, [name], digests=True), where_to(registries, tags)
    with images_of(store, registries, source) as there:
        made = [_on(console, store, registries, there, image, base) for image in there.images]
        result = StoredImages(name=name, images=tuple(one.image for one in made), store=store, bring=there.bring)
        pushed = push(store, registries, [result], places)
    tell_pushed(console, pushed)
    return {"pushed": [vars(one) for one in pushed], "notes": [note for one in made for note in one.notes]}


def _on(console: Console, store: Store, registries: Registries, images: Images, image: LaidOut, base: str) -> Rebased:
    from boxsnake import settings
    from boxsnake.bases import base_image
    from boxsnake.image.rebase import own_of, rebased

    own_of(image, images.name)  # before anything is fetched
    found = base_image(
        store,
        base,
        bases=settings.load().bases,
        root=Path.cwd(),
        wanted=image.platform,
        registries=registries,
    )
    made = rebased(store, image, found, name=images.name)
    for note in made.notes:
        console.say(f"note: {note}")
    return made


def _epoch(image: LaidOut) -> int:
    """The time that the image was made with, in seconds since 1970."""
    from datetime import datetime

    return int(datetime.fromisoformat(image.configuration["created"]).timestamp())
