"""Just enough of an interpreter to compile with, out of a layer that has it."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from boxsnake.archive import gunzipped

# What `boxsnake.bytecode_child` imports: modules of the top level, a few packages, what is compiled of them.
_PACKAGES = "__pycache__|collections|encodings|importlib|json|lib-dynload|re"


def unpack_interpreter(layer: Path, prefix: str, minor: str, root: Path) -> None:
    """Lay out of a layer (a tar compressed by gzip) what compiling needs, and the interpreter's own conda record.

    The paths in the layer lie below `prefix`; those in `root` are without it.
    """
    below = prefix.strip("/")
    library = rf"lib/python{re.escape(minor)}t?"
    wanted = re.compile(
        rf"{re.escape(below)}/(bin/python[^/]*|lib/lib[^/]*\.so[^/]*|{library}/([^/]+|({_PACKAGES})/.*)"
        r"|conda-meta/python-[^/]*\.json)"
    )
    made: set[Path] = set()
    with gunzipped(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isdir() or not wanted.fullmatch(member.name):
                continue
            place = root / member.name.removeprefix(f"{below}/")
            if place.parent not in made:
                place.parent.mkdir(parents=True, exist_ok=True)
                made.add(place.parent)
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                place.symlink_to(member.linkname)
            else:
                place.write_bytes(content.read())
                place.chmod(member.mode)
