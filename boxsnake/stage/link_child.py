"""Links conda packages: `python -m boxsnake.stage.link_child JOB`, a process of its own. See `boxsnake.stage.link`.

Its argument is a JSON file; `prefix` is where the files under `root` will lie, null for a placeholder that fits:

    {"archives": {path: sha256}, "cache": folder, "platform": text, "prefix": path, "result": file, "root": folder}

The result has one key: the `prefix` that was linked for, the archive of a `mismatch`, an `error`, or `again` where the
same job can be done once its root is removed.

It imports no more than it needs, as the one who started it waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rattler
from rattler.exceptions import InstallerError
from rattler.platform.subdir import Subdir

# Where the library puts all but one of several files for one path.
_ASIDE = "__clobbers__"
_LONGEST = 255
"""Of a prefix, in bytes: what conda's own tools leave room for."""


async def _link(job: Mapping[str, Any]) -> dict[str, str]:
    prefix = job["prefix"] or _placeholder(job["archives"])
    archives = job["archives"]
    records = await asyncio.gather(*(rattler.RepoDataRecord.from_package_archive(path) for path in archives))
    for record, (path, sha256) in zip(records, archives.items(), strict=True):
        if record.sha256 is None or record.sha256.hex() != sha256:
            return {"mismatch": path}
    failure = None
    try:
        await _install(records, job, prefix)
    except InstallerError as error:
        failure = error
    # The library takes the folders that some packages list for files. It fails for those, or puts what lies in them
    # aside: which, is decided by what it comes to link first. It goes on in the background where it has failed, so what
    # it does next is for another process.
    if failure or Path(job["root"], _ASIDE).exists():
        if _leave_out_folders(Path(job["cache"])):
            return {"again": "folders were listed"}
        if failure:
            raise failure
    return {"prefix": prefix}


async def _install(records: list[rattler.RepoDataRecord], job: Mapping[str, Any], prefix: str) -> None:
    await rattler.install(
        records,
        target_prefix=job["root"],
        cache_dir=Path(job["cache"]),
        installed_packages=[],
        platform=Subdir(job["platform"]),
        execute_link_scripts=False,
        show_progress=False,
        alternative_target_prefix=prefix,
    )


def _placeholder(archives: Iterable[str]) -> str:
    """A path that nobody means, as long as the strings of every package leave room for."""
    length = _LONGEST
    for archive in map(Path, archives):
        for path in rattler.PathsJson.from_package_archive(archive).paths:
            found = path.prefix_placeholder
            if found is not None and found.file_mode.binary:
                length = min(length, len(found.placeholder.encode()))
    return ("/boxsnake-places-it-here" + "_" * length)[:length]


def _leave_out_folders(cache: Path) -> bool:
    """Take folders out of the lists of unpacked packages: whether there were any. A tree keeps no empty ones anyway."""
    found = False
    for listing in cache.glob("*/info/paths.json"):
        document = json.loads(listing.read_bytes())
        kept = [path for path in document["paths"] if path["path_type"] != "directory"]
        if len(kept) < len(document["paths"]):
            listing.write_text(json.dumps(document | {"paths": kept}), encoding="utf-8")
            found = True
    return found


def _explain(error: BaseException) -> str:
    """An exception and its causes, in one line; the library often says only at the end what happened."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        text = " ".join(str(seen).split()) or type(seen).__name__
        if text not in texts:
            texts.append(text)
        seen = seen.__cause__ or seen.__context__
    return ": ".join(texts)


def _main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        outcome = asyncio.run(_link(job))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        outcome = {"error": _explain(error)}
    temporary = Path(f"{job['result']}.part")
    temporary.write_text(json.dumps(outcome), encoding="utf-8")
    temporary.rename(job["result"])
    # Past this point a crash of the library's threads at the interpreter's exit must not count.
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1])
