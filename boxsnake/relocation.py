"""Place what depends on its prefix in an environment that was packed for none.

    python -B -S place.py place SUPPORT PREFIX [FOLDER]
    python -B -S place.py verify SUPPORT PREFIX

boxsnake imports this module, and boxes carry it as a file of its own: it needs nothing but the standard library of
Python 3.8. SUPPORT/patches.json names a placeholder, which stands where the prefix belongs, and the files that hold it;
SUPPORT/unplaced has them as they were packed. `place` writes each to its place under PREFIX, aside and renamed, so that
placing again repairs and being killed harms nothing; what was packed stays as it is. With FOLDER it
is written there, to be moved to PREFIX. SUPPORT/placed-sums then has the
digests of what was written. `verify` says what is not as placing would make it.

Exit status 0: all is well, 1: it is not, and standard error (of `verify`, standard output) says what.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# What a kernel reads of an interpreter line at least, line feed included.
LONGEST_LINE = 127

PLACED_SUMS = "placed-sums"

_PYTHON = re.compile(rb"python[0-9.]*t?")
# In a prefix these would mean something to a shell, to Python, to PATH, or to a unit of systemd.
_FORBIDDEN = re.compile(r"""[\x00-\x1f\x7f'"\\$`:%]""")
# A RECORD's "sha256=<url-safe base64>,<size>", and in conda-meta the digest that stands before a size.
_IN_RECORD = re.compile(rb"sha256=([A-Za-z0-9_-]{43}),([0-9]+)")
_IN_META = re.compile(rb'"([0-9a-f]{64})"(,\s*"size_in_bytes": )([0-9]+)')


class PlaceError(Exception):
    """What stops the placing, in words for the one who installs."""


def main(arguments: list[str]) -> int:
    """Carry out the command line."""
    actions = {"place": place, "verify": verify}
    if len(arguments) not in (3, 4) or arguments[0] not in actions:
        sys.stderr.write("usage: place.py place|verify SUPPORT PREFIX [FOLDER]\n")
        return 2
    try:
        return actions[arguments[0]](Path(arguments[1]), arguments[2], Path(arguments[-1]))
    except PlaceError as failure:
        sys.stderr.write(f"{failure}\n")
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return 1


def place(support: Path, prefix: str, folder: Path) -> int:
    """Write every file that depends on the prefix to its place in `folder`, which is or will be there."""
    document = _patches(support)
    made: list[str] = []
    for patch, content in placed_files(document, support / "unplaced", prefix):
        target = folder / patch["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        write_aside(target, support / "placing", content, patch["mode"], document["time"])
        made.append(f"{hashlib.sha256(content).hexdigest()}  {patch['path']}\n")
    sums = "".join(made).encode("utf-8")
    write_aside(support / PLACED_SUMS, support / "placing", sums, 0o644, document["time"])
    return 0


def verify(support: Path, prefix: str, folder: Path) -> int:
    """Say on standard output what is not as it would be placed; 1 if there is anything, else 0."""
    wrong = 0
    for patch, content in placed_files(_patches(support), support / "unplaced", prefix):
        target = folder / patch["path"]
        fault = _fault(target, content, patch["mode"])
        if fault:
            sys.stdout.write(f"{fault}  {target}\n")
            wrong = 1
    return wrong


def check_prefix(prefix: str, placeholder: str) -> None:
    """Refuse a prefix that cannot be put into files. Raises PlaceError."""
    length, longest = len(os.fsencode(prefix)), len(placeholder.encode())
    if length > longest:
        raise PlaceError(f"{prefix} has {length} bytes; the packages have room for {longest}.")
    if not prefix.startswith("/") or os.path.normpath(prefix) != prefix or prefix == "/":
        raise PlaceError(f"{prefix} is no absolute path in its shortest form.")
    found = _FORBIDDEN.search(prefix)
    if found:
        raise PlaceError(f"{prefix!r} holds {found.group()!r}, which programs would not read as a part of a path.")


def placed(content: bytes, kind: str, placeholder: str, prefix: str, changed: Mapping[str, tuple[str, int]]) -> bytes:
    """What a file becomes at a prefix; `changed` is what is known of the files that were placed before it."""
    old, new = placeholder.encode(), os.fsencode(prefix)
    if kind == "binary":
        return in_c_strings(content, old, new)
    if kind == "record":
        return _with_digests(content, changed)
    if kind == "script":
        line, feed, rest = content.partition(b"\n")
        return script_start(line, old, new) + feed + rest.replace(old, new)
    return content.replace(old, new)


def in_c_strings(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace in strings that end with NUL; each keeps its length, as NULs are put behind what became shorter."""
    pieces = []
    start = 0
    while True:
        found = content.find(old, start)
        if found < 0:
            pieces.append(content[start:])
            return b"".join(pieces)
        end = content.find(b"\0", found)
        end = len(content) if end < 0 else end
        text = content[found:end].replace(old, new)
        pieces += [content[start:found], text, bytes(end - found - len(text))]
        start = end


def is_python(name: bytes) -> bool:
    """Whether it is what an interpreter of Python is called."""
    return _PYTHON.fullmatch(name) is not None


def script_start(line: bytes, old: bytes, new: bytes) -> bytes:
    """The first line of a script with `new` instead of `old`, without line feed.

    Where the kernel could not read it, being too long or having a space in it: lines that sh and Python both read; for
    other interpreters, what finds them on PATH.
    """
    plain = line.replace(old, new)
    found = re.match(rb"#![ \t]*" + re.escape(old) + rb"(/[^ \t]*)[ \t]*(.*)", line)
    if found is None or (len(plain) < LONGEST_LINE and b" " not in new):
        return plain
    path, arguments = new + found.group(1), found.group(2).replace(old, new)
    name = path.rpartition(b"/")[2]
    words = b" " + arguments if arguments else b""
    if not is_python(name):
        return b"#!/usr/bin/env " + name + words
    quoted = os.fsencode(shlex.quote(os.fsdecode(path)))
    return b"#!/bin/sh\n'''exec' " + quoted + words + b' "$0" "$@"\n' + b"' '''"


def _patches(support: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((support / "patches.json").read_text(encoding="utf-8"))
    return found


def placed_files(document: dict[str, Any], source: Path, prefix: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each patch with the bytes that its file has at the prefix. Raises PlaceError where what was packed is damaged."""
    check_prefix(prefix, document["placeholder"])
    changed: dict[str, tuple[str, int]] = {}
    for patch in document["patches"]:
        packed = (source / patch["path"]).read_bytes()
        if hashlib.sha256(packed).hexdigest() != patch["sha256"]:
            raise PlaceError(f"{source / patch['path']} is damaged: it is not the file that was packed.")
        content = placed(packed, patch["kind"], document["placeholder"], prefix, changed)
        changed[patch["sha256"]] = (hashlib.sha256(content).hexdigest(), len(content))
        yield patch, content


def _with_digests(content: bytes, changed: Mapping[str, tuple[str, int]]) -> bytes:
    """A RECORD or a record of conda-meta, with the digests and sizes of what was placed."""

    def of_record(match: re.Match[bytes]) -> bytes:
        before = base64.urlsafe_b64decode(match.group(1) + b"=").hex()
        if before not in changed:
            return match.group()
        digest, size = changed[before]
        return b"sha256=%s,%d" % (base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"="), size)

    def of_meta(match: re.Match[bytes]) -> bytes:
        before = match.group(1).decode("ascii")
        if before not in changed:
            return match.group()
        digest, size = changed[before]
        return b'"%s"%s%d' % (digest.encode("ascii"), match.group(2), size)

    return _IN_META.sub(of_meta, _IN_RECORD.sub(of_record, content))


def write_aside(target: Path, aside: Path, content: bytes, mode: int, time: int) -> None:
    """Write a file aside and rename it; `time` is in seconds since 1970."""
    aside.unlink(missing_ok=True)  # a link, if an earlier run was killed: it would be written through
    aside.write_bytes(content)
    aside.chmod(mode)
    os.utime(aside, (time, time))
    aside.replace(target)


def _fault(target: Path, content: bytes, mode: int) -> str:
    """What is wrong with the file there; "" if nothing is."""
    try:
        found = target.lstat()
        if not stat.S_ISREG(found.st_mode):
            return "no file"
        if stat.S_IMODE(found.st_mode) != mode:
            return "other mode"
        return "" if target.read_bytes() == content else "other content"
    except OSError:
        return "missing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
