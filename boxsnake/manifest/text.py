"""The kinds of text in a manifest, as types: what each may be, said once for decoding and for the schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from boxsnake.plain_text import check_plain

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

# What reads requirements and what validates is imported where something is decoded: every command has these types.

_SOURCE_SCHEMES = ("git+https://", "git+http://", "git+ssh://", "git+file://", "https://", "http://", "file://")


class Checked:
    """Marks a value that a function checks: it returns the value that is taken. Its errors: ValueError."""

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self.check = check

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))


class Form(Checked):
    """Marks text that must match a pattern as a whole; `message` says in words what it must be."""

    def __init__(self, pattern: str, message: str) -> None:
        super().__init__(self._matching)
        self.pattern = pattern
        self.message = message

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _matching(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.message)
        return text


class Limits:
    """Marks a value that has limits, in pydantic's words: `ge`, `gt`, `le`, `min_length`, `max_length`, `pattern`.

    It is the first mark of its type.
    """

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic import Field

        return handler.generate_schema(Annotated[source, Field(**self.limits)])


def _paragraphs(text: str) -> str:
    return check_plain(text, allowed="\n")


def _script_argument(text: str) -> str:
    return check_plain(text, allowed="\n\t")


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return check_plain(text)


def _program_first(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if not arguments or not arguments[0].strip():
        raise ValueError("must begin with a program")
    return arguments


def _each_once(ports: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(ports)) < len(ports):
        raise ValueError("names a port twice")
    return ports


def _pep_440_version(text: str) -> str:
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        raise ValueError("must be a version as PEP 440 writes them, such as '1.2.0' or '2.0rc1'") from None
    return text


def _python(text: str) -> str:
    from boxsnake.requirements.conda_requirement import python_specifier

    python_specifier(text)
    return text


def _pip(text: str) -> str:
    if text.lstrip().startswith("-") or " --" in text:
        raise ValueError("options such as --hash belong in a requirements.txt, which `files` names")
    if "${" in text:
        raise ValueError("environment variables are for a requirements.txt, which `files` names")
    from boxsnake.requirements.pip_requirement import pip_requirement

    pip_requirement(text, source="")
    return text


def _conda(text: str) -> str:
    from boxsnake.requirements.conda_requirement import check_match_spec

    check_match_spec(check_plain(text))
    return text


def _distribution(text: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(text)


def _source(text: str) -> str:
    if "://" in text and not text.startswith(_SOURCE_SCHEMES):
        raise ValueError("must be a folder, a wheel, an sdist, an https:// URL of one, or git+https://…")
    return _word(text)


def _regular_expression(text: str) -> str:
    try:
        re.compile(check_plain(text, allowed="\t"))
    except re.error as error:
        raise ValueError(f"must be a regular expression of Python's: {error}") from None
    return text


def byte_count(size: str) -> int:
    """The bytes of a `SizeText`: K, M and G are powers of 1024."""
    return int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1]]


def _relative(text: str) -> str:
    if text.startswith(("/", "~")) or re.match(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError("must be a path relative to the manifest's folder")
    return _word(text)


Line = Annotated[str, Checked(check_plain)]
"""Any text on one line."""
Paragraphs = Annotated[str, Checked(_paragraphs)]
"""Any text, line breaks included."""
ScriptArgument = Annotated[str, Checked(_script_argument)]
"""An argument that may be a small script: line breaks and tabs included."""
Word = Annotated[str, Checked(_word)]
"""One line that is not empty."""
Name = Annotated[
    str,
    Form(
        r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?",
        "must be at most 64 lower-case letters, digits, '.', '_' and '-', with a letter or digit at both ends",
    ),
]
"""What becomes part of paths, package and image names."""
Variable = Annotated[str, Form(r"[A-Za-z_][A-Za-z0-9_]*", "must be the name of an environment variable")]
DistributionName = Annotated[
    str,
    Form(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "must be the name of a distribution"),
    Checked(_distribution),
]
"""Decoded, it is normalised (PEP 503)."""
ExtraName = Annotated[str, Form(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "must be the name of an extra")]
GlibcVersion = Annotated[str, Form(r"2\.\d{1,2}", "must be a version of glibc, such as '2.28'")]
HttpPath = Annotated[str, Form(r"/[!-~]*", "must be a path such as '/health', without blanks")]
ImageName = Annotated[str, Form(r"[a-zA-Z0-9][!-~]*", "must be the name of an image, such as 'redis:7'")]
UserName = Annotated[
    str,
    Form(
        r"[a-z_][a-z0-9_-]{0,30}",
        "must be a user's name: at most 31 lower-case letters, digits, '_' and '-', beginning with a letter or '_'",
    ),
]
"""What useradd and systemd-sysusers both take."""
OwnerText = Annotated[
    str,
    Form(r"[a-z_][a-z0-9_-]{0,30}(:[a-z_][a-z0-9_-]{0,30})?", "must be a user, or a user and a group as 'user:group'"),
]
UnitName = Annotated[
    str,
    Form(
        r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?",
        "must be at most 64 lower-case letters, digits, '_' and '-', with a letter or digit at both ends",
    ),
]
SystemPath = Annotated[
    str,
    Form(
        r"(/[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,99}){2,10}",
        "must be an absolute path below a folder of the system, its names of letters, digits, '.', '_', '+' and '-'",
    ),
]
"""A path that needs no quoting anywhere, and can lead neither up nor to a whole folder of the system's."""
ModeText = Annotated[str, Form(r"0[0-7]{3}", "must be permissions in octal, such as '0640'")]
SizeText = Annotated[str, Form(r"[1-9][0-9]{0,8}[KMG]", "must be a size such as '512M': a number and K, M or G")]
"""`byte_count` tells how many bytes that is."""
Capability = Annotated[str, Form(r"CAP_[A-Z_]{1,40}", "must be a capability, such as 'CAP_NET_BIND_SERVICE'")]
VersionText = Annotated[str, Checked(_pep_440_version)]
PythonVersions = Annotated[str, Checked(_python)]
PipText = Annotated[str, Checked(_pip)]
CondaText = Annotated[str, Checked(_conda)]
Channel = Annotated[str, Form(r"\S+", "must be a channel's name, URL or folder"), Checked(check_plain)]
Source = Annotated[str, Checked(_source)]
RelativePath = Annotated[str, Checked(_relative)]
InnerPath = Annotated[
    str,
    Form(
        r"(?!(?:.*/)?\.{1,2}(?:/|$))[^/\\\x00-\x1f][^\\\x00-\x1f]*[^/\\\x00-\x1f]|[^./\\\x00-\x1f]",
        "must be a path inside of the box, such as 'data/words.txt', without '..'",
    ),
]
"""A relative path that leads nowhere else."""
Command = Annotated[tuple[Line, ...], Checked(_program_first)]
"""A program and its arguments."""
ScriptCommand = Annotated[tuple[ScriptArgument, ...], Checked(_program_first)]
"""The same, whose arguments may be small scripts."""
RegularExpression = Annotated[str, Checked(_regular_expression)]
AbsolutePath = Annotated[str, Form(r"/[^\x00-\x1f]*[^/\x00-\x1f]", "must be the absolute path of a file")]
Port = Annotated[int, Limits(ge=1, le=65535)]
Ports = Annotated[tuple[Port, ...], Checked(_each_once)]
