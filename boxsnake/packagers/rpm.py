"""RPM: the application under /opt, for hosts whose software comes as RPMs.

Versions lie side by side and one link says which is in use (`os_packages.versioned_layout`). What is carried is either
every file, owned by RPM, or package archives with a linker (`os_packages.versioned_payload`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from boxsnake.boot_recipe import BootRecipe
from boxsnake.entries import conda_owner
from boxsnake.errors import PackError
from boxsnake.manifest import Section
from boxsnake.os_packages import nfpm, rpm_header, scriptlets
from boxsnake.os_packages.rpm_version import rpm_version
from boxsnake.os_packages.system_payload import owned, remains, system_contents
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_payload import Payload, as_archives, as_files, interpreter_packages, support_texts
from boxsnake.os_packages.versioned_plan import (
    check_commands,
    check_target,
    commands_of,
    described_line,
    described_text,
    environment_notes,
    started,
)
from boxsnake.plan import expected
from boxsnake.system import PARTS

if TYPE_CHECKING:
    from boxsnake.entries import Tree
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_DATABASE = "/var/lib/rpm"
# A capability, perhaps of an architecture ("libc.so.6(GLIBC_2.28)(64bit)"), a path or a package; perhaps its version.
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9_/][A-Za-z0-9_./+~:-]*(?:\([A-Za-z0-9_./+~:-]*\))*)"
    r"(?:\s*(?P<sense><=|>=|=|<|>)\s*(?P<version>(?:\d+:)?[A-Za-z0-9._+~^-]+))?"
)
# The boolean dependencies of rpm 4.13 and later, such as "(foo or bar)".
_RICH_REQUIREMENT = re.compile(r"\([A-Za-z0-9_./+~:<>=() -]{1,500}\)")
_SENSES = {
    "<": rpm_header.LESS,
    "<=": rpm_header.LESS | rpm_header.EQUAL,
    "=": rpm_header.EQUAL,
    ">=": rpm_header.GREATER | rpm_header.EQUAL,
    ">": rpm_header.GREATER,
}


class RpmOptions(Section):
    """`[boxes.rpm]`."""

    payload: Literal["files", "archives"] = "files"
    """"files": every file is RPM's; "archives": package archives, linked into place when the package is installed."""
    release: Annotated[str, Field(pattern=r"^[0-9A-Za-z]+([._+~][0-9A-Za-z]+)*$", max_length=32)] = "1"
    """RPM's release: tells two packages of one version apart."""
    commands: tuple[str, ...] | None = None
    """The programs that are linked into /usr/bin; left out: the application's own console scripts."""
    prefix_root: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] = "/opt"
    """The folder in which the application has its own."""
    compression: Annotated[str, Field(pattern=r"^(zstd:([1-9]|1[0-9])|gzip:[1-9]|xz)$")] = "zstd:3"
    """Of the payload: its kind and, but for xz, its level."""
    keep: Annotated[int, Field(ge=0, le=20)] = 1
    """How many earlier versions stay installed beside the one in use, for `<name>-ctl rollback`."""
    run_checks: bool = True
    """Whether a new version must pass the checks with `run` on the host before it comes into use."""
    license: str | None = None
    """Left out: the application's."""
    vendor: str = ""
    group: str = "Applications/Internet"
    """RPM's old classification, which a few tools still ask for."""


class Rpm:
    """The packager of RPMs."""

    name = "rpm"
    summary = "an RPM with its own interpreter under /opt, for hosts whose software comes as RPMs"
    options = RpmOptions
    moments = frozenset(scriptlets.MOMENTS)
    system = frozenset(PARTS)
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, "rpm")
        _layout(plan)
        _package(plan, needed=0)
        check_commands(plan, "rpm")
        for requirement in plan.requires_rpm:
            _parse_requirement(requirement)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        version = rpm_version(plan.application.version).version
        return f"{plan.application.name}-{version}-{plan.options.release}.{plan.target.machine}.rpm"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"nfpm": nfpm.version(), "scriptlets": scriptlets.digest()}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        layout = _layout(plan)
        with materials.tree(layout.prefix) as tree, materials.scratch() as scratch:
            for name in ("payload", "system", "nfpm"):
                (scratch / name).mkdir()
            payload = _payload(plan, tree, layout, scratch / "payload")
            package = _package(plan, needed=payload.needed)
            contents = (*payload.contents, *system_contents(plan.system, layout, scratch / "system"))
            self.write(package, contents, out, scratch / "nfpm")
            return [*tree.notes, *environment_notes(plan, "an RPM")]

    def write(self, package: nfpm.Package, contents: Sequence[nfpm.Content], out: Path, scratch: Path) -> None:
        """Write the package to `out`; `scratch` is an empty folder. Errors: PackError, ResourceError."""
        nfpm.write(package, contents, "rpm", out, scratch)
        _check_header(package, out)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        layout = _layout(plan)
        package = f"/tmp/{artifact.name}"  # noqa: S108 - in a container of its own
        return BootRecipe(
            host=f"debian-{plan.target.debian}-rpm",
            copies=((str(artifact), package),),
            install=(("rpm", "--install", package), ("rpm", "--verify", layout.name)),
            python=(f"{layout.current}/bin/python",),
            scripts=f"{layout.current}/bin",
            command=started(plan, layout),
            remove=(("rpm", "--erase", layout.name),),
            writes=(
                layout.root,
                *(layout.command(command)[0] for command in commands_of(plan)),
                _DATABASE,
                package,
                *remains(plan.system),
                *owned(plan.system, layout),
            ),
            remains=(_DATABASE, package, *remains(plan.system)),
            expects=expected(plan, conda=True),
            environment=plan.application.environment,
        )


PACKAGER = Rpm()


def _layout(plan: Plan) -> Layout:
    options: RpmOptions = plan.options
    folder = rpm_version(plan.application.version).folder
    return Layout(name=plan.application.name, version=f"{folder}-{options.release}", prefix_root=options.prefix_root)


def _payload(plan: Plan, tree: Tree, layout: Layout, scratch: Path) -> Payload:
    commands = commands_of(plan)
    texts = support_texts(plan, layout, run_checks=plan.options.run_checks)
    if plan.options.payload == "files":
        return as_files(tree, layout, commands, scratch, texts=texts)
    carried = {conda_owner(name) for name in interpreter_packages(plan.lock.conda)}
    return as_archives(tree, layout, commands, scratch, texts=texts, carried=carried, time=plan.epoch)


def _package(plan: Plan, *, needed: int) -> nfpm.Package:
    """The package without its paths; `needed` is what they take on the disk, in bytes."""
    application = plan.application
    options: RpmOptions = plan.options
    version = rpm_version(application.version)
    summary = " ".join(described_text("app.summary", application.summary or application.name).split())
    return nfpm.Package(
        name=application.name,
        epoch=version.epoch,
        version=version.version,
        release=options.release,
        architecture=plan.target.machine,
        summary=summary,
        description=described_text("app.description", application.description).strip() or summary,
        license=described_line("license", options.license or application.license or "Unspecified"),
        homepage=described_line("app.homepage", application.homepage),
        vendor=described_line("vendor", options.vendor),
        maintainer=described_line("app.maintainer", application.maintainer),
        group=described_line("group", options.group),
        requires=_requirements(plan),
        compression=options.compression,
        time=plan.epoch,
        scripts=scriptlets.scripts(
            _layout(plan),
            app_version=application.version,
            needed=needed,
            hooks=plan.hooks,
            keep=options.keep,
            system=plan.system,
        ),
    )


def _requirements(plan: Plan) -> tuple[str, ...]:
    """The user's own, the shell that runs the scriptlets, and the C library that the lock was made for."""
    glibc = (f"glibc >= {plan.target.glibc}",) if plan.target.glibc else ()
    return ("/bin/sh", *glibc, *(requirement.strip() for requirement in plan.requires_rpm))


def _parse_requirement(requirement: str) -> tuple[str, int, str]:
    """A requirement as RPM stores it: name, senses, version. Errors: PackError."""
    text = requirement.strip()
    if _RICH_REQUIREMENT.fullmatch(text) and text.count("(") == text.count(")"):
        return text, 0, ""
    found = _REQUIREMENT.fullmatch(text)
    if found is None:
        cause = "is no requirement that RPM knows"
        next_step = 'Write it as "name", "name >= 1.2", "/a/path" or "(one or other)" in requires.rpm.'
        raise PackError(f"requirement {requirement[:200]!r}", cause, next_step, requirement=requirement[:200])
    sense = found["sense"]
    return found["name"], _SENSES[sense] if sense else 0, found["version"] or ""


def _check_header(package: nfpm.Package, out: Path) -> None:
    """Compare what was written with what was meant: every text must have reached the package letter by letter."""
    header = rpm_header.read(out)
    for tag, meant in _meant(package).items():
        found = header.get(tag, 0 if tag == rpm_header.EPOCH else "")
        if found != meant:
            cause = f"nfpm wrote {found!r} as tag {tag}, not {meant!r}"
            raise PackError(out.name, cause[:500], "Report this, with the version of nfpm.", tag=tag)
    required = set(zip(*(_column(header, tag) for tag in _REQUIREMENT_TAGS), strict=True))
    for requirement in package.requires:
        if _parse_requirement(requirement) not in required:
            cause = f"nfpm did not write the requirement {requirement!r} as it is"
            raise PackError(out.name, cause, "Report this, with the version of nfpm.", requirement=requirement)


_REQUIREMENT_TAGS = (rpm_header.REQUIRE_NAMES, rpm_header.REQUIRE_FLAGS, rpm_header.REQUIRE_VERSIONS)


def _column(header: Mapping[int, rpm_header.Value], tag: int) -> tuple[object, ...]:
    value = header.get(tag, ())
    return value if isinstance(value, tuple) else (value,)


def _meant(package: nfpm.Package) -> dict[int, rpm_header.Value]:
    return {
        rpm_header.NAME: package.name,
        rpm_header.EPOCH: package.epoch,
        rpm_header.VERSION: package.version,
        rpm_header.RELEASE: package.release,
        rpm_header.ARCHITECTURE: package.architecture,
        rpm_header.SUMMARY: package.summary,
        rpm_header.DESCRIPTION: package.description,
        rpm_header.LICENSE: package.license,
        rpm_header.URL: package.homepage,
        rpm_header.VENDOR: package.vendor,
        rpm_header.PACKAGER: package.maintainer,
        rpm_header.GROUP: package.group,
        rpm_header.BUILD_TIME: package.time,
        rpm_header.BUILD_HOST: "localhost",
        rpm_header.BEFORE_INSTALL: package.scripts.before_install,
        rpm_header.AFTER_INSTALL: package.scripts.after_install,
        rpm_header.BEFORE_REMOVE: package.scripts.before_remove,
        rpm_header.AFTER_REMOVE: package.scripts.after_remove,
        rpm_header.VERIFY: package.scripts.verify,
    }
