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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from boxsnake import child
from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.errors import PackError
from boxsnake.manifest import Section
from boxsnake.manifest.text import Line, Variable, Word
from boxsnake.plan import expected
from boxsnake.system import SystemPart
from boxsnake.wheel_closure import check_closure, closure_notes, python_host
from boxsnake.wheel_tags import supported_tags

if TYPE_CHECKING:
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan
    from boxsnake.target import Target

_DEADLINE = 1800.0


class PexOptions(Section):
    """`[boxes.pex]`."""

    host_brings: tuple[Word, ...] = ()
    """Conda packages without a wheel that the host is known to bring, such as "openssl"."""
    entry_point: Word | None = None
    """What the file runs, as `module:function` or `module`; left out: the program of `app.command`."""
    shebang: Word | None = None
    """The interpreter line without `#!`; left out: `/usr/bin/env python3.11` for a target with Python 3.11."""
    venv: bool = True
    """Whether the first run makes a virtual environment of the file: later runs then start faster."""
    sh_boot: bool = False
    """Whether a shell looks for the interpreter; it also takes another Python that all wheels fit."""
    compress: bool = True
    """Whether the file is compressed; if not, it is larger and its first run faster."""
    inject_env: dict[Variable, Line] = Field(default_factory=dict)
    """Environment variables of the application, further to `app.environment`."""


class Pex:
    """The packager of PEX files."""

    name = "pex"
    summary = "one executable file for hosts that have a Python"
    options = PexOptions
    moments: frozenset[str] = frozenset()
    system: frozenset[SystemPart] = frozenset()
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_closure(plan, plan.options.host_brings, box=self.name)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{plan.application.name}-{plan.application.version}.pex"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"pex": importlib.metadata.version("pex"), "zlib": zlib.ZLIB_RUNTIME_VERSION}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        wheels = materials.wheels(plan.wheels)
        with materials.scratch() as scratch:
            house = scratch / "wheels"
            house.mkdir()
            for name, path in wheels.items():
                # No link: pex reads the name off the file that a link leads to.
                with disk_faults(house):
                    shutil.copyfile(path, house / name)
            platform = scratch / "platform.json"
            platform.write_text(json.dumps(complete_platform(plan.target, plan.lock.python)), encoding="utf-8")
            argv = [sys.executable, "-I", "-m", "pex", *_arguments(plan, house, platform), "-o", str(out)]
            # A private root: what earlier runs left in a shared one is not to be trusted.
            env = child.environment(scratch, PEX_ROOT=str(scratch / "root"), PEX_IGNORE_RCFILES="1")
            done = child.run(argv, cwd=scratch, env=env, deadline=_DEADLINE)
            if done.code != 0 or not out.is_file():
                shown = done.last_lines.replace(str(scratch), "…")
                raise PackError(
                    self.file_name(plan),
                    f"pex {done.why(_DEADLINE)}\n{shown}",
                    "Mend what pex complains about; if it is nothing of yours, report it.",
                    format=self.name,
                    output=shown,
                )
        out.chmod(0o755)
        return closure_notes(plan, plan.options.host_brings)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        folder = f"/opt/{plan.application.name}"
        file = f"{folder}/{artifact.name}"
        root = "/tmp/pex"  # noqa: S108 - in a container of its own
        return BootRecipe(
            host=python_host(plan),
            takes="python",
            copies=((str(artifact), file),),
            install=(),
            python=("env", "PEX_INTERPRETER=1", file),
            scripts=None,
            command=(file,),
            remove=(("rm", "-rf", folder, root),),
            writes=(folder, root),
            remains=(),
            expects=expected(plan, conda=False),
            environment=(("PEX_ROOT", root),),
        )


PACKAGER = Pex()


def _arguments(plan: Plan, house: Path, platform: Path) -> Iterator[str]:
    options = plan.options
    yield from ("--no-index", "--pre-resolved-dists", str(house), "--complete-platform", str(platform))
    # Wheels as they are: seven times faster to pack than unpacked ones, smaller, and the first run takes as long.
    yield "--no-pre-install-wheels"
    # Zip archives that Python cannot import from are made without a word else.
    if options.venv:
        # Before an option, never before a requirement: pex would take that for the value that may follow this.
        yield "--venv"
    yield from ("--check", "error", "--no-compile", "--no-use-system-time")
    yield from ("--python-shebang", options.shebang or f"/usr/bin/env python{plan.lock.python_minor}")
    yield "--sh-boot" if options.sh_boot else "--no-sh-boot"
    yield "--compress" if options.compress else "--no-compress"
    yield from _entry_point(plan)
    for name, value in sorted({**dict(plan.application.environment), **options.inject_env}.items()):
        yield from ("--inject-env", f"{name}={value}")
    # Every wheel by name, the ones that nothing requires too: a box holds the whole lock.
    yield from sorted(f"{wheel.name}=={wheel.version}" for wheel in plan.wheels)


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
