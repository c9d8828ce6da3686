"""Archives of an environment: conda-pack's, of a virtual environment, or of any folder."""

from __future__ import annotations

import posixpath
import shutil
from pathlib import Path

from boxsnake.boot_recipe import BootRecipe
from boxsnake.disk import disk_faults
from boxsnake.foreign.value import UNLOCKED, Foreign, Looked, python_host
from boxsnake.inspection.members import uncompressed

# An archive whose top has only such folders is meant for the root of a system.
_OF_A_ROOT = frozenset({"bin", "boot", "etc", "lib", "lib64", "opt", "run", "sbin", "srv", "usr", "var"})
_ONLY_OF_A_ROOT = frozenset({"opt", "srv", "usr", "var"})


def environment(looked: Looked) -> Foreign:
    """An environment with its own interpreter: unpacked, and mended where it brings what does that."""
    mend = next((path for path in looked.box.files if path.endswith("bin/conda-unpack")), "")
    return _placed(looked, mend)


def plain_archive(looked: Looked) -> Foreign:
    """Any other archive: unpacked."""
    return _placed(looked, "")


def _placed(looked: Looked, mend: str) -> Foreign:
    archive, there = unpacked(looked), f"/tmp/{looked.path.name}.tar"  # noqa: S108 - in a container of its own
    tops = {path.partition("/")[0] for path in looked.box.files}
    at_root = bool(tops & _ONLY_OF_A_ROOT) and tops <= _OF_A_ROOT
    place = "/" if at_root else looked.place
    own = posixpath.join(place, looked.interpreter) if looked.interpreter else ""
    mended = ((posixpath.join(place, mend),),) if mend else ()
    install = (("mkdir", "-p", place), ("tar", "-xf", there, "-C", place), *mended)
    recipe = BootRecipe(
        host=python_host(looked, looked.box.python)[0] if looked.needs_python else "debian-12",
        copies=((str(archive), there),),
        install=install,
        python=(own,) if own else (),
        scripts=posixpath.dirname(own) or None,
        command=(),
        # What an archive has put among a system's own files, nobody can take away again as a whole.
        remove=() if at_root else (("rm", "-rf", place),),
        writes=(),
        remains=(there,),
        expects=UNLOCKED,
        again=install,
    )
    kind = "conda-pack" if mend else looked.box.format
    return Foreign(path=looked.path, kind=kind, recipe=recipe, architecture=looked.architecture)


def unpacked(looked: Looked) -> Path:
    """The archive's tar, uncompressed: a host need not have what unpacks it."""
    plain = looked.scratch / f"{looked.path.name}.tar"
    with disk_faults(looked.path), looked.path.open("rb") as stream:
        if stream.read(262)[257:] == b"ustar":
            return looked.path
        stream.seek(0)
        with disk_faults(plain), plain.open("wb") as out:
            shutil.copyfileobj(uncompressed(stream), out, 1 << 20)
    return plain
