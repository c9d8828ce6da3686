"""The members of an archive as conda-pack makes them, of a staged tree.

bin/activate, bin/deactivate, bin/activate.fish   to be sourced
bin/conda-unpack                                  puts the place into the files that depend on it (`unpack`)
share/conda-unpack/                               what it needs; files as they were packed have a second name there
everything else                                   the environment

Scripts for Python find it from where they lie, so that they run before conda-unpack, and wherever the folder is moved
to; only what else depends on the place is left to conda-unpack.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from boxsnake.archive import Member, file_member
from boxsnake.conda_pack.unpack import SUPPORT, TABLE, UNPLACED
from boxsnake.entries import Entry, Patch, Tree
from boxsnake.relocation import is_python, placed

_SOURCED = ("activate", "deactivate", "activate.fish")
_CARRIED = ("__init__.py", "relocation.py", "conda_pack/__init__.py", "conda_pack/unpack.py")
_UNPACK = """\
{start}
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "{support}"))

from boxsnake.conda_pack.unpack import main

sys.exit(main(__file__, sys.argv[1:]))
"""


def members(tree: Tree, title: str, epoch: int) -> Iterator[Member]:
    """Those of a relocatable tree; `title` is what conda-unpack says that it is of, `epoch` in seconds since 1970."""
    packed = _packed(tree)
    scripts = {member.name: member for member in _sourced()}
    start = script_start(b"#!/bin/python -I -B", "bin/conda-unpack", b"").decode()
    program = _UNPACK.format(start=start, support=SUPPORT).encode()
    scripts["bin/conda-unpack"] = file_member("bin/conda-unpack", program, executable=True)
    yield from scripts.values()
    depending = _depending(tree, packed)
    unplaced = {patch.path: f"{SUPPORT}/{UNPLACED}/{patch.path}" for patch in depending}
    for entry in tree.entries:
        if entry.path in scripts:
            continue
        member = _member(tree, entry, packed.get(entry.path))
        other = unplaced.get(entry.path)
        if other is None:
            yield member
            continue
        # Of two names the first in order has the bytes.
        first, second = sorted((entry.path, other))
        yield Member(name=first, mode=member.mode, source=member.source)
        yield Member(name=second, mode=member.mode, twin=first)
    yield from _support(tree, packed, depending, title, epoch)


def placed_members(tree: Tree) -> Iterator[Member]:
    """Those of a tree that was linked for the place where it shall lie: there is nothing to unpack."""
    scripts = {member.name: member for member in _sourced()}
    yield from scripts.values()
    yield from (_member(tree, entry) for entry in tree.entries if entry.path not in scripts)


def script_start(line: bytes, path: str, prefix: bytes) -> bytes:
    """An interpreter line of a script at `path`, without line feed, so that it holds no place.

    Python is found from where the script lies; other interpreters, which have no way to say so, on PATH.
    """
    found = re.match(rb"#![ \t]*" + re.escape(prefix) + rb"(/[^ \t]*)[ \t]*(.*)", line)
    if found is None:
        return line
    interpreter, words = found.group(1), found.group(2)
    words = b" " + words if words else b""
    if not is_python(posixpath.basename(interpreter)):
        return b"#!/usr/bin/env " + posixpath.basename(interpreter) + words
    way = posixpath.relpath(interpreter.decode(), f"/{posixpath.dirname(path)}").encode()
    folder = b'"$(dirname -- "$(readlink -f -- "$0")")/' + way + b'"'
    return b"#!/bin/sh\n'''exec' " + folder + words + b' "$0" "$@"\n' + b"' '''"


def _sourced() -> Iterator[Member]:
    for name in _SOURCED:
        yield file_member(f"bin/{name}", Path(__file__).with_name(name).read_bytes())


def _member(tree: Tree, entry: Entry, content: bytes | None = None) -> Member:
    if entry.kind == "folder":
        return Member(name=entry.path, mode=entry.mode)
    if entry.kind == "link":
        return Member(name=entry.path, mode=0o777, link=entry.target)
    return Member(name=entry.path, mode=entry.mode, source=tree.root / entry.path if content is None else content)


def _packed(tree: Tree) -> dict[str, bytes]:
    """What is packed otherwise than it lies in the tree: scripts, and the records that tell of them."""
    digests = {entry.path: entry.sha256 for entry in tree.entries}
    changed: dict[str, tuple[str, int]] = {}
    packed: dict[str, bytes] = {}
    for patch in tree.patches:
        if patch.kind not in {"script", "record"}:
            continue
        content = (tree.root / patch.path).read_bytes()
        if patch.kind == "script":
            line, feed, rest = content.partition(b"\n")
            made = script_start(line, patch.path, tree.prefix.encode()) + feed + rest
        else:
            made = placed(content, "record", tree.prefix, tree.prefix, changed)
        if made != content:
            packed[patch.path] = made
            changed[digests[patch.path]] = (hashlib.sha256(made).hexdigest(), len(made))
    return packed


def _depending(tree: Tree, packed: dict[str, bytes]) -> list[Patch]:
    """What still depends on the place: files that hold the placeholder, and then records that tell of them."""
    held = tree.prefix.encode()
    told: dict[str, tuple[str, int]] = {}
    found = []
    for patch in tree.patches:
        content = packed.get(patch.path) or (tree.root / patch.path).read_bytes()
        is_record = patch.kind == "record"
        if placed(content, "record", "", "", told) == content if is_record else held not in content:
            continue
        told[hashlib.sha256(content).hexdigest()] = ("", 0)
        found.append(Patch(path=patch.path, kind="text" if patch.kind == "script" else patch.kind))
    return found


def _support(tree: Tree, packed: dict[str, bytes], patches: list[Patch], title: str, epoch: int) -> Iterator[Member]:
    entries = {entry.path: entry for entry in tree.entries}
    rows = []
    for patch in patches:
        entry, made = entries[patch.path], packed.get(patch.path)
        digest = entry.sha256 if made is None else hashlib.sha256(made).hexdigest()
        rows.append({"path": patch.path, "kind": patch.kind, "mode": entry.mode, "sha256": digest})
    table = {"title": title, "time": epoch, "placeholder": tree.prefix, "patches": rows}
    yield file_member(f"{SUPPORT}/{TABLE}", json.dumps(table, indent=1, sort_keys=True).encode() + b"\n")
    package = Path(__file__).parent.parent
    for name in _CARRIED:
        content = b"" if name.endswith("__init__.py") else (package / name).read_bytes()
        yield file_member(f"{SUPPORT}/boxsnake/{name}", content)
