"""The installer: one shell script with everything in it, for hosts where no package manager shall be asked.

It is a script, which ends in `exit`, and behind that a tar, compressed. Where it installs, versions lie side by side as
a package's do (`os_packages.versioned_layout`), and the same scripts bring them into use and check them.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from boxsnake import inventory
from boxsnake.archive import GzipSink, Member, write_tar
from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.forecast import GZIP, packed
from boxsnake.manifest import Section
from boxsnake.manifest.text import Limits
from boxsnake.needs import Step
from boxsnake.os_packages import scriptlets
from boxsnake.os_packages.nfpm import Content
from boxsnake.os_packages.rpm_version import rpm_version
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_payload import as_files, support_texts
from boxsnake.os_packages.versioned_plan import check_commands, check_target, commands_of, environment_notes
from boxsnake.plan import expected
from boxsnake.self_placing import installer_recipe
from boxsnake.system import NOTHING, SystemPart
from boxsnake.value import dataclass
from boxsnake.wheel_closure import start_command

if TYPE_CHECKING:
    from boxsnake.entries import Tree
    from boxsnake.forecast import Forecast
    from boxsnake.packagers import Materials
    from boxsnake.plan import Hook, Plan

_COMMANDS = '"${root%/lib/*}/bin"'
_DIGITS = 8
"""Of a tree's digest, in the name of its folder: two builds of one version are two versions."""
# What is said before anything else, in lines that bear another line end.
_FIRST_LINES = """\
#!/bin/sh
[ -f "$0" ] || { echo "$0: run this as a file: sh FILE" >&2; exit 2; } #
"""
_LINE_ENDS = (
    'case $(head -n 1 "$0" | wc -c) in *10) ;; '
    '*) echo "$0: its line ends were changed; copy it again, as a binary file" >&2; exit 4 ;; esac; '
)


@dataclass(frozen=True, kw_only=True)
class InstallerOptions(Section):
    """`[boxes.installer]`."""

    commands: tuple[str, ...] | None = None
    """The programs that are linked into PREFIX/bin; left out: the application's own console scripts."""
    keep: Annotated[int, Limits(ge=0, le=20)] = 1
    """How many earlier versions stay installed beside the one in use, for `<name>-ctl rollback`."""
    run_checks: bool = True
    """Whether a new version must pass the checks with `run` on the host before it comes into use."""


class Installer:
    """The packager of installers."""

    name = "installer"
    summary = "one shell script that installs anywhere, for any user, with its own interpreter"
    options = InstallerOptions
    step: Step = "conda"
    moments = frozenset(scriptlets.MOMENTS)
    system: frozenset[SystemPart] = frozenset()
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, self.name)
        check_commands(plan, self.name)
        rpm_version(plan.application.version)
        for hook in plan.hooks:
            scriptlets.hook_function(hook)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return f"{plan.application.name}-{plan.application.version}-linux-{plan.target.machine}.sh"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"scripts": scriptlets.digest()}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        with materials.tree(None) as tree, materials.scratch() as scratch:
            layout = _layout(plan, tree)
            placing = _placing(plan, tree)
            hooks = {hook.moment: hook for hook in plan.hooks}
            more = (
                *(_function(name, hooks) for name in ("before_remove", "after_remove")),
                _text("lock"),
                _text("uninstall"),
            )
            texts = support_texts(
                plan, layout, run_checks=plan.options.run_checks, system=NOTHING, placing=placing, more_control=more
            )
            payload = as_files(tree, layout, commands_of(plan), scratch, texts=texts, time=plan.epoch)
            packed = scratch / "payload.tar.gz"
            with disk_faults(packed), packed.open("xb") as stream, GzipSink(stream) as sink:
                write_tar(_members(payload.contents, layout), sink, epoch=plan.epoch)
            values = scriptlets.assignments(
                layout,
                app_version=plan.application.version,
                needed=payload.needed,
                keep=plan.options.keep,
                placing=placing,
            )
            with disk_faults(out):
                _write(out, _script(values, hooks, _facts(plan, tree, packed)), packed)
            return [*tree.notes, *environment_notes(plan, "an installer")]

    def needs(self, plan: Plan) -> Sequence[str]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return ("tar", "gzip")

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        notes = environment_notes(plan, "an installer")
        return packed(inventory.environment(plan, materials.store), GZIP, notes=notes)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        name, place = plan.application.name, "/srv/two words"
        recipe = installer_recipe(
            artifact, name, place, host=f"debian-{plan.target.debian}", expects=expected(plan, conda=True)
        )
        return replace(
            recipe,
            command=start_command(plan, recipe.scripts or ""),
            writes=recipe.remains,
            environment=plan.application.environment,
            rollback=((f"{place}/bin/{name}-ctl", "rollback"),) if plan.options.keep else (),
        )


PACKAGER = Installer()


def _layout(plan: Plan, tree: Tree) -> Layout:
    """The version's folder bears a digest of all that is in it."""
    digest = hashlib.sha256()
    for entry in tree.entries:
        digest.update(f"{entry.path}\0{entry.mode:o}\0{entry.sha256}\0{entry.target}\0".encode())
    folder = rpm_version(plan.application.version).folder
    return Layout(name=plan.application.name, version=f"{folder}-{digest.hexdigest()[:_DIGITS]}")


def _placing(plan: Plan, tree: Tree) -> scriptlets.Placing:
    return scriptlets.Placing(
        root=f'"$place/lib/{plan.application.name}"',
        commands=_COMMANDS,
        longest_prefix=len(tree.prefix.encode()),
        names=commands_of(plan),
    )


def _members(contents: Sequence[Content], layout: Layout) -> Iterator[Member]:
    """The package's paths below the folder of all versions; what lies elsewhere the script makes itself."""
    own = f"{layout.root}/"
    for content in contents:
        if content.kind == "ghost" or not content.path.startswith(own) or content.path == layout.control[0]:
            continue
        name = content.path.removeprefix(own)
        if content.kind == "link":
            yield Member(name=name, mode=0o777, link=content.target)
        elif content.kind != "folder":
            yield Member(name=name, mode=content.mode, source=content.source)
        elif name != posixpath.basename(posixpath.dirname(layout.control[0])):
            yield Member(name=name)


def _facts(plan: Plan, tree: Tree, packed: Path) -> Mapping[str, str]:
    """What the script must know of its own payload, by the variable's name."""
    application, target = plan.application, plan.target
    title = f"{application.name} {application.version}"
    size = sum(entry.size for entry in tree.entries)
    with packed.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    receipt = {
        "name": application.name,
        "version": application.version,
        "platform": target.platform,
        "python": plan.lock.python,
        "payload_sha256": digest,
        "commands": commands_of(plan),
    }
    needs = f"Linux on {target.machine}" + (f", glibc {target.glibc}" if target.glibc else "")
    lines = {
        "application": title,
        "needs": needs,
        "Python": plan.lock.python,
        "commands": " ".join(commands_of(plan)),
        "installed": f"{size / 1e6:.1f} MB",
        "longest path": f"{len(tree.prefix.encode())} bytes",
        "payload": f"sha256 {digest}",
    }
    return {
        "app": application.name,
        "title": title,
        "machine": target.machine,
        "loader": target.loader,
        "glibc": target.glibc or "0.0",
        "payload_size": str(packed.stat().st_size),
        "facts": "\n".join(f"{key + ':':<14}{value}" for key, value in lines.items()),
        "receipt": json.dumps(receipt, sort_keys=True)[1:-1],
    }


def _script(values: str, hooks: Mapping[str, Hook], facts: Mapping[str, str]) -> bytes:
    """Everything of the script that the digest is made of, without the payload."""
    return "\n".join(
        (
            _text("start"),
            "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items()),
            _text("arguments"),
            values,
            scriptlets.functions(NOTHING),
            _function("before_install", hooks),
            _function("after_install", hooks),
            _text("lock"),
            _text("install"),
        )
    ).encode()


def _function(scriptlet: str, hooks: Mapping[str, Hook]) -> str:
    """A scriptlet as a function in a shell of its own, with its hook."""
    moment = next(moment for moment, name in scriptlets.MOMENTS.items() if name == scriptlet)
    hook = scriptlets.hook_function(hooks.get(moment))
    return f"{scriptlet}() (\n{hook}\n{scriptlets.text(f'{scriptlet}.sh')}\n)\n"


def _text(name: str) -> str:
    return scriptlets.text(f"installer/{name}.sh")


def _write(out: Path, script: bytes, packed: Path) -> None:
    digest = hashlib.sha256(script)
    payload_size = packed.stat().st_size
    with packed.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    head, size = b"", 0
    while size != len(head) + len(script) + payload_size:
        size = len(head) + len(script) + payload_size
        numbers = f"whole={digest.hexdigest()} size={size} skip={len(head)} #\n"
        head = f"{_FIRST_LINES}{_LINE_ENDS}{numbers}".encode()
    with out.open("xb") as made, packed.open("rb") as stream:
        made.write(head + script)
        while chunk := stream.read(1 << 20):
            made.write(chunk)
    out.chmod(0o755)
