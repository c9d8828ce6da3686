"""Secrets of a stack: found when it is started, handed over, and written nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from boxsnake.errors import ResourceError, UsageError

_FILE = "_FILE"


def secrets_of(
    names: Iterable[str], environment: Mapping[str, str], file: Path | None, *, thing: str
) -> dict[str, str]:
    """Their values: of the variable itself, of the file that <NAME>_FILE names, or a line NAME=value of `file`.

    Errors: UsageError that names all that are missing; ResourceError where a file cannot be read.
    """
    wanted = tuple(dict.fromkeys(names))
    lines = _lines(file) if file and wanted else {}
    found: dict[str, str] = {}
    for name in wanted:
        if name in environment:
            found[name] = environment[name]
        elif f"{name}{_FILE}" in environment:
            found[name] = _text(Path(environment[f"{name}{_FILE}"])).rstrip("\n")
        elif name in lines:
            found[name] = lines[name]
    missing = [name for name in wanted if name not in found]
    if missing:
        where = f"in {file.name}, " if file else "in the file that `secrets-file` of the environment's table names, "
        step = f"Set it in the environment, {where}or name a file that holds it by {missing[0]}{_FILE}."
        raise UsageError(thing, f"needs a secret that nobody has given: {', '.join(missing)}", step, missing=missing)
    return found


def _lines(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(_text(file).splitlines(), start=1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals:
            raise UsageError(f"{file}:{number}", "is no line NAME=value", "Correct it, or begin it with '#'.")
        found[name.strip().removeprefix("export ").strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        step = "Write it, make it readable for you, or give the secrets in the environment."
        raise ResourceError(str(file), f"cannot be read: {error.strerror}", step) from None
    except UnicodeDecodeError:
        raise ResourceError(str(file), "is no text in UTF-8", "Write it anew.") from None
