"""Builds recipes into a channel: a folder with noarch/, linux-64/ and their repodata.json, as every conda client reads it.

Each recipe is built in a process of its own, in a scratch folder; its packages are moved into the channel when they are
whole. What was built from what is recorded beside them, so that nothing is built (or fetched) twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

from boxsnake.channel import archives, elf, sources
from boxsnake.channel.recipes import VARIANTS, Recipe, ordered, read_folders, select
from boxsnake.channel.repack import DEBIAN, DEBIAN_SOURCE, SOURCES, WHEELS
from boxsnake.channel.versions import build_number, upstream_version
from boxsnake.disk import publish_file, remove_tree
from boxsnake.errors import PackError, ResourceError
from boxsnake.flock import held
from boxsnake.progress import track

PRIVATE = ".boxsnake"
STATE_VERSION = 1
LOG_LINES = 15
WAIT = 600.0  # seconds that another build of the same channel may take
CONVERSION = (
    "Convert it to recipe.yaml, the v1 format (`pip install conda-recipe-manager`, then "
    "`conda-recipe-manager convert meta.yaml > recipe.yaml`), or install conda-build."
)


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package of a channel."""

    name: str
    version: str
    build: str
    subdir: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of one recipe: its packages, and the seconds that it took, or None where nothing was to be done."""

    recipe: str
    packages: tuple[Package, ...]
    seconds: float | None


Report = Callable[[Built], None]


def build(
    folders: Sequence[Path],
    output: Path,
    *,
    cache: Path,
    only: Sequence[str] = (),
    optional: Sequence[str] = (),
    platform: str = "linux-64",
    refresh: bool = False,
    report: Report = lambda _: None,
) -> tuple[Built, ...]:
    """Builds the recipes below `folders` into the channel `output`, those that changed since they were built last.

    `cache` keeps what was fetched. `only` and `optional` are as in `recipes.select`; `refresh` asks apt and pip for
    newer sources. `report` is told of each recipe as soon as its packages are in the channel.

    Errors: UsageError, ManifestError for a recipe that cannot be read, NetworkError, IntegrityError, ResourceError (no
    apt, no conda-build), PackError naming the recipe, the last lines of its log and where the whole log is.
    """
    chosen = ordered(select(read_folders(folders), only=only, optional=optional))
    _refuse_classic(chosen)
    channel = _Channel(output.absolute())
    channel.private.mkdir(parents=True, exist_ok=True)
    with held(channel.private / "lock", wait=WAIT):
        run = _Run(channel=channel, cache=cache.absolute(), platform=platform, refresh=refresh, report=report)
        try:
            return run.build_all(chosen)
        finally:
            channel.index_if_stale(cache)  # when a recipe failed as well: those before it are there to be used


def _refuse_classic(recipes: Sequence[Recipe]) -> None:
    classic = [recipe for recipe in recipes if recipe.classic]
    if classic and shutil.which("conda-build") is None:
        raise ResourceError(
            str(classic[0].file),
            "this is conda-build's classic format, and conda-build is not installed",
            CONVERSION,
            recipes=[recipe.name for recipe in classic],
        )


class _Channel:
    """A channel's folder, and the record of what was built into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / PRIVATE
        self._state = self.private / "state.json"
        try:
            state = json.loads(self._state.read_text())
        except (OSError, ValueError):
            state = {}
        fits = isinstance(state, dict) and state.get("version") == STATE_VERSION
        self.built: dict[str, Any] = state["built"] if fits else {}
        self.indexed: str | None = state["indexed"] if fits else None

    def packages_of(self, recipe: str) -> tuple[Package, ...]:
        return tuple(Package(**row) for row in self.built.get(recipe, {}).get("packages", ()))

    def is_current(self, recipe: str, key: str) -> bool:
        """Whether the recipe was built from the same inputs, and its packages are still what they were."""
        if self.built.get(recipe, {}).get("key") != key:
            return False
        return all(_sha256(self.folder / p.subdir / p.file) == p.sha256 for p in self.packages_of(recipe))

    def publish(self, recipe: str, key: str, fetched: str, files: Sequence[Path]) -> tuple[Package, ...]:
        """Moves a recipe's packages in, and takes those out that they replace."""
        before = {(p.subdir, p.file) for p in self.packages_of(recipe)}
        packages = []
        for path in files:
            package = _describe(path)
            target = self.folder / package.subdir / package.file
            target.parent.mkdir(exist_ok=True)
            path.chmod(0o644)
            temporary = self.private / package.file
            shutil.move(path, temporary)
            publish_file(temporary, target)
            packages.append(package)
        self.built[recipe] = {"key": key, "fetched": fetched, "packages": [vars(p) for p in packages]}
        self.save()
        for subdir, file in before - {(p.subdir, p.file) for p in packages}:
            (self.folder / subdir / file).unlink(missing_ok=True)
        return tuple(packages)

    def save(self) -> None:
        temporary = self._state.with_suffix(".new")
        state = {"version": STATE_VERSION, "built": self.built, "indexed": self.indexed}
        temporary.write_text(json.dumps(state, indent=1, sort_keys=True))
        publish_file(temporary, self._state)

    def index_if_stale(self, cache: Path) -> None:
        """Indexes the channel where its packages are not those that were indexed."""
        digest = self._listing()
        places = [self.folder / subdir / "repodata.json" for subdir in ("noarch", "linux-64")]
        if digest == self.indexed and all(place.is_file() for place in places):
            return
        for subdir in ("noarch", "linux-64"):
            (self.folder / subdir).mkdir(exist_ok=True)
        index(self.folder, cache)
        self.indexed = digest
        self.save()

    def _listing(self) -> str:
        files = sorted(path for pattern in ("*/*.conda", "*/*.tar.bz2") for path in self.folder.glob(pattern))
        rows = [[str(p.relative_to(self.folder)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _describe(path: Path) -> Package:
    about = archives.index_of(path)
    digest = _sha256(path)
    assert digest is not None  # noqa: S101 - it was built just now
    return Package(
        name=about["name"],
        version=about["version"],
        build=about["build"],
        subdir=about["subdir"],
        file=path.name,
        size=path.stat().st_size,
        sha256=digest,
    )


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


@dataclass(frozen=True, kw_only=True)
class _Run:
    channel: _Channel
    cache: Path
    platform: str
    refresh: bool
    report: Report

    def build_all(self, recipes: Sequence[Recipe]) -> tuple[Built, ...]:
        keys: dict[str, str] = {}
        for recipe in recipes:
            below = sorted(keys[r.name] for r in recipes if r.name in keys and recipe.needs.intersection(r.packages))
            keys[recipe.name] = _key(recipe, self.platform, below)
        stale = [r for r in recipes if self.refresh or not self.channel.is_current(r.name, keys[r.name])]
        wanted = {recipe.name: recipe.sources for recipe in stale if recipe.sources}
        with track("fetch sources"):
            fetched = sources.fetch(wanted, self.cache, platform=self.platform, refresh=self.refresh)
        results = []
        with track("build recipes", len(recipes)) as advance, _scratch(self.cache) as scratch:
            for recipe in recipes:
                sets = fetched.get(recipe.name)
                digest = sets.digest if sets else ""
                same = self.channel.built.get(recipe.name, {}).get("fetched") == digest
                if recipe in stale and not (same and self.channel.is_current(recipe.name, keys[recipe.name])):
                    result = self._build(recipe, sets, keys[recipe.name], digest, scratch)
                else:
                    packages = self.channel.packages_of(recipe.name)
                    result = Built(recipe=recipe.name, packages=packages, seconds=None)
                results.append(result)
                self.report(result)
                advance(1)
        return tuple(results)

    def _build(self, recipe: Recipe, fetched: sources.SourceSet | None, key: str, digest: str, scratch: Path) -> Built:
        start = time.monotonic()
        if recipe.needs:
            self.channel.index_if_stale(self.cache)  # the solver of its build environment reads the index
        place = scratch / recipe.name
        place.mkdir()
        job = _Job(recipe=recipe, place=place, channel=self.channel.folder, cache=self.cache, platform=self.platform)
        if recipe.classic:
            files = job.build_classic()
        else:
            variants = job.prepare(fetched)
            files = job.build(variants)
            floor = job.needed_glibc(files)
            if floor and fetched and variants.get("glibc", floor) != floor:
                files = job.build({**variants, "glibc": floor})
            job.check(files)
        packages = self.channel.publish(recipe.name, key, digest, files)
        remove_tree(place)
        return Built(recipe=recipe.name, packages=packages, seconds=time.monotonic() - start)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One recipe on its way: its own copy with the sources beside it, in a folder of its own."""

    recipe: Recipe
    place: Path
    channel: Path
    cache: Path
    platform: str

    @property
    def log(self) -> Path:
        return self.cache / "logs" / f"{self.recipe.name}.log"

    def prepare(self, fetched: sources.SourceSet | None) -> dict[str, str]:
        """Copies the recipe, unpacks its sources; the variants that they give."""
        copy = self.place / "recipe"
        shutil.copytree(self.recipe.folder, copy)
        if fetched is None:
            return {"glibc": ".".join(os.confstr("CS_GNU_LIBC_VERSION").split()[1:])}
        root = copy / SOURCES
        _unpack(fetched, root)
        first = fetched.fetched[0]
        floor = elf.glibc_floor(file for kind in (DEBIAN, "wheel-files") for file in elf.files_in(root / kind))
        shutil.rmtree(root / "wheel-files", ignore_errors=True)
        return {
            "upstream_version": upstream_version(first.version) if first.kind != "pip" else first.version,
            "upstream_build": str(build_number(first.version) if first.kind != "pip" else 0),
            **({"glibc": _dotted(floor)} if floor else {}),
        }

    def build(self, variants: dict[str, str]) -> list[Path]:
        """Builds the recipe; its packages."""
        output = self.place / "output"
        shutil.rmtree(output, ignore_errors=True)
        own = self.place / "recipe" / VARIANTS
        request = {
            "recipe": str(self.place / "recipe" / "recipe.yaml"),
            "variants": {key: [value] for key, value in variants.items()},
            "variant_files": [str(own)] if own.is_file() else [],
            "platform": self.platform,
            "output": str(output),
            "channel": self.channel.as_uri(),
        }
        tools = self.place / "bin"
        tools.mkdir(exist_ok=True)
        _write_repack(tools / "repack")
        path = f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return [Path(p) for p in _ask("build", request, self.place, self.cache, self.log, self._failed, PATH=path)]

    def build_classic(self) -> list[Path]:
        """Builds a classic recipe by conda-build."""
        output = self.place / "output"
        command = ["conda-build", "--no-anaconda-upload", "--override-channels", "--channel", self.channel.as_uri()]
        command += ["--output-folder", str(output), str(self.recipe.folder)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise self._failed(done.returncode)
        return sorted(path for pattern in ("*/*.conda", "*/*.tar.bz2") for path in output.glob(pattern))

    def needed_glibc(self, files: Sequence[Path]) -> str | None:
        """The oldest glibc that the packages' programs run on."""
        floor = elf.glibc_floor(file for path in files for file in archives.programs_in(path))
        return _dotted(floor) if floor else None

    def check(self, files: Sequence[Path]) -> None:
        """Packages with programs in them must say which glibc these need, or they are installed where they cannot run."""
        for path in files:
            floor = elf.glibc_floor(archives.programs_in(path))
            said = [d.split(">=")[1] for d in archives.index_of(path).get("depends", ()) if d.startswith("__glibc >=")]
            if floor and max((_numbers(version) for version in said), default=()) < floor:
                raise PackError(
                    f"recipe {self.recipe.name}",
                    f"the programs in {path.name} need glibc {_dotted(floor)}, and the package does not say so",
                    'Add "__glibc >=${{ glibc }}" to its run requirements.',
                    recipe=self.recipe.name,
                    glibc=_dotted(floor),
                )

    def _failed(self, status: int) -> PackError:
        lines = _tail(self.log)
        cause = "the build failed" if status > 0 else f"the build was ended by signal {-status}"
        return PackError(
            f"recipe {self.recipe.name}",
            "\n".join([f"{cause}; the last lines of its log:", *(f"  {line}" for line in lines)]),
            f"Correct {self.recipe.file}; the whole log is {self.log}.",
            recipe=self.recipe.name,
            log=str(self.log),
        )


def index(channel: Path, cache: Path) -> None:
    """Indexes a channel's folder. Errors: PackError."""
    log = cache / "logs" / "index.log"

    def failed(_status: int) -> PackError:
        cause = "\n".join(["it cannot be indexed:", *_tail(log)])
        return PackError(str(channel), cause, f"The whole log is {log}.", log=str(log))

    with tempfile.TemporaryDirectory(dir=cache, prefix="index-") as place:
        _ask("index", {"channel": str(channel)}, Path(place), cache, log, failed)


def _ask(
    verb: str,
    request: dict[str, Any],
    place: Path,
    cache: Path,
    log: Path,
    failed: Callable[[int], Exception],
    **environment: str,
) -> list[str]:
    """Has a worker process answer a request; raises what `failed` makes of its exit status."""
    answer = place / "answer.json"
    answer.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "boxsnake.channel.worker"],
            input=json.dumps({"verb": verb, "answer": str(answer), **request}).encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "RATTLER_CACHE_DIR": str(cache / "rattler"), **environment},
            check=False,
        )
    if done.returncode or not answer.is_file():
        raise failed(done.returncode)
    paths: list[str] = json.loads(answer.read_text())
    return paths


def _write_repack(path: Path) -> None:
    """The command `repack` for scripts, which find no Python of ours in their environment."""
    root = Path(__file__).resolve().parents[2]
    call = "import sys; from boxsnake.channel.repack import main; main(sys.argv[1:])"
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH="{root}" PYTHONDONTWRITEBYTECODE=1 exec "{sys.executable}" -c "{call}" "$@"\n'
    )
    path.chmod(0o755)


def _unpack(fetched: sources.SourceSet, root: Path) -> None:
    """Lays the sources out as `repack` wants them: Debian packages unpacked, archives and wheels whole."""
    for each in fetched.fetched:
        path = fetched.path(each)
        if each.kind == "debian":
            target = root / DEBIAN / each.name
            target.mkdir(parents=True)
            subprocess.run(["dpkg-deb", "--extract", path, target], check=True)
        else:
            target = root / (WHEELS if each.kind == "pip" else DEBIAN_SOURCE)
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / each.file)
        if each.kind == "pip":
            archives.extract_programs(path, root / "wheel-files" / each.name)


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    cache.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=cache, prefix="build-"))
    try:
        yield place
    finally:
        remove_tree(place)


def _key(recipe: Recipe, platform: str, below: list[str]) -> str:
    """The digest of all that decides what a recipe makes: its folder, our own code, the builder's version."""
    digest = hashlib.sha256(json.dumps([STATE_VERSION, platform, _tool(), below]).encode())
    for path in sorted(recipe.folder.rglob("*")):
        if path.is_file():
            digest.update(json.dumps([str(path.relative_to(recipe.folder)), path.stat().st_mode & 0o111]).encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@once
def _tool() -> str:
    from importlib.metadata import version

    digest = hashlib.sha256(version("py-rattler-build").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _tail(log: Path) -> list[str]:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rstrip() for line in lines if line.strip()][-LOG_LINES:]


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def listing(channel: Path) -> tuple[Package, ...]:
    """The packages of a channel's index, by name. Errors: ResourceError where the folder is no channel."""
    found = []
    indexes = sorted(channel.glob("*/repodata.json"))
    if not indexes:
        raise ResourceError(
            str(channel), "there is no repodata.json in its subfolders", "Build it: `boxsnake channel build`."
        )
    for path in indexes:
        document = json.loads(path.read_text())
        for kind in ("packages", "packages.conda"):
            for file, row in document.get(kind, {}).items():
                package = Package(
                    name=row["name"], version=row["version"], build=row["build"], subdir=path.parent.name,
                    file=file, size=row.get("size", 0), sha256=row.get("sha256", ""),
                )  # fmt: skip
                found.append(package)
    return tuple(sorted(found, key=lambda p: (p.name, p.version, p.build, p.subdir)))
