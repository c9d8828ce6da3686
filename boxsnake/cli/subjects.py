"""What `boot` boots: boxes of the manifest, named by format or file, and artifacts that somebody else has made."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.boot.runtime import BaseOf, Runtime
    from boxsnake.boot_recipe import BootRecipe, Check
    from boxsnake.boxes import Box, Workspace
    from boxsnake.checks_files import Said
    from boxsnake.foreign import Foreign


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One artifact, and all that booting it takes. `older` is the recipe of an earlier one (UsageError for none).

    `architecture` is as OCI names it, "" for any; `glibc` and `python` are what it was made for, where that is known.
    `obstacle` is why it can be booted nowhere.
    """

    name: str
    kind: str
    path: Path
    recipe: BootRecipe
    checks: tuple[Check, ...]
    older: Callable[[Path], BootRecipe]
    bases: Callable[[], AbstractContextManager[BaseOf | None]]
    traces: tuple[str, ...] = ()
    platform: str = ""
    architecture: str = ""
    glibc: str | None = None
    python: str = ""
    obstacle: str = ""
    application: str = ""
    """Its name and version."""
    is_outdated: bool = False
    """Whether it is known to be made of what has changed since."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the command line names: boxes of the manifest here, other artifacts, images of the engine."""

    own: tuple[str, ...]
    files: tuple[Path, ...]
    images: tuple[str, ...]


def sorted_words(words: Sequence[str], manifest: Path | None, output: Path | None) -> Words:
    """Which of the words mean boxes of the manifest, and which do not need one.

    What lies where the manifest's boxes do may be one of them, whether it is there or not.
    """
    from boxsnake.cli.artifact import path_of
    from boxsnake.packagers import packagers

    folder = (output.absolute() if output else None) or _folder_of_boxes(manifest)
    own, files, images = [], [], []
    for word in words:
        path = path_of(word)
        if word in packagers() or (folder and path.absolute().parent == folder and _folder_of_boxes(manifest)):
            own.append(word)
        elif path.exists():
            files.append(path.absolute())
        else:
            images.append(word)
    return Words(own=tuple(own), files=tuple(files), images=tuple(images))


def _folder_of_boxes(manifest: Path | None) -> Path | None:
    from boxsnake.errors import UsageError
    from boxsnake.manifest_file import find

    try:
        found = find(manifest or Path()) if manifest is None or manifest.is_dir() else manifest
    except UsageError:
        return None
    return found.absolute().parent / "dist"


def own_subjects(
    workspace: Workspace, words: Sequence[str], targets: Sequence[str], said: Said, *, offline: bool
) -> tuple[list[Subject], list[Path]]:
    """The boxes of the manifest that are meant, and the files that are none of them.

    Errors: UsageError for a word that means nothing; ResourceError for a box that is not made yet.
    """
    from boxsnake.errors import UsageError
    from boxsnake.packagers import packagers

    if said.is_of_an_artifact:
        step = "Leave [app] and [artifact] out of the checks' file, or name artifacts that are not the manifest's."
        raise UsageError("--checks", "says how an artifact is started or found, and the manifest says so", step)
    formats = [word for word in words if word in packagers()]
    # What is named by its format needs no other box to be fit to be packed.
    known = workspace.boxes(formats if len(formats) == len(words) else (), targets)
    foreign = [word for word in words if not any(_is_meant(box, word) for box in known) and Path(word).exists()]
    meant = tuple(word for word in words if word not in foreign)
    chosen = _chosen(known, meant) if meant or not words else []
    # One that is for several targets is booted for each of them.
    seen = (one for box in chosen for one in box.by_target)
    wanted = [one for one in seen if not targets or one.plan.target.name in targets]
    return [_of_box(box, workspace, said, offline=offline) for box in wanted], [
        Path(word).absolute() for word in foreign
    ]


def _of_box(box: Box, workspace: Workspace, said: Said, *, offline: bool) -> Subject:
    from boxsnake import pack
    from boxsnake.checks_files import with_rules
    from boxsnake.errors import BoxsnakeError
    from boxsnake.materials import StoreMaterials

    access = dataclasses.replace(workspace.access, offline=workspace.access.offline or offline)

    @contextlib.contextmanager
    def bases() -> Iterator[BaseOf]:
        with StoreMaterials(workspace.store, box.plan, access) as materials:
            yield materials.base

    def older(path: Path) -> BootRecipe:
        from boxsnake.errors import UsageError

        # What a tar is laid out as will do as well.
        wanted = box.path.with_suffix("").suffix if path.is_dir() else box.path.suffix
        if path.suffix != wanted:
            step = f"Name an earlier artifact with --from, such as {box.path.name}."
            raise UsageError(str(path), f"is no {box.packager.name} by its name", step)
        return box.packager.boot(box.plan, path)

    def is_outdated() -> bool:
        # What a base is that is not at hand is not asked for: no more would be learnt than that.
        with (
            contextlib.suppress(BoxsnakeError),
            StoreMaterials(workspace.store, box.plan, dataclasses.replace(access, offline=True)) as materials,
        ):
            return pack.is_outdated(box, materials)
        return False

    recipe, target = box.packager.boot(box.plan, box.path), box.plan.target
    expects = dataclasses.replace(recipe.expects, rules=with_rules(recipe.expects.rules, said.rules))
    platform = target.oci_platform
    return Subject(
        name=box.name,
        kind=box.packager.name,
        path=box.path,
        recipe=dataclasses.replace(recipe, expects=expects),
        checks=(*box.plan.checks, *said.checks),
        older=older,
        bases=bases,
        traces=(str(box.plan.root), str(workspace.store.root)),
        platform=target.platform,
        architecture=platform[1] if platform else "",
        glibc=target.glibc,
        python=box.plan.lock.python_minor,
        application=f"{box.plan.application.name} {box.plan.application.version}",
        is_outdated=is_outdated(),
        obstacle="" if platform else f"there are no containers of {target.platform}",
    )


def foreign_subjects(
    files: Sequence[Path], images: Sequence[str], runtime: Runtime, said: Said, scratch: Path
) -> list[Subject]:
    """Artifacts that no manifest tells of. Errors: UsageError for what is none; IntegrityError; ResourceError."""
    from boxsnake.errors import UsageError
    from boxsnake.foreign import named_image, recognise
    from boxsnake.hosts import load_hosts
    from boxsnake.packagers import packagers

    known = load_hosts()
    found = []
    for number, path in enumerate(files):
        own = scratch / str(number)
        own.mkdir()
        found.append(_of_foreign(recognise(path, said, known, own), path.name, own, said))
    for name in images:
        image = runtime.image(name)
        if image is None:
            step = f"Name a file, an image that the engine has, or a format: {', '.join(packagers())}."
            raise UsageError(name, "is no format, no file, and no image of the engine", step)
        found.append(_of_foreign(named_image(name, image.id, said), name, scratch, said))
    return found


def _of_foreign(foreign: Foreign, name: str, scratch: Path, said: Said) -> Subject:
    def older(path: Path) -> BootRecipe:
        from boxsnake.errors import UsageError
        from boxsnake.foreign import recognise
        from boxsnake.hosts import load_hosts

        folder = scratch / "older"
        folder.mkdir(exist_ok=True)
        earlier = recognise(path, said, load_hosts(), folder)
        if earlier.kind != foreign.kind:
            step = f"Name an earlier {foreign.kind} with --from."
            raise UsageError(str(path), f"is of the kind {earlier.kind}, and {name} is of {foreign.kind}", step)
        return earlier.recipe

    return Subject(
        name=name,
        kind=foreign.kind,
        path=foreign.path,
        recipe=foreign.recipe,
        checks=said.checks,
        older=older,
        bases=lambda: contextlib.nullcontext(None),
        platform=f"linux/{foreign.architecture}",
        architecture=foreign.architecture,
        python=foreign.python,
        application=foreign.application,
    )


def _chosen(known: list[Box], asked: tuple[str, ...]) -> list[Box]:
    """The boxes that were asked for by format or by path, all of them without a word; they must have been made."""
    from boxsnake.errors import ResourceError, UsageError

    for word in asked:
        if not any(_is_meant(box, word) for box in known):
            there = ", ".join(dict.fromkeys(box.packager.name for box in known))
            raise UsageError(word, "is no format of the manifest and no file that it makes", f"It makes {there}.")
    chosen = [box for box in known if not asked or any(_is_meant(box, word) for word in asked)]
    for box in chosen:
        if not box.path.exists():
            step = f"Run `boxsnake build {box.packager.name}` first."
            raise ResourceError(str(box.path), "there is no such box yet", step, format=box.packager.name)
    return chosen


def _is_meant(box: Box, word: str) -> bool:
    return word == box.packager.name or Path(word).absolute() == box.path
