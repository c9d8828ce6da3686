"""Building recipes into a channel: those that changed since they were built, each in a process of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache as once
from importlib.metadata import version
from pathlib import Path

from boxsnake.boxes import epoch
from boxsnake.channel import sources
from boxsnake.channel.finish import finish
from boxsnake.channel.folder import ChannelFolder, Package
from boxsnake.channel.job import Job
from boxsnake.channel.recipes import Recipe, ordered, read_folders, select
from boxsnake.disk import remove_tree
from boxsnake.errors import BoxsnakeError, ResourceError
from boxsnake.flock import held
from boxsnake.progress import track
from boxsnake.value import dataclass

WAIT = 600.0  # seconds that another build of the same channel may take
CONVERSION = (
    "Convert it to the v1 format (`conda-recipe-manager convert meta.yaml > recipe.yaml`; conda-forge has that tool), "
    "or install conda-build."
)


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of one recipe: its packages, and the seconds that they took; None where there was nothing to do."""

    recipe: str
    packages: tuple[Package, ...]
    seconds: float | None


def build(
    folders: Sequence[Path],
    output: Path,
    *,
    cache: Path,
    only: Sequence[str] = (),
    optional: Sequence[str] = (),
    platform: str,
    refresh: bool = False,
    report: Callable[[Built], None] = lambda _: None,
) -> tuple[Built, ...]:
    """Build the recipes below `folders` into the channel `output`, as far as they changed since they were built last.

    `cache` keeps what was fetched, and logs. `only` and `optional` are as in `recipes.select`; `refresh` asks apt and
    pip for newer sources. `report` is told of each recipe as soon as its packages are in the channel.

    Errors: UsageError, ManifestError for a recipe that cannot be read, NetworkError, IntegrityError, ResourceError (no
    apt, no conda-build), PackError naming the recipe, the last lines of its log and where the whole log is.
    """
    recipes = read_folders(folders)
    chosen = ordered(select(recipes, only=only, optional=optional))
    _refuse_classic(chosen)
    folder, cache = output.absolute(), cache.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    with held(folder / ".lock", wait=WAIT):
        channel = ChannelFolder(folder, platform=platform)
        run = _Run(channel=channel, cache=cache, platform=platform, refresh=refresh)
        try:
            results = run.build_all(chosen, report)
        except BaseException:
            with suppress(BoxsnakeError):  # the first error is the one to show
                channel.close(cache)  # the recipes before it are there to be used
            raise
        channel.forget_removed({recipe.name for recipe in recipes})
        channel.close(cache)
        return results


def _refuse_classic(recipes: Sequence[Recipe]) -> None:
    classic = [recipe for recipe in recipes if recipe.classic]
    if classic and shutil.which("conda-build") is None:
        cause = "this is conda-build's classic format, and conda-build is not installed"
        raise ResourceError(str(classic[0].file), cause, CONVERSION, recipes=[recipe.name for recipe in classic])


@dataclass(frozen=True, kw_only=True)
class _Run:
    channel: ChannelFolder
    cache: Path
    platform: str
    refresh: bool

    def build_all(self, recipes: Sequence[Recipe], report: Callable[[Built], None]) -> tuple[Built, ...]:
        digests = _digests(recipes, self.platform)
        stale = {
            recipe.name for recipe in recipes if self.refresh or not self._is_current(recipe, digests[recipe.name])
        }
        wanted = {recipe.name: recipe.sources for recipe in recipes if recipe.name in stale and recipe.sources}
        with track("fetch sources"):
            fetched = sources.fetch(wanted, self.cache, platform=self.platform, refresh=self.refresh)
        results = []
        with track("build recipes", len(recipes)) as advance:
            for recipe in recipes:
                given = fetched.get(recipe.name)
                result = self._unchanged(recipe, digests[recipe.name], given if recipe.name in stale else None)
                result = result or self._build(recipe, digests[recipe.name], given)
                results.append(result)
                report(result)
                advance(1)
        return tuple(results)

    def _is_current(self, recipe: Recipe, digest: str) -> bool:
        record = self.channel.record(recipe.name)
        return record is not None and record.recipe == digest

    def _unchanged(self, recipe: Recipe, digest: str, fetched: sources.SourceSet | None) -> Built | None:
        """The result where neither the recipe nor its sources (if they were fetched now) differ from what was built."""
        record = self.channel.record(recipe.name)
        if record is None or record.recipe != digest or (fetched and fetched.digest != record.sources):
            return None
        return Built(recipe=recipe.name, packages=record.packages, seconds=None)

    def _build(self, recipe: Recipe, digest: str, fetched: sources.SourceSet | None) -> Built:
        start = time.monotonic()
        if recipe.needs:
            self.channel.index(self.cache)  # the solver of its build environment reads the index
        place = self.channel.scratch / recipe.name
        place.mkdir()
        job = Job(recipe=recipe, place=place, channel=self.channel.folder, cache=self.cache, platform=self.platform)
        parts = [self._finished(package) for package in job.build(fetched)]
        record = self.channel.publish(
            recipe.name, folder=recipe.folder, recipe=digest, sources=fetched.digest if fetched else "", parts=parts
        )
        remove_tree(place)
        return Built(recipe=recipe.name, packages=record.packages, seconds=time.monotonic() - start)

    def _finished(self, package: Path) -> Path:
        part = self.channel.part(package.name)
        if package.suffix == ".conda":
            finish(package, part, epoch=epoch())
        else:
            shutil.copyfile(package, part)
        return part


def _digests(recipes: Sequence[Recipe], platform: str) -> dict[str, str]:
    """For each recipe the digest of all that decides what it makes, its sources apart; recipes are in build order."""
    digests: dict[str, str] = {}
    for recipe in recipes:
        below = [digests[other.name] for other in recipes if other.name in digests and recipe.needs & {*other.packages}]
        whole = hashlib.sha256(json.dumps([platform, epoch(), _tools(), below]).encode())
        for path in sorted(recipe.folder.rglob("*")):
            if path.is_file():
                row = [str(path.relative_to(recipe.folder)), path.stat().st_mode & 0o111]
                whole.update(json.dumps(row).encode())
                whole.update(hashlib.sha256(path.read_bytes()).digest())
        digests[recipe.name] = whole.hexdigest()
    return digests


@once
def _tools() -> str:
    """What recipes are built with: rattler-build, and this package's own code."""
    whole = hashlib.sha256(version("py-rattler-build").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()
