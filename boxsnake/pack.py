"""Packing: from a manifest and its lock to artifacts under their final names, each whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake.beside import beside, sweep
from boxsnake.boot_recipe import BootRules, Check
from boxsnake.errors import Fault, ManifestError, PackError, UsageError
from boxsnake.image.base_name import FORMATS, MINIMAL
from boxsnake.lock import Lock, SystemLock, TargetLock
from boxsnake.manifest import BootTable, CheckTable, Manifest, Section, SharedBox
from boxsnake.manifest.section import key_of
from boxsnake.manifest.text import byte_count
from boxsnake.materials import Access, StoreMaterials
from boxsnake.os_packages.system_wanted import system_wanted
from boxsnake.packagers import Packager, packagers
from boxsnake.plain_text import escaped, shortened
from boxsnake.plan import Application, Hook, Part, Plan
from boxsnake.project import BuiltWheel, build_wheel, parse_source
from boxsnake.project.wheel_archive import is_portable
from boxsnake.store import Store, publish_file, publish_tree
from boxsnake.system import System
from boxsnake.target import DEFAULT_TARGET, Target

if TYPE_CHECKING:
    from boxsnake.resolve import Asked

DEFAULT_EPOCH = 1577836800
"""2020-01-01T00:00:00Z: the time of everything that is packed, unless SOURCE_DATE_EPOCH says another."""

LATEST_EPOCH = (1 << 32) - 1
"""What RPM and gzip can say: a day in 2106."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One thing to make: a format for a target, and where its artifact goes."""

    packager: Packager
    plan: Plan
    path: Path

    @property
    def name(self) -> str:
        """For people: "image", or "image (el9)" for a target that has a name of its own, "pex (a, b)" for several."""
        targets = ", ".join(part.target.name for part in self.plan.parts)
        return self.packager.name if targets == DEFAULT_TARGET else f"{self.packager.name} ({targets})"

    @property
    def by_target(self) -> tuple[Box, ...]:
        """The box as each of its targets sees it: the same artifact."""
        return tuple(replace(self, plan=self.plan.of(part)) for part in self.plan.parts)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A format for a target, whether the manifest asks for it or not: its box, or why there can be none."""

    packager: Packager
    target: Target
    is_asked: bool
    box: Box | None
    refusal: PackError | None


@dataclass(frozen=True, kw_only=True)
class Made:
    """One artifact, made now or found to be what it would be. `seconds` are of wall time."""

    box: Box
    size: int
    digest: str
    seconds: float
    unchanged: bool
    notes: tuple[str, ...]


def epoch() -> int:
    """The one time of everything that is packed, in seconds since 1970.

    Honours SOURCE_DATE_EPOCH (the Reproducible Builds specification). Errors: UsageError where it is no number.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return DEFAULT_EPOCH
    if not (text.isascii() and text.isdecimal()):
        cause = f"is {shortened(repr(text))}, which is no number of seconds"
    elif len(text.lstrip("0")) > len(str(LATEST_EPOCH)) or int(text) > LATEST_EPOCH:
        cause = f"is {shortened(text)}, which is later than any box can say ({LATEST_EPOCH})"
    else:
        return int(text)
    raise UsageError("SOURCE_DATE_EPOCH", cause, "Unset it or give it seconds since 1970.")


def boxes(
    asked: Asked,
    lock: Lock,
    store: Store,
    access: Access,
    *,
    output: Path,
    formats: Sequence[str] = (),
    targets: Sequence[str] = (),
    meanwhile: Callable[[], None] | None = None,
) -> list[Box]:
    """The boxes that the manifest asks for, or those of `formats` and `targets` alone.

    `meanwhile` is as of `boxsnake.project.build_wheel`.

    Artifacts of the target "default" go to `output`, those of another into a folder of its name below it: file
    names are those of each format's convention and need not tell targets apart. Errors: UsageError, PackError.
    """
    _check_formats(formats)
    planned = _planning(asked, lock, store, access, output, meanwhile)
    found: dict[tuple[str, str], Box] = {}
    for target in _chosen_targets(lock, targets):
        for packager in _chosen_formats(asked.manifest, formats, target.name):
            locks = _locks_of_box(lock, _options(asked.manifest, packager), target)
            key = (packager.name, locks[0].target.name)
            if key not in found:
                found[key] = planned(packager, locks)
    if formats and not found:
        cause = "is made for none of the targets: they have `boxes` of their own"
        raise UsageError(", ".join(formats), cause, "Add it to `boxes` of a target, or choose another target.")
    return list(found.values())


def candidates(
    asked: Asked,
    lock: Lock,
    store: Store,
    access: Access,
    *,
    output: Path,
    formats: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Iterator[Candidate]:
    """Every format, or those of `formats` alone, for every target or those of `targets`. Errors: UsageError."""
    _check_formats(formats)
    planned = _planning(asked, lock, store, access, output)
    for target in _chosen_targets(lock, targets):
        wanted = _chosen_formats(asked.manifest, (), target.name)
        for packager in (packagers()[name] for name in dict.fromkeys(formats or packagers())):
            locks = _locks_of_box(lock, _options(asked.manifest, packager), target)
            box, refusal = None, None
            try:
                box = planned(packager, locks)
            except PackError as error:
                refusal = error
            yield Candidate(packager=packager, target=target, is_asked=packager in wanted, box=box, refusal=refusal)


def _planning(
    asked: Asked,
    lock: Lock,
    store: Store,
    access: Access,
    output: Path,
    meanwhile: Callable[[], None] | None = None,
) -> Callable[[Packager, Sequence[TargetLock]], Box]:
    """What plans one box for the first of its targets and its others; it raises PackError where there can be none.

    What the plans of a target have in common is found once.
    """
    manifest, root = asked.manifest, asked.root

    @cache
    def described(name: str) -> tuple[Application, str]:
        """The application for a target, and the commit that it was built from."""
        target_lock = next(target_lock for target_lock in lock.targets if target_lock.target.name == name)
        application = describe(asked, store, access, target_lock, without=output, meanwhile=meanwhile)
        return application, _revision(asked, application, store, without=output)

    def planned(packager: Packager, locks: Sequence[TargetLock]) -> Box:
        target_lock, *others = locks
        folder = output if target_lock.target.name == DEFAULT_TARGET else output / target_lock.target.name
        application, revision = described(target_lock.target.name)
        plan = Plan(
            application=application,
            lock=target_lock,
            others=tuple(Part(lock=other, own=described(other.target.name)[0].wheel) for other in others),
            options=_options(manifest, packager),
            root=root,
            epoch=epoch(),
            requires_rpm=manifest.requires.rpm,
            requires_deb=manifest.requires.deb,
            missing_libraries=manifest.requires.missing_libraries,
            hooks=_hooks(manifest, root),
            system=system_wanted(manifest, root, application),
            revision=revision,
            checks=tuple(check_of(check, application) for check in manifest.checks),
            boot=rules_of(manifest.boot),
        )
        packager.check(plan)
        return Box(packager=packager, plan=plan, path=folder / packager.file_name(plan))

    return planned


def pack(box: Box, store: Store, access: Access) -> Made:
    """Make one box, unless its artifact lies there already, made from the same inputs and unharmed since."""
    with StoreMaterials(store, box.plan, access) as materials:
        return _pack(box, materials)


def unchanged(box: Box, materials: StoreMaterials) -> Made | None:
    """The artifact that lies there, where it is what packing it now would give. Errors: those of finding a base."""
    return _unchanged(box, materials.store, _key(box, materials))


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
    size = _size_of(box.path)
    elapsed = time.monotonic() - started
    return Made(box=box, size=size, digest=digest, seconds=elapsed, unchanged=False, notes=notes)


def _make(box: Box, materials: StoreMaterials) -> tuple[tuple[str, ...], str]:
    """Write the artifact: its notes and digest. It lies beside its final name first: a rename publishes it."""
    box.path.parent.mkdir(parents=True, exist_ok=True)
    with beside(box.path) as folder:
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

    with tarfile.open(archive) as members:
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
        "code": _code_digest(materials.store),
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


@cache
def _code_digest(store: Store) -> str:
    """The digest of boxsnake's own code: an artifact that another version made is made again."""
    return store.digest_of_files(Path(__file__).parent, (".py", ".sh"))


def _check_formats(formats: Sequence[str]) -> None:
    known = packagers()
    for name in formats:
        if name not in known:
            raise UsageError(name, "there is no such format", f"There are {', '.join(known)}.", formats=list(known))


def _chosen_formats(manifest: Manifest, formats: Sequence[str], target: str) -> list[Packager]:
    """The formats that were asked for, or else those of the manifest, as far as the target takes them."""
    own = manifest.targets[target].boxes
    return [packagers()[name] for name in dict.fromkeys(formats or manifest.boxes) if own is None or name in own]


def _options(manifest: Manifest, packager: Packager) -> Section:
    return manifest.boxes.get(packager.name) or packager.options()


def _locks_of_box(lock: Lock, options: Section, target: Target) -> list[TargetLock]:
    """The targets that share the box with this one, in the order of the box's own `targets`; often it alone."""
    shared = options.targets if isinstance(options, SharedBox) else ()
    names = shared if target.name in shared else (target.name,)
    known = {target_lock.target.name: target_lock for target_lock in lock.targets}
    return [known[name] for name in names]


def _chosen_targets(lock: Lock, targets: Sequence[str]) -> Iterator[Target]:
    known = {target_lock.target.name: target_lock.target for target_lock in lock.targets}
    for name in targets:
        if name not in known:
            step = f"The lock's targets: {', '.join(known)}."
            raise UsageError(name, "the lock has no such target", step, targets=list(known))
    yield from (known[name] for name in dict.fromkeys(targets or known))


def describe(
    asked: Asked,
    store: Store,
    access: Access,
    target_lock: TargetLock,
    *,
    without: Path,
    meanwhile: Callable[[], None] | None = None,
) -> Application:
    """The application as formats describe it; its wheel is built here, unless the store has it.

    What the manifest leaves out is taken from the wheel's metadata. `without` is a folder that is no part of the
    source: the one for artifacts. Errors: ManifestError, and those of `boxsnake.project.build_wheel`.
    """
    app = asked.manifest.app
    built: BuiltWheel | None = None
    if app.source is not None:
        built = build_wheel(
            store,
            parse_source(app.source, asked.root),
            python=target_lock.python_minor,
            environment=access.index,
            credentials=access.credentials,
            without=[without],
            offline=access.offline,
            meanwhile=meanwhile,
        )
        _check_fit(built, target_lock)
    version = app.version or (built.version if built else None)
    if version is None:
        fault = Fault(source="manifest", line=0, key="app.version", message="is needed where app.source is left out")
        raise ManifestError("manifest", (fault,))
    scripts = built.console_scripts if built else ()
    return Application(
        name=app.name,
        version=version,
        command=app.command or scripts[:1],
        commands=tuple(sorted(app.commands.items())),
        ports=app.ports,
        environment=tuple(sorted((dict(asked.requirements.environment) | app.environment).items())),
        summary=app.summary or (built and _line(built.summary)) or f"{app.name} {version}",
        description=app.description or "",
        license=app.license or (built and _line(built.license)) or "",
        homepage=app.homepage or (built and _line(built.homepage)) or "",
        source_page=(built and _line(built.source_page)) or "",
        documentation=(built and _line(built.documentation)) or "",
        maintainer=app.maintainer or (built and _line(built.maintainer)) or "",
        wheel=built.wheel() if built else None,
        console_scripts=scripts,
    )


def _revision(asked: Asked, application: Application, store: Store, *, without: Path) -> str:
    """The commit of a repository, or of a project's folder that has been checked out and not been changed."""
    from boxsnake.project.git_source import clean_commit

    origin = application.wheel.origin if application.wheel else None
    if asked.manifest.app.source is None or origin is None:
        return ""
    if origin.kind != "folder":
        return origin.commit or ""
    with store.scratch("git") as scratch:
        return clean_commit(
            Path(parse_source(asked.manifest.app.source, asked.root).location), scratch, without=without
        )


def _line(text: str) -> str:
    """A text of the wheel's metadata on one line, without anything that a terminal or a page would obey."""
    return escaped(" ".join(text.split()))


def _check_fit(built: BuiltWheel, target_lock: TargetLock) -> None:
    """The application's own wheel may be compiled: for the machine that built it, which need not be the target."""
    if is_portable(built.file_name):
        return
    from boxsnake.wheel_tags import best_fit, supported_tags

    target = target_lock.target
    if best_fit([built.file_name], supported_tags(target, target_lock.python)) is None:
        raise PackError(
            built.file_name,
            f"the application's wheel does not fit {target.platform}, Python {target_lock.python_minor}"
            + (f" and glibc {target.glibc}" if target.glibc else ""),
            "Build the wheel on such a system, name it as app.source, or leave this target out with --target.",
            target=target.name,
        )


def check_of(table: CheckTable, application: Application) -> Check:
    """A check of the manifest as the harness takes it."""
    port = table.port or (application.ports[0] if application.ports else None)
    return Check(
        name=table.name,
        run=table.run,
        expect=table.expect,
        exit_code=table.exit_code,
        http=table.http,
        port=port if table.http else None,
        status=table.status,
        matches=table.matches,
        values=tuple(sorted(table.values.items())),
        requests=table.requests,
        tcp=table.tcp,
        log=table.log,
        file=table.file,
        timeout=table.timeout,
    )


def rules_of(table: BootTable) -> BootRules:
    """What the manifest says of boots, as the harness takes it."""
    return BootRules(
        exempt=table.skip,
        optional_libraries=table.optional_libraries,
        start_seconds=table.start_seconds,
        memory=byte_count(table.memory) if table.memory else None,
    )


def _hooks(manifest: Manifest, root: Path) -> tuple[Hook, ...]:
    found: list[Hook] = []
    for name, value in dataclasses.asdict(manifest.hooks).items():
        key = key_of(name)
        if value is None:
            continue
        path = root / value
        if not path.is_file():
            fault = Fault(source="manifest", line=0, key=f"hooks.{key}", message=f"there is no file {value}")
            raise ManifestError("manifest", (fault,))
        found.append(Hook(moment=key, file_name=path.name, content=path.read_bytes()))
    return tuple(found)
