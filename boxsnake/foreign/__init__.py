"""Artifacts that somebody else has made, as they are booted: what they are is read off them, and nothing is locked.

Inspection tells the format by content. Each kind then has one function here that gives a boot recipe: how it is
installed and removed by its own tools, and where its interpreter is. What a lock would say (which packages, and no
others) nobody has said; all else is proven as of any box.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from boxsnake.checks_files import Said
from boxsnake.errors import UsageError
from boxsnake.foreign.archives import environment, plain_archive
from boxsnake.foreign.images import image
from boxsnake.foreign.images import named_image as image_of_engine
from boxsnake.foreign.os_packages import deb, package_folder, rpm
from boxsnake.foreign.programs import appimage, constructor, installer, is_constructor, pex, zipapp
from boxsnake.foreign.value import Foreign, Looked
from boxsnake.foreign.wheels import wheel, wheelhouse
from boxsnake.hosts import Host
from boxsnake.inspection import inspect

__all__ = ["KINDS", "Foreign", "named_image", "recognise"]

Kind = Callable[[Looked], Foreign]

KINDS: Mapping[str, Kind] = {
    "appimage": appimage,
    "deb": deb,
    "environment": environment,
    "image": image,
    "installer": installer,
    "pex": pex,
    "rpm": rpm,
    "tarball": plain_archive,
    "wheel": wheel,
    "wheelhouse": wheelhouse,
    "zip": zipapp,
}
"""What can be booted without a manifest, by the format that inspection tells."""

_STEPS = {
    "conda": "It is one package; boot the environment that it is in, packed by conda-pack or in an image.",
    "sdist": "Build a wheel of it (`pip wheel`), and boot that or a folder with all wheels.",
    "lock": "Boot what was made of it.",
    "dockerfile": "Build it (`docker build --tag NAME .`), and boot the image by its name.",
    "folder": "Name a folder of wheels, of RPMs or of debs, an OCI image layout, or a PEX that is laid out.",
}


def recognise(path: Path, said: Said, hosts: Mapping[str, Host], scratch: Path) -> Foreign:
    """What a file or folder is, and how it is booted. `scratch` is a folder for what has to be made for that.

    Errors: UsageError for what is no box; IntegrityError for one that is damaged; ResourceError.
    """
    if path.is_dir() and (packages := package_folder(path)):
        return _as_said(packages, said)
    if is_constructor(path):
        return _as_said(constructor(_looked(path, said, hosts, scratch)), said)
    box = inspect(path)
    if box.format not in KINDS:
        known = ", ".join(sorted({*KINDS, "folder of RPMs or debs"}))
        step = _STEPS.get(box.format, f"Known are: {known}.")
        raise UsageError(str(path), f"is a {box.format}, which is nothing that can be booted", step)
    found = KINDS[box.format](replace(_looked(path, said, hosts, scratch), box=box))
    return _as_said(replace(found, application=f"{box.name} {box.version}".strip()), said)


def named_image(name: str, identity: str, said: Said) -> Foreign:
    """An image that the engine has, by its name and its id there."""
    return _as_said(image_of_engine(name, identity), said)


def _looked(path: Path, said: Said, hosts: Mapping[str, Host], scratch: Path) -> Looked:
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in path.name.partition(".")[0])
    return Looked(path=path, place=said.prefix or posixpath.join("/opt", stem or "box"), hosts=hosts, scratch=scratch)


def _as_said(found: Foreign, said: Said) -> Foreign:
    """With what the checks' files say of it."""
    recipe = found.recipe
    if said.prefix and found.kind in {"rpm", "deb", "image"}:
        step = "Leave `prefix` in [artifact] out: it is for archives, wheelhouses, installers and programs."
        raise UsageError(str(found.path), f"is a {found.kind}, whose place nobody can choose", step)
    return replace(
        found,
        recipe=replace(
            recipe,
            command=said.command or recipe.command,
            environment=tuple(sorted({**dict(recipe.environment), **dict(said.environment)}.items())),
            python=(said.python,) if said.python else recipe.python,
            scripts=posixpath.dirname(said.python) if said.python else recipe.scripts,
            borrows=recipe.borrows and not said.python,
            expects=replace(recipe.expects, rules=said.rules),
        ),
    )
