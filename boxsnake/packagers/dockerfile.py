"""A build context: the image's layers as archives, and a Dockerfile that unpacks them in the image's order.

<name>-<version>.context/
    Dockerfile                for any builder, without network
    .dockerignore
    layers/                   one archive for each layer, named by its content
    README.md

The layers are those of the format `image`, and `ADD` unpacks an archive with its modes, owners and times, so the tree
that comes out is the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boxsnake import reference
from boxsnake.archive import Member, file_member, write_tar
from boxsnake.boot_recipe import BootRecipe, BuildContext
from boxsnake.disk import disk_faults
from boxsnake.dockerfile import dockerfile
from boxsnake.errors import PackError
from boxsnake.image.base_name import SCRATCH, is_local
from boxsnake.image.configuration import platform_of, runtime, tags_of
from boxsnake.image.contents import Contents, base_name, contents, groups_of
from boxsnake.image.whiteouts import has_whiteouts
from boxsnake.layers.plan import LayerBlob
from boxsnake.oci import Runtime
from boxsnake.packagers.image import Image, ImageOptions
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.bases import Base
    from boxsnake.forecast import Forecast
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan
    from boxsnake.store import Store

_IGNORED = b"*\n!layers/*.tar.gz\n"
_README = """\
# {name} {version}

A build context: the application's layers and a Dockerfile that puts them on {base}.
Nothing is downloaded{but} and no program runs while it is built.

    docker build --tag {tag} .
{other}"""
_OTHER = """
Another base, of the same distribution and at least as new:

    docker build --build-arg BASE=registry.example.org/{base} --tag {tag} .
"""


@dataclass(frozen=True, kw_only=True)
class DockerfileOptions(ImageOptions):
    """`[boxes.dockerfile]`."""


class Dockerfile(Image):
    """The packager of build contexts."""

    name = "dockerfile"
    summary = "a build context with a Dockerfile, for those who must build images with BuildKit"
    options = DockerfileOptions
    unfolds = True

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        super().check(plan)
        name = base_name(plan)
        if not is_local(name):
            try:
                reference.parse(name)
            except ValueError as error:
                step = "Correct `base` in [boxes.dockerfile]."
                raise PackError(f"base image {name!r}", str(error), step, base=name) from None

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{_folder(plan)}.tar"

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        made = contents(plan, materials)
        carried = made.base.layers if is_local(base_name(plan)) else ()
        _check_removals(plan, carried, made.layers, materials.store)
        archives = {_archive_name(layer): materials.store.path(layer.digest) for layer in (*carried, *made.layers)}
        order = [_archive_name(layer) for layer in (*carried, *made.layers)]
        texts = {".dockerignore": _IGNORED, "README.md": _readme(plan)}
        members = [file_member(name, source) for name, source in (texts | archives).items()]
        members.append(_dockerfile(plan, made, order))
        with disk_faults(out), out.open("xb", buffering=0) as stream:
            write_tar(_within(_folder(plan), members), stream, epoch=plan.epoch)
        return made.notes

    def needs(self, plan: Plan) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        base = base_name(plan)
        return ("or another builder", *(() if is_local(base) else (f"base {base}",)))

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        from boxsnake.image.forecast import forecast_of

        return forecast_of(plan, materials, with_base=is_local(base_name(plan)))

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        name = base_name(plan)
        base = None if is_local(name) else name
        context = BuildContext(base=base, platform=platform_of(plan))
        return dataclasses.replace(super().boot(plan, artifact), context=context)


PACKAGER = Dockerfile()


def _folder(plan: Plan) -> str:
    return f"{plan.application.name}-{plan.application.version}.context"


def _within(folder: str, members: Iterable[Member]) -> list[Member]:
    return [member._replace(name=f"{folder}/{member.name}") for member in members]


def _archive_name(layer: LayerBlob) -> str:
    """By its content: builders compare a file of the context by size and time with what they have of that name."""
    name = re.sub("[^A-Za-z0-9._-]", "-", layer.name)
    return f"layers/{name}.{layer.digest.removeprefix('sha256:')[:16]}.tar.gz"


def _dockerfile(plan: Plan, made: Contents, archives: Sequence[str]) -> Member:
    name = base_name(plan)
    carries = is_local(name)
    text = dockerfile(
        base=SCRATCH if carries else _pinned(plan, made.base),
        inherited=Runtime() if carries else made.base.runtime,
        archives=archives,
        runtime=runtime(plan, made.base, made.layers),
        about=(f"{plan.application.name} {plan.application.version}", f"docker build --tag {tags_of(plan)[0]} ."),
    ).encode()
    # BuildKit sends a file only if its size or time are others than those of what it was sent from this folder before.
    # The name cannot tell this one from its predecessor, so the time does.
    moved = int.from_bytes(hashlib.sha256(text).digest()[:3], "big")
    return file_member("Dockerfile", text)._replace(time=plan.epoch + moved)


def _pinned(plan: Plan, base: Base) -> str:
    """The base's reference, at the lock's digest or else the one that it was found at."""
    name, pin = base_name(plan), plan.lock.base
    named = reference.parse(name)
    digest = pin.digest if pin and pin.reference == name else base.manifest if base.is_reference else ""
    return str(named.pinned(digest) if digest and not named.digest else named)


def _check_removals(plan: Plan, carried: Sequence[LayerBlob], made: Sequence[LayerBlob], store: Store) -> None:
    """Errors: PackError where a layer removes what one below it has: `ADD` can only add."""
    staged = {group.name for group in groups_of(plan)}
    base = f"base image {base_name(plan)}"
    checked = [(base, "Name a base of a registry, or the tar of one root file system.", layer) for layer in carried[1:]]
    step = "Have it remove nothing that was there before, or take the format `image`."
    # What was staged is all additions; what was run in a container need not be.
    checked += [(f"layer {layer.name}", step, layer) for layer in made if layer.name not in staged]
    for thing, next_step, layer in checked:
        if has_whiteouts(store.path(layer.digest)):
            cause = f"{layer.digest} removes files of the layers below, which `ADD` cannot"
            raise PackError(thing, cause, next_step, layer=layer.digest)


def _readme(plan: Plan) -> bytes:
    name, tag = base_name(plan), tags_of(plan)[0]
    local = is_local(name)
    return _README.format(
        name=plan.application.name,
        version=plan.application.version,
        base="its base, which is among them" if local else name,
        but="" if local else ", but for that base,",
        tag=tag,
        other="" if local else _OTHER.format(base=name, tag=tag),
    ).encode()
