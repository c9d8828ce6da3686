"""conda-unpack: put the place where an unpacked environment lies into the files that depend on it.

Archives carry this program: it needs nothing but the standard library of Python 3.8. Beside it lie the files as they
were packed, so it can be run again, and again in another place after the environment was moved. A file that somebody
has changed since is left as it is, and said.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boxsnake.relocation import PLACED_SUMS, PlaceError, check_prefix, placed_files, write_aside

SUPPORT = "share/conda-unpack"
"""Below the environment: what this program needs."""

TABLE = "patches.json"
UNPLACED = "unplaced"


def main(program: str, arguments: list[str]) -> int:
    """Carry out the command line; `program` is the file that was called, in the environment's bin."""
    parser = argparse.ArgumentParser(
        prog="conda-unpack",
        description="Finish unpacking the environment: put its place into the files that depend on it.",
    )
    parser.add_argument("--version", action="store_true", help="show what was packed, and exit")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every file that is written")
    asked = parser.parse_args(arguments)
    prefix = _prefix(program)
    try:
        document = json.loads((prefix / SUPPORT / TABLE).read_text(encoding="utf-8"))
        if asked.version:
            sys.stdout.write(f"conda-unpack of {document['title']}\n")
        else:
            _unpack(prefix, document, verbose=asked.verbose)
    except PlaceError as failure:
        sys.stderr.write(f"conda-unpack: {failure}\n")
    except OSError as error:
        sys.stderr.write(f"conda-unpack: {error.filename or prefix}: {error.strerror}\n")
    except (ValueError, KeyError) as error:
        sys.stderr.write(f"conda-unpack: {prefix / SUPPORT / TABLE} is damaged: {error}\n")
    else:
        return 0
    return 1


def _prefix(program: str) -> Path:
    """Where the environment lies: as the caller names it, unless that is a link to the program alone."""
    real = Path(os.path.realpath(program)).parent.parent
    called = Path(os.path.abspath(program)).parent.parent  # noqa: PTH100 - a folder's name stays as it was called
    try:
        return called if called.samefile(real) else real
    except OSError:
        return real


def _unpack(prefix: Path, document: dict[str, Any], *, verbose: bool) -> None:
    support = prefix / SUPPORT
    check_prefix(str(prefix), document["placeholder"])
    with _locked(support):
        ours = _ours(support)
        sums = []
        for patch, content in placed_files(document, support / UNPLACED, str(prefix)):
            target, digest = prefix / patch["path"], hashlib.sha256(content).hexdigest()
            found = _digest(target)
            if found != digest and found not in {patch["sha256"], *ours.get(patch["path"], ())}:
                what = "was changed since" if found else "is gone"
                sys.stderr.write(f"conda-unpack: {target} {what}, and is left as it is\n")
                continue
            sums.append(f"{digest}  {patch['path']}\n")
            if found == digest:
                continue
            # Noted before it is written: if this is killed, the next run knows the file.
            with (support / PLACED_SUMS).open("a", encoding="utf-8") as noted:
                noted.write(sums[-1])
            write_aside(target, support / "placing", content, patch["mode"], document["time"])
            if verbose:
                sys.stdout.write(f"{target}\n")
        text = "".join(sums).encode("utf-8")
        if text:
            write_aside(support / PLACED_SUMS, support / "placing", text, 0o644, document["time"])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone, where the file system can lock: two at once wait for each other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _ours(support: Path) -> dict[str, set[str]]:
    """The digests of what this program has written before, by path."""
    found: dict[str, set[str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (support / PLACED_SUMS).read_text(encoding="utf-8").splitlines():
            digest, _, path = line.partition("  ")
            found.setdefault(path, set()).add(digest)
    return found


def _digest(path: Path) -> str:
    """Of the file there; "" where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
