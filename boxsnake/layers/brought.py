"""What single packages bring to an environment, and whether several go together: said without having their files.

Of packages that were installed before, each in whatever company, this tells what installing them together would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from boxsnake.archive import folders_above
from boxsnake.value import dataclass


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What an owner (see `boxsnake.entries.Entry.owner`) brings, once it is installed for a prefix."""

    files: Mapping[str, str]
    """Its files and links by their paths below the prefix: a text that is the same for the very same file or link."""
    gone: tuple[str, ...] = ()
    """Paths that it brings and that were left out: nobody else's file could lie there."""
    variables: tuple[tuple[str, str, str], ...] = ()
    """Variables that it asks to be set: (the path of the file that asks, name, value)."""
    notes: tuple[str, ...] = ()
    """What the user was told about everything that was staged with it."""
    remarks: tuple[str, ...] = ()
    """What the user should know about it alone."""
    trimmed: tuple[tuple[str, int], ...] = ()
    """What was left out of it: (the rule that named it, bytes)."""


def go_together(brought: Iterable[Brought]) -> bool:
    """Whether they can surely be installed into one tree.

    No path may be of two, but of the very same file; and where one has a file, none may have a folder. Where this says
    no, installing them tells what is wrong, and may well find nothing.
    """
    files: dict[str, str] = {}
    gone: set[str] = set()
    for one in brought:
        if not all(files[path] == one.files[path] and _may_be_shared(path) for path in shared(files, one)):
            return False
        if not gone.isdisjoint(one.gone):
            return False
        files.update(one.files)
        gone.update(one.gone)
    folders = folders_above([*files, *gone])
    return gone.isdisjoint(files) and folders.isdisjoint(files) and folders.isdisjoint(gone)


def shared(files: Mapping[str, str], other: Brought) -> set[str]:
    """The paths that another brings as well."""
    return files.keys() & other.files.keys()


def _may_be_shared(path: str) -> bool:
    """Not the RECORD of a distribution, as that tells of one package."""
    return not path.endswith("/RECORD")


def variables_of(brought: Iterable[Brought]) -> dict[str, str]:
    """The variables that are asked for, those of the path that sorts last where several ask for one."""
    asked = sorted(variable for one in brought for variable in one.variables)
    return {name: value for _, name, value in asked}


def trimmed_of(brought: Iterable[Brought]) -> list[list[str | int]]:
    """How much each rule has taken of all of them."""
    saved: dict[str, int] = {}
    for one in brought:
        for rule, size in one.trimmed:
            saved[rule] = saved.get(rule, 0) + size
    return [[rule, saved[rule]] for rule in sorted(saved)]


def notes_of(brought: Sequence[Brought]) -> list[str]:
    """What the user should know: about all of them first, each thing once."""
    about_all = [note for one in brought for note in one.notes]
    return [*dict.fromkeys([*about_all, *(remark for one in brought for remark in one.remarks)])]
