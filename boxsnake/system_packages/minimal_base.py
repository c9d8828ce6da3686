"""The minimal base: what programs need of a system, out of Debian's packages; no shell and no package manager.

Packages are unpacked and nothing of them is run, so that a base for any platform is made on any machine. What their
scripts would make of a system is made here: the layout of folders, users, certificates in one file. Each package's
control file is kept in /var/lib/dpkg/status.d, where scanners look for the packages of images without dpkg.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from boxsnake.archive import GZIP_FORMAT, GzipSink, Member, file_member, write_tar
from boxsnake.bases.value import Base
from boxsnake.errors import PackError
from boxsnake.layers.plan import LayerBlob
from boxsnake.lock import SystemLock
from boxsnake.oci import LAYER_GZIP, History, Runtime
from boxsnake.progress import track
from boxsnake.store import Store
from boxsnake.system_packages.deb_archive import DebArchive, DebFile, read_deb

_FORMAT = 2
"""To be raised whenever the same packages shall give another base."""

MACHINERY = frozenset({"base-files", "ca-certificates", "netbase", "tzdata"})
"""Those that are in every minimal base, and whose scripts' work is done here."""

_MERGED = re.compile(r"(bin|sbin|lib|lib64|lib32|libx32)(/|$)")
# Manuals, translations, what is for those who build or look after packages, and tables of character sets (iconv).
_LEFT_OUT = re.compile(
    r"usr/share/(man|info|locale|lintian|bug|doc-base|gdb|base-files|ca-certificates/.+)(/|$)"
    r"|usr/share/doc/[^/]+/(?!copyright$)"
    r"|usr/lib/[^/]+/gconv(/|$)"
    r"|usr/share/zoneinfo/(right|posix)(/|$)"
    r"|(boot|media|mnt|srv|home)(/|$)|etc/(profile\.d|skel|update-motd\.d|dpkg|cron\.[a-z]+|init\.d|default)(/|$)"
    r"|etc/(issue|issue\.net|motd|ca-certificates/.*)$|usr/sbin/update-ca-certificates$|usr/lib/init(/|$)"
)
_CERTIFICATE = re.compile(r"usr/share/ca-certificates/.+\.crt")
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
        "app:x:10001:10001:app:/nonexistent:/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\ntty:x:5:\nstaff:x:50:\nnogroup:x:65534:\napp:x:10001:\n",
    "etc/nsswitch.conf": (
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
        "protocols: files\nservices: files\n"
    ),
}
_LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "sbin": "usr/sbin",
    # Where the builds of OpenSSL and GnuTLS that there are look for certificates.
    "etc/ssl/cert.pem": "certs/ca-certificates.crt",
    "etc/pki/tls/certs/ca-bundle.crt": "/etc/ssl/certs/ca-certificates.crt",
    "usr/lib/ssl/cert.pem": "/etc/ssl/certs/ca-certificates.crt",
    "usr/lib/ssl/certs": "/etc/ssl/certs",
    "var/run": "../run",
}
_FOLDERS = {"dev": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555}
_FOLDERS |= {"tmp": 0o1777, "usr/bin": 0o755, "usr/lib": 0o755, "usr/sbin": 0o755, "var/tmp": 0o1777}


def minimal_base(
    store: Store,
    name: str,
    system: SystemLock,
    archives: Callable[[SystemLock], Mapping[str, Path]],
    *,
    platform: tuple[str, str],
    epoch: int,
) -> Base:
    """The base of the locked packages, its layer in the store.

    `archives` brings local files by the packages' digests, where the store has no such base. Errors: its own,
    IntegrityError for a package that cannot be read, PackError for two packages with one path.
    """
    key = _key(system, epoch)
    known = store.selected("minimal-base", key)
    if known is None or store.intact(known["layer"]["digest"]) is None:
        with track(f"making the base {name}"):
            files = archives(system)
            known = _made(store, [read_deb(files[package.sha256]) for package in system.packages], epoch)
        store.select("minimal-base", key, known)
    layer = LayerBlob(**known["layer"] | {"media_type": LAYER_GZIP, "notes": tuple(known["notes"])})
    step = History(created_by=f"boxsnake: {name}", comment=f"{len(system.packages)} packages of {system.suite}")
    return Base(
        name=name,
        digest=layer.diff_id,
        layers=(layer,),
        history=(step,),
        runtime=Runtime(),
        platform=platform,
    )


def libraries_of(store: Store, system: SystemLock, *, epoch: int) -> frozenset[str]:
    """The file names of the shared libraries in a base that has been made."""
    known = store.selected("minimal-base", _key(system, epoch))
    return frozenset(known["libraries"]) if known else frozenset()


def _key(system: SystemLock, epoch: int) -> dict[str, Any]:
    digests = sorted(package.sha256 for package in system.packages)
    return {"format": _FORMAT, "gzip": GZIP_FORMAT, "epoch": epoch, "packages": digests}


def _made(store: Store, packages: list[DebArchive], epoch: int) -> dict[str, Any]:
    members = _members(packages)
    with store.writer(origin="layer base") as writer, GzipSink(writer) as sink:
        write_tar(members.values(), sink, epoch=epoch)
    blob = writer.blob
    unrun = sorted(_field(package, "Package") for package in packages if _needs_script(package))
    notes = [f"the base runs no scripts of packages; {', '.join(unrun)} has one"] if unrun else []
    return {
        "layer": {"name": "base", "digest": blob.digest, "size": blob.size, "diff_id": sink.diff_id},
        "notes": notes,
        "libraries": sorted({name for path in members if ".so" in (name := path.rpartition("/")[2])}),
    }


def _members(packages: list[DebArchive]) -> dict[str, Member]:
    found: dict[str, Member] = {path: Member(name=path, mode=mode) for path, mode in _FOLDERS.items()}
    found |= {path: Member(name=path, mode=0o777, link=target) for path, target in _LINKS.items()}
    found |= {path: file_member(path, text.encode()) for path, text in _FILES.items()}
    made = frozenset(found)
    for package in packages:
        for file in package.files:
            member = _member(file)
            if member is None or member.name in made:
                continue
            if (there := found.get(member.name)) is not None and not _agree(there, member):
                step = "Report this: Debian's packages replace each other's files only by leave."
                raise PackError(f"/{member.name}", f"comes in {_field(package, 'Package')} and in another", step)
            found[member.name] = member
        found |= {member.name: member for member in _records(package)}
    if "usr/lib64" in found:
        found["lib64"] = Member(name="lib64", mode=0o777, link="usr/lib64")
    found[_BUNDLE] = file_member(_BUNDLE, b"".join(_certificates(packages)))
    return found


def _member(file: DebFile) -> Member | None:
    # Debian's packages of older releases have the paths from before /bin, /lib and /sbin went into /usr.
    path = f"usr/{file.path}" if _MERGED.match(file.path) else file.path
    is_merger = "/" not in file.path and file.link is not None
    if is_merger or _LEFT_OUT.match(path):
        return None
    mode = 0o777 if file.link is not None else file.mode
    return Member(name=path, mode=mode, source=file.content, link=file.link, uid=file.uid, gid=file.gid)


def _agree(one: Member, other: Member) -> bool:
    """Whether two packages may both have it: folders, and the very same files."""
    return (one.source, one.link) == (other.source, other.link)


def _records(package: DebArchive) -> Iterator[Member]:
    name = _field(package, "Package")
    control = package.control.rstrip("\n") + "\n"
    # What dpkg adds to a control file when it has installed its package.
    lines = control.split("\n", 1)
    status = f"{lines[0]}\nStatus: install ok installed\n{lines[1]}"
    yield file_member(f"var/lib/dpkg/status.d/{name}", status.encode())
    yield file_member(f"var/lib/dpkg/status.d/{name}.md5sums", package.sums.encode())


def _certificates(packages: list[DebArchive]) -> Iterator[bytes]:
    """All authorities that Mozilla trusts, as update-ca-certificates puts them together."""
    files = (file for package in packages for file in package.files if _CERTIFICATE.fullmatch(file.path))
    for file in sorted(files, key=lambda file: file.path):
        yield (file.content or b"").rstrip(b"\n") + b"\n"


def _needs_script(package: DebArchive) -> bool:
    """Whether its files alone may not be all. glibc's script deals with upgrades of a running system."""
    return "postinst" in package.scripts and _field(package, "Package") not in MACHINERY | {"libc6"}


def _field(package: DebArchive, name: str) -> str:
    match = re.search(rf"^{name}: *(.*)$", package.control, re.MULTILINE)
    return match[1].strip() if match else ""
