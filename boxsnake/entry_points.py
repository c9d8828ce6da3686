"""Entry points that are commands (PyPA's entry points specification), and the programs that these become."""

from __future__ import annotations

from boxsnake.pattern import pattern

COMMAND_GROUPS = ("console_scripts", "gui_scripts")
"""The groups of entry points that become commands."""

_TARGET = pattern(
    r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*:\s*(?P<attribute>[^\W\d]\w*(?:\.[^\W\d]\w*)*)"
    r"\s*(?:\[\s*[A-Za-z0-9._,\s-]*\])?"
)
_PROGRAM = """\
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.exit({attribute}())
"""


def commands(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """The commands that an `entry_points.txt` declares: names and targets, sorted, of each of the groups.

    Raises ValueError where the text is not that of such a file.
    """
    import configparser

    parser = configparser.RawConfigParser(delimiters=("=",), strict=True, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case, as the format says
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(error.message) from error
    return {group: tuple(sorted(parser.items(group))) if group in parser else () for group in COMMAND_GROUPS}


def is_target(text: str) -> bool:
    """Whether it is `module:attribute`, with extras behind it or without."""
    return _TARGET.fullmatch(text.strip()) is not None


def program(target: str) -> str:
    """What runs a target: Python, without the line that names its interpreter. Raises ValueError where it is none."""
    found = _TARGET.fullmatch(target.strip())
    if found is None:
        raise ValueError(f"{target} is not module:attribute")
    attribute = found["attribute"]
    return _PROGRAM.format(module=found["module"], first=attribute.partition(".")[0], attribute=attribute)
