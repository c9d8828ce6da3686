"""The packager of a versioned application, without what RPM and dpkg have each of their own.

Versions lie side by side and one link says which is in use (`os_packages.versioned_layout`).
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from boxsnake import inventory
from boxsnake.archive import file_member, write_tar
from boxsnake.boot_recipe import BootRecipe, Takes
from boxsnake.disk import disk_faults
from boxsnake.entries import conda_owner
from boxsnake.errors import PackError
from boxsnake.forecast import GZIP, XZ, ZSTD, packed
from boxsnake.manifest import Section
from boxsnake.manifest.text import Limits
from boxsnake.needs import Step
from boxsnake.os_packages import nfpm, scriptlets, shared_store
from boxsnake.os_packages.system_payload import owned, remains, system_contents
from boxsnake.os_packages.versioned_layout import Layout
from boxsnake.os_packages.versioned_payload import (
    Payload,
    SupportTexts,
    as_archives,
    as_files,
    as_shared,
    interpreter_packages,
    support_texts,
)
from boxsnake.os_packages.versioned_plan import (
    check_commands,
    check_target,
    commands_of,
    described_text,
    environment_notes,
    started,
)
from boxsnake.os_packages.versioned_split import Part, environment_part, label_part, store_part
from boxsnake.plan import expected
from boxsnake.system import PARTS
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.entries import Tree
    from boxsnake.forecast import Forecast
    from boxsnake.os_packages.package_version import PackageVersion
    from boxsnake.packagers import Materials
    from boxsnake.plan import Plan

_RATIOS = {"zstd": ZSTD, "gzip": GZIP, "xz": XZ}


@dataclass(frozen=True, kw_only=True)
class VersionedOptions(Section):
    """What `[boxes.rpm]` and `[boxes.deb]` have in common."""

    payload: Literal["files", "archives"] = "files"
    """"files": each file is one of the package; "archives": package archives, linked when the package is installed."""
    commands: tuple[str, ...] | None = None
    """The programs that are linked into /usr/bin; left out: the application's own console scripts."""
    prefix_root: Annotated[str, Limits(pattern=r"^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$", max_length=100)] = "/opt"
    """The folder in which the application has its own."""
    split: bool = False
    """One package for each conda package and wheel, which all applications of a host share, one for the environment."""
    compression: Annotated[str, Limits(pattern=r"^(zstd:([1-9]|1[0-9])|gzip:[1-9]|xz)$")] = "zstd:3"
    """Of the payload: its kind and, but for xz, its level. Debian 11 cannot read zstd; take xz for it."""
    keep: Annotated[int, Limits(ge=0, le=20)] = 1
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
    unpacks: Mapping[str, str]
    """What it must be to read a payload of each compression; "" for any."""
    step: Step = "OS package"
    moments = frozenset(scriptlets.MOMENTS)
    system = frozenset(PARTS)
    unfolds = True

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
    def scripts(self, plan: Plan, *, needed: int, placing: scriptlets.Placing | None) -> nfpm.Scripts:
        """The scripts of the application's own package; `needed` is what it takes on the disk, in bytes."""

    @abstractmethod
    def environment_scripts(self, plan: Plan, *, needed: int) -> nfpm.Scripts:
        """The scripts of the package of an environment."""

    @abstractmethod
    def store_scripts(self, plan: Plan, folder: str) -> nfpm.Scripts:
        """The scripts of a package of the shared store; `folder` is its own."""

    @abstractmethod
    def store_package(self, plan: Plan) -> nfpm.Package:
        """What the packages of the shared store have in common; nothing in it may be the application's."""

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
    def commands_to_install(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """What installs the files that the shell pattern `packages` fits, and verifies that all is as it should be."""

    @abstractmethod
    def commands_to_replace(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """What installs the files where any version is installed, and verifies them."""

    def commands_to_repair(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """What installs the files where they are installed already, whole or half, and verifies them."""
        return self.commands_to_replace(plan, packages)

    @abstractmethod
    def commands_to_remove(self, plan: Plan, packages: str) -> tuple[tuple[str, ...], ...]:
        """What removes the packages from the host, of which the files are there."""

    @abstractmethod
    def database(self, plan: Plan) -> tuple[str, ...]:
        """Where the package manager writes down what it does, beside what it installs."""

    @abstractmethod
    def other_paths(self, plan: Plan) -> tuple[str, ...]:
        """Paths of the package that only this package manager wants."""

    def check(self, plan: Plan) -> None:
        """See `boxsnake.packagers.Packager`."""
        check_target(plan, self.name)
        self.check_words(plan)
        self._check_split(plan)
        check_commands(plan, self.name)
        self.package(plan, needed=0)

    def file_name(self, plan: Plan) -> str:
        """See `boxsnake.packagers.Packager`."""
        package = self.package_file(self.described(plan))
        return f"{package}s.tar" if plan.options.split else package

    def layout(self, plan: Plan) -> Layout:
        """Where the version lies on a host."""
        version = f"{self.version_of(plan).folder}-{plan.options.release}"
        return Layout(name=self.package_name(plan), version=version, prefix_root=plan.options.prefix_root)

    def placing(self, plan: Plan, tree: Tree) -> scriptlets.Placing | None:  # noqa: ARG002 - RPM's alone
        """How the package's scripts learn where it was installed; None where that is fixed."""
        return None

    def prefix(self, plan: Plan) -> str | None:
        """The prefix that the tree is linked for; None where it is chosen when the package is installed."""
        return self.layout(plan).prefix

    def package(self, plan: Plan, *, needed: int, placing: scriptlets.Placing | None = None) -> nfpm.Package:
        """The package without its paths; `needed` is what they take on the disk, in bytes. Errors: PackError."""
        scripts = self.scripts(plan, needed=needed, placing=placing)
        return dataclasses.replace(self.requiring(self.described(plan), plan), scripts=scripts)

    def payload(self, plan: Plan, tree: Tree, scratch: Path) -> Payload:
        """What the package carries of the application; `scratch` is an empty folder."""
        layout, texts = self.layout(plan), self._texts(plan, self.placing(plan, tree))
        if plan.options.payload == "files":
            return as_files(tree, layout, commands_of(plan), scratch, texts=texts, time=plan.epoch)
        carried = _interpreter(plan)
        return as_archives(tree, layout, commands_of(plan), scratch, texts=texts, carried=carried, time=plan.epoch)

    def pack(self, plan: Plan, materials: Materials, out: Path) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        layout = self.layout(plan)
        with materials.tree(self.prefix(plan)) as tree, materials.scratch() as scratch:
            for name in ("payload", "system", "package"):
                (scratch / name).mkdir()
            of_system = tuple(system_contents(plan.system, layout, scratch / "system"))
            if plan.options.split:
                parts = self._parts(plan, tree, of_system, scratch / "payload")
                self._write_all(parts, out, scratch / "package", time=plan.epoch)
            else:
                payload = self.payload(plan, tree, scratch / "payload")
                package = self.package(plan, needed=payload.needed, placing=self.placing(plan, tree))
                self.write(package, (*payload.contents, *of_system), out, scratch / "package")
            return [*tree.notes, *environment_notes(plan, self.article)]

    def _parts(self, plan: Plan, tree: Tree, of_system: Sequence[nfpm.Content], scratch: Path) -> Iterator[Part]:
        """The packages that the application is split into."""
        layout, common, root = self.layout(plan), self.store_package(plan), plan.options.prefix_root
        scripts = dataclasses.asdict(self.store_scripts(plan, ""))
        decides = {"package": dataclasses.asdict(common), "scripts": scripts, "nfpm": nfpm.version()}
        store = shared_store.shared(tree, plan.lock, root, decides)
        for one in store:
            package = dataclasses.replace(common, scripts=self.store_scripts(plan, one.folder))
            yield store_part(package, one, shared_store.contents(one, tree, root))
        payload = as_shared(
            tree,
            layout,
            commands_of(plan),
            scratch,
            texts=self._texts(plan),
            store=store,
            interpreter=_interpreter(plan),
            time=plan.epoch,
        )
        contents = (*payload.contents, *of_system)
        package = self.requiring(self.described(plan), plan)
        of_environment = self.environment_scripts(plan, needed=payload.needed)
        yield environment_part(dataclasses.replace(package, scripts=of_environment), layout, contents, store)
        mark = scratch / "label"
        with disk_faults(mark):
            mark.touch()
        marked = nfpm.Content(path=f"{layout.labels}/{layout.version}", kind="file", mode=0o644, source=mark)
        yield label_part(self.package(plan, needed=0), layout, contents, marked)

    def _write_all(self, parts: Iterable[Part], out: Path, scratch: Path, *, time: int) -> None:
        """Write packages into a tar of one folder."""
        folder = scratch / out.name.removesuffix(".tar")
        folder.mkdir()

        def write(number: int, part: Part) -> Path:
            own, path = scratch / f"{number}", folder / self.package_file(part.package)
            own.mkdir()
            self.write(part.package, part.contents, path, own)
            return path

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            paths = list(pool.map(write, *zip(*enumerate(parts), strict=True)))
        members = [file_member(f"{folder.name}/{path.name}", path) for path in paths]
        with disk_faults(out), out.open("xb") as stream:
            write_tar(members, stream, epoch=time)

    def _texts(self, plan: Plan, placing: scriptlets.Placing | None = None) -> SupportTexts:
        return support_texts(plan, self.layout(plan), run_checks=plan.options.run_checks, placing=placing)

    def _check_split(self, plan: Plan) -> None:
        if not plan.options.split:
            return
        if plan.options.payload != "files":
            cause = f'has a payload of its own, and `payload = "{plan.options.payload}"` asks for another'
            raise PackError(f"split in [boxes.{self.name}]", cause, "Take one of the two out.")
        if self.package_name(plan) == shared_store.FOLDER:
            cause = "is the folder of what applications share"
            raise PackError(f"app.name {plan.application.name!r}", cause, "Choose another name.")

    def needs(self, plan: Plan) -> Sequence[str]:
        """See `boxsnake.packagers.Packager`."""
        own = {"rpm": plan.requires_rpm, "deb": plan.requires_deb}[self.form]
        unpacks = self.unpacks[plan.options.compression.partition(":")[0]]
        return (*((unpacks,) if unpacks else ()), *own)

    def forecast(self, plan: Plan, materials: Materials) -> Forecast:
        """See `boxsnake.packagers.Packager`."""
        ratio = _RATIOS[plan.options.compression.partition(":")[0]]
        notes = environment_notes(plan, self.article)
        return packed(inventory.environment(plan, materials.store), ratio, notes=notes)

    def boot(self, plan: Plan, artifact: Path) -> BootRecipe:
        """See `boxsnake.packagers.Packager`."""
        layout = self.layout(plan)
        split = plan.options.split
        # Those of several versions lie beside each other, so that a removal finds what any of them has brought.
        place = f"/tmp/{self.name}" if split else "/tmp"  # noqa: S108 - in a container of its own
        there = f"{place}/{artifact.name}"
        folder = there.removesuffix(".tar")
        packages = f"{folder}/*" if split else there
        unpack = (("tar", "-xf", there, "-C", place),) if split and not artifact.is_dir() else ()
        store = (f"{plan.options.prefix_root}/{shared_store.FOLDER}",) if plan.options.split else ()
        commands = (layout.command(command)[0] for command in commands_of(plan))
        remaining = (*self.database(plan), there, folder, *remains(plan.system))
        return BootRecipe(
            host=self.host(plan),
            takes=self.manager,
            copies=((str(artifact), there),),
            install=(*unpack, *self.commands_to_install(plan, packages)),
            python=(f"{layout.current}/bin/python",),
            scripts=f"{layout.current}/bin",
            command=started(plan, layout),
            remove=self.commands_to_remove(plan, f"{place}/*/*" if split else packages),
            writes=(layout.root, *store, *commands, *owned(plan.system, layout), *self.other_paths(plan), *remaining),
            remains=remaining,
            expects=expected(plan, conda=True),
            environment=plan.application.environment,
            stock=(*store, f"{layout.root}/install"),
            again=(*unpack, *self.commands_to_repair(plan, packages)),
            replace=(*unpack, *self.commands_to_replace(plan, packages)),
            rollback=((layout.control[0], "rollback"),) if plan.options.keep else (),
        )


def _interpreter(plan: Plan) -> frozenset[str]:
    """The owners of the interpreter and of what it needs."""
    return frozenset(map(conda_owner, interpreter_packages(plan.lock.conda)))


def described_summary(plan: Plan) -> str:
    """The application's summary in one line. Errors: PackError where it holds control characters."""
    application = plan.application
    return " ".join(described_text("app.summary", application.summary or application.name).split())
