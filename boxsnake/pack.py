"""Packing: from a box that is planned to its artifact under its final name, whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake.beside import beside, sweep
from boxsnake.boot_recipe import BootRules
from boxsnake.boxes import Box
from boxsnake.canonical import canonical_json
from boxsnake.disk import disk_faults, publish_file, publish_tree
from boxsnake.errors import PackError
from boxsnake.image.base_name import FORMATS, MINIMAL
from boxsnake.lock import SystemLock
from boxsnake.materials import Access, StoreMaterials
from boxsnake.own_code import digest_of_code
from boxsnake.packagers import Packager
from boxsnake.plan import Plan
from boxsnake.store import Store
from boxsnake.system import System
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.image.layout import LaidOut


@dataclass(frozen=True, kw_only=True)
class Made:
    """One artifact, made now or found to be what it would be. `seconds` are of wall time."""

    box: Box
    size: int
    digest: str
    seconds: float
    unchanged: bool
    notes: tuple[str, ...]


def pack(box: Box, store: Store, access: Access, announce: Callable[[LaidOut], None] | None = None) -> Made:
    """Make one box, unless its artifact lies there already, made from the same inputs and unharmed since.

    `announce` is told of an image that is made anew, once its layers are in the store and before it is laid out.
    """
    with StoreMaterials(store, box.plan, access, announce) as materials:
        return _pack(box, materials)


def unchanged(box: Box, materials: StoreMaterials) -> Made | None:
    """The artifact that lies there, where it is what packing it now would give. Errors: those of finding a base."""
    return _unchanged(box, materials.store, _key(box, materials))


def is_outdated(box: Box, materials: StoreMaterials) -> bool:
    """Whether the artifact that lies there was made here out of other inputs than packing it now would take.

    Of one that came from elsewhere nothing is known, and what another boxsnake has made may be as good as ever. Errors:
    those of finding a base.
    """
    made = materials.store.selected("made", _made(box, _digest_of(box.path, materials.store)))
    return made is not None and made["inputs"] != _digest_of_inputs(_key(box, materials))


def _made(box: Box, digest: str) -> dict[str, str]:
    return {"path": str(box.path), "digest": digest}


def _digest_of_inputs(key: Mapping[str, Any]) -> str:
    inputs = {name: value for name, value in key.items() if name != "code"}
    return hashlib.sha256(canonical_json(inputs)).hexdigest()


def _unchanged(box: Box, store: Store, key: Mapping[str, Any]) -> Made | None:
    started = time.monotonic()
    receipt = store.selected("artifact", key)
    if not receipt or _digest_of(box.path, store) != receipt["digest"]:
        return None
    if not _is_unfolded(box):
        return None
    size, notes = _size_of(box.path), tuple(receipt["notes"])
    elapsed = time.monotonic() - started
    return Made(box=box, size=size, digest=receipt["digest"], seconds=elapsed, unchanged=True, notes=notes)


def _pack(box: Box, materials: StoreMaterials) -> Made:
    started = time.monotonic()
    store = materials.store
    key = _key(box, materials)
    if found := _unchanged(box, store, key):
        sweep(box.path.parent)
        return replace(found, seconds=time.monotonic() - started)
    notes, digest = _make(box, materials)
    store.select("artifact", key, {"digest": digest, "notes": list(notes)})
    store.select("made", _made(box, digest), {"inputs": _digest_of_inputs(key)})
    size = _size_of(box.path)
    elapsed = time.monotonic() - started
    return Made(box=box, size=size, digest=digest, seconds=elapsed, unchanged=False, notes=notes)


def _make(box: Box, materials: StoreMaterials) -> tuple[tuple[str, ...], str]:
    """Write the artifact: its notes and digest. It lies beside its final name first: a rename publishes it."""
    box.path.parent.mkdir(parents=True, exist_ok=True)
    with beside(box.path, lingers=True) as folder:
        temporary = folder / box.path.name
        notes = (
            *box.packager.pack(box.plan, materials, temporary),
            *_check_binaries(box.plan, box.packager, materials),
        )
        if _unfolds(box):
            _unfold(temporary, folder / "unfolded")
            publish_tree(folder / "unfolded", unfolded(box.path))
        digest = _published(temporary, box.path)
    return notes + notes_beforehand(box), digest


def _published(temporary: Path, final: Path) -> str:
    """Put an artifact under its final name: its digest."""
    if temporary.is_dir():
        from boxsnake.image.write import digest_of_index, publish_layout

        publish_layout(temporary, final)
        return digest_of_index(final)
    from concurrent.futures import ThreadPoolExecutor

    with temporary.open("rb") as stream, ThreadPoolExecutor(1) as pool:
        # Hashed while the disk takes it.
        hashed = pool.submit(hashlib.file_digest, stream, "sha256")
        publish_file(temporary, final)
        return f"sha256:{hashed.result().hexdigest()}"


def _digest_of(artifact: Path, store: Store) -> str:
    """The digest of a file, or of a folder's index; "" where there is none, or it is not what was written."""
    if artifact.is_dir():
        from boxsnake.image.write import layout_digest

        return layout_digest(store, artifact) or ""
    return store.digest_of_file(artifact) if artifact.is_file() else ""


def _size_of(artifact: Path) -> int:
    """In bytes; of a folder, that of all files in it."""
    files = artifact.rglob("*") if artifact.is_dir() else (artifact,)
    return sum(file.stat().st_size for file in files if file.is_file())


def unfolded(path: Path) -> Path:
    """The folder that an artifact which unfolds is laid out in: its name without ".tar"."""
    return path.with_suffix("")


def _unfolds(box: Box) -> bool:
    # Formats that unfold may have other artifacts as well, which are one file.
    return box.packager.unfolds and box.path.suffix == ".tar"


def _is_unfolded(box: Box) -> bool:
    return not _unfolds(box) or unfolded(box.path).is_dir()


def _unfold(archive: Path, folder: Path) -> None:
    """Lay out a tar that we wrote ourselves, without the one folder that everything in it lies in.

    By hand: it has folders and plain files alone, and the standard library's filters are not in every Python 3.11.
    """
    import shutil
    import tarfile

    with disk_faults(folder), tarfile.open(archive) as members:
        for member in members:
            path = folder / member.name.partition("/")[2]
            content = members.extractfile(member)
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                with content, path.open("xb") as out:
                    shutil.copyfileobj(content, out)
            path.chmod(member.mode)
            os.utime(path, (member.mtime, member.mtime))


def notes_beforehand(box: Box) -> tuple[str, ...]:
    """What of the manifest the format leaves to others, for the user."""
    return _hook_notes(box) + _system_notes(box)


def _hook_notes(box: Box) -> tuple[str, ...]:
    left = [hook.moment for hook in box.plan.hooks if hook.moment not in box.packager.moments]
    return tuple(f"the {moment} hook is not run by this format" for moment in left)


def _check_binaries(plan: Plan, packager: Packager, materials: StoreMaterials) -> Iterator[str]:
    """Notes about libraries that the host must bring. Errors: PackError where its glibc would be too old."""
    from boxsnake.binaries import check_floor, missing

    for part in plan.others:
        if part.target.is_linux:
            check_floor(materials.wheel_binaries(part), part.target)
    packages = materials.binaries() if plan.target.is_linux else ()
    check_floor(packages, plan.target)
    if plan.lock.system is not None and plan.lock.system.base == MINIMAL and packager.name in FORMATS:
        _check_minimal(plan.lock.system, missing(packages, (), brings_python=True), materials, plan.epoch)
        return
    own = {"rpm": plan.requires_rpm, "deb": plan.requires_deb}
    lists = [packager.name] if packager.name in own else list(own)
    required = [requirement for name in lists for requirement in own[name]]
    lacking = missing(packages, required, brings_python=materials.has_environment)
    if lacking and plan.missing_libraries == "refuse":
        library, users = next(iter(lacking.items()))
        others = f" ({len(lacking)} libraries in all)" if len(lacking) > 1 else ""
        step = f"Require what brings it, in requires.conda or in {' and '.join(f'requires.{name}' for name in lists)}."
        cause = f"is needed by {users[0]}, and nobody is known to bring it{others}"
        raise PackError(library, cause, step, libraries={name: list(users) for name, users in lacking.items()})
    for library, users in lacking.items():
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        yield f"the host must bring {library}, for {users[0]}{more}"


def _check_minimal(
    system: SystemLock, lacking: Mapping[str, Sequence[str]], materials: StoreMaterials, epoch: int
) -> None:
    """Errors: PackError for a library that a minimal base has not got: there is no host to bring it."""
    from boxsnake.binaries import deb_package
    from boxsnake.system_packages.minimal_base import libraries_of

    there = libraries_of(materials.store, system, epoch=epoch)
    unmet = {library: users for library, users in lacking.items() if library not in there}
    if unmet:
        packages = ", ".join(dict.fromkeys(f'"{deb_package(library)}"' for library in unmet))
        cause = f"is needed by {next(iter(unmet.values()))[0]}, and the base {system.base} has not got it"
        step = f"Require the Debian package that brings it, perhaps {packages}, in requires.deb, then lock again."
        libraries = {name: list(users) for name, users in unmet.items()}
        raise PackError(next(iter(unmet)), cause, step, libraries=libraries)


def _system_notes(box: Box) -> tuple[str, ...]:
    left = [part for part in box.plan.system.parts if part not in box.packager.system]
    return (f"this format leaves to its host what [system] says of: {', '.join(left)}",) if left else ()


def _key(box: Box, materials: StoreMaterials) -> dict[str, Any]:
    """Everything that decides the artifact's bytes, and the name that it lies under."""
    plan = dataclasses.replace(
        box.plan, options=None, hooks=(), checks=(), boot=BootRules(), revision="", system=System()
    )
    return {
        "path": str(box.path),
        "format": box.packager.name,
        "plan": _plain(plan),
        "options": dataclasses.asdict(box.plan.options),
        "hooks": [[hook.moment, hook.file_name, hashlib.sha256(hook.content).hexdigest()] for hook in box.plan.hooks],
        "system": _plain_system(box.plan.system),
        "inputs": box.packager.inputs(box.plan, materials),
        "code": digest_of_code(materials.store),
    }


def _plain(plan: Plan) -> dict[str, Any]:
    values = dataclasses.asdict(plan)
    del values["root"]
    return values


def _plain_system(system: System) -> dict[str, Any]:
    values = dataclasses.asdict(system)
    for file in values["files"]:
        file["content"] = hashlib.sha256(file["content"]).hexdigest()
    for unit in values["units"]:
        unit["hardening"] = sorted(unit["hardening"])
    return values
