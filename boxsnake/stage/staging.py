"""The steps of one staging: link, install, scrub, compile, list."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxsnake.disk import disk_faults
from boxsnake.entries import APPLICATION, Entry, Known, Patch, Tree, conda_owner, wheel_owner
from boxsnake.errors import PackError
from boxsnake.ingest.wheel import wheel_facts
from boxsnake.layers.plan import Treatment
from boxsnake.lock import CondaPackage, TargetLock, Wheel
from boxsnake.progress import track
from boxsnake.relocation import placed
from boxsnake.remembered import remembered
from boxsnake.stage.bytecode import (
    Compiler,
    Sources,
    compile_sources,
    compiler_in,
    is_compiled,
    own_compiler,
    runs_here,
)
from boxsnake.stage.interpreter import kept_interpreter
from boxsnake.stage.inventory import inventory, set_times, with_folders, write_entry
from boxsnake.stage.link import link, link_folder, unpacked
from boxsnake.stage.owners import Owners, collision, is_same, shown
from boxsnake.stage.place import staging_folder
from boxsnake.stage.removal import removed_meanwhile
from boxsnake.stage.scripts import linked_for_prefix, patch_of, patches_of
from boxsnake.stage.scrub import (
    HISTORY,
    conda_record,
    is_cached_code,
    is_record,
    listed,
    read_records,
    record_file,
    record_path,
    remove_leftovers,
    scripts_not_run,
)
from boxsnake.stage.wheels import Layout, install_wheel
from boxsnake.store import Store


@contextmanager
def stage(
    store: Store,
    lock: TargetLock,
    *,
    conda: Mapping[str, Path],
    wheels: Mapping[str, Path],
    application: Wheel | None,
    prefix: str | None,
    epoch: int,
    treatment: Treatment | None = None,
    has_times: bool = True,
) -> Iterator[Tree]:
    """Install an environment and the application into a folder that lasts for the block, linked for `prefix`.

    Without a prefix the tree is relocatable: see `boxsnake.entries.Tree`. Unless it `has_times`, those of its files are
    as they happen to be, and who packs them sees to it.

    `conda` and `wheels` give the archives by their file names, under which they lie on disk: the lock's conda half,
    the wheels over it and the application's own. The tree's bytes depend on these, `prefix`, `epoch` and what
    `treatment` leaves out of it alone.
    Errors: PackError where two packages bring different files for one path, or the target cannot have a tree;
    ResourceError.
    """
    _check(lock)
    archives = [*conda.values(), *wheels.values()]
    with staging_folder(store, archives) as folder, ExitStack() as beside:
        root = folder / "tree"
        with disk_faults(folder), track("staging", 5) as advance:
            staging = _Staging(store, lock, root, prefix)
            staging.link(conda)
            advance(1)
            staging.install(wheels, application)
            advance(1)
            remove_leftovers(root, staging.owners, staging.layout.site_packages)
            trimmed = staging.trim(treatment or Treatment())
            notes = staging.compile(application)
            advance(1)
            entries = with_folders(staging.enlist([os.fsencode(folder), os.fsencode(folder.resolve())]))
            advance(1)
            if has_times:
                set_times(root, entries, epoch)
            advance(1)
            remarks = staging.remarks()
            notes += tuple(note for _, note in remarks)
        # Not before now: one folder is filled more slowly while another is emptied.
        beside.enter_context(removed_meanwhile(link_folder(root)))
        try:
            prefix, patches = staging.prefix, staging.patches
            yield Tree(
                root=root,
                prefix=prefix,
                entries=entries,
                notes=notes,
                patches=patches,
                remarks=remarks,
                trimmed=trimmed,
                gone=staging.owners.gone,
            )
        finally:
            beside.enter_context(removed_meanwhile(root))


@contextmanager
def stage_wheels(
    store: Store,
    lock: TargetLock,
    *,
    wheels: Mapping[str, Path],
    application: Wheel | None,
    layer: str,
    prefix: str,
    treatment: Treatment,
) -> Iterator[Tree]:
    """Some wheels over the conda half, or the application, alone: as `stage` would have them among all others.

    `wheels` gives them by their file names. `layer` is the digest of one with the environment's interpreter, which
    compiles them where it can run here. It is for the caller to know whether another package brings one of their paths,
    and to ask for no treatment that looks across packages. The files' times are as they happen to be. Errors: those of
    `stage`; NotStartingError where the interpreter should run here and does not.
    """
    with staging_folder(store, wheels.values()) as folder, disk_faults(folder), track("staging", 2) as advance:
        root = folder / "tree"
        root.mkdir()
        wanted = tuple(wheel for wheel in lock.wheels_over_conda if wheel.file_name in wheels)
        staging = _Staging(store, replace(lock, wheels=wanted), root, prefix)
        is_native = runs_here(lock)
        interpreter = kept_interpreter(
            store,
            layer,
            prefix=prefix,
            minor=lock.python_minor,
            starts=lambda place: not is_native or own_compiler(place, lock) is not None,
        )
        # The interpreter's record lists thousands of files.
        staging.layout = remembered(
            store,
            "layout",
            {"layer": layer, "prefix": prefix, "python": lock.python},
            lambda: layout_of(lock.conda, read_records(interpreter), prefix),
        )
        compiler = compiler_in(interpreter, lock) if is_native else None
        advance(1)
        staging.install(wheels, application)
        remove_leftovers(root, staging.owners, staging.layout.site_packages)
        trimmed = staging.trim(treatment)
        notes = staging.compile(application, compiler)
        entries = with_folders(staging.enlist([os.fsencode(folder), os.fsencode(folder.resolve())]))
        advance(1)
        gone = staging.owners.gone
        yield Tree(root=root, prefix=prefix, entries=entries, notes=notes, trimmed=trimmed, gone=gone)


def _check(lock: TargetLock) -> None:
    if lock.target.interpreter == "host":
        raise PackError(
            f"target {lock.target.name}",
            "it takes its interpreter from the host, so there is no environment of its own to stage",
            "Use a format that installs wheels on the host (wheelhouse, pex), or a target with a conda interpreter.",
            target=lock.target.name,
        )
    if not lock.target.is_linux:
        raise PackError(
            f"target {lock.target.name}",
            f"trees are staged for Linux alone, not for {lock.target.platform}",
            "Use a format that carries wheels alone (wheelhouse, pex), or a Linux target.",
            platform=lock.target.platform,
        )


def layout_of(
    packages: Sequence[CondaPackage], records: Sequence[Mapping[str, Any]], prefix: str, *, relocatable: bool = False
) -> Layout:
    """Where the environment's Python looks for things.

    A build of Python may name its site-packages (`python_site_packages_path`, conda's CEP 17), as free-threaded ones
    do; for all others it is `lib/pythonX.Y/site-packages`.
    """
    named = {str(record["name"]): record for record in records}
    python = next((package for package in packages if package.name == "python"), None)
    minor = ".".join(python.version.split(".")[:2]) if python else ""
    given = named.get("python", {}).get("python_site_packages_path")
    site_packages = str(given or f"lib/python{minor}/site-packages")
    headers = f"include/{posixpath.basename(posixpath.dirname(site_packages))}"
    interpreter = f"{prefix}/bin/python"
    return Layout(site_packages=site_packages, headers=headers, interpreter=interpreter, relocatable=relocatable)


class _Staging:
    """The steps of one staging, which share the tree and its owners."""

    def __init__(self, store: Store, lock: TargetLock, root: Path, prefix: str | None) -> None:
        self._store = store
        self._lock = lock
        self._root = root
        self._wanted = prefix
        self.prefix = prefix or ""
        self.patches: tuple[Patch, ...] = ()
        self._packages = {package.name: package for package in lock.conda}
        self._records: list[dict[str, Any]] = []
        self._candidates: list[Patch] = []
        self._written: dict[str, Known] = {}
        self.owners = Owners()
        self.layout = layout_of(lock.conda, (), self.prefix)

    def link(self, archives: Mapping[str, Path]) -> None:
        """The conda half; its records say who brings what."""
        packages = {package.file_name: package for package in self._lock.conda}
        if packages:
            platform = self._lock.target.platform
            self.prefix = link(archives, packages, root=self._root, prefix=self._wanted, platform=platform)
        else:
            self._root.mkdir()
        self._records = read_records(self._root)
        relocatable = self._wanted is None
        self.layout = layout_of(self._lock.conda, self._records, self.prefix, relocatable=relocatable)
        moved: list[tuple[dict[str, Any], str]] = []
        for record in self._records:
            owner = conda_owner(record["name"])
            self.owners.claim(record_path(record), owner)
            for path in record["paths_data"]["paths"]:
                if path.get("original_path"):
                    moved.append((path, owner))
                else:
                    self.owners.claim(path["_path"], owner)
        for path, owner in moved:
            self._join(path, owner)
        found = linked_for_prefix(self._records, unpacked(self._root), self.layout.site_packages)
        self._candidates = [patch_of(self._root, file, self.prefix, relocatable=relocatable) for file in found]

    def _join(self, path: dict[str, Any], owner: str) -> None:
        """Judge the second of two files of one name, which the linker puts aside instead of saying anything."""
        wanted, aside = path["original_path"], self._root / path["_path"]
        others = self.owners.of(wanted) if wanted in self.owners else (owner,)
        # RECORD is written anew for what one package brings, and so cannot be two packages'.
        may_be_shared = wanted in self.owners and not is_record(wanted, self.layout.site_packages)
        if not may_be_shared or not (is_cached_code(wanted) or is_same(aside, self._root / wanted)):
            raise collision(wanted, others[0], owner)
        aside.unlink()
        del path["original_path"]
        path["_path"] = wanted
        self.owners.share(wanted, owner)

    def remarks(self) -> tuple[tuple[str, str], ...]:
        """What the user should know about single packages."""
        by_owner = {
            conda_owner(record["name"]): scripts_not_run(path["_path"] for path in record["paths_data"]["paths"])
            for record in self._records
        }
        return tuple((owner, f"{shown(owner)}: {text}") for owner, text in sorted(by_owner.items()) if text)

    def install(self, wheels: Mapping[str, Path], application: Wheel | None) -> None:
        """The wheels over the conda half, then the application's own."""
        over = [(wheel, wheel_owner(wheel.name)) for wheel in self._lock.wheels_over_conda]
        over += [(application, APPLICATION)] if application else []
        if over and "python" not in self._packages:
            step = 'Require a Python: `python = "3.11.*"` in [requires].'
            raise PackError(over[0][0].file_name, "the environment has no Python to install it for", step)
        for wheel, owner in over:
            path = wheels[wheel.file_name]
            facts = wheel_facts(self._store, wheel.sha256)
            commands = (*facts.console_scripts, *facts.gui_scripts)
            installed = install_wheel(path, commands, owner, root=self._root, layout=self.layout, owners=self.owners)
            self._candidates += [Patch(path=script, kind="script") for script in installed.scripts]
            self._written |= installed.known

    def trim(self, treatment: Treatment) -> tuple[tuple[str, str, int], ...]:
        """Leave out what the treatment says: (owner, rule, bytes)."""
        if not treatment.trim:
            return ()
        from boxsnake.stage.trim import trim

        site_packages = self.layout.site_packages
        found = trim(self._root, self.owners, treatment.trim, site_packages=site_packages, keep=treatment.keep)
        return tuple((one.owner, one.rule, one.size) for one in found)

    def compile(self, application: Wheel | None, compiler: Compiler | None = None) -> tuple[str, ...]:
        """Byte-code for all that lies where Python imports from; notes for the user."""
        if "python" not in self._packages:
            return ()
        digests = {conda_owner(package.name): package.sha256 for package in self._lock.conda}
        digests |= {wheel_owner(wheel.name): wheel.sha256 for wheel in self._lock.wheels_over_conda}
        if application:
            digests[APPLICATION] = application.sha256
        prefixed = self._prefixed()
        library = posixpath.dirname(self.layout.site_packages) + "/"
        paths: dict[str, list[str]] = {}
        for path in sorted(self.owners):
            if is_compiled(path.removeprefix(library)) and path.startswith(library) and path not in prefixed:
                for owner in self.owners.of(path):
                    paths.setdefault(owner, []).append(path)
        sources = [Sources(owner=owner, digest=digests[owner], paths=tuple(paths[owner])) for owner in sorted(paths)]
        if application:
            written = {path: self._written[path].sha256 for path in paths.get(APPLICATION, ()) if path in self._written}
            sources = [
                replace(one, edited=application.name, contents=written) if one.owner == APPLICATION else one
                for one in sources
            ]
        added, notes, known = compile_sources(self._store, self._root, sources, self._lock, compiler)
        for path, owner in added:
            self.owners.share(path, owner)
        self._written |= known
        return notes

    def _prefixed(self) -> set[str]:
        """Sources whose text depends on the prefix: their byte-code would have to as well."""
        paths = (path for record in self._records for path in record["paths_data"]["paths"])
        return {path["_path"] for path in paths if path.get("prefix_placeholder")}

    def _unchanged(self) -> dict[str, Known]:
        """The files of conda packages that were linked as they are: the ingest check has compared their digests."""
        paths = (path for record in self._records for path in record["paths_data"]["paths"])
        return {
            path["_path"]: Known(size=path["size_in_bytes"], sha256=path["sha256"])
            for path in paths
            if path.get("path_type") == "hardlink"
            and not path.get("prefix_placeholder")
            and path.get("size_in_bytes") is not None
            and path.get("sha256")
            and path.get("sha256_in_prefix") in (None, path["sha256"])
        }

    def enlist(self, forbidden: Sequence[bytes]) -> list[Entry]:
        """The entries, once RECORD and conda-meta have been written for what is really there."""
        dist_infos = sorted(path for path in self.owners if is_record(path, self.layout.site_packages))
        metas = {record_path(record): record for record in self._records}
        self.patches = self._find_patches()
        found = inventory(
            self._root,
            self.owners,
            later={*dist_infos, *metas},
            forbidden=forbidden,
            known=self._unchanged() | self._written,
        )
        by_owner: dict[str, list[Entry]] = {}
        for entry in found.values():
            for owner in entry.owners:
                by_owner.setdefault(owner, []).append(entry)
        for path in dist_infos:
            (owner,) = self.owners.of(path)
            content = record_file(path, self._recorded(path, by_owner.get(owner, [])))
            found[path] = write_entry(self._root, path, content, (owner,))
            by_owner.setdefault(owner, []).append(found[path])
        for path, record in metas.items():
            (owner,) = self.owners.of(path)
            content = conda_record(record, self._packages[record["name"]], by_owner.get(owner, []))
            found[path] = write_entry(self._root, path, content, (owner,))
        if self._records:
            # Every package's, so that each layer with one can be taken for an environment by itself.
            everyone = tuple(sorted(conda_owner(record["name"]) for record in self._records))
            found[HISTORY] = write_entry(self._root, HISTORY, b"", everyone)
        self.patches += self._patched_records(found, (*dist_infos, *metas))
        return [*found.values()]

    def _find_patches(self) -> tuple[Patch, ...]:
        """The files that must be placed, but for those that tell of others."""
        return patches_of(self._root, self._candidates, self.owners, self.prefix) if self._wanted is None else ()

    def _patched_records(self, found: Mapping[str, Entry], records: Sequence[str]) -> tuple[Patch, ...]:
        """The RECORDs, and then the records of conda-meta, that list digests of what is placed."""
        told = {found[patch.path].sha256: ("", 0) for patch in self.patches}
        patches = []
        for path in records if told else ():
            content = (self._root / path).read_bytes()
            if placed(content, "record", self.prefix, self.prefix, told) != content:
                told[found[path].sha256] = ("", 0)
                patches.append(Patch(path=path, kind="record"))
        return tuple(patches)

    def _recorded(self, path: str, entries: Sequence[Entry]) -> list[Entry]:
        """What a RECORD shall list: all of a wheel; of a conda package, what the package's own says, and its code."""
        if not self.owners.of(path)[0].startswith("conda:"):
            return list(entries)
        names = listed((self._root / path).read_text(encoding="utf-8"), path)
        return [entry for entry in entries if entry.path in names or _source_of(entry.path) in names]


def _source_of(path: str) -> str:
    """The source of byte-code in a `__pycache__` folder (PEP 3147); "" for everything else."""
    folder, _, name = path.rpartition("/")
    if not name.endswith(".pyc") or posixpath.basename(folder) != "__pycache__":
        return ""
    return f"{posixpath.dirname(folder)}/{name.rsplit('.', 2)[0]}.py"
