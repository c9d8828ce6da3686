"""What two boxes differ in, also where they are of different formats. Values only.

Files compare by what they are in an environment: those of distributions by their path below site-packages, wherever
that is (a wheel within a box is one), others by their path below the prefix. Between formats, only what both can have
is compared: distributions' files, and the rest of the environment where conda made both. What holds the path of its own
environment is left out where the two lie at different ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from boxsnake.inspection.value import File, Inspection, Package
from boxsnake.names import normal
from boxsnake.value import dataclass

_SITE = re.compile(r"(?:^|/)(?:site-packages|dist-packages|[^/]+\.whl)/(?P<rest>.+)$")
_DATA = re.compile(r"^[^/]+\.data/(?:purelib|platlib)/")
_OTHER_DATA = re.compile(r"^[^/]+\.data/")
_INFO = re.compile(r"^(?P<name>.+?)-[^/-]+\.(?P<kind>dist-info|egg-info)(?=/|$)")
# What whoever installs writes: between formats, it says nothing of the contents.
_INSTALLERS = re.compile(
    r"\.pyc$|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json)$|(^|/)(conda-meta/|site-packages/README\.txt$)"
)


@dataclass(frozen=True, kw_only=True)
class PackageChange:
    """A package of one kind: `before` is None where only the second box has it, `after` where only the first has."""

    kind: str
    name: str
    before: Package | None
    after: Package | None


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file by the path under which both compare."""

    path: str
    before: File | None
    after: File | None

    @property
    def growth(self) -> int:
        """In bytes."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """From the first box to the second. `compared` is how many files were held against each other, by path."""

    facts: tuple[tuple[str, str, str], ...]
    """(what, before, after), only where they differ: "format", "version", "python", "base", …"""
    packages: tuple[PackageChange, ...]
    files: tuple[FileChange, ...]
    compared: int
    alone: tuple[tuple[str, str, int], ...] = ()
    """Kinds of packages that the other format has none of, and which do not count: (kind, artifact, how many)."""

    def __bool__(self) -> bool:
        return bool(self.packages or self.files or [one for one in self.facts if one[0] in _COUNTED])


_FACTS = ("format", "name", "version", "platform", "python", "base", "starts")
# Two formats may say these in their own ways, and the artifacts' names and formats are no difference of contents.
_COUNTED = {"name", "python"}


def difference(before: Inspection, after: Inspection) -> Difference:
    """Both must have been inspected with digests, or files compare by size alone."""
    files_before, files_after = _comparable(before, after), _comparable(after, before)
    if "lock" in {before.format, after.format}:
        files_before = files_after = {}
    alone = tuple(_alone(before, after)) if before.format != after.format else ()
    changed = tuple(
        FileChange(path=path, before=files_before.get(path), after=files_after.get(path))
        for path in sorted(files_before.keys() | files_after.keys())
        if files_before.get(path) != files_after.get(path)
    )
    return Difference(
        facts=tuple(_facts(before, after)),
        packages=tuple(_packages(before, after, without={kind for kind, _, _ in alone})),
        files=changed,
        compared=len(files_before.keys() | files_after.keys()),
        alone=alone,
    )


def _facts(before: Inspection, after: Inspection) -> list[tuple[str, str, str]]:
    rows = [(what, _text(before, what), _text(after, what)) for what in _FACTS]
    return [row for row in rows if row[1] != row[2] and not _is_same(row, before.format == after.format)]


def _is_same(row: tuple[str, str, str], same_format: bool) -> bool:
    """Whether two formats only say the same in words of their own ("1.0-1" and "1.0"), or one does not say it."""
    what, one, other = row
    if same_format or what == "format":
        return False
    if what == "name":
        return normal(one) == normal(other) or not (one and other)
    if what == "python":
        shorter, longer = sorted((one, other), key=len)
        return not shorter or longer.startswith(f"{shorter}.")
    return not (one and other)


def _text(box: Inspection, what: str) -> str:
    value = getattr(box, what)
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _alone(before: Inspection, after: Inspection) -> Iterator[tuple[str, str, int]]:
    for box, other in ((before, after), (after, before)):
        counts = Counter(one.kind for one in box.packages if one.kind != "python")
        kinds = {one.kind for one in other.packages}
        yield from ((kind, box.artifact, count) for kind, count in sorted(counts.items()) if kind not in kinds)


def _packages(before: Inspection, after: Inspection, *, without: Collection[str]) -> list[PackageChange]:
    # A lock does not have the application itself, which is none of its requirements.
    own = (
        {normal(one.name) for one in (before, after) if one.name} if "lock" in {before.format, after.format} else set()
    )
    old, new = (
        {
            (one.kind, one.name): one
            for one in box.packages
            if one.kind not in without and not (one.kind == "python" and one.name in own)
        }
        for box in (before, after)
    )
    return [
        PackageChange(kind=key[0], name=key[1], before=old.get(key), after=new.get(key))
        for key in sorted(old.keys() | new.keys())
        if _version(old.get(key)) != _version(new.get(key))
    ]


def _version(package: Package | None) -> str | None:
    return package.version if package else None


def _comparable(box: Inspection, other: Inspection) -> Mapping[str, File]:
    """The box's files by the paths under which they compare with the other's."""
    same_format = box.format == other.format
    whole = all(any(one.kind == "conda" for one in found.packages) for found in (box, other))
    start = f"{box.prefix}/" if box.prefix else ""
    moved = frozenset() if box.prefix == other.prefix else _placed(box) | _placed(other)
    found: dict[str, File] = {}
    for path, file in box.files.items():
        place = _place(path, start, box)
        if same_format or (not _INSTALLERS.search(path) and place.startswith(("site:", "env:") if whole else "site:")):
            found[place] = file
    return {place: file for place, file in found.items() if place and place not in moved}


def _placed(box: Inspection) -> frozenset[str]:
    start = f"{box.prefix}/" if box.prefix else ""
    return frozenset(_place(path, start, box) for path in box.placed)


def _place(path: str, start: str, box: Inspection) -> str:
    if match := _SITE.search(f"{box.name}.whl/{path}" if box.format == "wheel" else path):
        rest = _DATA.sub("", match["rest"])
        # Scripts and data of a wheel lie elsewhere once it is installed.
        return "" if _OTHER_DATA.match(rest) else f"site:{_INFO.sub(_plain_info, rest)}"
    if path.startswith(start) and (start or any(one.kind == "conda" for one in box.packages)):
        return f"env:{path.removeprefix(start)}"
    return path


def _plain_info(match: re.Match[str]) -> str:
    """A folder of metadata without the version in its name."""
    return f"{normal(match['name'])}.{match['kind']}"
