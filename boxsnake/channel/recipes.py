"""Recipes: folders with a recipe.yaml (the v1 recipe format, CEPs 13 and 14), as far as a channel has to know them.

What a package holds is rattler-build's to read. Here: the names, what a recipe needs of its neighbours before it can be
built, and which sources it declares under the free-form key `extra.boxsnake`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from boxsnake.errors import Fault, ManifestError, PackError, UsageError
from boxsnake.value import dataclass

RECIPE, CLASSIC, VARIANTS = "recipe.yaml", "meta.yaml", "variants.yaml"
KEYS = ("optional", "sources")
SOURCE_KEYS = ("suite", "debian", "debian-source", "pip", "python")


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is fetched before a recipe is built, by apt's and pip's own clients."""

    suite: str = ""
    """Debian's suite, such as `bookworm`."""
    debian: tuple[str, ...] = ()
    """Names of binary packages, which are unpacked."""
    debian_source: str | None = None
    """Name of a source package: its pristine archive (.orig)."""
    pip: tuple[str, ...] = ()
    """Requirements as in a requirements file, hashes included; wheels alone."""
    python: str = "3.11"
    """The Python version that wheels are for."""

    def __bool__(self) -> bool:
        return bool(self.debian or self.debian_source or self.pip)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One folder of recipes. `name` is the folder's, `packages` those that it makes."""

    name: str
    folder: Path
    packages: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    """Packages of its build and host environments."""
    sources: Sources = Sources()
    optional: str = ""
    """The name under which it is asked for, if it is not built unasked; several recipes may share one."""
    classic: bool = False

    @property
    def file(self) -> Path:
        """The recipe itself."""
        return self.folder / (CLASSIC if self.classic else RECIPE)


def read_folders(folders: Sequence[Path]) -> tuple[Recipe, ...]:
    """All recipes below the folders, by name; a folder may be a recipe itself. Errors: UsageError, ManifestError."""
    recipes: dict[str, Recipe] = {}
    for folder in folders:
        found = list(_recipe_folders(folder))
        if not found:
            raise UsageError(
                str(folder),
                "there is no recipe in this folder",
                f"Name a folder with a {RECIPE}, or one that holds such folders.",
            )
        for place in found:
            recipe = read(place)
            if recipe.name in recipes:
                raise UsageError(
                    str(place),
                    f"{recipes[recipe.name].folder} has this name too",
                    "Give recipes' folders unique names.",
                )
            recipes[recipe.name] = recipe
    return tuple(recipes[name] for name in sorted(recipes))


def _recipe_folders(folder: Path) -> Iterator[Path]:
    def is_recipe(place: Path) -> bool:
        return any((place / name).is_file() for name in (RECIPE, CLASSIC))

    if is_recipe(folder):
        yield folder.resolve()
    elif folder.is_dir():
        yield from sorted(place.resolve() for place in folder.iterdir() if is_recipe(place))


def read(folder: Path) -> Recipe:
    """One recipe. Errors: ManifestError for a file that is not a recipe, or that declares sources wrongly."""
    if not (folder / RECIPE).is_file():
        return Recipe(name=folder.name, folder=folder, packages=(folder.name,), classic=True)
    document = _document(folder / RECIPE)
    context = {str(key): str(value) for key, value in (document.get("context") or {}).items()}
    own = (document.get("extra") or {}).get("boxsnake") or {}
    faults = tuple(_faults_of(own))
    if faults:
        raise ManifestError(str(folder / RECIPE), faults)
    outputs = [document, *_mappings(document.get("outputs"))]
    environments = [(output.get("requirements") or {}).get(key) for output in outputs for key in ("build", "host")]
    return Recipe(
        name=folder.name,
        folder=folder,
        packages=tuple(dict.fromkeys(_packages(outputs, context))) or (folder.name,),
        needs=frozenset(name for part in environments for name in _names(part, context)),
        sources=_sources(own.get("sources") or {}, context),
        optional=own.get("optional", ""),
    )


def _document(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        message = str(getattr(error, "problem", None) or error)
        fault = Fault(source=RECIPE, line=mark.line + 1 if mark else 0, key="", message=message)
        raise ManifestError(str(path), (fault,)) from None
    if not isinstance(document, dict):
        fault = Fault(source=RECIPE, line=1, key="", message="a recipe is a mapping with `package` or `outputs`")
        raise ManifestError(str(path), (fault,))
    return document


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _packages(outputs: Iterable[Mapping[str, Any]], context: Mapping[str, str]) -> Iterator[str]:
    for output in outputs:
        package = output.get("package")
        if isinstance(package, dict) and "name" in package:
            yield expand(str(package["name"]), context)


def _names(value: object, context: Mapping[str, str]) -> Iterator[str]:
    """Package names of a list of requirements, with both branches of its conditions."""
    if isinstance(value, str):
        name = re.match(r"[A-Za-z0-9_.-]+", expand(value, context))
        if name:
            yield name[0].lower()
    elif isinstance(value, list):
        for item in value:
            yield from _names(item, context)
    elif isinstance(value, dict):
        for branch in ("then", "else"):
            yield from _names(value.get(branch), context)


def expand(text: str, context: Mapping[str, str]) -> str:
    """The text with plain `${{ name }}` of the recipe's context filled in; other expressions are left alone."""
    for _ in context:  # values may refer to one another
        text = re.sub(r"\$\{\{\s*(\w+)\s*\}\}", lambda match: context.get(match[1], match[0]), text)
    return text


def _faults_of(own: object) -> Iterator[Fault]:
    """What is wrong with `extra.boxsnake`."""
    place = "extra.boxsnake"
    if not isinstance(own, dict):
        yield _fault(place, "must be a mapping")
        return
    yield from _unknown(own, KEYS, place)
    if not isinstance(own.get("optional", ""), str):
        yield _fault(f"{place}.optional", "must be a text: the name under which `--with` asks for it")
    yield from _source_faults(own.get("sources") or {}, f"{place}.sources")


def _source_faults(sources: object, place: str) -> Iterator[Fault]:
    if not isinstance(sources, dict):
        yield _fault(place, "must be a mapping")
        return
    yield from _unknown(sources, SOURCE_KEYS, place)
    if "suite" not in sources and sources.keys() & {"debian", "debian-source"}:
        yield _fault(f"{place}.suite", "is needed with Debian's packages")
    for key in sources.keys() & {"debian", "pip"}:
        if not isinstance(sources[key], list) or not all(isinstance(item, str) for item in sources[key]):
            yield _fault(f"{place}.{key}", "must be a list of texts")
    for key in sources.keys() & {"suite", "debian-source", "python"}:
        if not isinstance(sources[key], str):
            yield _fault(f"{place}.{key}", 'must be a text (in quotes: "3.11")')


def _unknown(given: Mapping[object, object], known: Sequence[str], place: str) -> Iterator[Fault]:
    for key in given.keys() - set(known):
        yield _fault(f"{place}.{key}", f"unknown key; there are {', '.join(known)}")


def _fault(key: str, message: str) -> Fault:
    return Fault(source=RECIPE, line=0, key=key, message=message)


def _sources(given: Mapping[str, Any], context: Mapping[str, str]) -> Sources:
    def texts(key: str) -> tuple[str, ...]:
        return tuple(expand(item, context) for item in given.get(key, ()))

    def text(key: str) -> str | None:
        return expand(given[key], context) if key in given else None

    return Sources(
        suite=text("suite") or "",
        debian=texts("debian"),
        debian_source=text("debian-source"),
        pip=texts("pip"),
        python=text("python") or Sources.python,
    )


def select(recipes: Sequence[Recipe], *, only: Sequence[str] = (), optional: Sequence[str] = ()) -> tuple[Recipe, ...]:
    """The recipes that are to be built: all but the optional ones, or `only` those of these names and what they need.

    A name is a folder's or a package's. `optional` adds the optional recipes of these names. Errors: UsageError for a
    name that no recipe has.
    """
    _refuse_unknown(only, {name for recipe in recipes for name in (recipe.name, *recipe.packages)})
    _refuse_unknown(optional, {recipe.optional for recipe in recipes if recipe.optional})
    usual = [recipe for recipe in recipes if not recipe.optional or recipe.optional in optional]
    if not only:
        return tuple(usual)
    chosen = {recipe.name for recipe in recipes if recipe.name in only}
    chosen |= {recipe.name for recipe in usual if not set(only).isdisjoint(recipe.packages)}
    waiting = [recipe for recipe in recipes if recipe.name in chosen]
    while waiting:
        needs = waiting.pop().needs
        further = [recipe for recipe in usual if recipe.name not in chosen and not needs.isdisjoint(recipe.packages)]
        chosen |= {recipe.name for recipe in further}
        waiting += further
    return tuple(recipe for recipe in recipes if recipe.name in chosen)


def _refuse_unknown(names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            listing = ", ".join(sorted(known)) or "none"
            raise UsageError(name, "no recipe has this name", f"There are: {listing}.", known=sorted(known))


def ordered(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The recipes, each behind those whose packages its build needs. Errors: PackError for a circle."""
    by_name = {recipe.name: recipe for recipe in recipes}
    graph = {
        recipe.name: {
            other.name for other in recipes if other is not recipe and recipe.needs.intersection(other.packages)
        }
        for recipe in recipes
    }
    try:
        return tuple(by_name[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise PackError(
            circle, "these recipes need each other to be built", "Take one of them out of another's build and host."
        ) from None
