"""The packager of a versioned application, without what RPM and dpkg have each of their own.

Versions lie side by side and one link says which is in use (`os_packages.versioned_layout`).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from boxsnake.boot_recipe import BootRecipe, Takes
from boxsnake.manifest import Section
from boxsnake.os_packages import nfpm, scriptlets
from boxsnake.os_packages.system_payload import owned, remains, system_contents
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_payload import Payload, as_files, support_texts
from boxsnake.os_packages.versioned_plan import (
    check_commands,
    check_target,
    commands_of,
    described_text,
    environment_notes,
    started,
)
from boxsnake.plan import expected
from boxsnake.system import PARTS

if TYPE_CHECKING:
    from boxsnake.entries import Tree
    from boxsnake.os_packages.package_version import PackageVersion
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan


class VersionedOptions(Section):
    """What `[boxes.rpm]` and `[boxes.deb]` have in common."""

    commands: tuple[str, ...] | None = None
    """The programs that are linked into /usr/bin; left out: the application's own console scripts."""
    prefix_root: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] = "/opt"
    """The folder in which the application has its own."""
    compression: Annotated[str, Field(pattern=r"^(zstd:([1-9]|1[0-9])|gzip:[1-9]|xz)$")] = "zstd:3"
    """Of the payload: its kind and, but for xz, its level. Debian 11 cannot read zstd; take xz for it."""
    keep: Annotated[int, Field(ge=0, le=20)] = 1
    """How many earlier versions stay installed beside the one in use, for `<name>-ctl rollback`."""
    run_checks: bool = True
    """Whether a new version must pass the checks with `run` on the host before it comes into use."""
    license: str | None = None
    """Left out: the application's."""


class VersionedPackager(ABC):
    """Writes packages of versioned applications; see `boxsnake.packagers.Packager` for what has no text here."""

    name: str
    form: nfpm.Format
    article: str
    """The form with its article: "an RPM"."""
    manager: Takes
    """The program that installs it."""
    database: tuple[str, ...]
    """Where the package manager writes down what is installed."""
    moments = frozenset(scriptlets.MOMENTS)
    system = frozenset(PARTS)
    unfolds = False

    @abstractmethod
    def package_name(self, plan: Plan) -> str:
        """The package's name, which is that of the application's folder too."""

    @abstractmethod
    def version_of(self, plan: Plan) -> PackageVersion:
        """The application's version as one of the package. Errors: PackError where it cannot be one."""

    @abstractmethod
    def package_file(self, package: nfpm.Package) -> str:
        """The conventional name of a package's file."""

    @abstractmethod
    def described(self, plan: Plan) -> nfpm.Package:
        """The package without its paths, its scripts and what it requires."""

    @abstractmethod
    def requiring(self, package: nfpm.Package, plan: Plan) -> nfpm.Package:
        """The package with what it requires of the host."""

    @abstractmethod
    def scripts(self, plan: Plan, *, needed: int) -> nfpm.Scripts:
        """The package's scripts; `needed` is what it takes on the disk, in bytes."""

    @abstractmethod
    def write(self, package: nfpm.Package, contents: Sequence[nfpm.Content], out: Path, scratch: Path) -> None:
        """Write a package to `out`; `scratch` is an empty folder. Errors: PackError, ResourceError."""

    @abstractmethod
    def check_words(self, plan: Plan) -> None:
        """Errors: PackError for a name or a requirement that the package manager does not know."""

    @abstractmethod
    def host(self, plan: Plan) -> str:
        """The host that the package is booted on."""

    @abstractmethod
    def commands_to_install(self, plan: Plan, package: str) -> tuple[tuple[str, ...], ...]:
        """What installs the file `package` on the host and verifies that it is there as it should be."""

    @abstractmethod
    def commands_to_remove(self, plan: Plan) -> tuple[tuple[str, ...], ...]:
        """What removes the application from the host."""

    @abstractmethod
    def other_paths(self, plan: Plan) -> tuple[str, ...]:
        """Paths of the package that only this package manager wants."""

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, self.name)
        self.check_words(plan)
        check_commands(plan, self.name)
        self.package(plan, needed=0)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        return self.package_file(self.described(plan))

    def layout(self, plan: Plan) -> Layout:
        """Where the version lies on a host."""
        version = f"{self.version_of(plan).folder}-{plan.options.release}"
        return Layout(name=self.package_name(plan), version=version, prefix_root=plan.options.prefix_root)

    def package(self, plan: Plan, *, needed: int) -> nfpm.Package:
        """The package without its paths; `needed` is what they take on the disk, in bytes. Errors: PackError."""
        scripts = self.scripts(plan, needed=needed)
        return dataclasses.replace(self.requiring(self.described(plan), plan), scripts=scripts)

    def payload(self, plan: Plan, tree: Tree, scratch: Path) -> Payload:
        """What the package carries of the application; `scratch` is an empty folder."""
        layout = self.layout(plan)
        texts = support_texts(plan, layout, run_checks=plan.options.run_checks)
        return as_files(tree, layout, commands_of(plan), scratch, texts=texts)

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        layout = self.layout(plan)
        with materials.tree(layout.prefix) as tree, materials.scratch() as scratch:
            for name in ("payload", "system", "package"):
                (scratch / name).mkdir()
            payload = self.payload(plan, tree, scratch / "payload")
            of_system = system_contents(plan.system, layout, scratch / "system")
            package = self.package(plan, needed=payload.needed)
            self.write(package, (*payload.contents, *of_system), out, scratch / "package")
            return [*tree.notes, *environment_notes(plan, self.article)]

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        layout = self.layout(plan)
        package = f"/tmp/{artifact.name}"  # noqa: S108 - in a container of its own
        commands = (layout.command(command)[0] for command in commands_of(plan))
        remaining = (*self.database, package, *remains(plan.system))
        return BootRecipe(
            host=self.host(plan),
            takes=self.manager,
            copies=((str(artifact), package),),
            install=self.commands_to_install(plan, package),
            python=(f"{layout.current}/bin/python",),
            scripts=f"{layout.current}/bin",
            command=started(plan, layout),
            remove=self.commands_to_remove(plan),
            writes=(layout.root, *commands, *owned(plan.system, layout), *self.other_paths(plan), *remaining),
            remains=remaining,
            expects=expected(plan, conda=True),
            environment=plan.application.environment,
        )


def described_summary(plan: Plan) -> str:
    """The application's summary in one line. Errors: PackError where it holds control characters."""
    application = plan.application
    return " ".join(described_text("app.summary", application.summary or application.name).split())
