"""What is done once for each image and cache: verify it, extract it, place what depends on its prefix.

    unfold.py FILE SEED_AT IMAGE_AT DIGEST GLIBC verify
    unfold.py FILE SEED_AT IMAGE_AT DIGEST GLIBC prepare mounted|extracted STATE
    unfold.py FILE SEED_AT IMAGE_AT DIGEST GLIBC extract FOLDER

Images carry this program, and a Python that runs it: it needs nothing but the standard library of Python 3.8, and of
the host nothing but its kernel and C library. FILE has the image's squashfs at IMAGE_AT; DIGEST (SHA-256, hex) is that
of all bytes from SEED_AT on; GLIBC the oldest that will do, or "".

The image has the environment in `tree`, linked for no prefix. Every file in it that depends on the prefix is a link to
`../placed`, beside the place where the image is mounted, and lies in `.boxsnake/unplaced` as it was packed. A mounted
image gets these files there; an extracted one in their own places. Both appear by one rename, under a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from boxsnake.relocation import PlaceError, check_prefix, placed
from boxsnake.userspace.squashfs import Image, ImageError, Node

SUPPORT = ".boxsnake"
TREE = "tree"
UNPLACED = f"{SUPPORT}/unplaced/"
PATCHES = f"{SUPPORT}/patches.json"
_CHUNK = 1 << 20


class _RefusedError(Exception):
    """Why this host or file will not do."""


def main(arguments: list[str]) -> int:
    """Carry out the command line."""
    file, seed_at, image_at, digest, glibc, action, *rest = arguments
    try:
        _check_host(glibc)
        with Path(file).open("rb") as stream:
            _carry_out(stream, int(seed_at), int(image_at), digest, [action, *rest])
    except (_RefusedError, PlaceError, ImageError) as failure:
        sys.stderr.write(f"{failure}\n")
    except OSError as error:
        sys.stderr.write(f"{error.filename or file}: {error.strerror}\n")
    else:
        return 0
    return 1


def _carry_out(stream: BinaryIO, seed_at: int, image_at: int, digest: str, action: list[str]) -> None:
    if action[0] == "prepare":
        _prepare(stream, seed_at, image_at, digest, mode=action[1], state=Path(action[2]))
        return
    _verify(stream, seed_at, digest)
    if action[0] == "extract":
        _extract(Image(stream, image_at), Path(action[1]))


def _check_host(wanted: str) -> None:
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        found = ""
    if wanted and not found.startswith("glibc "):
        raise _RefusedError(f"glibc {wanted} or newer is needed, and this host has another C library.")
    if wanted and _numbers(found[6:]) < _numbers(wanted):
        raise _RefusedError(f"glibc {wanted} or newer is needed, and this host has {found}.")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", version)]


def _verify(stream: BinaryIO, begin: int, digest: str) -> None:
    found = hashlib.sha256()
    stream.seek(begin)
    while chunk := stream.read(_CHUNK):
        found.update(chunk)
    if found.hexdigest() != digest:
        raise _RefusedError(f"{stream.name} is damaged: its payload has not the digest that it should have.")


def _prepare(stream: BinaryIO, seed_at: int, image_at: int, digest: str, *, mode: str, state: Path) -> None:
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = state / ("mounted/placed/prefix" if mode == "mounted" else f"extracted/{SUPPORT}/prefix")
        prefix = state / ("mounted/image" if mode == "mounted" else "extracted") / TREE
        if _is_for(known, str(prefix)):
            return  # somebody else was faster
        _verify(stream, seed_at, digest)
        image = Image(stream, image_at)
        if mode == "mounted":
            _place_beside(image, state / "mounted", str(prefix))
        else:
            for left in state.glob("extracted*"):  # those of runs that were killed, too
                _remove(left)
            _extract(image, state / "extracted")


def _is_for(known: Path, prefix: str) -> bool:
    try:
        return known.read_text(encoding="utf-8", errors="surrogateescape") == f"{prefix}\n"
    except OSError:
        return False


def _extract(image: Image, folder: Path) -> None:
    """Write the image's files and those that are placed, all aside, and rename."""
    if os.path.lexists(folder):
        raise _RefusedError(f"{folder} is there already. Remove it first, or go elsewhere.")
    prefix = str(folder / TREE)
    aside = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    unplaced = _unplaced(image)
    modes = _modes(unplaced, prefix)
    try:
        aside.mkdir()
        for node in image.nodes:
            if not node.path.startswith(UNPLACED.rstrip("/")):
                _write_node(image, node, aside / node.path)
        for path, content in _placed_files(image, unplaced, prefix):
            target = aside / TREE / path
            if target.is_symlink() or target.exists():
                target.unlink()
            _write_file(target, content, modes[path])
        _finish(aside / SUPPORT / "prefix", prefix)
        aside.rename(folder)
    except BaseException:
        _remove(aside)
        raise


def _place_beside(image: Image, mounted: Path, prefix: str) -> None:
    """Write what the links of a mounted image lead to."""
    (mounted / "image").mkdir(parents=True, exist_ok=True)
    target, aside = mounted / "placed", mounted / "placed.new"
    _remove(aside)
    aside.mkdir()
    unplaced = _unplaced(image)
    modes = _modes(unplaced, prefix)
    links = {node.path for node in image.nodes if node.target is not None}
    for path, content in _placed_files(image, unplaced, prefix):
        place = aside / path
        if f"{TREE}/{path}" not in links:
            continue  # the interpreter, which is found where it lies in the image
        place.parent.mkdir(parents=True, exist_ok=True)
        _write_file(place, content, modes[path])
    _link_the_rest(image, aside, prefix)
    _finish(aside / "prefix", prefix)
    _remove(target)
    aside.rename(target)


def _link_the_rest(image: Image, folder: Path, prefix: str) -> None:
    """A placed program looks for its libraries from where it lies: beside it, they are links to the image's."""
    parents = {"", *(f"{entry.name}/" for entry in folder.iterdir() if entry.name != "bin")}
    for node in image.nodes:
        path = node.path[len(TREE) + 1 :] if node.path.startswith(f"{TREE}/") else ""
        parent, _, name = path.rpartition("/")
        parent = f"{parent}/" if parent else ""
        if name and parent in parents and not os.path.lexists(folder / path):
            (folder / path).symlink_to(f"{prefix}/{path}")


def _unplaced(image: Image) -> Mapping[str, Any]:
    """What must be placed: `patches.json`, and the files by their paths."""
    nodes = {node.path: node for node in image.nodes if node.path.startswith(f"{SUPPORT}/")}
    document: dict[str, Any] = json.loads(b"".join(image.content(nodes[PATCHES])))
    return {**document, "nodes": nodes}


def _modes(unplaced: Mapping[str, Any], prefix: str) -> dict[str, int]:
    check_prefix(prefix, unplaced["placeholder"])
    return {patch["path"]: patch["mode"] for patch in unplaced["patches"]}


def _placed_files(image: Image, unplaced: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, bytes]]:
    """Each file that depends on the prefix, as it is there."""
    changed: dict[str, tuple[str, int]] = {}
    for patch in unplaced["patches"]:
        packed = b"".join(image.content(unplaced["nodes"][UNPLACED + patch["path"]]))
        content = placed(packed, patch["kind"], unplaced["placeholder"], prefix, changed)
        changed[patch["sha256"]] = (hashlib.sha256(content).hexdigest(), len(content))
        yield patch["path"], content


def _write_node(image: Image, node: Node, place: Path) -> None:
    if node.is_folder:
        place.mkdir()
    elif node.target is not None:
        place.symlink_to(node.target)
    else:
        with place.open("xb") as out:
            for block in image.content(node):
                out.write(block)
            os.fchmod(out.fileno(), node.mode)


def _write_file(place: Path, content: bytes, mode: int) -> None:
    with place.open("xb") as out:
        out.write(content)
        os.fchmod(out.fileno(), mode)


def _finish(mark: Path, prefix: str) -> None:
    """Say what all was placed for, and make it durable before it appears under its name."""
    mark.write_text(f"{prefix}\n", encoding="utf-8", errors="surrogateescape")
    os.sync()


def _remove(folder: Path) -> None:
    if os.path.lexists(folder):
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
