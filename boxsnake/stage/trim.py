"""Trimming: files that packages bring and no running program needs, taken out of a tree by rules that are asked for.

A rule looks at one package at a time, so that what a layer holds depends on its own packages alone. The application
itself is left as it is.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from boxsnake.entries import APPLICATION
from boxsnake.errors import PackError
from boxsnake.layers.plan import TrimRule
from boxsnake.stage.owners import Owners, shown
from boxsnake.value import dataclass

_HEADER = re.compile(r"include/.*|.*\.(h|hh|hpp|hxx|pxd)")
_STATIC = re.compile(r".*\.(a|la)")
_DOCUMENT = re.compile(r"(share/)?(doc|man|info|gtk-doc)/.*")
_BUILD_FILE = re.compile(r"(lib|share)/(pkgconfig|cmake|aclocal)/.*")
_LICENCE = re.compile(r"(copyright|copying|licen[cs]e|notice|authors)", re.IGNORECASE)
# Folders with tests: of packages by the one name that nobody gives to anything else, of Python's own library by all.
_TESTS = re.compile(r"(.*/)?tests")
_LIBRARY_TESTS = re.compile(r"(.*/)?(test|tests|idle_test)")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_MENTION = re.compile(rb"\b(?:tests?|idle_test)\b")


@dataclass(frozen=True, kw_only=True)
class Trimmed:
    """What a rule has taken of one owner, in bytes before compression."""

    owner: str
    rule: TrimRule
    size: int


def trim(
    root: Path, owners: Owners, rules: Sequence[TrimRule], *, site_packages: str, keep: Sequence[str]
) -> tuple[Trimmed, ...]:
    """Remove from the tree what the rules name. Paths below the folders and files in `keep` stay.

    A folder with tests stays where code of the same package that is no test imports it or has its name in a text.
    Errors: PackError where code of another package does.
    """
    found: dict[str, TrimRule] = {}
    for rule in rules:
        paths = _tests(root, owners, site_packages, keep) if rule == "tests" else _by_name(owners, rule)
        found |= {path: rule for path in paths if not _is_kept(path, keep)}
    saved: dict[tuple[str, TrimRule], int] = {}
    for path, rule in found.items():
        place = root / path
        size = place.lstat().st_size
        for owner in owners.of(path):
            saved[owner, rule] = saved.get((owner, rule), 0) + size
        place.unlink()
        owners.leave_out(path)
    return tuple(Trimmed(owner=owner, rule=rule, size=size) for (owner, rule), size in sorted(saved.items()))


def _is_kept(path: str, keep: Iterable[str]) -> bool:
    return any(path == place or path.endswith(f"/{place}") or f"/{place}/" in f"/{path}" for place in keep)


def _by_name(owners: Owners, rule: TrimRule) -> Iterator[str]:
    pattern = {"headers": _HEADER, "static-libraries": _STATIC, "docs": _DOCUMENT, "build-files": _BUILD_FILE}[rule]
    for path in [*owners]:
        name = posixpath.basename(path)
        # Python looks into this header when it is asked how it was built.
        stays = name == "pyconfig.h" or (rule == "docs" and _LICENCE.match(name))
        if pattern.fullmatch(path) and not stays and APPLICATION not in owners.of(path):
            yield path


# Tests


def _tests(root: Path, owners: Owners, site_packages: str, keep: Sequence[str]) -> Iterator[str]:
    """The files below folders with tests that nothing else imports."""
    library = posixpath.dirname(site_packages)
    folders: dict[str, str] = {}
    files: dict[str, list[str]] = {}
    for path in sorted(owners):
        folder = _test_folder(path, library, site_packages)
        if folder is not None and APPLICATION not in owners.of(path) and not _is_kept(path, keep):
            folders.setdefault(folder, owners.of(path)[0])
            files.setdefault(folder, []).append(path)
    names = {_module(folder, library, site_packages): folder for folder in folders}
    used = _users(root, owners, {path for paths in files.values() for path in paths}, library, site_packages, names)
    for folder, paths in files.items():
        mine = {owner for path in paths for owner in owners.of(path)}
        users = used.get(folder, {})
        if strangers := users.keys() - mine:
            stranger = min(strangers)
            cause = f"{shown(folders[folder])} brings it as tests, and {shown(stranger)} uses it ({users[stranger]})"
            step = f'Name it in `trim-keep`: "{posixpath.relpath(folder, site_packages)}".'
            raise PackError(folder, cause, step, path=folder, owners=[folders[folder], stranger])
        if not users:
            yield from paths


def _test_folder(path: str, library: str, site_packages: str) -> str | None:
    """The outermost folder with tests that a path lies in."""
    if path.startswith(f"{site_packages}/"):
        start, pattern = f"{site_packages}/", _TESTS
    elif path.startswith(f"{library}/"):
        start, pattern = f"{library}/", _LIBRARY_TESTS
    else:
        return None
    parts = path.removeprefix(start).split("/")[:-1]
    for count in range(1, len(parts) + 1):
        folder = "/".join(parts[:count])
        if pattern.fullmatch(folder):
            return f"{start}{folder}"
    return None


def _module(path: str, library: str, site_packages: str) -> str:
    start = site_packages if path.startswith(f"{site_packages}/") else library
    return path.removeprefix(f"{start}/").replace("/", ".")


def _users(
    root: Path,
    owners: Owners,
    tests: set[str],
    library: str,
    site_packages: str,
    names: Mapping[str, str],
) -> dict[str, dict[str, str]]:
    """The owners of code that imports a folder with tests or has its name in a text, each with one such file."""
    used: dict[str, dict[str, str]] = {}
    for path in owners:
        is_code = path.endswith(".py") and path.startswith(f"{library}/")
        if path in tests or not (is_code or path.endswith(".dist-info/entry_points.txt")):
            continue
        content = (root / path).read_bytes()
        if not _MENTION.search(content):
            continue
        said = _imported(content, _module(path, library, site_packages)) if is_code else _words(content)
        for name in said & names.keys():
            for owner in owners.of(path):
                used.setdefault(names[name], {}).setdefault(owner, path)
    return used


def _imported(source: bytes, module: str) -> set[str]:
    """Every module that code may import, and each package above it; whole texts that are dotted names as well."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _words(source)
    package = module.removesuffix(".py").rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            found.update((start, *(f"{start}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
            found.add(node.value)
    return _with_parents(found)


def _words(text: bytes) -> set[str]:
    return _with_parents(word.decode() for word in re.findall(rb"[A-Za-z_][\w.]*", text))


def _with_parents(names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        found.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return found
