"""What has changed in a container, as the members of a layer.

Removals are whiteouts, as the OCI Image Format Specification ("Representing Changes") has them. Owners, modes and the
capabilities of programs are kept, times are not. What a run leaves behind for itself is no part of a layer: logs,
caches, temporary files, and byte-code that goes by the times of its sources.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from boxsnake.archive import Member
from boxsnake.engine import Change
from boxsnake.errors import PackError

# Whose files are left out, and which folders are themselves of no interest.
_FILES_LEFT_OUT = re.compile(
    r"/(var/(log|cache)|run)/.*"
    r"|/var/lib/(apt/(lists|periodic)|dnf|yum|systemd/random-seed|dpkg/(lock.*|.*-old|triggers/Lock))(/.*|$)"
    r"|/var/lib/apt/(daily_lock|extended_states\.lock)"
    r"|/etc/(\.pwd\.lock|(passwd|shadow|group|gshadow|subuid|subgid)-|\.updated)"
    r"|/var/\.updated"
    r"|/(root|home/[^/]+)/\.(cache|wget-hsts|[a-z]+_history)(/.*|$)"
)
_LEFT_OUT = re.compile(r"/(tmp|var/tmp|proc|sys|dev)(/.*|$)|/\.dockerenv|/run/\.containerenv")
# The one extended attribute that all engines give.
_CAPABILITY = "security.capability"
_PAX_ATTRIBUTE = "SCHILY.xattr."
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# In byte-code (PEP 552), the flags are the four bytes after the magic number; the lowest says that it goes by a hash.
_PYC_HEAD = 8


def changed_members(export: Path, changes: Sequence[Change], scratch: Path) -> list[Member]:
    """The members of a layer that makes these changes; sorted.

    `export` is the tar of the container's whole file system; contents are put into the empty folder `scratch`.
    Errors: PackError for what no layer may hold.
    """
    wanted = [change for change in changes if not _LEFT_OUT.fullmatch(change.path)]
    with tarfile.open(export, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        there = {f"/{member.name.strip('/')}": member for member in archive}
        found = dict(_present(archive, there, wanted, scratch))
        found |= _removed(there, wanted)
        # A folder above, left out, would become one of root's with the usual mode.
        for path in [*found]:
            for parent in _parents(path):
                if parent not in found and parent in there:
                    found[parent] = _member(archive, there[parent], parent, scratch)
    return [found[path] for path in sorted(found)]


def _present(
    archive: tarfile.TarFile, there: Mapping[str, tarfile.TarInfo], changes: Sequence[Change], scratch: Path
) -> Iterator[tuple[str, Member]]:
    touched = {parent for change in changes for parent in _parents(change.path)}
    for change in changes:
        entry = there.get(change.path)
        if entry is None or change.kind == "removed":
            continue
        if entry.isdir():
            # A folder is said to have changed where something in it has. Where nothing has, it has changed itself.
            if change.kind == "changed" and change.path in touched:
                continue
        elif _FILES_LEFT_OUT.fullmatch(change.path) or _is_stale_code(archive, entry):
            continue
        yield change.path, _member(archive, entry, change.path, scratch)


def _removed(there: Mapping[str, tarfile.TarInfo], changes: Sequence[Change]) -> dict[str, Member]:
    gone = {change.path for change in changes if change.kind == "removed"}
    found: dict[str, Member] = {}
    for path in sorted(gone):
        folder, _, name = path.rpartition("/")
        above = there.get(folder) if folder else None
        if gone.intersection(_parents(path)) or (folder and (above is None or not above.isdir())):
            continue
        entry = there.get(path)
        if entry is None:
            hidden = f"{folder}/{_WHITEOUT}{name}"
        elif entry.isdir():
            # Removed and made again: nothing of what was in it below shows through.
            hidden = f"{path}/{_OPAQUE}"
        else:
            continue
        found[hidden] = Member(name=hidden.lstrip("/"), mode=0o644, source=b"")
    return found


def _member(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, scratch: Path) -> Member:
    name = path.lstrip("/")
    _check_name(name)
    if entry.isdir():
        source, link = None, None
    elif entry.issym():
        source, link = None, entry.linkname
        _check_name(link)
    elif entry.isreg() or entry.islnk():
        source, link = _content(archive, entry, scratch), None
    else:
        cause = "is a device, a pipe or a socket, which an image does not carry"
        raise PackError(path, cause, "Make it when the container starts, or not at all.", path=path)
    return Member(
        name=name,
        mode=0o777 if link is not None else entry.mode & 0o7777,
        source=source,
        link=link,
        uid=entry.uid,
        gid=entry.gid,
        attributes=_attributes(entry),
    )


def _check_name(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise PackError(shown, "is a name that is not UTF-8", "Give the file another name.", path=shown) from None


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo, scratch: Path) -> Path:
    # Follows a hard link to the member that has the bytes.
    stream = archive.extractfile(entry)
    if stream is None:
        raise PackError(entry.name, "has no content in what the engine gave", "Build it again.", path=entry.name)
    path = scratch / str(len([*scratch.iterdir()]))
    with stream, path.open("xb") as out:
        shutil.copyfileobj(stream, out)
    return path


def _attributes(entry: tarfile.TarInfo) -> tuple[tuple[str, bytes], ...]:
    value = entry.pax_headers.get(f"{_PAX_ATTRIBUTE}{_CAPABILITY}")
    return () if value is None else ((_CAPABILITY, value.encode("utf-8", "surrogateescape")),)


def _is_stale_code(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bool:
    """Whether it is byte-code that goes by its source's time, which is another one in the image."""
    if not entry.name.endswith(".pyc") or not entry.isreg():
        return False
    stream = archive.extractfile(entry)
    head = stream.read(_PYC_HEAD) if stream else b""
    magic_ends = head[2:4] == importlib.util.MAGIC_NUMBER[2:4]
    return len(head) == _PYC_HEAD and magic_ends and not head[4] & 1


def _parents(path: str) -> Iterator[str]:
    folder = path.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
