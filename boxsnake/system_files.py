"""The files by which a system is told what an application wants of it: units, users, folders, rotation of logs.

Each value is written in the grammar of its file, never pasted: systemd.syntax(7), systemd.service(5), systemd.exec(5),
sysusers.d(5), tmpfiles.d(5) and logrotate(8). What names things (users, paths, units) is of a strict alphabet already,
which needs no quoting in any of them; see `boxsnake.manifest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from boxsnake.system import ROOT, Directory, System, Unit

UNITS = "/usr/lib/systemd/system"
"""The folder in which systemd finds the units of packages."""

_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@+-]+")
_HARDENING = {
    "no-new-privileges": ("NoNewPrivileges=yes",),
    "protect-system": ("ProtectSystem=strict",),
    "protect-home": ("ProtectHome=yes",),
    "private-tmp": ("PrivateTmp=yes",),
    "private-devices": ("PrivateDevices=yes",),
    "protect-kernel": ("ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes"),
    "restrict-namespaces": ("RestrictNamespaces=yes",),
    "restrict-realtime": ("RestrictRealtime=yes",),
    "restrict-setuid": ("RestrictSUIDSGID=yes",),
    "restrict-addresses": ("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",),
    "lock-personality": ("LockPersonality=yes",),
    "native-calls": ("SystemCallArchitectures=native",),
}


def unit_file(unit: Unit, system: System, programs: str) -> str:
    """The unit's file; its program lies in the folder `programs`, unless it is named by an absolute path."""
    return "\n".join(
        [
            "[Unit]",
            *_described(unit, system),
            "",
            "[Service]",
            "Type=simple",
            *_started(unit, programs),
            *_limits(unit),
            *_protections(unit, system),
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def sysusers(system: System) -> str:
    """The line of sysusers.d that makes the user and its group; "" where none is wanted."""
    return f'u {system.user} - "{system.user}" {home(system)}\n' if system.user else ""


def home(system: System) -> str:
    """The user's home: the first folder of the application's state, or none in particular."""
    return next((folder.path for folder in system.directories if folder.kind == "state"), "/")


def tmpfiles(system: System) -> str:
    """The lines of tmpfiles.d that make the folders where they are not; "" where none is wanted."""
    return "".join(
        f"d {folder.path} {folder.mode:04o} {folder.owner} {folder.group} -\n" for folder in system.directories
    )


def logrotate(system: System) -> str:
    """The stanzas of logrotate.d, one for each folder of logs; "" where none is wanted.

    Files are copied and cut: the application keeps the one open that it has, and need not be told.
    """
    wanted = system.logrotate
    if wanted is None:
        return ""
    lines = [wanted.every, f"rotate {wanted.keep}", "copytruncate", "missingok", "notifempty"]
    lines += [f"maxsize {wanted.max_size}"] if wanted.max_size else []
    lines += ["compress", "delaycompress"] if wanted.compress else ["nocompress"]
    return "".join(_stanza(folder, lines) for folder in system.directories if folder.kind == "log")


def _stanza(folder: Directory, lines: list[str]) -> str:
    # logrotate goes into no folder that somebody else could change, unless it becomes that one.
    own = [f"su {folder.owner} {folder.group}"]
    return f"{folder.path}/*.log {{\n" + "".join(f"    {line}\n" for line in own + lines) + "}\n"


def _described(unit: Unit, system: System) -> Iterator[str]:
    # A backslash at the end would join the next line to this one.
    summary = _specifiers(system.summary).rstrip("\\ ") or unit.name
    yield f"Description={summary} ({unit.name})"
    if unit.network:
        yield "Wants=network-online.target"
        yield "After=network-online.target"


def _started(unit: Unit, programs: str) -> Iterator[str]:
    program, *arguments = unit.command
    path = program if program.startswith("/") else f"{programs}/{program}"
    yield f"ExecStart={' '.join([_word(path), *(_argument(text) for text in arguments)])}"
    if unit.user != ROOT:
        yield f"User={unit.user}"
        yield f"Group={unit.user}"
    environment = {"PATH": f"{programs}:{_SEARCHED}"} | dict(unit.environment)
    for name, value in environment.items():
        yield f"Environment={_word(f'{name}={value}')}"
    yield f"Restart={unit.restart}"
    yield f"RestartSec={unit.restart_seconds}"
    yield f"TimeoutStopSec={unit.stop_seconds}"
    yield "UMask=0027"


def _limits(unit: Unit) -> Iterator[str]:
    if unit.memory:
        yield f"MemoryMax={unit.memory}"
    if unit.tasks:
        yield f"TasksMax={unit.tasks}"
    if unit.open_files:
        yield f"LimitNOFILE={unit.open_files}"


def _protections(unit: Unit, system: System) -> Iterator[str]:
    for name, lines in _HARDENING.items():
        if name in unit.hardening:
            yield from lines
    if "protect-system" in unit.hardening:
        for folder in system.directories:
            # The minus: it need not be there.
            yield f"ReadWritePaths=-{folder.path}"
    capabilities = " ".join(unit.capabilities)
    if unit.user != ROOT or capabilities:
        yield f"CapabilityBoundingSet={capabilities}"
    if capabilities and unit.user != ROOT:
        yield f"AmbientCapabilities={capabilities}"


def _argument(text: str) -> str:
    """A word of a command line, in which systemd replaces variables too."""
    return _word(text.replace("$", "$$"))


def _word(text: str) -> str:
    """One word: quoted where it has any character that could mean something."""
    if _PLAIN.fullmatch(text):
        return text
    quoted = _specifiers(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
