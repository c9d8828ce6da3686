"""RPMs and debs, one or several together, by their own package manager."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from boxsnake.boot_recipe import BootRecipe
from boxsnake.errors import UsageError
from boxsnake.foreign.value import UNLOCKED, Foreign, Looked
from boxsnake.inspection import inspect

_PLACE = "/tmp/packages"  # noqa: S108 - in a container of its own
_ACCOUNTS = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
# What installations leave by custom: users and groups, whose numbers must not be given twice; caches of the system.
_CUSTOMARY = (
    *(f"/etc/{name}{end}" for name in _ACCOUNTS for end in ("", "-")),
    "/etc/.pwd.lock",
    "/etc/ld.so.cache",
    "/var/cache/ldconfig",
    "/var/lib/systemd",
    "/var/log",
    "/root/.gnupg",
)
_OF_RPM = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/var/lib/dnf", "/var/cache/dnf")
# What small systems tell dpkg not to unpack, and its verification misses all the same.
_LEFT_OUT = "doc|man|info|locale"
_OF_DPKG = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "/var/cache/debconf")


def rpm(looked: Looked) -> Foreign:
    """One RPM."""
    return _packages([looked], looked.path)


def deb(looked: Looked) -> Foreign:
    """One deb."""
    return _packages([looked], looked.path)


def package_folder(folder: Path) -> Foreign | None:
    """All RPMs, or all debs, of a folder, installed together; None where it has none. Errors: UsageError for both."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix in {".rpm", ".deb"} and path.is_file()]
    if not found:
        return None
    if len({path.suffix for path in found}) > 1:
        raise UsageError(str(folder), "has both RPMs and debs", "Boot each kind from a folder of its own.")
    scratch = Looked(path=folder, place="", hosts={}, scratch=folder)
    return _packages([replace(scratch, path=path, box=inspect(path)) for path in found], folder)


def _packages(found: Sequence[Looked], path: Path) -> Foreign:
    form = found[0].box.format
    names = [one.box.name for one in found]
    files = [f"{_PLACE}/{one.path.name}" for one in found]
    owner = next((one for one in found if one.interpreter), found[0])
    own = f"/{owner.interpreter}" if owner.interpreter else ""
    modules = any("-packages/" in file for one in found for file in one.box.files)
    commands = _by_rpm(names, files) if form == "rpm" else _by_dpkg(names, files)
    install, remove, replaced = commands
    # A module without an interpreter of its own is the host's Python's to import.
    borrowed = ("/usr/bin/python3",) if modules and not own else ()
    recipe = BootRecipe(
        host=_host(form, owner.box.python, needs_python=bool(borrowed) or owner.needs_python),
        takes="rpm" if form == "rpm" else "dpkg",
        copies=tuple((str(one.path), file) for one, file in zip(found, files, strict=True)),
        install=install,
        python=(own,) if own else borrowed,
        scripts=own.rpartition("/")[0] or ("/usr/bin" if borrowed else None),
        command=(),
        remove=remove,
        writes=(),
        remains=((*_OF_RPM, *_CUSTOMARY) if form == "rpm" else (*_OF_DPKG, *_CUSTOMARY)),
        expects=UNLOCKED,
        again=replaced,
        replace=replaced,
        borrows=bool(borrowed),
    )
    architecture = next((one.architecture for one in found if one.architecture), "")
    return Foreign(path=path, kind=form, recipe=recipe, architecture=architecture)


def _host(form: str, python: str, *, needs_python: bool) -> str:
    debian = "13" if needs_python and python == "3.13" else "12"
    if form == "rpm":
        return f"debian-{debian}-rpm"
    return f"debian-{debian}-python" if needs_python else f"debian-{debian}"


_Commands = tuple[tuple[str, ...], ...]


def _by_rpm(names: Sequence[str], files: Sequence[str]) -> tuple[_Commands, _Commands, _Commands]:
    verify = ("rpm", "--verify", *names)
    install = (("rpm", "--install", *files), verify)
    replaced = (("rpm", "--upgrade", "--oldpackage", "--replacepkgs", *files), verify)
    return install, (("rpm", "--erase", *names),), replaced


def _by_dpkg(names: Sequence[str], files: Sequence[str]) -> tuple[_Commands, _Commands, _Commands]:
    # dpkg says what it finds, and ends with 0 all the same.
    verify = f"dpkg --verify {shlex.join(names)} | grep -vE '^missing +/usr/share/({_LEFT_OUT})/'"
    found = f'found=$({verify}); printf "%s" "$found"; [ -z "$found" ]'
    install = (("dpkg", "--install", *files), ("sh", "-c", found))
    # dpkg takes an empty folder along with the last package that has something in it, which may be the system's own.
    return install, (("dpkg", "--purge", *names), ("mkdir", "-p", "/opt", "/srv")), install
