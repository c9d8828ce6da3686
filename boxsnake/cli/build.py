"""`boxsnake build`: make the boxes."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsnake.cli.console import Console, path_from_here
from boxsnake.cli.options import Chosen, about_boxes
from boxsnake.plain_text import human_size

if TYPE_CHECKING:
    from boxsnake.boxes import Box, Workspace
    from boxsnake.cli.push import BuildPush
    from boxsnake.pack import Made
    from boxsnake.registry.course import Course


@click.command(
    epilog="FORMAT is one of the manifest's [boxes], such as image, pex, rpm or wheelhouse; without any, all of them. "
    "A box whose inputs did not change is left as it is."
)
@about_boxes
@click.option("--load", is_flag=True, help="Put images into the container engine as well.")
@click.option("--push", is_flag=True, help="Push images to the registries that their tags name as well.")
@click.option("--index", is_flag=True, help="Put the images of all targets under one index (a further file) as well.")
@click.option("--spec", is_flag=True, help="Write RPMs as spec and sources, for rpmbuild; no other box.")
@click.option(
    "--since",
    metavar="OLD",
    type=click.Path(path_type=Path),
    help="Write wheelhouses as deltas, without the wheels of this earlier one (folder, tar or boxsnake.lock).",
)
def command(
    console: Console,
    chosen: Chosen,
    *,
    load: bool,
    push: bool,
    index: bool,
    spec: bool,
    since: Path | None,
) -> None:
    """Make the boxes that the manifest asks for, from its lock."""
    _check_only({"--spec": "rpm"} if spec else {}, {"--since": "wheelhouse"} if since else {}, chosen.formats)
    started = time.monotonic()
    with console.progress(), ExitStack() as until:
        workspace = chosen.open()
        made: list[Made] = []
        course = _course() if push else None
        ahead = partial(_prepare, workspace, course, load=load)
        boxes = _boxes(workspace, chosen, ahead, spec=spec, since=since)
        from boxsnake.pack import pack  # not before it is needed: a wheel may have been built meanwhile

        _check_images({"--load": load, "--push": push, "--index": index}, workspace, boxes)
        width = max((len(box.name) for box in boxes), default=0)
        pushing = _push(workspace, boxes, course, until) if course else None
        for box in boxes:
            result = pack(box, workspace.store, workspace.access, pushing.begin if pushing else None)
            _tell(console, result, width)
            made.append(result)
        indexed = _index(console, workspace, made) if index else []
        loaded = _load(console, made) if load else []
        pushed = [vars(one) for one in pushing.finish(console)] if pushing else []
    console.say(f"{len(made)} {'box' if len(made) == 1 else 'boxes'} in {time.monotonic() - started:.2f} s")
    told = {"loaded": loaded, "pushed": pushed, "indexes": indexed}
    console.result(lambda: {"boxes": [_facts(result) for result in made], **told})


def _check_only(spec: Mapping[str, str], since: Mapping[str, str], formats: Sequence[str]) -> None:
    """Options that write one format otherwise, and that format: refuse two of them, and other formats. UsageError."""
    from boxsnake.errors import UsageError

    if spec and since:
        raise UsageError("--since", "cannot go with --spec: that writes RPMs alone", "Give one of them.")
    for option, wanted in {**spec, **since}.items():
        if set(formats) - {wanted}:
            raise UsageError(option, f"is for {wanted} alone", f"Run `boxsnake build {wanted}` with it.")


def _boxes(
    workspace: Workspace, chosen: Chosen, meanwhile: Callable[[], None], *, spec: bool, since: Path | None
) -> list[Box]:
    if since is not None:
        return _as_deltas(workspace, chosen.targets, since)
    return _as_specs(workspace, chosen.targets) if spec else chosen.boxes(workspace, meanwhile)


def _course() -> Course:
    from boxsnake.registry.course import Course

    return Course()


def _prepare(workspace: Workspace, course: Course | None, *, load: bool) -> None:
    """Do what a changed application is packed with or after, while its wheel is built."""
    from boxsnake import child

    _look_at_layers(workspace)
    # Before another process is waited for, imports would only take time from what they shall be ready for.
    child.is_awaited.wait()
    wanted = [
        "boxsnake.pack",
        "boxsnake.layers.blobs",
        "boxsnake.stage.staging",
        "boxsnake.ingest.wheel",
        "boxsnake.image.write",
    ]
    wanted += ["boxsnake.bases", "boxsnake.fetch", "boxsnake.binaries", "ctypes"]
    wanted += ["boxsnake.engine", "boxsnake.image.load"] if load else []
    for name in wanted:
        importlib.import_module(name)
    if course is not None:
        course.expect()


def _look_at_layers(workspace: Workspace) -> None:
    """Have those of the last image compared, which are those of the next, but for one: that is done once."""
    from boxsnake.errors import BoxsnakeError
    from boxsnake.image.layout import Layout

    # What goes wrong is told when it is needed.
    with suppress(BoxsnakeError, OSError):
        for folder in workspace.output.glob("*.image"):
            # The base's, which lie lowest, are looked at by another thread when it comes to packing.
            for layer in (layer for image in Layout(folder).images for layer in reversed(image.layers)):
                workspace.store.sound(layer.digest)


def _as_deltas(workspace: Workspace, targets: Sequence[str], since: Path) -> list[Box]:
    """The wheelhouses among the boxes, without what an earlier one has."""
    from boxsnake.house_since import read_since
    from boxsnake.packagers.wheelhouse import PACKAGER, Wheelhouse

    packager = Wheelhouse(read_since(since))
    return [
        replace(box, packager=packager, path=box.path.with_name(packager.file_name(box.plan)))
        for box in workspace.boxes([PACKAGER.name], targets)
    ]


def _as_specs(workspace: Workspace, targets: Sequence[str]) -> list[Box]:
    """The RPMs among the boxes, to be written as specs."""
    from boxsnake.os_packages.rpm_spec import PACKAGER_OF_SPECS
    from boxsnake.packagers.rpm import PACKAGER

    return [
        replace(box, packager=PACKAGER_OF_SPECS, path=box.path.with_name(PACKAGER_OF_SPECS.file_name(box.plan)))
        for box in workspace.boxes([PACKAGER.name], targets)
    ]


def _tell(console: Console, made: Made, width: int) -> None:
    state = "unchanged" if made.unchanged else f"{made.seconds:.2f} s"
    digest = made.digest.removeprefix("sha256:")[:12]
    path = path_from_here(made.box.path)
    console.say(f"{made.box.name:<{width}} {human_size(made.size):>9}  {digest}  {state:>9}  {path}")
    for note in made.notes:
        console.say(f"{'':<{width}} note: {note}")


def _load(console: Console, made: list[Made]) -> list[str]:
    from boxsnake.engine import connect
    from boxsnake.image.load import load
    from boxsnake.packagers.image import PACKAGER

    images = [result.box.path for result in made if result.box.packager.name == PACKAGER.name]
    engine = connect(reap=False)
    names: list[str] = []
    for path in images:
        names += load(engine, path)
    for name in names:
        console.say(f"loaded {name}")
    return names


def _check_images(options: Mapping[str, bool], workspace: Workspace, boxes: Sequence[Box]) -> None:
    """What options say about images, before any is built.

    Errors: UsageError where there is none, a tag has no registry to --push to, or --index finds fewer than two systems.
    """
    if not any(options.values()):
        return
    from boxsnake.errors import UsageError
    from boxsnake.packagers.image import PACKAGER

    images = [box for box in boxes if box.packager.name == PACKAGER.name]
    for option in (option for option, given in options.items() if given and not images):
        raise UsageError(option, "there is no image among what is built", f"Run `boxsnake build image {option}`.")
    if options["--push"]:
        from boxsnake.image.configuration import tags_of
        from boxsnake.registry.destinations import where_to

        for box in images:
            name = f"{box.plan.application.name}:{box.plan.application.version}"
            step = f'Set `tags = ["registry.example.org/team/{name}"]` in [boxes.image], or build it without --push '
            step += "and name a place with `boxsnake publish image TAG`."
            where_to(workspace.access.registries, tags_of(box.plan), step=step)
    if options["--index"]:
        from boxsnake.image.configuration import platform_of
        from boxsnake.image.write import check_platforms

        check_platforms([(platform_of(box.plan), "") for box in images])


def _index(console: Console, workspace: Workspace, made: Sequence[Made]) -> list[dict[str, Any]]:
    """One layout of the images of all targets, beside those of single ones."""
    from boxsnake.image.configuration import tags_of
    from boxsnake.image.layout import Layout
    from boxsnake.image.write import write_index
    from boxsnake.packagers.image import PACKAGER

    boxes = [result.box for result in made if result.box.packager.name == PACKAGER.name]
    images = [image for box in boxes for image in Layout(box.path).images]
    plan = boxes[0].plan
    out = workspace.output / f"{plan.application.name}-{plan.application.version}.index.tar"
    digest = write_index(workspace.store, images, tags_of(plan), out, epoch=plan.epoch)
    platforms = ["/".join(image.platform) for image in images]
    console.say(f"index {digest.removeprefix('sha256:')[:12]}  {path_from_here(out)}  {', '.join(platforms)}")
    return [{"path": str(out), "digest": digest, "platforms": platforms}]


def _push(workspace: Workspace, boxes: Sequence[Box], course: Course, until: ExitStack) -> BuildPush:
    from boxsnake.cli.push import BuildPush
    from boxsnake.packagers.image import PACKAGER

    return BuildPush(workspace, [box for box in boxes if box.packager.name == PACKAGER.name], course, until)


def _facts(made: Made) -> dict[str, Any]:
    return {
        "format": made.box.packager.name,
        "target": made.box.plan.target.name,
        "path": str(made.box.path),
        "size": made.size,
        "digest": made.digest,
        "seconds": round(made.seconds, 3),
        "unchanged": made.unchanged,
        "notes": list(made.notes),
    }
