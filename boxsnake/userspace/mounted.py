"""An environment as a file system that an administrator mounts at its prefix, and the units of systemd that do it.

Knows mksquashfs, mkfs.erofs and xorriso. Nothing is placed: the prefix is known when the image is made.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from boxsnake import child
from boxsnake.archive import Member, file_member, write_tar
from boxsnake.disk import disk_faults
from boxsnake.entries import Tree
from boxsnake.errors import PackError
from boxsnake.plan import Plan
from boxsnake.system import Unit
from boxsnake.system_files import sysusers, tmpfiles, unit_file

MountedKind = Literal["squashfs", "erofs", "iso"]
FOLDER = "/opt/images"
"""Where the units look for the image."""

_DEADLINE = 1800.0
KERNELS = {"squashfs": "squashfs (4.14)", "erofs": "EROFS (5.4)", "iso": "ISO 9660"}
"""What must be in the kernel that mounts it, and since which version it can read these."""

_TYPES = {"squashfs": "squashfs", "erofs": "erofs", "iso": "iso9660"}
_TOOLS = {
    "squashfs": ("mksquashfs", "squashfs-tools"),
    "erofs": ("mkfs.erofs", "erofs-utils"),
    "iso": ("xorriso", "xorriso"),
}
_README = """\
# {title}

`{image}` is a read-only file system with everything that {title} needs, to be mounted at {prefix} and nowhere else:

    install -D -m 644 {image} {folder}/{image}
    install -m 644 {units} /etc/systemd/system/
    systemctl daemon-reload
    systemctl enable --now {mount}

Without systemd:

    mkdir -p {prefix}
    mount -t {type} -o ro,nodev,nosuid,loop {folder}/{image} {prefix}

The next version is another file: put it beside this one, stop the services, put its {mount} in the place of
this one's, and start them again.
{files}"""


def tool_version(kind: MountedKind, scratch: Path) -> str:
    """What the tool says of its version. Errors: ResourceError where it is not installed."""
    name, package = _TOOLS[kind]
    option = {"squashfs": "-version", "erofs": "-V", "iso": "-version"}[kind]
    argv = [child.found(name, package), option]
    done = child.run(argv, cwd=scratch, env=child.environment(scratch), deadline=60.0)
    return done.output.strip()


def write_mounted(plan: Plan, tree: Tree, out: Path, scratch: Path, *, kind: MountedKind) -> None:
    """Write a tar of one folder, named as `out` without ".tar": the image, its units, a README. Errors: PackError."""
    folder = out_name(plan, kind)
    image = scratch / f"image.{kind}"
    _make(plan, tree, image, scratch, kind)
    mount = f"{escaped(tree.prefix)}.mount"
    texts = {mount: _mount_unit(plan, tree.prefix, folder, kind)}
    texts |= {f"{unit.name}.service": _service(unit, plan, tree.prefix) for unit in _units(plan)}
    units = list(texts)
    texts |= {f"{plan.application.name}.{name}.conf": text for name, text in _system_texts(plan).items() if text}
    texts["README.md"] = _readme(plan, tree.prefix, folder, kind, units=units, files=list(texts)[len(units) :])
    members: list[Member] = [file_member(f"{folder}/{name}", text.encode()) for name, text in texts.items()]
    members.append(file_member(f"{folder}/{folder}", image))
    with disk_faults(out), out.open("xb") as stream:
        write_tar(members, stream, epoch=plan.epoch)


def out_name(plan: Plan, kind: MountedKind) -> str:
    """The image's file name."""
    return f"{plan.application.name}-{plan.application.version}-{plan.target.machine}.{kind}"


def escaped(path: str) -> str:
    """A path as systemd has it in the names of mount units (systemd.unit(5))."""
    text = path.strip("/")
    kept = "".join("-" if c == "/" else c if c.isalnum() or c in ":_." else f"\\x{ord(c):02x}" for c in text)
    return f"\\x2e{kept[1:]}" if kept.startswith(".") else kept


def _make(plan: Plan, tree: Tree, image: Path, scratch: Path, kind: MountedKind) -> None:
    name, package = _TOOLS[kind]
    argv = [child.found(name, package), *_arguments(plan, tree, image, kind)]
    env = child.environment(scratch, **({"SOURCE_DATE_EPOCH": str(plan.epoch)} if kind == "iso" else {}))
    done = child.run(argv, cwd=scratch, env=env, deadline=_DEADLINE)
    if done.code != 0 or not image.exists():
        shown = done.last_lines.replace(str(scratch), "…").replace(str(tree.root), "…")
        raise PackError(name, f"{done.why(_DEADLINE)}\n{shown}", f"Take a newer {package}, or report it.", output=shown)


def _arguments(plan: Plan, tree: Tree, image: Path, kind: MountedKind) -> list[str]:
    root, epoch = str(tree.root), str(plan.epoch)
    if kind == "squashfs":
        times = ["-mkfs-time", epoch, "-all-time", epoch]
        quiet = ["-no-xattrs", "-all-root", "-root-mode", "755", "-no-exports", "-no-progress", "-quiet", "-noappend"]
        return [root, str(image), *quiet, *times, "-comp", "zstd", "-Xcompression-level", "9"]
    if kind == "erofs":
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, out_name(plan, kind)))
        return ["--quiet", "-T", epoch, "-U", identity, "-x-1", "--all-root", "-zlz4hc", str(image), root]
    owners = ["-uid", "0", "-gid", "0"]
    label = "".join(c if c.isalnum() else "_" for c in plan.application.name.upper())[:32]
    return ["-as", "mkisofs", "-quiet", "-R", "-iso-level", "3", "-V", label, *owners, "-o", str(image), root]


def _mount_unit(plan: Plan, prefix: str, image: str, kind: MountedKind) -> str:
    title = f"{plan.application.name} {plan.application.version}"
    lines = ["[Unit]", f"Description={title}, read-only", "", "[Mount]", f"What={FOLDER}/{image}", f"Where={prefix}"]
    lines += [f"Type={_TYPES[kind]}", "Options=ro,nodev,nosuid,loop", "", "[Install]", "WantedBy=multi-user.target", ""]
    return "\n".join(lines)


def _units(plan: Plan) -> Sequence[Unit]:
    """The services that the manifest asks for, or else the application's own command as one."""
    application = plan.application
    if plan.system.units or not application.command:
        return plan.system.units
    return (Unit(name=application.name, command=application.command, environment=application.environment),)


def _service(unit: Unit, plan: Plan, prefix: str) -> str:
    head = "[Unit]\n"
    text = unit_file(unit, plan.system, f"{prefix}/bin")
    return f"{head}RequiresMountsFor={prefix}\n{text.removeprefix(head)}"


def _system_texts(plan: Plan) -> dict[str, str]:
    return {"sysusers": sysusers(plan.system), "tmpfiles": tmpfiles(plan.system)}


def _readme(
    plan: Plan, prefix: str, image: str, kind: MountedKind, *, units: Sequence[str], files: Sequence[str]
) -> str:
    more = "".join(f"- `{name}`\n" for name in files)
    return _README.format(
        title=f"{plan.application.name} {plan.application.version}",
        image=image,
        prefix=prefix,
        folder=FOLDER,
        type=_TYPES[kind],
        mount=f"'{units[0]}'",
        units=" ".join(f"'{name}'" for name in units),
        files=f"\nFor systemd-sysusers and systemd-tmpfiles, before the services start:\n\n{more}" if more else "",
    )
