"""What a package of a versioned application brings for the host's own system: paths, and values for its scriptlets."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from boxsnake import system_files
from boxsnake.disk import disk_faults
from boxsnake.os_packages.nfpm import Content
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.system import ROOT, System

_SYSTEMD = "/usr/lib/systemd"
_ACCOUNTS = (
    *(
        f"/etc/{kind}{old}"
        for kind in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
        for old in ("", "-")
    ),
    *("/etc/.pwd.lock", "/var/log/lastlog", "/var/log/faillog"),
)


def system_contents(system: System, layout: Layout, scratch: Path) -> Iterator[Content]:
    """The paths outside the application's own folder, and its units, written into `scratch`, an existing folder.

    Units are carried with their version and copied into place when it comes into use: so the paths that they then have
    are known to the package (as ghosts), and are not in it.
    """
    for folder in system.directories:
        # Those of the kind "run" are gone whenever the host starts, and made anew by systemd-tmpfiles.
        if folder.kind != "run":
            yield Content(path=folder.path, kind="folder", mode=folder.mode, owner=folder.owner, group=folder.group)
    own = f"/etc/{layout.name}"
    yield from _folders(sorted({parent for file in system.files for parent in _parents(file.path, own)}))
    for number, file in enumerate(system.files):
        source = _written(scratch / f"config-{number}", file.content)
        yield Content(path=file.path, kind="config", mode=file.mode, source=source, owner=file.owner, group=file.group)
    yield from _text("/usr/lib/sysusers.d", layout.name, system_files.sysusers(system), scratch)
    yield from _text("/usr/lib/tmpfiles.d", layout.name, system_files.tmpfiles(system), scratch)
    if rotation := system_files.logrotate(system):
        source = _written(scratch / "logrotate", rotation.encode())
        yield from _folders(["/etc/logrotate.d"])
        yield Content(path=f"/etc/logrotate.d/{layout.name}", kind="config", mode=0o644, source=source)
    yield from _units(system, layout, scratch)


def owned(system: System, layout: Layout) -> tuple[str, ...]:
    """The paths outside the application's own folder that installing it writes: all but the user itself."""
    found = [folder.path for folder in system.directories]
    found += [file.path for file in system.files]
    found += [f"/etc/{layout.name}"] if system.files else []
    found += [f"/usr/lib/sysusers.d/{layout.name}.conf"] if system.user else []
    found += [f"/usr/lib/tmpfiles.d/{layout.name}.conf"] if system.directories else []
    found += [f"/etc/logrotate.d/{layout.name}"] if system.logrotate else []
    found += [f"{system_files.UNITS}/{unit.name}.service" for unit in system.units]
    return tuple(found)


def remains(system: System) -> tuple[str, ...]:
    """The paths that are left when the package is gone: the user, and what a host keeps of users."""
    return _ACCOUNTS if system.user else ()


def assignments(system: System) -> dict[str, str]:
    """The values that `rpm/system.sh` reads."""
    folders = (folder for folder in system.directories if folder.kind == "run")
    return {
        "system_user": system.user or "",
        "system_home": system_files.home(system),
        "has_units": "yes" if system.units else "",
        "run_folders": "\n".join(f"{made.path} {made.mode:04o} {made.owner} {made.group}" for made in folders),
    }


def _units(system: System, layout: Layout, scratch: Path) -> Iterator[Content]:
    if not system.units:
        return
    yield Content(path=f"{layout.support}/units", kind="folder")
    yield from _folders([_SYSTEMD, system_files.UNITS])
    for unit in system.units:
        name = f"{unit.name}.service"
        text = system_files.unit_file(unit, system, f"{layout.current}/bin")
        source = _written(scratch / name, text.encode())
        yield Content(path=f"{layout.support}/units/{name}", kind="file", mode=0o644, source=source)
        yield Content(path=f"{system_files.UNITS}/{name}", kind="ghost", mode=0o644)


def _text(folder: str, name: str, text: str, scratch: Path) -> Iterator[Content]:
    if text:
        source = _written(scratch / posixpath.basename(folder), text.encode())
        yield from _folders([folder])
        yield Content(path=f"{folder}/{name}.conf", kind="file", mode=0o644, source=source)


def _folders(paths: list[str]) -> Iterator[Content]:
    """Folders that others may have as well: they are root's, and everybody can read them."""
    return (Content(path=path, kind="folder", owner=ROOT, group=ROOT) for path in paths)


def _parents(path: str, own: str) -> Iterator[str]:
    """The application's own folders above a path."""
    while (path := posixpath.dirname(path)).startswith(own):
        if path == own or path.startswith(f"{own}/"):
            yield path


def _written(path: Path, content: bytes) -> Path:
    with disk_faults(path):
        path.write_bytes(content)
    return path
