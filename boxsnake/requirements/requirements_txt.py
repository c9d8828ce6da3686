"""requirements.txt: the requirements, constraints and index options of pip's format, files within files included."""

from __future__ import annotations

import difflib
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

from boxsnake.errors import Fault, ManifestError
from boxsnake.plain_text import escaped, shortened
from boxsnake.requirements.pip_requirement import expand, pip_requirement
from boxsnake.requirements.values import IndexOptions, PipRequirement
from boxsnake.urls import redact, without_credentials

Read = Callable[[str], str]
"""Gives the text of the file at a path relative to the manifest's folder. Errors: OSError, ValueError (its reason)."""

_COMMENT = re.compile(r"(^|\s+)#.*$")
_FIRST_OPTION = re.compile(r"\s+(?=-)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=|(?=[./]))(.*)")

_SPELLINGS = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-i": "--index-url",
    "-f": "--find-links",
    "--pypi-url": "--index-url",
}
_WITH_VALUE = (
    "--requirement",
    "--constraint",
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--no-binary",
    "--only-binary",
    "--trusted-host",
    "--use-feature",
)
_DEEPEST = 50
_FLAGS = ("--no-index", "--pre", "--prefer-binary", "--require-hashes")


@dataclass(frozen=True, kw_only=True)
class PipFile:
    """What a requirements.txt and all the files that it includes ask for."""

    requirements: tuple[PipRequirement, ...] = ()
    constraints: tuple[PipRequirement, ...] = ()
    index: IndexOptions = field(default_factory=IndexOptions)


def parse_requirements_txt(text: str, source: str, read: Read, *, environ: Mapping[str, str] | None = None) -> PipFile:
    """Decode the file `source`, a path relative to the manifest's folder, as pip run in that folder would read it.

    Obeys pip's "requirements file format": `-r` and `-c` are relative to the file that names them, other paths to the
    manifest's folder; ${VARIABLES} come from `environ`. `-e PATH` is read as the path: a box holds no links to a
    working copy. Errors: ManifestError with the faults of all files.
    """
    return parse_requirement_lines(enumerate(text.splitlines(), 1), source, read, environ=environ)


def parse_requirement_lines(
    lines: Iterable[tuple[int, str]],
    source: str,
    read: Read,
    *,
    folder: str = "",
    environ: Mapping[str, str] | None = None,
) -> PipFile:
    """Decode numbered lines of that format, wherever they stand; `folder` is where pip would be run.

    Errors: ManifestError with all faults.
    """
    reading = _Reading(read=read, environ=environ or {}, folder=folder)
    reading.file(lines, source, constraint=False)
    faults = (*reading.faults, *reading.missing_hashes())
    if faults:
        raise ManifestError(source, faults)
    return PipFile(
        requirements=tuple(reading.requirements),
        constraints=tuple(reading.constraints),
        index=merge_index_options(reading.options),
    )


def merge_index_options(parts: Iterable[IndexOptions]) -> IndexOptions:
    """The options of several lines or files as one. Errors: ValueError where they name two different index URLs."""
    options = list(parts)
    index_urls = _unique(part.index_url for part in options if part.index_url is not None)
    if len(index_urls) > 1:
        raise ValueError("another --index-url was given before; name further ones as --extra-index-url")
    return IndexOptions(
        index_url=index_urls[0] if index_urls else None,
        extra_index_urls=_unique(url for part in options for url in part.extra_index_urls),
        find_links=_unique(place for part in options for place in part.find_links),
        no_index=any(part.no_index for part in options),
        pre=any(part.pre for part in options),
        no_binary=_unique(name for part in options for name in part.no_binary),
        only_binary=_unique(name for part in options for name in part.only_binary),
        shown=_unique(line for part in options for line in part.shown),
    )


@dataclass(kw_only=True)
class _Reading:
    """What has been read so far, of a file and of those within it."""

    read: Read
    environ: Mapping[str, str]
    folder: str
    requirements: list[PipRequirement] = field(default_factory=list)
    constraints: list[PipRequirement] = field(default_factory=list)
    options: list[IndexOptions] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    hashes_demanded: bool = False
    open_files: list[str] = field(default_factory=list)
    read_files: set[tuple[str, bool]] = field(default_factory=set)

    def file(self, lines: Iterable[tuple[int, str]], source: str, *, constraint: bool) -> None:
        self.open_files.append(source)
        for number, line in _logical_lines(lines):
            try:
                if line.startswith("-") and not _EDITABLE.fullmatch(line):
                    self._options(line, source, constraint=constraint)
                else:
                    self._requirement(line, f"{source}:{number}", constraint=constraint)
            except ValueError as error:
                self.faults.append(Fault(source=source, line=number, key=_shown(line), message=str(error)))
        self.open_files.pop()

    def missing_hashes(self) -> Iterator[Fault]:
        """What `--require-hashes` demands and is not there; a constraint's hashes count for its requirement."""
        constrained = {constraint.name for constraint in self.constraints if constraint.hashes}
        for requirement in self.requirements if self.hashes_demanded else ():
            if not requirement.hashes and requirement.name not in constrained:
                source, _, number = requirement.source.rpartition(":")
                message = "has no --hash, but --require-hashes is given"
                yield Fault(source=source, line=int(number), key=requirement.shown, message=message)

    def _requirement(self, line: str, source: str, *, constraint: bool) -> None:
        editable = _EDITABLE.fullmatch(line)
        text, *rest = _FIRST_OPTION.split(editable[1] if editable else line, maxsplit=1)
        hashes = _hashes(rest[0] if rest else "")
        requirement = pip_requirement(text, source=source, folder=self.folder, hashes=hashes, environ=self.environ)
        if not constraint:
            self.requirements.append(requirement)
        elif editable or requirement.extras or requirement.name is None:
            raise ValueError("a constraint has a name, and neither extras nor -e")
        else:
            self.constraints.append(requirement)

    def _options(self, line: str, source: str, *, constraint: bool) -> None:
        tokens = iter(_split(line))
        for token in tokens:
            if token in _FLAGS:
                self._flag(token)
                continue
            option, raw = _option_and_value(token, tokens)
            value = expand(raw, self.environ)
            if option in {"--requirement", "--constraint"}:
                self._include(value, source, constraint=constraint or option == "--constraint")
            else:
                self._add(_index_option(option, raw, value, self.folder))

    def _flag(self, flag: str) -> None:
        if flag == "--require-hashes":
            self.hashes_demanded = True
        elif flag != "--prefer-binary":  # which asks for what is done anyway
            self._add(IndexOptions(no_index=flag == "--no-index", pre=flag == "--pre", shown=(flag,)))

    def _add(self, option: IndexOptions) -> None:
        merge_index_options((*self.options, option))  # refuses what contradicts an earlier line
        self.options.append(option)

    def _include(self, name: str, source: str, *, constraint: bool) -> None:
        if _URL.match(name):
            raise ValueError("a file from elsewhere may change at any time; keep a copy of it beside the manifest")
        if posixpath.isabs(name) or name.startswith("~"):
            raise ValueError("the path must be relative to the file that names it")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        if path in self.open_files:
            raise ValueError(f"the file includes itself: {' -> '.join((*self.open_files, path))}")
        if len(self.open_files) >= _DEEPEST:
            raise ValueError(f"files are nested more than {_DEEPEST} deep")
        if (path, constraint) in self.read_files:
            return
        self.read_files.add((path, constraint))
        try:
            text = self.read(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
        self.file(enumerate(text.splitlines(), 1), path, constraint=constraint)


def _logical_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Lines joined at their backslashes and without comments, each with the number of its first; no empty ones.

    As in pip a comment line ends what was continued before it.
    """
    first, parts = 0, list[str]()
    for number, line in lines:
        first = first or number
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            parts.append(line.rstrip("\\"))
            continue
        # The blank keeps the comment one when it is joined to what was before it.
        parts.append(f" {line}" if is_comment else line)
        yield from _stripped(first, parts)
        first, parts = 0, []
    yield from _stripped(first, parts)


def _stripped(number: int, parts: list[str]) -> Iterator[tuple[int, str]]:
    line = _COMMENT.sub("", "".join(parts).lstrip("\ufeff")).replace("\t", " ").strip()
    if line:
        yield number, line


def _option_and_value(token: str, following: Iterator[str]) -> tuple[str, str]:
    name, equals, value = token.partition("=") if token.startswith("--") else (token[:2], token[2:], token[2:])
    option = _SPELLINGS.get(name, name)
    if option not in _WITH_VALUE:
        near = difflib.get_close_matches(name, (*_WITH_VALUE, *_FLAGS), n=1)
        raise ValueError(f"unknown option {escaped(shortened(name))}" + (f"; is {near[0]} meant?" if near else ""))
    if not equals:
        value = next(following, "")
    if not value:
        raise ValueError(f"{option} needs a value")
    return option, value


def _index_option(option: str, raw: str, value: str, folder: str) -> IndexOptions:
    """One option as it is used (`value`) and as it may be shown (from `raw`, in which variables are not expanded)."""
    shown = (f"{option} {without_credentials(raw)}",)
    if option == "--index-url":
        return IndexOptions(index_url=_index_url(value), shown=shown)
    if option == "--extra-index-url":
        return IndexOptions(extra_index_urls=(_index_url(value),), shown=shown)
    if option == "--find-links":
        place = value if _URL.match(value) else posixpath.normpath(posixpath.join(folder, value))
        return IndexOptions(find_links=(place,), shown=shown)
    if option == "--trusted-host":
        raise ValueError("every server is verified; add its certificate to the system's, or name it by SSL_CERT_FILE")
    if option == "--no-binary":
        return IndexOptions(no_binary=_names(value), shown=shown)
    if option == "--only-binary":
        return IndexOptions(only_binary=_names(value), shown=shown)
    return IndexOptions()  # --use-feature chooses between pip's own ways of working


def _index_url(value: str) -> str:
    if not re.match(r"(?:https?|file)://", value) or not value.isprintable():
        raise ValueError("an index is a http://, https:// or file:// URL")
    return value


def _names(value: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")]
    if wrong := [name for name in names if name != ":all:" and not _NAME.fullmatch(name)]:
        raise ValueError(f"{escaped(shortened(wrong[0]))!r} is neither ':all:' nor the name of a distribution")
    return tuple(name if name == ":all:" else canonicalize_name(name) for name in names)


def _hashes(options: str) -> tuple[str, ...]:
    tokens = iter(_split(options))
    hashes = []
    for token in tokens:
        name, equals, value = token.partition("=")
        if name != "--hash":
            raise ValueError(f"{escaped(shortened(name))} is not taken for one requirement; only --hash is")
        hashes.append(value if equals else next(tokens, ""))
    return tuple(hashes)


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"{error} in the options".lower()) from None


def _shown(line: str) -> str:
    """The line as a fault may name it. Here only blanks end a URL, whatever its password is made of."""
    return shortened(escaped(redact(_URL.sub(lambda match: without_credentials(match.group()), line))))


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
