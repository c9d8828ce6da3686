"""A wheel after an edit of modules: the last one that its backend has made, with their new text in it.

Most backends copy modules as they are, and take neither names nor metadata from what is in them unless they are told
to. Whoever edits a line would wait for the backend longer than for all that is done with its wheel. So the wheel that
it has made is remembered with the digests of the modules that it was made of. It is the same one again, but for the
text of modules, as long as

- the backend is one of those below, requires nothing further, and its part of pyproject.toml says no more than which
  files are taken: no hooks, no version or description out of the source;
- all other files, and the names and modes of all, are as they were;
- a changed module lies in the wheel once, as it was, under the same name; no other file was the same; and
  pyproject.toml does not name it.

Where this does not hold, the backend is asked.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boxsnake.disk import disk_faults
from boxsnake.errors import IntegrityError
from boxsnake.names import normal
from boxsnake.pattern import pattern
from boxsnake.project.source_tree import SourceFile, SourceTree, digest_of
from boxsnake.project.wheel_archive import exchange, members_by_hash
from boxsnake.value import dataclass

if TYPE_CHECKING:
    from boxsnake.store import Store

_FORMAT = 1
_KIND = "edited-wheel"
_MODULE = ".py"
_PROJECT_FILE = "pyproject.toml"
_NAME = pattern(r"\s*([A-Za-z0-9._-]+)\s*(?:\[\s*\]\s*)?(?:[<>=!~].*)?")
# What says which files are taken, and nothing of what is in them.
_CHOICE = frozenset({"artifacts", "exclude", "ignore-vcs", "include", "only-include", "packages", "sources"})
_OTHER_FILES_OF_HATCH = frozenset({"hatch.toml", "hatch_build.py"})


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """A project's folder: where in the tree it is, and its pyproject.toml."""

    tree: SourceTree
    below: str
    text: str


def remember(store: Store, tree: SourceTree, below: str | None, python: str, built: Mapping[str, Any]) -> None:
    """Keep what a backend has made of a tree, if edits of its modules can be put into it.

    `below` is the project's folder in the tree, `python` what tells the interpreter of the build, and `built` what is
    known of the wheel, as JSON values; its digest is `sha256`.
    """
    sources = _plain(tree, below)
    if sources is not None:
        store.select(_KIND, _key(sources, python), {"built": dict(built), "modules": _modules(tree)})


def edited(store: Store, tree: SourceTree, below: str | None, python: str, out: Path) -> Mapping[str, Any] | None:
    """Write the wheel of an edited tree into the folder: what was known of the one it was before; None without one."""
    sources = _plain(tree, below)
    known = store.selected(_KIND, _key(sources, python)) if sources else None
    wheel = store.sound(f"sha256:{known['built']['sha256']}") if known else None
    if sources is None or known is None or wheel is None:
        return None
    with suppress(IntegrityError):
        exchanged = _exchanged(sources, known["modules"], wheel)
        if exchanged is not None:
            exchange(wheel, out / known["built"]["file_name"], exchanged)
            return dict(known["built"])
    return None


def _key(sources: _Sources, python: str) -> dict[str, object]:
    """All that the wheel depends on but the text of modules."""
    tree = sources.tree
    contents = ["" if _is_module(file) else content for file, content in zip(tree.files, tree.contents, strict=True)]
    return {"format": _FORMAT, "python": python, "below": sources.below, "tree": digest_of(tree.files, contents)}


def _modules(tree: SourceTree) -> dict[str, str]:
    return {file.path: content for file, content in zip(tree.files, tree.contents, strict=True) if _is_module(file)}


def _is_module(file: SourceFile) -> bool:
    return file.link is None and file.path.endswith(_MODULE)


def _exchanged(sources: _Sources, before: Mapping[str, str], wheel: Path) -> dict[str, bytes] | None:
    """The members of the wheel that were edited, with what they are now; None where that cannot be told."""
    tree, now = sources.tree, _modules(sources.tree)
    others = [content for file, content in zip(tree.files, tree.contents, strict=True) if not _is_module(file)]
    twice = Counter([*before.values(), *others])
    members = members_by_hash(wheel)
    found: dict[str, bytes] = {}
    for path in (path for path, content in now.items() if content != before.get(path)):
        name = path.rpartition("/")[2]
        places = members.get(before.get(path, "").removeprefix("sha256:"), [])
        if name in sources.text or twice[before.get(path, "")] != 1:
            return None
        if len(places) != 1 or places[0].rpartition("/")[2] != name:
            return None
        with disk_faults(tree.folder):
            content = (tree.folder / path).read_bytes()
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != now[path]:
            return None  # edited once more since
        found[places[0]] = content
    return found


def _plain(tree: SourceTree, below: str | None) -> _Sources | None:
    """The project, where its backend does nothing but copy modules."""
    inside = f"{below}/" if below else ""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        text = (tree.folder / inside / _PROJECT_FILE).read_text("utf-8")
        document: dict[str, Any] = tomllib.loads(text)
        names = {file.path.removeprefix(inside) for file in tree.files}
        if _is_plain(document) and not names & _OTHER_FILES_OF_HATCH:
            return _Sources(tree=tree, below=below or "", text=text)
    return None


def _is_plain(document: Mapping[str, Any]) -> bool:
    system, project = document["build-system"], document["project"]
    (required,) = system["requires"]
    name = _NAME.fullmatch(required)
    tool, is_plain = _BACKENDS[system["build-backend"]]
    if name is None or normal(name[1]) != tool or set(system) - {"requires", "build-backend"}:
        return False
    return not project.get("dynamic") and "version" in project and is_plain(document.get("tool", {}))


def _is_plain_hatch(tool: Mapping[str, Any]) -> bool:
    table = tool.get("hatch", {})
    build = table.get("build", {})
    # What is said of other artifacts and of working environments is no matter of the wheel's.
    wheel = build.get("targets", {}).get("wheel", {})
    return (
        not set(table) - {"build", "envs", "metadata"}
        and not set(table.get("metadata", {})) - {"allow-direct-references", "allow-ambiguous-features"}
        and not set(build) - _CHOICE - {"targets"}
        and not set(wheel) - _CHOICE
    )


def _is_plain_flit(tool: Mapping[str, Any]) -> bool:
    table = tool.get("flit", {})
    return not set(table) - {"module", "sdist"} and not set(table.get("module", {})) - {"name"}


# By their names in pyproject.toml: the distribution that brings each, and whether a project asks it for no more.
_BACKENDS = {
    "hatchling.build": ("hatchling", _is_plain_hatch),
    "flit_core.buildapi": ("flit-core", _is_plain_flit),
}
