"""Wheels: folders and archives of them, installed by pip into an environment of a host's Python, without network."""

from __future__ import annotations

import posixpath
import re

from boxsnake.boot_recipe import BootRecipe
from boxsnake.foreign.archives import unpacked
from boxsnake.foreign.value import UNLOCKED, Foreign, Looked, python_host

_HOUSE = "/tmp/house"  # noqa: S108 - in a container of its own
# pip of its own environment: the box's shall hold what the wheels bring and nothing else.
_PIP = "/tmp/pip"  # noqa: S108 - as above
_PROJECT = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._]*?)-[^-]+(-[^-]+)*\.(whl)$")
_SDIST = re.compile(r"^(?P<name>[A-Za-z0-9._-]+?)-(?P<version>[0-9][^-]*)\.(tar\.gz|zip)$")


def wheel(looked: Looked) -> Foreign:
    """One wheel by itself: what it requires is not there, and is told so."""
    there = f"{_HOUSE}/{looked.path.name}"
    return _installed(looked, ((str(looked.path), there),), (), [there], "--no-deps")


def wheelhouse(looked: Looked) -> Foreign:
    """A folder of wheels, or an archive of one."""
    files = looked.box.files
    wheels = sorted({f"{path.partition('.whl/')[0]}.whl" for path in files if ".whl/" in path})
    if looked.path.is_dir():
        copies: tuple[tuple[str, str], ...] = ((str(looked.path), _HOUSE),)
        unpack: tuple[tuple[str, ...], ...] = ()
    else:
        archive, there = unpacked(looked), "/tmp/house.tar"  # noqa: S108 - as above
        copies, unpack = ((str(archive), there),), (("mkdir", "-p", _HOUSE), ("tar", "-xf", there, "-C", _HOUSE))
    folders = sorted({posixpath.join(_HOUSE, posixpath.dirname(path)).rstrip("/") for path in wheels})
    links = [word for folder in folders for word in ("--find-links", folder)]
    listing = next((path for path in sorted(files, key=len) if posixpath.basename(path) == "requirements.txt"), "")
    wanted = ["--requirement", posixpath.join(_HOUSE, listing)] if listing else _names([*wheels, *files])
    return _installed(looked, copies, unpack, [*links, *wanted])


def _names(paths: list[str]) -> list[str]:
    """The projects of wheels and sdists, each once."""
    names = [posixpath.basename(path) for path in paths if ".whl/" not in path]
    found = (_PROJECT.match(name) or _SDIST.match(name) for name in names)
    return sorted({match["name"].replace("_", "-").lower() for match in found if match})


def _installed(
    looked: Looked,
    copies: tuple[tuple[str, str], ...],
    unpack: tuple[tuple[str, ...], ...],
    wanted: list[str],
    *options: str,
) -> Foreign:
    versions = looked.box.python if looked.box.format != "wheel" else ""
    host, version = python_host(looked, versions)
    place = looked.place
    python = f"{place}/bin/python"
    pip = (f"{_PIP}/bin/python", "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
    recipe = BootRecipe(
        host=host,
        takes="python",
        copies=copies,
        install=(
            *unpack,
            ("python3", "-m", "venv", _PIP),
            ("python3", "-m", "venv", "--without-pip", place),
            (*pip, "--no-index", *options, *wanted),
        ),
        python=(python,),
        scripts=f"{place}/bin",
        command=(),
        remove=(("rm", "-rf", place, _PIP, _HOUSE),),
        writes=(),
        remains=(),
        expects=UNLOCKED,
    )
    return Foreign(path=looked.path, kind=looked.box.format, recipe=recipe, python=version if versions else "")
