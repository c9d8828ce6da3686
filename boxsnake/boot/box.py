"""A started box: how things are run in it as in production, and what they say as text that may be shown."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from functools import cache
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

from boxsnake.boot_recipe import BootRecipe
from boxsnake.container import Container, Finished
from boxsnake.plain_text import legible
from boxsnake.urls import redact
from boxsnake.value import dataclass

# In seconds: a command that installs or removes, and what a probe takes beyond the time of its job.
_INSTALL_SECONDS = 900.0
_MARGIN_SECONDS = 30.0
# What a line is likely to hold that tells why a program failed, and what programs say that miss the network.
_COMPLAINT = re.compile(r"error|exception|fatal|cannot|can't|could not|not found|no such|failed", re.IGNORECASE)
# What package managers say before they complain in general.
_LACK = re.compile(r"\bis needed by\b|\bdepends on\b|\bconflicts with\b")
# What fails all that comes after it, so whoever says it may have said it long before the end: that a disk is full, and
# what a package's own scripts say of an installation that they gave up; what they quote follows.
_DECISIVE = re.compile(
    r"No space left on device|Disk quota exceeded|\bneeds \d.* which has .* free\b|: NOT INSTALLED: "
    r"|: the \S+ hook \(.+\) failed with exit status \d"
)
_QUOTES = "it said last:"
_OF_MANAGERS = re.compile(r"\s*(?:(?:warning|error): %|dpkg: |E: |installed \S+ package )")
_NETWORK = re.compile(
    r"Network is unreachable|Temporary failure in name resolution|Name or service not known|Could not resolve host"
)
_SHOWN_LINES = 12
_SHOWN_COLUMNS = 300
_SHOWN_NAMES = 8


class NotPassedError(Exception):
    """A step did not pass; the text says why, and `log` is all that was said, where the text does not hold it."""

    def __init__(self, text: str, output: str | bytes = b"") -> None:
        super().__init__(text)
        log = redact(output.decode("utf-8", "replace") if isinstance(output, bytes) else output)
        lines = [line for line in log.splitlines() if line.strip()]
        is_told = len(lines) <= _SHOWN_LINES and all(len(line) <= _SHOWN_COLUMNS for line in lines)
        self.log = "" if is_told else legible(log)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A started container with what is needed to run things in it as they would run in production."""

    container: Container
    recipe: BootRecipe
    user: str
    folder: str
    environment: Mapping[str, str]
    command: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    """Of an image: what its arguments are handed to."""
    around: Mapping[str, str] = field(default_factory=dict)
    """Further variables of what is started in it, but not of the probe."""
    is_lent: bool = False
    """Whether its Python is one that was lent to it, as it has none."""
    mounts: tuple[tuple[str, str], ...] = ()
    """What of this machine is seen in it."""


def run_as_root(box: Box, commands: Iterable[tuple[str, ...]]) -> str:
    """Run commands that install or remove; each must exit with 0."""
    environment = dict(box.environment) | {"HOME": "/root"}
    before, log, earlier = "", b"", b""
    for command in commands:
        ended = box.container.execute(command, seconds=_INSTALL_SECONDS, user="0:0", environment=environment)
        words = said(ended.output + ended.errors)
        log += f"$ {shlex.join(command)}\n".encode() + _whole(ended)
        if ended.exit_code != 0 or ended.ended_by:
            # What an earlier command complained of, without failing, may be the cause.
            reason = because(ended.output + ended.errors, earlier=earlier)
            raise NotPassedError(f"`{shlex.join(command)}` {ending(ended)}{reason}{before}", log)
        before = f"\nbefore that, `{shlex.join(command)}` said{words}" if words else before
        earlier += ended.output + ended.errors
    return ""


def ending(ended: Finished) -> str:
    """How a command ended, as a predicate."""
    if ended.ended_by == "timeout":
        return f"was still running after {ended.seconds:.0f} s"
    if ended.ended_by == "memory":
        return "was killed by the kernel: it took more memory than the box has"
    return f"exited with {ended.exit_code}"


def probe(box: Box, job: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Have the box's own interpreter do a job (see probe.py) and tell the facts."""
    told, why = probe_in_turn(box, [job], seconds)
    if 0 not in told:
        raise why
    return told[0]


def probe_in_turn(
    box: Box, jobs: Sequence[Mapping[str, Any]], seconds: float
) -> tuple[dict[int, dict[str, Any]], NotPassedError]:
    """Have one start of the box's own interpreter do jobs in turn: the facts of each by its number; why some lack."""
    nonce = secrets.token_hex(16)
    source = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    variables = dict(box.environment) | dict(box.around)
    text = json.dumps({"jobs": list(jobs), "nonce": nonce, "environment": variables, "folder": box.folder})
    command = (*box.recipe.python, "-c", source, text)
    ended = box.container.execute(
        command,
        seconds=seconds + _MARGIN_SECONDS,
        user=box.user,
        environment=box.environment,
        folder=box.folder,
    )
    lines = ended.output.decode("utf-8", "replace").splitlines()
    told: dict[int, dict[str, Any]] = dict(
        json.loads(line.removeprefix(nonce)) for line in lines if line.startswith(f"{nonce} ")
    )
    others = "\n".join(line for line in lines if not line.startswith(f"{nonce} ")).encode()
    ended = dataclasses.replace(ended, output=others)
    cause = f"the box's own Python (`{shlex.join(box.recipe.python)}`) {ending(ended)}{because(others + ended.errors)}"
    return told, NotPassedError(cause, _whole(ended))


def _whole(ended: Finished) -> bytes:
    """All that a command has said, as far as it was kept."""
    note = f"(the first {ended.cut} bytes of what it said were not kept)\n".encode() if ended.cut else b""
    return note + ended.output + ended.errors


@cache
def modules_of(*names: str) -> dict[str, str]:
    """Modules of boxsnake's own as text for the box's interpreter, in the order in which they need each other."""
    package = files("boxsnake")
    texts = {"boxsnake": "", "boxsnake.boot": ""}
    for name in names:
        *folders, last = name.split(".")
        texts[f"boxsnake.{name}"] = package.joinpath(*folders, f"{last}.py").read_text(encoding="utf-8")
    return texts


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first of them where there are many."""
    first = ", ".join(shown(name) for name in names[:_SHOWN_NAMES])
    return f"{first} and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else first


def said(output: str | bytes) -> str:
    """The last lines of an output, below a sentence."""
    return "".join(f"\n  {line}" for line in _last_lines(output))


def because(output: str | bytes, *, earlier: str | bytes = b"") -> str:
    """The end of a sentence about a program that failed: the line of its output that names the cause, and all below.

    The cause may also be what others have said `earlier`, without failing.
    """
    lines = _last_lines(output)
    cause = _decisive(_lines(output)) or _decisive(_lines(earlier))
    if not lines and not cause:
        return ""
    cause = cause or next((line for line in lines if _LACK.search(line)), "")
    cause = (cause or next((line for line in reversed(lines) if _COMPLAINT.search(line)), lines[-1])).strip()
    wants = _NETWORK.search("".join([cause, *lines]))
    hint = "; it wants the network, which a box that is booted has not got" if wants else ""
    return f": {cause}{hint}{said(output)}"


def _decisive(lines: Sequence[str]) -> str:
    """The last line that tells the cause for sure, with the words that it quotes; by its end where it is long."""
    number = next((number for number in reversed(range(len(lines))) if _DECISIVE.search(lines[number])), None)
    if number is None:
        return ""
    line = lines[number]
    if line.endswith(_QUOTES):
        quoted = list(takewhile(lambda one: not _OF_MANAGERS.match(one), lines[number + 1 :]))
        line += f" {next((one for one in quoted if _COMPLAINT.search(one)), quoted[-1] if quoted else '').strip()}"
    return shown(line) if len(line) <= _SHOWN_COLUMNS else f"…{shown(line[1 - _SHOWN_COLUMNS :])}"


def _last_lines(output: str | bytes) -> list[str]:
    return [shown(line.expandtabs()) for line in _lines(output)[-_SHOWN_LINES:]]


def _lines(output: str | bytes) -> list[str]:
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    return [line for line in redact(text).splitlines() if line.strip()]


def shown(text: str) -> str:
    """Text from a box, which may hold anything, as it may be shown."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return line if len(line) <= _SHOWN_COLUMNS else f"{line[:_SHOWN_COLUMNS]}…"
