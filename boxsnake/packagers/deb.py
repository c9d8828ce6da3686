"""deb: the application under /opt, for hosts whose software comes as Debian packages.

Versions lie side by side and one link says which is in use (`os_packages.versioned_layout`), as with RPM. dpkg removes
an old version's files before it configures the new one; `rpm/deb/` holds the scripts that see to it that one whole
version is in use all the time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from boxsnake.boot_recipe import Takes
from boxsnake.disk import disk_faults
from boxsnake.errors import PackError
from boxsnake.manifest.text import Limits
from boxsnake.os_packages import deb_control, maintainer_scripts, nfpm, scriptlets
from boxsnake.os_packages.deb_requirement import check_deb_requirement
from boxsnake.os_packages.deb_version import deb_version
from boxsnake.os_packages.versioned_packager import VersionedOptions, VersionedPackager, described_summary
from boxsnake.os_packages.versioned_plan import described_line, described_text
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.os_packages.package_version import PackageVersion
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

# sed's words for the names of those packages that an upgrade has left.
_THERE = "/^not-installed /d; s/.* //p"
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, kw_only=True)
class DebOptions(VersionedOptions):
    """`[boxes.deb]`."""

    release: Annotated[str, Limits(pattern=r"^[0-9A-Za-z]+([.+~][0-9A-Za-z]+)*$", max_length=32)] = "1"
    """Debian's revision: tells two packages of one version apart."""
    section: Annotated[str, Limits(pattern=r"^[a-z][a-z-]*(/[a-z][a-z-]*)?$", max_length=40)] = "misc"
    """Debian's section."""


class Deb(VersionedPackager):
    """The packager of Debian packages."""

    name = "deb"
    form = "deb"
    article = "a deb"
    manager: Takes = "dpkg"
    unpacks: Mapping[str, str] = MappingProxyType({"zstd": "1.21.18 or newer (zstd)", "gzip": "", "xz": ""})
    summary = "a Debian package with its own interpreter under /opt, for Debian, Ubuntu and their kin"
    options = DebOptions

    def package_name(self, plan: Plan) -> str:
        """See `VersionedPackager`. Debian's names have no underscores."""
        return plan.application.name.replace("_", "-")

    def version_of(self, plan: Plan) -> PackageVersion:
        """See `VersionedPackager`."""
        return deb_version(plan.application.version)

    def package_file(self, package: nfpm.Package) -> str:
        """See `VersionedPackager`."""
        return f"{package.name}_{package.version}-{package.release}_{package.architecture}.deb"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"nfpm": nfpm.version(), "scripts": scriptlets.digest()}

    def check_words(self, plan: Plan) -> None:
        """See `VersionedPackager`."""
        name = self.package_name(plan)
        if not _PACKAGE_NAME.fullmatch(name):
            cause = "is no name that Debian packages can have: two or more of a-z, 0-9, '+', '.' and '-'"
            raise PackError(f"app.name {name!r}", cause, "Choose another name, or leave this format out.", name=name)
        for requirement in plan.requires_deb:
            check_deb_requirement(requirement)

    def described(self, plan: Plan) -> nfpm.Package:
        """See `VersionedPackager`."""
        application = plan.application
        options: DebOptions = plan.options
        version = self.version_of(plan)
        summary = described_summary(plan)
        description = described_text("app.description", application.description).strip()
        own = f"{application.name} {application.version} with its own Python and all that it requires."
        maintainer = described_line("app.maintainer", application.maintainer)
        return nfpm.Package(
            name=self.package_name(plan),
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
            compression=options.compression,
            time=plan.epoch,
        )

    def requiring(self, package: nfpm.Package, plan: Plan) -> nfpm.Package:
        """See `VersionedPackager`: the C library that the lock was made for, and the user's own.

        All are Pre-Depends: a new version is checked and comes into use before dpkg configures it.
        """
        glibc = (f"libc6 (>= {plan.target.glibc})",) if plan.target.glibc else ()
        users = ("passwd",) if plan.system.user else ()
        own = (" ".join(requirement.split()) for requirement in plan.requires_deb)
        return dataclasses.replace(package, requires_before=(*glibc, *users, *own))

    def scripts(
        self,
        plan: Plan,
        *,
        needed: int,
        placing: scriptlets.Placing | None = None,  # noqa: ARG002 - RPM's alone
    ) -> nfpm.Scripts:
        """See `VersionedPackager`."""
        return maintainer_scripts.scripts(
            self.layout(plan),
            app_version=plan.application.version,
            needed=needed,
            hooks=plan.hooks,
            keep=plan.options.keep,
            system=plan.system,
            owns_tree=not plan.options.split,
        )

    def environment_scripts(self, plan: Plan, *, needed: int) -> nfpm.Scripts:
        """See `VersionedPackager`."""
        layout, version = self.layout(plan), plan.application.version
        return maintainer_scripts.environment_scripts(layout, app_version=version, needed=needed)

    def store_scripts(self, plan: Plan, folder: str) -> nfpm.Scripts:  # noqa: ARG002 - other package managers ask it
        """See `VersionedPackager`."""
        return maintainer_scripts.store_scripts(plan.options.prefix_root)

    def store_package(self, plan: Plan) -> nfpm.Package:
        """See `VersionedPackager`."""
        return nfpm.Package(
            name="",
            version="1",
            release="1",
            architecture=plan.target.deb_architecture,
            summary="",
            description="",
            license="Unspecified",
            maintainer="boxsnake <nobody@example.org>",
            group="libs",
            compression=plan.options.compression,
            time=plan.epoch,
        )

    def write(self, package: nfpm.Package, contents: Sequence[nfpm.Content], out: Path, scratch: Path) -> None:
        """See `VersionedPackager`."""
        (scratch / "nfpm").mkdir()
        contents = (*contents, _licence(package, scratch))
        _check_paths(contents)
        nfpm.write(package, contents, self.form, out, scratch / "nfpm")
        _check_control(package, out)

    def host(self, plan: Plan) -> str:
        """See `VersionedPackager`."""
        return f"debian-{plan.target.debian}"

    def commands_to_install(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        # dpkg says what it finds, and ends with 0 all the same.
        names = _names_in(packages) if plan.options.split else self.package_name(plan)
        verify = f'found=$(dpkg --verify {names}); printf "%s" "$found"; [ -z "$found" ]'
        selfcheck = (self.layout(plan).control[0], "selfcheck")
        if plan.options.split:
            # In the order that they require each other: dpkg itself does not look for it among files.
            in_order = f"apt-get install --quiet=2 --assume-yes {packages}"
            return (("sh", "-c", in_order), ("sh", "-c", verify), selfcheck)
        return (("dpkg", "--install", packages), ("sh", "-c", verify), selfcheck)

    def commands_to_replace(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        if not plan.options.split:
            return self.commands_to_install(plan, packages)
        _, *checks = self.commands_to_install(plan, packages)
        change = f"apt-get install --quiet=2 --assume-yes --allow-downgrades --reinstall {packages}"
        return (("sh", "-c", change), *checks)

    def commands_to_repair(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        replace = self.commands_to_replace(plan, packages)
        # apt does nothing where dpkg was cut off; what dpkg cannot finish then, is unpacked anew.
        return (("sh", "-c", "dpkg --configure -a || true"), *replace) if plan.options.split else replace

    def commands_to_remove(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        if plan.options.split:
            form = "'${db:Status-Status} ${Package}\\n'"
            known = f"dpkg-query --show --showformat {form} {_names_in(packages)}"
            return (("sh", "-c", f"dpkg --purge $({known} 2>/dev/null | sed -n '{_THERE}' | sort -u)"),)
        return (("dpkg", "--purge", self.package_name(plan)),)

    def database(self, plan: Plan) -> tuple[str, ...]:
        """See `VersionedPackager`."""
        apt = ("/var/lib/apt", "/var/cache/apt", "/var/log/apt") if plan.options.split else ()
        return ("/var/lib/dpkg", "/var/log/dpkg.log", *apt)

    def other_paths(self, plan: Plan) -> tuple[str, ...]:
        """See `VersionedPackager`."""
        return (_documents("" if plan.options.split else self.package_name(plan)).rstrip("/"),)


PACKAGER = Deb()


def _names_in(packages: str) -> str:
    """The names of the packages in files that a pattern fits, for the shell."""
    return f'$(for one in {packages}; do dpkg-deb --field "$one" Package; done)'


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
        if control.files.get(name, "") != meant:
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
        "Depends": ", ".join(package.requires),
        "Pre-Depends": ", ".join(package.requires_before),
        "Description": _folded(package.description),
    }


def _folded(text: str) -> str:
    """A description in the form of deb-control(5): an empty line is a dot, and each begins with a blank."""
    first, *others = text.split("\n")
    return "\n".join((first, *(f" {line.strip() or '.'}" for line in others)))
