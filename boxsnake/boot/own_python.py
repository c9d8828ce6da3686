"""The Python of an image that nobody has told of: the one that its program is started by, else the one in its PATH."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from boxsnake.container import Container, Image

_SECONDS = 60.0
_PYTHON = re.compile(r"python[0-9.]*")
_FIRST_LINE = """\
import sys
with open(sys.argv[1], "rb") as stream:
    sys.stdout.buffer.write(stream.readline(512))
"""


def own_python(
    container: Container, image: Image, user: str, environment: Mapping[str, str], lent: tuple[str, ...]
) -> tuple[str, ...]:
    """What starts it; nothing where the image has none that starts. `lent` is a Python that can read its files."""
    for program in dict.fromkeys(_candidates(container, image, lent)):
        ended = container.execute((program, "-c", ""), seconds=_SECONDS, user=user, environment=environment)
        if ended.exit_code == 0 and not ended.ended_by:
            return (program,)
    return ()


def _candidates(container: Container, image: Image, lent: tuple[str, ...]) -> Iterator[str]:
    words = image.entrypoint + image.command
    # The first ones may be an init, or a script that only starts the rest.
    for word in words[:3]:
        if _PYTHON.fullmatch(Path(word).name):
            yield word
        elif word.startswith("/"):
            ended = container.execute((*lent, "-c", _FIRST_LINE, word), seconds=_SECONDS)
            line = ended.output.decode("utf-8", "replace")
            yield from (name for name in line.removeprefix("#!").split() if _PYTHON.fullmatch(Path(name).name))
    yield from ("python3", "python")
