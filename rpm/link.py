"""Link an application's packages into its environment, offline, or verify what was linked.

    python -I -B -S link.py link SUPPORT PREFIX
    python -I -B -S link.py verify SUPPORT PREFIX

Run by the interpreter that lies in PREFIX already; needs nothing but the standard library. SUPPORT/manifest.json names
each source, an archive of SUPPORT/archives or a folder that applications share, and each file and link in it with its
digest. A file is unpacked aside, hashed, and renamed to its place only if it is what the manifest promises, so that
linking again repairs, and being killed harms nothing. From a shared folder it is a hard link that takes the place, or a
copy on another file system. Exit status 0: everything is as promised, 1: it is not, and standard error says what.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
from pathlib import Path

CHUNK = 1 << 20


class LinkError(Exception):
    """What stops the linking, in words for the one who installs."""


def main(arguments: list[str]) -> int:
    """Carry out the command line."""
    if len(arguments) != 3 or arguments[0] not in {"link", "verify"}:
        sys.stderr.write("usage: link.py link|verify SUPPORT PREFIX\n")
        return 2
    action, support, prefix = arguments[0], Path(arguments[1]), Path(arguments[2])
    try:
        manifest = json.loads((support / "manifest.json").read_text(encoding="utf-8"))
        if action == "link":
            link(support, prefix, manifest)
            return 0
        return verify(prefix, manifest)
    except LinkError as failure:
        sys.stderr.write(f"{failure}\n")
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return 1


def link(support: Path, prefix: Path, manifest: dict) -> None:
    """Put everything that the sources hold to its place; what is there already, as it should be, is left alone."""
    aside, time = support / "unpacked", manifest["time"]
    for source in manifest["sources"]:
        if "folder" in source:
            link_folder(Path(source["folder"]), source["entries"], prefix, aside, time)
        else:
            link_archive(support / "archives" / source["archive"], source["entries"], prefix, aside, time)


def link_folder(folder: Path, entries: dict, prefix: Path, aside: Path, time: int) -> None:
    """Put each file and link of a shared folder to its place. The folder may hold more."""
    for name, entry in entries.items():
        place = prefix / name
        if "link" in entry:
            if link_fault(place, entry) is not None:
                put_link(entry["link"], aside, place, time)
            continue
        shared = folder / name
        fault = file_fault(shared, entry)
        if fault is not None:
            raise LinkError(f"{shared}: {fault}. Install the package again that it belongs to.")
        if not is_same(shared, place):
            share_file(shared, entry, aside, place, time)


def is_same(shared: Path, place: Path) -> bool:
    """Whether both are one file."""
    try:
        there = place.lstat()
    except OSError:
        return False
    return os.path.samestat(shared.lstat(), there)


def share_file(shared: Path, entry: dict, aside: Path, place: Path, time: int) -> None:
    """Make one file of both; a copy where they cannot be one, unless what is there will do."""
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(shared)
    except OSError:  # another file system, or one that has no more links for this file
        if file_fault(place, entry) is None:
            return
        shutil.copyfile(shared, aside)
        settle(aside, entry, time)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside.replace(place)


def link_archive(path: Path, entries: dict, prefix: Path, aside: Path, time: int) -> None:
    """Put each member of one archive to its place; every entry must be there, and nothing else."""
    waiting = dict(entries)
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isdir():
                continue
            entry = waiting.pop(member.name, None)
            if entry is None:
                raise LinkError(f"{path.name} holds {member.name!r}, which its manifest does not name.")
            place = prefix / member.name
            if "link" in entry:
                if link_fault(place, entry) is not None:
                    put_link(entry["link"], aside, place, time)
            elif file_fault(place, entry) is not None:
                put_file(archive, member, entry, aside, time)
                place.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(place)
    if waiting:
        raise LinkError(f"{path.name} lacks {next(iter(waiting))!r} and {len(waiting) - 1} more.")


def put_file(archive: tarfile.TarFile, member: tarfile.TarInfo, entry: dict, aside: Path, time: int) -> None:
    """Unpack one file aside, refused unless its digest is right."""
    source = archive.extractfile(member)
    if source is None:
        raise LinkError(f"{member.name!r} should be a file.")
    digest = hashlib.sha256()
    aside.unlink(missing_ok=True)  # a link, if an earlier run was killed: it would be written through
    with source, aside.open("wb") as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != entry["sha256"]:
        aside.unlink()
        raise LinkError(f"{member.name!r} is damaged in its archive: its digest is not the one that was packed.")
    settle(aside, entry, time)


def settle(aside: Path, entry: dict, time: int) -> None:
    """Give a file that was written aside its mode and time."""
    aside.chmod(entry["mode"])
    os.utime(aside, (time, time))


def put_link(text: str, aside: Path, place: Path, time: int) -> None:
    """Put one symbolic link to its place."""
    aside.unlink(missing_ok=True)
    aside.symlink_to(text)
    os.utime(aside, (time, time), follow_symlinks=False)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside.replace(place)


def verify(prefix: Path, manifest: dict) -> int:
    """Say on standard output what is not as it was packed; 1 if there is anything, else 0."""
    found = 0
    for source in manifest["sources"]:
        for name, entry in source["entries"].items():
            fault = link_fault(prefix / name, entry) if "link" in entry else file_fault(prefix / name, entry)
            if fault is not None:
                sys.stdout.write(f"{fault}  {prefix / name}\n")
                found = 1
    return found


def file_fault(place: Path, entry: dict) -> str | None:
    """What is wrong with the file there; None if nothing is."""
    try:
        found = place.lstat()
    except OSError:
        return "missing"
    if not stat.S_ISREG(found.st_mode):
        return "no file"
    if stat.S_IMODE(found.st_mode) != entry["mode"]:
        return "other mode"
    if found.st_size != entry["size"]:
        return "other size"
    digest = hashlib.sha256()
    with place.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return None if digest.hexdigest() == entry["sha256"] else "other content"


def link_fault(place: Path, entry: dict) -> str | None:
    """What is wrong with the link there; None if nothing is."""
    try:
        # Not Path.readlink: it would shorten "./a" to "a".
        return None if os.readlink(place) == entry["link"] else "other link"  # noqa: PTH115
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "no link"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
