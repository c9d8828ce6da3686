"""PEX: the application and its wheels as one executable file, run by a Python of the host's. Knows the pex program.

It is put together for the target's interpreter, which need not be on this machine: pex is told its tags and markers.
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from boxsnake import child, inventory
from boxsnake.archive import file_member, write_tar
from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.entries import wheel_owner
from boxsnake.errors import PackError
from boxsnake.forecast import AS_THEY_ARE, Ratio, packed
from boxsnake.included_files import digests, included_files, lay_out
from boxsnake.manifest import SharedBox
from boxsnake.manifest.text import InnerPath, Line, RelativePath, Variable, Word
from boxsnake.needs import Step
from boxsnake.pex_core import Core, left_to_core, read_core
from boxsnake.pins import pins, unique_wheels
from boxsnake.plan import expected
from boxsnake.stage.place import staging_folder
from boxsnake.system import SystemPart
from boxsnake.value import dataclass
from boxsnake.wheel_closure import check_closure, closure_notes, python_host
from boxsnake.wheel_tags import supported_tags

if TYPE_CHECKING:
    from boxsnake.forecast import Forecast
    from boxsnake.packagers import Materials
    from boxsnake.plan import Part, Plan
    from boxsnake.target import Target

_DEADLINE = 1800.0
# What pex does as a program. To learn what its own interpreter is, pex would start that once more and have pex itself
# unpacked and compiled for it, which takes as long as all else; it can tell that itself, and keeps what it knows.
_START = """\
import gc, sys
gc.disable()
sys.argv[0] = "pex"
from pex.bin.pex import main
try:
    from pex.interpreter import PythonIdentity, PythonInterpreter
    PythonInterpreter(PythonIdentity.get())
except (AttributeError, ImportError, TypeError):
    pass  # a version of pex that calls it otherwise, and then does all of it
main()
"""
_BOOTSTRAP = 1_150_000
"""What pex puts into each file to start it, about, in bytes."""
_UNPACKED = Ratio(conda=0.0, wheels=2.0, code=1.0)


@dataclass(frozen=True, kw_only=True)
class PexOptions(SharedBox):
    """`[boxes.pex]`."""

    host_brings: tuple[Word, ...] = ()
    """Conda packages without a wheel that the host is known to bring, such as "openssl"."""
    entry_point: Word | None = None
    """What the file runs, as `module:function` or `module`; left out: the program of `app.command`."""
    shebang: Word | None = None
    """The interpreter line without `#!`; left out: `/usr/bin/env python3.11` for a target with Python 3.11."""
    layout: Literal["zipapp", "packed", "loose"] = "zipapp"
    """One file; or a folder, in a tar, with each wheel as a file of its own ("packed") or all unpacked ("loose")."""
    venv: bool = True
    """Whether the first run makes a virtual environment of the file: later runs then start faster."""
    programs: Literal["no", "prepend", "append"] = "no"
    """Whether the programs of all wheels are in the PATH of what is run, before or after the host's. Needs `venv`."""
    inherit_path: Literal["false", "prefer", "fallback"] = "false"
    """Whether the host's own packages can be imported too, and whether they come before ("prefer") the file's."""
    strip_env: bool = True
    """Whether `PEX_…` variables are kept from the application, and so from PEX files that it starts."""
    include: dict[InnerPath, RelativePath] = field(default_factory=dict)
    """Files and folders of the project that go into the file as they are, by the paths that they have in it."""
    core: RelativePath | None = None
    """The PEX that this one is a plug-in of: what that one brings is left out, and nothing is run by itself."""
    sh_boot: bool = False
    """Whether a shell looks for the interpreter; it also takes another Python that all wheels fit."""
    compress: bool = True
    """Whether the file is compressed; if not, it is larger and its first run faster."""
    inject_env: dict[Variable, Line] = field(default_factory=dict)
    """Environment variables of the application, further to `app.environment`."""

    def check_keys(self, given: frozenset[str]) -> None:  # noqa: ARG002 - part of the contract
        """See `Section`."""
        if self.programs != "no" and not self.venv:
            raise ValueError("`programs` needs `venv`")
        if self.core is not None and self.entry_point is not None:
            raise ValueError("a plug-in of a `core` has no `entry-point`: the core is what is run")


class Pex:
    """The packager of PEX files."""

    name = "pex"
    summary = "one executable file for hosts that have a Python"
    options = PexOptions
    step: Step = "PEX"
    moments: frozenset[str] = frozenset()
    system: frozenset[SystemPart] = frozenset()
    unfolds = True

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_closure(plan, plan.options.host_brings, box=self.name)
        pins(plan.parts)
        left_to_core(plan.parts, _core(plan))
        _included(plan)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{_name(plan)}.pex" if plan.options.layout == "zipapp" else f"{_name(plan)}.tar"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        core = _core(plan)
        return {
            "pex": importlib.metadata.version("pex"),
            "zlib": zlib.ZLIB_RUNTIME_VERSION,
            "include": digests(_included(plan)),
            "core": core.wheels if core else None,
        }

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        left = left_to_core(plan.parts, _core(plan))
        wheels = materials.wheels([wheel for wheel in unique_wheels(plan.parts) if wheel.name not in left])
        # pex lays out hundreds of folders, which are removed again.
        with staging_folder(materials.store, wheels.values()) as scratch:
            house = scratch / "wheels"
            house.mkdir()
            for name, path in wheels.items():
                # No link: pex reads the name off the file that a link leads to.
                with disk_faults(house):
                    shutil.copyfile(path, house / name)
            lay_out(_included(plan), scratch / "include")
            made = out if plan.options.layout == "zipapp" else scratch / _name(plan)
            argv = [sys.executable, "-I", "-c", _START, *_arguments(plan, scratch, left), "-o", str(made)]
            # A private root: what earlier runs left in a shared one is not to be trusted.
            # The cache's usual place, as it is seen from home, is written into the file as where it looks first.
            cache = str(scratch / "home" / ".cache")
            root = str(scratch / "root")
            env = child.environment(scratch, XDG_CACHE_HOME=cache, PEX_ROOT=root, PEX_IGNORE_RCFILES="1")
            done = child.run(argv, cwd=scratch, env=env, deadline=_DEADLINE)
            if done.code != 0 or not made.exists():
                shown = done.last_lines.replace(str(scratch), "…")
                raise PackError(
                    self.file_name(plan),
                    f"pex {done.why(_DEADLINE)}\n{shown}",
                    "Mend what pex complains about; if it is nothing of yours, report it.",
                    format=self.name,
                    output=shown,
                )
            if made != out:
                _write_folder(made, out, epoch=plan.epoch)
        out.chmod(0o755 if made == out else 0o644)
        return closure_notes(plan, plan.options.host_brings)

    def needs(self, plan: Plan) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        cache = ("a cache folder",) if plan.options.venv or plan.options.layout == "zipapp" else ()
        return (*cache, *sorted(plan.options.host_brings))

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        options: PexOptions = plan.options
        left = {wheel_owner(name) for name in left_to_core(plan.parts, _core(plan))}
        archives = [archive for archive in inventory.wheels(plan, materials.store) if archive.owner not in left]
        ratio = _UNPACKED if options.layout == "loose" else AS_THEY_ARE
        own = _BOOTSTRAP + sum(path.stat().st_size for path in _included(plan).values())
        return packed(archives, ratio, own=own, notes=closure_notes(plan, options.host_brings))

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        folder = f"/opt/{plan.application.name}"
        file = f"{folder}/{artifact.name}"
        root = "/tmp/pex"  # noqa: S108 - in a container of its own
        is_folder = plan.options.layout != "zipapp"
        start = f"{folder}/{_name(plan)}/__main__.py" if is_folder else file
        environment = [("PEX_ROOT", root)]
        copies = [(str(artifact), file)]
        expects = expected(plan, conda=False)
        core = _core(plan)
        if core:
            environment.append(("PEX_PATH", start.removesuffix("/__main__.py")))
            start = f"{folder}/core/{core.path.name}"
            copies.append((str(core.path), start))
            start = f"{start}/__main__.py" if core.path.is_dir() else start
            brought = {(found.name, found.version) for found in core.distributions(plan.parts[0])}
            expects = replace(expects, distributions=tuple(sorted({*expects.distributions, *brought})))
        return BootRecipe(
            host=python_host(plan),
            takes="python",
            copies=tuple(copies),
            install=(("tar", "-xf", file, "-C", folder),) if is_folder else (),
            python=("env", "PEX_INTERPRETER=1", start),
            scripts=None,
            command=(start,),
            remove=(("rm", "-rf", folder, root),),
            writes=(folder, root),
            remains=(),
            expects=expects,
            environment=tuple(environment),
        )


PACKAGER = Pex()


def _name(plan: Plan) -> str:
    """The file's name without its suffix, or the folder's."""
    name = f"{plan.application.name}-{plan.application.version}"
    return name if plan.options.layout == "zipapp" else f"{name}.{plan.options.layout}-pex"


def _core(plan: Plan) -> Core | None:
    return read_core((plan.root / plan.options.core).resolve()) if plan.options.core else None


def _included(plan: Plan) -> dict[str, Path]:
    return included_files(plan.options.include, plan.root, key="boxes.pex.include")


def _write_folder(folder: Path, out: Path, *, epoch: int) -> None:
    """Pack a folder layout into a tar."""
    members = [
        file_member(
            f"{folder.name}/{path.relative_to(folder).as_posix()}", path, executable=bool(path.stat().st_mode & 0o100)
        )
        for path in folder.rglob("*")
        if path.is_file()
    ]
    with disk_faults(out), out.open("xb") as stream:
        write_tar(members, stream, epoch=epoch)


def _arguments(plan: Plan, scratch: Path, left: frozenset[str]) -> Iterator[str]:
    options = plan.options
    # Wheels that are there need no resolving; but then pex would have each fit every one of several targets.
    found_by = ("--find-links", "--no-build") if plan.others else ("--pre-resolved-dists",)
    yield from ("--no-index", found_by[0], str(scratch / "wheels"), *found_by[1:])
    yield from _platforms(plan.parts, scratch)
    # Wheels as they are: seven times faster to pack than unpacked ones, smaller, and the first run takes as long.
    yield "--no-pre-install-wheels"
    # Zip archives that Python cannot import from are made without a word else.
    if options.venv:
        # Before an option, never before a requirement: pex would take that for the value that may follow this.
        yield "--venv" if options.programs == "no" else f"--venv={options.programs}"
    yield from ("--check", "error", "--no-compile", "--no-use-system-time")
    yield from ("--layout", options.layout, f"--inherit-path={options.inherit_path}")
    yield "--strip-pex-env" if options.strip_env else "--no-strip-pex-env"
    yield from ("--python-shebang", options.shebang or f"/usr/bin/env python{_python(plan.parts)}")
    yield "--sh-boot" if options.sh_boot else "--no-sh-boot"
    yield "--compress" if options.compress else "--no-compress"
    if options.include:
        yield from ("--sources-directory", str(scratch / "include"))
    if not options.core:
        yield from _entry_point(plan)
    for name, value in sorted({**dict(plan.application.environment), **options.inject_env}.items()):
        yield from ("--inject-env", f"{name}={value}")
    yield from _requirements(plan.parts, left)


def _platforms(parts: Sequence[Part], scratch: Path) -> Iterator[str]:
    for number, part in enumerate(parts):
        platform = scratch / f"platform-{number}.json"
        platform.write_text(json.dumps(complete_platform(part.target, part.lock.python)), encoding="utf-8")
        yield from ("--complete-platform", str(platform))


def _python(parts: Sequence[Part]) -> str:
    minors = {part.lock.python_minor for part in parts}
    # Another than it needs looks for one that it can take, and hands over.
    return minors.pop() if len(minors) == 1 else "3"


def _requirements(parts: Sequence[Part], left: frozenset[str]) -> Iterator[str]:
    """Every wheel by name, the ones that nothing requires too: a box holds the whole lock."""
    for name in sorted(left):
        yield from ("--exclude", name)
    carried = [pin for pin in pins(parts) if pin.name not in left]
    for pin in carried:
        if not pin.is_only:
            # What requires it says no version, and of several wheels that fit any would be taken.
            yield from ("--override", pin.requirement)
    yield from (pin.requirement for pin in carried)


def _entry_point(plan: Plan) -> Iterator[str]:
    """What is run, and the arguments that it always gets."""
    command = plan.application.command
    if plan.options.entry_point is not None:
        yield f"--entry-point={plan.options.entry_point}"
        arguments = command[1:]
    elif command[:2] == ("python", "-m") and len(command) > 2:
        yield f"--entry-point={command[2]}"
        arguments = command[3:]
    elif command:
        yield f"--script={command[0]}"
        arguments = command[1:]
    else:
        return
    for argument in arguments:
        # pex splits what it is given as a shell does, and formats it when it runs: {pex.env.NAME}.
        literal = argument.replace("{", "{{").replace("}", "}}")
        yield f"--inject-args={shlex.quote(literal)}"


def complete_platform(target: Target, python: str) -> dict[str, Any]:
    """A target's interpreter as pex takes it: its tags, best first, and its markers (PEP 425, PEP 508)."""
    full = python if python.count(".") > 1 else f"{python}.0"
    markers = {name: value for name, value in target.marker_environment(full).items() if value}
    return {"compatible_tags": [str(tag) for tag in supported_tags(target, python)], "marker_environment": markers}
