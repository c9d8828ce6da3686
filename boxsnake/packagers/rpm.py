"""RPM: the application under /opt, for hosts whose software comes as RPMs.

Versions lie side by side and one link says which is in use (`os_packages.versioned_layout`). What is carried is either
every file, owned by RPM, or package archives with a linker (`os_packages.versioned_payload`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from boxsnake.boot_recipe import Takes
from boxsnake.errors import PackError
from boxsnake.manifest.text import Limits
from boxsnake.os_packages import nfpm, rpm_header, scriptlets
from boxsnake.os_packages.rpm_version import rpm_version
from boxsnake.os_packages.versioned_layout import COMMANDS
from boxsnake.os_packages.versioned_packager import VersionedOptions, VersionedPackager, described_summary
from boxsnake.os_packages.versioned_plan import commands_of, described_line, described_text
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.entries import Tree
    from boxsnake.os_packages.package_version import PackageVersion
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

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


@dataclass(frozen=True, kw_only=True)
class RpmOptions(VersionedOptions):
    """`[boxes.rpm]`."""

    relocatable: bool = False
    """Whether `rpm --prefix` can put it elsewhere; what depends on the place is then written when it is installed."""
    release: Annotated[str, Limits(pattern=r"^[0-9A-Za-z]+([._+~][0-9A-Za-z]+)*$", max_length=32)] = "1"
    """RPM's release: tells two packages of one version apart."""
    vendor: str = ""
    group: str = "Applications/Internet"
    """RPM's old classification, which a few tools still ask for."""


class Rpm(VersionedPackager):
    """The packager of RPMs."""

    name = "rpm"
    form = "rpm"
    article = "an RPM"
    manager: Takes = "rpm"
    unpacks: Mapping[str, str] = MappingProxyType({"zstd": "4.14 or newer (zstd)", "gzip": "", "xz": ""})
    summary = "an RPM with its own interpreter under /opt, for hosts whose software comes as RPMs"
    options = RpmOptions

    def package_name(self, plan: Plan) -> str:
        """See `VersionedPackager`."""
        return plan.application.name

    def version_of(self, plan: Plan) -> PackageVersion:
        """See `VersionedPackager`."""
        return rpm_version(plan.application.version)

    def package_file(self, package: nfpm.Package) -> str:
        """See `VersionedPackager`."""
        return f"{package.name}-{package.version}-{package.release}.{package.architecture}.rpm"

    def inputs(self, plan: Plan, materials: Materials) -> dict[str, Any]:  # noqa: ARG002 - part of the contract
        """See `boxsnake.packagers.Packager`."""
        return {"nfpm": nfpm.version(), "scriptlets": scriptlets.digest()}

    def check_words(self, plan: Plan) -> None:
        """See `VersionedPackager`."""
        for requirement in plan.requires_rpm:
            _parse_requirement(requirement)
        if plan.options.relocatable and plan.options.split:
            cause = "names the store that applications share by its path, and `relocatable = true` asks for any path"
            raise PackError("split in [boxes.rpm]", cause, "Take one of the two out.")

    def described(self, plan: Plan) -> nfpm.Package:
        """See `VersionedPackager`."""
        application = plan.application
        options: RpmOptions = plan.options
        version = self.version_of(plan)
        summary = described_summary(plan)
        return nfpm.Package(
            name=self.package_name(plan),
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
            prefixes=(options.prefix_root,) if options.relocatable else (),
            compression=options.compression,
            time=plan.epoch,
        )

    def requiring(self, package: nfpm.Package, plan: Plan) -> nfpm.Package:
        """See `VersionedPackager`: the shell that runs the scriptlets, the lock's C library, the user's own."""
        glibc = (f"glibc >= {plan.target.glibc}",) if plan.target.glibc else ()
        own = (requirement.strip() for requirement in plan.requires_rpm)
        return dataclasses.replace(package, requires=("/bin/sh", *glibc, *own))

    def prefix(self, plan: Plan) -> str | None:
        """See `VersionedPackager`."""
        return None if plan.options.relocatable else super().prefix(plan)

    def placing(self, plan: Plan, tree: Tree) -> scriptlets.Placing | None:
        """See `VersionedPackager`: rpm tells scriptlets the prefix that was chosen."""
        if not plan.options.relocatable:
            return None
        name, usual = self.package_name(plan), plan.options.prefix_root
        return scriptlets.Placing(
            root=f'"${{RPM_INSTALL_PREFIX:-{usual}}}/{name}"',
            commands=COMMANDS,
            longest_prefix=len(tree.prefix.encode()),
            names=commands_of(plan),
        )

    def scripts(self, plan: Plan, *, needed: int, placing: scriptlets.Placing | None) -> nfpm.Scripts:
        """See `VersionedPackager`."""
        return scriptlets.scripts(
            self.layout(plan),
            app_version=plan.application.version,
            needed=needed,
            hooks=plan.hooks,
            keep=plan.options.keep,
            system=plan.system,
            owns_tree=not plan.options.split,
            placing=placing,
        )

    def environment_scripts(self, plan: Plan, *, needed: int) -> nfpm.Scripts:
        """See `VersionedPackager`."""
        return scriptlets.environment_scripts(self.layout(plan), app_version=plan.application.version, needed=needed)

    def store_scripts(self, plan: Plan, folder: str) -> nfpm.Scripts:  # noqa: ARG002 - other package managers ask it
        """See `VersionedPackager`."""
        return scriptlets.store_scripts(folder)

    def store_package(self, plan: Plan) -> nfpm.Package:
        """See `VersionedPackager`."""
        return nfpm.Package(
            name="",
            version="1",
            release="1",
            architecture=plan.target.machine,
            summary="",
            description="",
            license="Unspecified",
            maintainer="boxsnake <nobody@example.org>",
            group="System Environment/Libraries",
            requires=("/bin/sh",),
            compression=plan.options.compression,
            time=plan.epoch,
        )

    def write(self, package: nfpm.Package, contents: Sequence[nfpm.Content], out: Path, scratch: Path) -> None:
        """See `VersionedPackager`. rpm puts its work in order by any requirement."""
        requires = (*package.requires, *package.requires_before)
        package = dataclasses.replace(package, requires=requires, requires_before=())
        nfpm.write(package, contents, self.form, out, scratch)
        _check_header(package, out)

    def host(self, plan: Plan) -> str:
        """See `VersionedPackager`."""
        return f"debian-{plan.target.debian}-rpm"

    def commands_to_install(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        if plan.options.split:
            of_files = f"rpm --verify --package {packages}"
            return (("sh", "-c", f"rpm --install {packages}"), ("sh", "-c", of_files))
        return (("rpm", "--install", packages), ("rpm", "--verify", self.package_name(plan)))

    def commands_to_replace(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        upgrade = "rpm --upgrade --oldpackage --replacepkgs"
        if plan.options.split:
            of_files = f"rpm --verify --package {packages}"
            return (("sh", "-c", f"{upgrade} {packages}"), ("sh", "-c", of_files))
        return ((*upgrade.split(), packages), ("rpm", "--verify", self.package_name(plan)))

    def commands_to_remove(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """See `VersionedPackager`."""
        if plan.options.split:
            names = f"rpm --query --queryformat '%{{NAME}}\\n' --package {packages} | sort -u"
            installed = f"rpm --query --queryformat '%{{NAME}}\\n' $({names}) | grep -v 'is not installed'"
            return (("sh", "-c", f"rpm --erase $({installed})"),)
        return (("rpm", "--erase", self.package_name(plan)),)

    def database(self, plan: Plan) -> tuple[str, ...]:  # noqa: ARG002 - part of the contract
        """See `VersionedPackager`."""
        return ("/var/lib/rpm",)

    def other_paths(self, plan: Plan) -> tuple[str, ...]:  # noqa: ARG002 - other package managers have some
        """See `VersionedPackager`."""
        return ()


PACKAGER = Rpm()


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
