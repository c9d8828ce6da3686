"""Linking conda packages into a folder, in a child process, which alone knows rattler's installer.

rattler's link step can panic, abort, or crash at the interpreter's exit after it has succeeded. So it runs in a child
(`boxsnake.stage.link_child`), and what tells success is the file that the child writes when it is done.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from boxsnake import child
from boxsnake.disk import disk_faults, remove_tree
from boxsnake.errors import IntegrityError, PackError, ResourceError
from boxsnake.lock import CondaPackage
from boxsnake.target import Platform

DEADLINE = 900.0
"""Seconds that linking one environment may take."""


def link_folder(root: Path) -> Path:
    """Where the linker works, beside the tree."""
    return root.with_name(f"{root.name}-link")


def unpacked(root: Path) -> Path:
    """Where each package lies as it was packed, in a folder by its name, version and build."""
    return link_folder(root) / "cache"


def link(
    archives: Mapping[str, Path],
    packages: Mapping[str, CondaPackage],
    *,
    root: Path,
    prefix: str | None,
    platform: Platform,
) -> str:
    """Install conda archives into `root`, a folder that does not exist yet, with `prefix` patched into their files.

    Without one it is a placeholder, as long as every file has room for. Returns which it is.

    Both mappings are by file name; the archives bear these names on disk and passed the ingest check. Link scripts
    are not run. Files may be hard links into a cache in `link_folder(root)`, which is of no use afterwards. Errors:
    PackError, IntegrityError where an archive is not the locked one, ResourceError.
    """
    folder = link_folder(root)
    job, result = folder / "job.json", folder / "result.json"
    document = {
        "archives": {str(archives[name].absolute()): packages[name].sha256 for name in sorted(packages)},
        "cache": str(unpacked(root)),
        "platform": platform,
        "prefix": prefix,
        "result": str(result),
        "root": str(root),
    }
    with disk_faults(folder):
        folder.mkdir()
        job.write_text(json.dumps(document), encoding="utf-8")
    # Our own search path goes along, and with it nothing need be set up (-S): the child starts in half the time.
    search = [*(path for path in sys.path if path), str(Path(__file__).parents[2])]
    environment = child.environment(folder, PYTHONPATH=os.pathsep.join(search))
    argv = [sys.executable, "-S", "-P", "-m", "boxsnake.stage.link_child", str(job)]
    while True:
        finished = child.run(argv, cwd=folder, env=environment, deadline=DEADLINE)
        outcome = _outcome(result, finished)
        if "again" not in outcome:
            return _judge(outcome)
        with disk_faults(root):
            result.unlink()
            remove_tree(root)


def _outcome(result: Path, finished: child.Finished) -> dict[str, str]:
    try:
        outcome: dict[str, str] = json.loads(result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        cause = f"the linking process {finished.why(DEADLINE)} before it was done\n{finished.last_lines}"
        step = "Free some memory and disk, and run it again; if it returns, report it with these lines."
        raise ResourceError("conda packages", cause, step) from None
    return outcome


def _judge(outcome: Mapping[str, str]) -> str:
    if "mismatch" in outcome:
        name = Path(outcome["mismatch"]).name
        step = "Run `boxsnake cache verify`, then run it again."
        raise IntegrityError(name, "the archive is not the one that was locked", step, archive=name)
    if "error" in outcome:
        raise _refused(outcome["error"])
    return outcome["prefix"]


def _refused(text: str) -> PackError | ResourceError:
    if "No space left" in text or "os error 28" in text:
        return ResourceError("conda packages", text, "Free some space, then run it again.")
    return PackError("conda packages", f"they cannot be linked: {text}", "See the cause above.")
