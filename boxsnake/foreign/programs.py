"""Files that are started as they are: PEX files, zipapps, installers, userspace images."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.errors import UsageError
from boxsnake.foreign.value import UNLOCKED, Foreign, Looked, architecture_of, python_host
from boxsnake.self_placing import installer_recipe, userspace_recipe
from boxsnake.target import OCI_PLATFORMS

_HEAD = 4096
_CONSTRUCTOR = re.compile(rb"^# NAME:\s+(\S+)\s*\n(?:#.*\n)*?# PLAT:\s+(\S+)", re.MULTILINE)
_CACHE = "/tmp/programs-cache"  # noqa: S108 - in a container of its own
_CHECK = "/tmp/interpreter.sh"  # noqa: S108 - as above
_SHIV = "environment.json"
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
# shiv's files run a file by their Python, and no text; this makes its interpreter take both.
_RUNNER = """\
import sys
option, *words = sys.argv[1:]
if option == "-c":
    sys.argv = ["-c", *words[1:]]
    exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
elif option == "-m":
    import runpy
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
else:
    import runpy
    sys.argv = [option, *words]
    runpy.run_path(option, run_name="__main__")
"""


def pex(looked: Looked) -> Foreign:
    """Pex's files, and its folders."""
    python = ("env", "PEX_INTERPRETER=1", _start(looked))
    return _python_program(looked, _versions(looked.box.python), python, environment={"PEX_ROOT": _CACHE})


def zipapp(looked: Looked) -> Foreign:
    """A zip archive with a program: shiv's, or zipapp's. Errors: UsageError for any other."""
    with zipfile.ZipFile(looked.path) as archive:
        names = set(archive.namelist())
    if "__main__.py" not in names:
        step = "Name a program (with `__main__.py`), a PEX, wheels, or a tar archive of an environment."
        raise UsageError(str(looked.path), "is a zip archive of no program", step)
    start = _start(looked)
    if _SHIV not in names or not any(name.startswith("_bootstrap/") for name in names):
        return _python_program(looked, looked.box.python, ("env", f"PYTHONPATH={start}", "python3"))
    runner = looked.scratch / f"{looked.path.name}-runner.py"
    with disk_faults(runner):
        runner.write_text(_RUNNER, encoding="utf-8")
    there = f"{looked.place}/runner.py"
    python = ("env", "SHIV_INTERPRETER=1", start, there)
    further = ((str(runner), there),)
    return _python_program(looked, looked.box.python, python, further=further, environment={"SHIV_ROOT": _CACHE})


def _versions(constraints: str) -> str:
    """PEX's interpreter constraints as a specifier, the first of several; without any, the version of its wheels."""
    match = re.search(r"[<>=!~].*|^[0-9]+\.[0-9]+$", constraints.partition(" or ")[0])
    return match[0] if match else ""


def _start(looked: Looked) -> str:
    """What is started, where it is put."""
    file = f"{looked.place}/{looked.path.name}"
    return f"{file}/__main__.py" if looked.path.is_dir() else file


def _python_program(
    looked: Looked,
    versions: str,
    python: tuple[str, ...],
    *,
    further: tuple[tuple[str, str], ...] = (),
    environment: Mapping[str, str] = _NO_VARIABLES,
) -> Foreign:
    """One that a host's Python runs; `python` is what leads to its interpreter."""
    host, version = python_host(looked, versions)
    start, check = _start(looked), looked.scratch / f"{looked.path.name}-interpreter.sh"
    with disk_faults(check):
        check.write_text(_FIRST_LINE, encoding="utf-8")
    recipe = BootRecipe(
        host=host,
        takes="python",
        copies=((str(looked.path), f"{looked.place}/{looked.path.name}"), (str(check), _CHECK), *further),
        install=(("chmod", "0755", start), ("sh", _CHECK, start)),
        python=python,
        scripts=None,
        command=(start,),
        remove=(("rm", "-rf", looked.place, _CACHE),),
        writes=(),
        remains=(),
        expects=UNLOCKED,
        environment=tuple(sorted(environment.items())),
    )
    return Foreign(path=looked.path, kind=looked.box.format, recipe=recipe, python=version if versions else "")


# A program whose interpreter is absent is "not found" for whoever starts it, though it is there.
_FIRST_LINE = """\
line=$(head -c 512 "$1" | tr -d '\\000' | head -n 1)
case $line in "#!"*) ;; *) echo "error: it has no first line that names an interpreter" >&2; exit 1 ;; esac
line=${line#"#!"}
set -- $line
[ "${1##*/}" != env ] || shift
[ "$1" != -S ] || shift
command -v "$1" >/dev/null || { echo "error: its first line names the interpreter $1, which is not found" >&2; exit 1; }
"""


def is_constructor(path: Path) -> bool:
    """Whether it is an installer of an environment, as constructor makes them."""
    if not path.is_file():
        return False
    with disk_faults(path), path.open("rb") as stream:
        head = stream.read(_HEAD)
    return head.startswith(b"#!") and bool(_CONSTRUCTOR.search(head))


def constructor(looked: Looked) -> Foreign:
    """Constructor's installers, Miniconda's among them."""
    with looked.path.open("rb") as stream:
        match = _CONSTRUCTOR.search(stream.read(_HEAD))
    file, place = f"/tmp/{looked.path.name}", looked.place  # noqa: S108 - in a container of its own
    platform = match[2].decode("ascii", "replace") if match else ""
    recipe = BootRecipe(
        host="debian-12",
        copies=((str(looked.path), file),),
        install=(("bash", file, "-b", "-p", place),),
        python=(f"{place}/bin/python",),
        scripts=f"{place}/bin",
        command=(),
        remove=(("rm", "-rf", place),),
        writes=(),
        remains=(file, "/root/.conda", "/root/.condarc", "/root/.cache"),
        expects=UNLOCKED,
        again=(("bash", file, "-b", "-u", "-p", place),),
    )
    _, architecture = OCI_PLATFORMS.get(platform, ("", architecture_of(platform)))
    return Foreign(path=looked.path, kind="constructor", recipe=recipe, architecture=architecture)


def installer(looked: Looked) -> Foreign:
    """Boxsnake's own installers, without their manifest."""
    recipe = installer_recipe(looked.path, looked.box.name, looked.place, host="debian-12", expects=UNLOCKED)
    return Foreign(path=looked.path, kind="installer", recipe=recipe, architecture=looked.architecture)


def appimage(looked: Looked) -> Foreign:
    """Boxsnake's userspace images, without their manifest. Errors: UsageError for those that an ELF runtime starts."""
    with disk_faults(looked.path), looked.path.open("rb") as stream:
        is_script = stream.read(2) == b"#!"
    if not is_script:
        step = "Run it with --appimage-extract, and boot a tar of the folder squashfs-root that it makes."
        raise UsageError(str(looked.path), "is an AppImage whose program mounts it, which a container may not", step)
    recipe = userspace_recipe(looked.path, looked.place, host="debian-12", expects=UNLOCKED)
    return Foreign(path=looked.path, kind="appimage", recipe=recipe, architecture=looked.architecture)
