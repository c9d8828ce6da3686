"""deb: the application under /opt, for hosts whose software comes as Debian packages.

Versions lie side by side and one link says which is in use (`os_packages.versioned_layout`), as with RPM. dpkg removes
an old version's files before it configures the new one; `rpm/deb/` holds the scripts that see to it that one whole
version is in use all the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.errors import PackError
from boxsnake.manifest import Section
from boxsnake.os_packages import deb_control, maintainer_scripts, nfpm, scriptlets
from boxsnake.os_packages.deb_version import deb_version
from boxsnake.os_packages.system_payload import owned, remains, system_contents
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_payload import as_files, support_texts
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
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_DATABASE = ("/var/lib/dpkg", "/var/log/dpkg.log")
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_RELATION = (
    r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?"
    r"(?:\s*\(\s*(?:<<|<=|=|>=|>>)\s*(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*\s*\))?"
)
_REQUIREMENT = re.compile(rf"{_RELATION}(?:\s*\|\s*{_RELATION})*")


class DebOptions(Section):
    """`[boxes.deb]`."""

    release: Annotated[str, Field(pattern=r"^[0-9A-Za-z]+([.+~][0-9A-Za-z]+)*$", max_length=32)] = "1"
    """Debian's revision: tells two packages of one version apart."""
    commands: tuple[str, ...] | None = None
    """The programs that are linked into /usr/bin; left out: the application's own console scripts."""
    prefix_root: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] = "/opt"
    """The folder in which the application has its own."""
    compression: Annotated[str, Field(pattern=r"^(zstd:([1-9]|1[0-9])|gzip:[1-9]|xz)$")] = "zstd:3"
    """Of the files: its kind and, but for xz, its level. Debian 11 cannot read zstd; take xz for it."""
    keep: Annotated[int, Field(ge=0, le=20)] = 1
    """How many earlier versions stay installed beside the one in use, for `<name>-ctl rollback`."""
    run_checks: bool = True
    """Whether a new version must pass the checks with `run` on the host before it comes into use."""
    license: str | None = None
    """Left out: the application's."""
    section: Annotated[str, Field(pattern=r"^[a-z][a-z-]*(/[a-z][a-z-]*)?$", max_length=40)] = "misc"
    """Debian's section."""


class Deb:
    """The packager of Debian packages."""

    name = "deb"
    summary = "a Debian package with its own interpreter under /opt, for Debian, Ubuntu and their kin"
    options = DebOptions
    moments = frozenset(scriptlets.MOMENTS)
    system = frozenset(PARTS)
    unfolds = False

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, "deb")
        name = _name(plan)
        if not _PACKAGE_NAME.fullmatch(name):
            cause = "is no name that Debian packages can have: two or more of a-z, 0-9, '+', '.' and '-'"
            raise PackError(f"app.name {name!r}", cause, "Choose another name, or leave this format out.", name=name)
        for requirement in plan.requires_deb:
            _check_requirement(requirement)
        check_commands(plan, "deb")
        _package(plan, needed=0)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        version = deb_version(plan.application.version).version
        return f"{_name(plan)}_{version}-{plan.options.release}_{plan.target.deb_architecture}.deb"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"nfpm": nfpm.version(), "scripts": maintainer_scripts.digest()}

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        layout = _layout(plan)
        with materials.tree(layout.prefix) as tree, materials.scratch() as scratch:
            for name in ("payload", "system", "nfpm"):
                (scratch / name).mkdir()
            texts = support_texts(plan, layout, run_checks=plan.options.run_checks)
            payload = as_files(tree, layout, commands_of(plan), scratch / "payload", texts=texts)
            package = _package(plan, needed=payload.needed)
            of_system = system_contents(plan.system, layout, scratch / "system")
            contents = (*payload.contents, *of_system, _licence(package, scratch))
            _check_paths(contents)
            nfpm.write(package, contents, "deb", out, scratch / "nfpm")
            _check_control(package, out)
            return [*tree.notes, *environment_notes(plan, "a deb")]

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        layout = _layout(plan)
        package = f"/tmp/{artifact.name}"  # noqa: S108 - in a container of its own
        # dpkg says what it finds, and ends with 0 all the same.
        verify = f'found=$(dpkg --verify {_name(plan)}); printf "%s" "$found"; [ -z "$found" ]'
        commands = (layout.command(command)[0] for command in commands_of(plan))
        return BootRecipe(
            host=f"debian-{plan.target.debian}",
            copies=((str(artifact), package),),
            install=(
                ("dpkg", "--install", package),
                ("sh", "-c", verify),
                (layout.control[0], "selfcheck"),
            ),
            python=(f"{layout.current}/bin/python",),
            scripts=f"{layout.current}/bin",
            command=started(plan, layout),
            remove=(("dpkg", "--purge", _name(plan)),),
            writes=(
                *(layout.root, *commands, _documents(_name(plan)), *_DATABASE, package),
                *(*owned(plan.system, layout), *remains(plan.system)),
            ),
            remains=(*_DATABASE, package, *remains(plan.system)),
            expects=expected(plan, conda=True),
            environment=plan.application.environment,
        )


PACKAGER = Deb()


def _name(plan: Plan) -> str:
    """The package's name. Debian's have no underscores."""
    return plan.application.name.replace("_", "-")


def _layout(plan: Plan) -> Layout:
    options: DebOptions = plan.options
    folder = deb_version(plan.application.version).folder
    return Layout(name=_name(plan), version=f"{folder}-{options.release}", prefix_root=options.prefix_root)


def _package(plan: Plan, *, needed: int) -> nfpm.Package:
    """The package without its paths; `needed` is what they take on the disk, in bytes."""
    application = plan.application
    options: DebOptions = plan.options
    version = deb_version(application.version)
    summary = " ".join(described_text("app.summary", application.summary or application.name).split())
    description = described_text("app.description", application.description).strip()
    own = f"{application.name} {application.version} with its own Python and all that it requires."
    maintainer = described_line("app.maintainer", application.maintainer)
    return nfpm.Package(
        name=_name(plan),
        epoch=version.epoch,
        version=version.version,
        release=options.release,
        architecture=plan.target.deb_architecture,
        summary=summary,
        description=f"{summary}\n{description or own}",
        license=described_line("license", options.license or application.license or "Unspecified"),
        homepage=described_line("app.homepage", application.homepage),
        maintainer=maintainer or f"The maintainers of {application.name} <nobody@example.org>",
        group=options.section,
        requires_before=_requirements(plan),
        compression=options.compression,
        time=plan.epoch,
        scripts=maintainer_scripts.scripts(
            _layout(plan),
            app_version=application.version,
            needed=needed,
            hooks=plan.hooks,
            keep=options.keep,
            system=plan.system,
        ),
    )


def _requirements(plan: Plan) -> tuple[str, ...]:
    """The C library that the lock was made for, and the user's own.

    All are Pre-Depends: a new version is checked and comes into use before dpkg configures it.
    """
    glibc = (f"libc6 (>= {plan.target.glibc})",) if plan.target.glibc else ()
    users = ("passwd",) if plan.system.user else ()
    return (*glibc, *users, *(" ".join(requirement.split()) for requirement in plan.requires_deb))


def _check_requirement(requirement: str) -> None:
    if not _REQUIREMENT.fullmatch(requirement.strip()):
        cause = "is no requirement that dpkg knows"
        next_step = 'Write it as "name", "name (>= 1.2)" or "one | other" in requires.deb.'
        raise PackError(f"requirement {requirement[:200]!r}", cause, next_step, requirement=requirement[:200])


def _documents(name: str) -> str:
    return f"/usr/share/doc/{name}"


def _licence(package: nfpm.Package, scratch: Path) -> nfpm.Content:
    """Where Debian looks for it: the control fields have none for licences."""
    path = scratch / "copyright"
    with disk_faults(path):
        path.write_text(f"{package.name} {package.version}\nLicense: {package.license}\n", encoding="utf-8")
    return nfpm.Content(path=f"{_documents(package.name)}/copyright", kind="file", mode=0o644, source=path)


def _check_paths(contents: Sequence[nfpm.Content]) -> None:
    """Dpkg keeps its lists of files as lines."""
    for content in contents:
        if "\n" in content.path:
            cause = "has a line feed in its name, which dpkg cannot carry"
            raise PackError(repr(content.path)[:300], cause, "Leave out the package that brings it.")


def _check_control(package: nfpm.Package, out: Path) -> None:
    """Compare what was written with what was meant: every text must have reached the package letter by letter."""
    control = deb_control.read(out)
    for name, meant in _meant(package).items():
        found = control.fields.get(name, "")
        if found != meant:
            cause = f"nfpm wrote {found!r} as {name}, not {meant!r}"
            raise PackError(out.name, cause[:500], "Report this, with the version of nfpm.", field=name)
    scripts = package.scripts
    for name, meant in {
        "preinst": scripts.before_install,
        "postinst": scripts.after_install,
        "prerm": scripts.before_remove,
        "postrm": scripts.after_remove,
    }.items():
        if control.files.get(name) != meant:
            raise PackError(out.name, f"nfpm did not write {name} as it is", "Report this, with the version of nfpm.")


def _meant(package: nfpm.Package) -> dict[str, str]:
    epoch = f"{package.epoch}:" if package.epoch else ""
    return {
        "Package": package.name,
        "Version": f"{epoch}{package.version}-{package.release}",
        "Section": package.group,
        "Priority": "optional",
        "Architecture": package.architecture,
        "Maintainer": package.maintainer,
        "Homepage": package.homepage,
        "Pre-Depends": ", ".join(package.requires_before),
        "Description": _folded(package.description),
    }


def _folded(text: str) -> str:
    """A description in the form of deb-control(5): an empty line is a dot, and each begins with a blank."""
    first, *others = text.split("\n")
    return "\n".join((first, *(f" {line.strip() or '.'}" for line in others)))
