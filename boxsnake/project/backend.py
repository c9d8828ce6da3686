"""Build environments that stay: a backend with what it requires, installed once, for all builds that want the same.

An isolated build makes such an environment each time, and its modules are compiled anew each time, which takes
several times as long as building a small wheel. One that stays is used only where it is the same thing: the project
names its build requirements, the backend is not part of the project, and says that it wants nothing else. What cannot
be built in it is built in isolation, so that no build fails, and no message differs, because of it.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake import child
from boxsnake.canonical import canonical_json
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import ResourceError

if TYPE_CHECKING:
    from boxsnake.store import Store

_FORMAT = 1
_CACHE = "build-environments"
_COMPLETE = "complete"
_DEADLINE = 600.0

# The hooks of PEP 517, called by the environment's own interpreter: what the backend requires beyond what the project
# does, then the wheel. Each hook has a process of its own, as it may change what it likes in it; the backend is
# imported once for both. Some backends are known to change nothing: they need not import themselves twice, nor collect
# and tear down, before the process ends, what they have imported.
_CHANGE_NOTHING = frozenset({"hatchling.build", "flit_core.buildapi", "poetry.core.masonry.api"})
_BUILD = """
import sys
sys.path[:] = [path for path in sys.path if path]  # the working folder, which is the project's, is no place for imports
import gc, importlib, os
if sys.argv[3] == "together":
    gc.disable()
module, _, name = sys.argv[1].partition(":")
backend = importlib.import_module(module)
for part in name.split(".") if name else ():
    backend = getattr(backend, part)
ask = getattr(backend, "get_requires_for_build_wheel", None)
child = os.fork() if ask and sys.argv[3] == "apart" else 0
if child:
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(3)
elif ask and sys.argv[3] == "together":
    if list(ask() or ()):
        sys.exit(3)
elif ask:
    status = 1
    try:
        status = 1 if list(ask() or ()) else 0
    finally:
        os._exit(status)
backend.build_wheel(sys.argv[2])
if sys.argv[3] == "together":
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
"""


def built_in_kept(
    store: Store, project: Path, interpreter: str, out: Path, env: Mapping[str, str], *, offline: bool, deadline: float
) -> bool:
    """Whether the backend has built the project's wheel into `out`, in an environment that stays.

    False where it needs isolation, or has failed: then nothing is in `out`, and an isolated build has the last word.
    `interpreter` is the one that the environment is made with; `env` is the build's own environment.
    """
    table = _build_system(project)
    if table is None:
        return False
    requires, backend = table
    work = out.parent
    with suppress(ResourceError):
        program = _made(store, requires, interpreter, work, env, offline=offline)
        if program is not None:
            out.mkdir()
            # The backend's programs come first, as they do in isolation.
            path = os.pathsep.join((str(program.parent), env.get("PATH", os.defpath)))
            argv = [str(program), "-s", "-c", _BUILD, backend, str(out)]
            argv.append("together" if backend in _CHANGE_NOTHING else "apart")
            if child.run(argv, cwd=project, env={**env, "PATH": path}, deadline=deadline).code == 0:
                return True
    remove_tree(out)
    return False


def _build_system(project: Path) -> tuple[list[str], str] | None:
    """The build requirements and the backend, where they are those of a kept environment."""
    try:
        table: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["build-system"]
        requires, backend = sorted(table["requires"]), table["build-backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A requirement with a URL or a path may have other contents tomorrow.
    if "backend-path" in table or not isinstance(backend, str) or any("@" in text or "/" in text for text in requires):
        return None
    return requires, backend


def _made(
    store: Store, requires: list[str], interpreter: str, work: Path, env: Mapping[str, str], *, offline: bool
) -> Path | None:
    """The interpreter of the environment with these requirements, which is made where there is none yet."""
    index = {name: value for name, value in env.items() if name.startswith("UV_") and name != "UV_CACHE_DIR"}
    program = Path(interpreter)
    with disk_faults(program):
        found = program.resolve().stat()
    key = {
        "format": _FORMAT,
        "requires": requires,
        "interpreter": [interpreter, str(program.resolve()), found.st_size, found.st_mtime_ns],
        "index": hashlib.sha256(canonical_json(index)).hexdigest(),
    }
    name = hashlib.sha256(canonical_json(key)).hexdigest()[:32]
    folder = store.cache_folder(_CACHE) / name
    made = folder / "bin" / "python"
    if (folder / _COMPLETE).is_file():
        return made
    with store.lock(f"{_CACHE}-{name}"), disk_faults(folder):
        if (folder / _COMPLETE).is_file():
            return made
        remove_tree(folder)
        tool, usual = child.uv_program(), ["--no-config", "--color=never", *(["--offline"] if offline else [])]
        install = [tool, "pip", "install", *usual, "--compile-bytecode", "--python", str(made), *requires]
        for argv in ([tool, "venv", *usual, "--no-python-downloads", "--python", interpreter, str(folder)], install):
            if child.run(argv, cwd=work, env=env, deadline=_DEADLINE).code != 0:
                remove_tree(folder)
                return None
        (folder / _COMPLETE).touch()
    return made
